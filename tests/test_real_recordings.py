"""The whole path on real recordings of open corpora, given as a user's own data; skipped where they are not at hand."""

import csv
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORPORA = Path(os.environ.get("DNF_CORPORA", ROOT.parent / "shared" / "corpora"))
TINY = (
    "splice.left=1", "splice.right=1", "splice.hop=3", "prior.cond_dim=120", "flow.blocks=4", "flow.hidden=32", "train.epochs=4",
    "train.batch_size=200", "plots.tsne_points=60", "plots.tsne_perplexity=5", "report.bootstrap=50",
    "data.controls={test: test_other}",
)  # fmt: skip


def spread(items: list, count: int) -> list:
    return items[:: max(1, len(items) // count)][:count]


def recordings() -> list[tuple[Path, str, str, str]]:
    """Path, speaker, class and set of a few recordings: native and Mandarin speakers, and natives of another corpus."""
    rows = []
    native = sorted((CORPORA / "LibriSpeech/train-clean-100").rglob("*.flac"))
    for i, path in enumerate(spread(native, 18)):
        rows.append((path, f"ls{path.parts[-3]}", "en", "train" if i < 12 else "test"))
    for path in spread(sorted((CORPORA / "LibriSpeech/test-other").rglob("*.flac")), 6):
        rows.append((path, f"ls{path.parts[-3]}", "en", "test_other"))
    for part, count in (("train", 12), ("test", 6)):
        folder = CORPORA / "speechocean762" / part
        speakers = dict(line.split() for line in (folder / "utt2spk").read_text().splitlines())
        wavs = dict(line.split() for line in (folder / "wav.scp").read_text().splitlines())
        for utt in spread(sorted(wavs), 2 * count):
            rows.append((CORPORA / "speechocean762" / wavs[utt], f"so{speakers[utt]}", "ce", part))
    return rows


@pytest.mark.skipif(not CORPORA.is_dir(), reason=f"no corpora at {CORPORA}; name their folder with DNF_CORPORA")
def test_real_recordings_from_one_table_to_results(tmp_path):
    (tmp_path / "real").mkdir()
    table = tmp_path / "real" / "recordings.tsv"
    lines = ["path\tspeaker\tclass\tset", *("\t".join(map(str, row)) for row in recordings())]
    table.write_text("\n".join(lines) + "\n")
    settings = [word for setting in TINY for word in ("--set", setting)]
    command = [ROOT / "run.sh", "--data", "real", "--exp", "dnf120", "--nj", "2", "--device", "cpu", *settings]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "exp/real_dnf120"
    with (out / "results.tsv").open(newline="") as file:
        rows = {(r["metric"], r["set"], r["class"]): r for r in csv.DictReader(file, delimiter="\t")}
    assert int(rows["utt_accuracy", "test", "all"]["total"]) == 18
    assert abs(float(rows["train_eval_difference", "", ""]["value"])) < 1e-3
    assert " | control test_other " in (out / "results.txt").read_text()
    with (out / "history.tsv").open(newline="") as file:
        looks = [float(r["dev_nll"]) for r in csv.DictReader(file, delimiter="\t") if r["dev_nll"]]
    assert looks[-1] < looks[0]
