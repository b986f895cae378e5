"""``dnf fuse``: a fused system has the figures, files and comparisons of an experiment."""

import json
from pathlib import Path

import numpy as np
import pytest

from dnf.experiment import stage, status
from dnf.experiment.config import resolve
from dnf.experiment.tables import read_tsv
from dnf.report import compare, fuse, results
from dnf.scoring.latent_writer import write_utterances

SETS = {"train": 6, "dev": 6, "test": 8}
WORDS = ("data.classes=[en, zh]", "report.bootstrap=50", "plots.enabled=false")


def write_system(exp: Path, seed: int, *words: str, sets: dict = SETS) -> Path:
    """An experiment after stage latents: log-likelihood ratios of +-1 with noise of its own, and an unseen class in test."""
    rng = np.random.default_rng(seed)
    for name, speakers in sets.items():
        labels = ("en", "zh") + (("ja",) if name == "test" else ())
        utts = [
            {"utt": f"{name}{s}{label}-{n}", "speaker": f"{name}{s}{label}", "class": label, "set": name, "score": ""}
            for label in labels
            for s in range(speakers)
            for n in range(4)
        ]
        sign = np.array([{"en": 1, "zh": -1, "ja": 0}[utt["class"]] for utt in utts])
        ratio = sign + 1.3 * rng.standard_normal(len(utts))
        write_utterances(exp / "latents" / name, ["en", "zh"], utts, np.stack([ratio, -ratio], 1))
    resolve([*WORDS, *words]).save(exp / "config.yaml")
    mark(exp, f"run{seed}")
    return exp


def mark(exp: Path, run: str) -> None:
    marker = {"key": "", "run": run, "source": "", "settings": {}, "seconds": 1.0}
    (exp / ".done.latents").write_text(json.dumps(marker))


def value(exp: Path, metric: str, name: str, decided: str = "") -> float:
    rows = read_tsv(exp / "results.tsv")
    return float(next(r["value"] for r in rows if (r["metric"], r["set"], r["decided"]) == (metric, name, decided)))


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    exp = tmp_path_factory.mktemp("fuse") / "exp"
    systems = [write_system(exp / name, seed) for seed, name in enumerate("abc")]
    assert fuse.main([*map(str, systems), "--out", str(exp / "fused")]) == 0
    return exp


def test_the_fused_system_has_the_figures_of_an_experiment(fused, tmp_path, capsys):
    assert fuse.main([str(fused / "a"), str(fused / "b"), "--out", str(tmp_path / "exp/two")]) == 0
    two, three = (value(exp, "auc", "test") for exp in (tmp_path / "exp/two", fused / "fused"))
    assert 0.7 < two < three
    for name in ("a", "b", "c"):
        assert 0.2 < value(fused / "fused", "fusion_weight", "", name) < 2
    assert (
        value(fused / "fused", "cllr_left_out", "dev") > 0 and value(fused / "fused", "auc_unseen", "test", "en") > 0.5
    )
    text = " ".join((fused / "fused/results.txt").read_text().replace("\n# ", " ").split())
    assert text.startswith("# fused: fusion of a, b, c; of en, zh; trained on train")
    assert "not compared with another system; dnf compare does it" in text
    assert "dnf is the fused system" in text and "fusion: weight" in text and f"fusion of {fused}/a {fused}/b" in text
    assert not [word for word in ("near_tie ", "LogLL") if word in text]
    page = (fused / "fused/report.html").read_text()
    assert page.endswith("</html>\n") and "weight in the fusion" in page
    head, first, _ = capsys.readouterr().out.splitlines()
    assert head == "weight  system" and first.endswith(f"  {fused}/a")


def test_dev_figures_are_without_the_speaker(fused):
    """Those of the fit itself are better on average; here all 12 speakers are left out in turn."""
    rows = {row["utt"]: float(row["llr"]) for row in read_tsv(fused / "fused/decisions/dev.txt")}
    members = fuse.open_members([fused / name for name in "abc"])
    dev = fuse.evidence_of(members, "dev", fit=True)
    speakers = np.array([utt["speaker"] for utt in dev[0].utts])
    out, kept = np.flatnonzero(speakers == "dev3zh"), np.flatnonzero(speakers != "dev3zh")
    fusion = fuse.Fusion.fit([one.only(kept) for one in dev], members[0].config.calibrate)
    loglik = fusion.loglik([one.only(out) for one in dev])
    for row, u in zip(loglik, out):
        assert rows[dev[0].utts[u]["utt"]] == pytest.approx(row[0] - row[1], abs=1e-5)


def test_it_is_compared_shown_and_up_to_date(fused, capsys):
    system = fused / "fused"
    before = {path: path.stat().st_mtime_ns for path in system.rglob("*") if path.name != "members.json"}
    fuse.main([*(str(fused / name) for name in "abc"), "--out", str(system)])
    assert before == {path: path.stat().st_mtime_ns for path in system.rglob("*") if path.name != "members.json"}
    assert compare.two_systems(system, system).count("+0.0000") >= 4
    assert results.main([str(fused)]) == 0
    assert "fused       dnf" in capsys.readouterr().out
    line = next(line for line in status.show(fused).splitlines() if line.startswith("fused "))
    assert line.split()[1:] == ["done"] * 4
    mark(fused / "a", "another run")
    stage.hash_tables.cache_clear()  # of an earlier process
    fuse.main([*(str(fused / name) for name in "abc"), "--out", str(system)])
    assert before[system / "fusion.json"] != (system / "fusion.json").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda exp: write_system(exp / "x", 5, "data.classes=[zh, en]"), "classes en zh and zh en differ"),
        (
            lambda exp: write_system(exp / "x", 5, sets=SETS | {"more": 2}),
            "sets dev test train and dev more test train",
        ),
        (
            lambda exp: write_system(exp / "x", 5, sets=SETS | {"test": 9}),
            "utterances of test differ, such as test8en-0",
        ),
        (lambda exp: exp / "a/../a", "name two or more different systems"),
        (lambda exp: exp / "fused", "is a fused system; name its members"),
        (lambda exp: exp / "none", "no experiment and none of its baselines"),
    ],
)
def test_systems_that_do_not_go_together_are_refused_by_both_names(fused, tmp_path, other, reason):
    exp = tmp_path / "exp"
    exp.mkdir()
    for name in ("a", "fused"):
        (exp / name).symlink_to(fused / name)
    folder = other(exp)
    with pytest.raises(ValueError, match=reason) as error:
        fuse.main([str(exp / "a"), str(folder), "--out", str(tmp_path / "out")])
    assert str(folder) in str(error.value) and not (tmp_path / "out").exists()


def test_the_folder_of_a_fusion_is_its_own(fused, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/best.pt").touch()
    for out, reason in (
        (tmp_path, "has other files"),
        (fused / "a", "has other files"),
        (tmp_path / "exp/x", "is inside"),
    ):
        with pytest.raises(ValueError, match=reason):
            fuse.main([str(fused / "a"), str(fused / "b"), "--out", str(out)])
