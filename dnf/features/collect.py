"""End of stage features: count what its tasks have made, move the arks into place and write their tables.

``python3 -m dnf.features.collect`` writes ``feats.scp``, ``vad.scp``, ``cmvn.scp``, ``utt2num_frames`` and ``rejected.txt`` into the
data directories. What front-ends make is the experiment's own: its table is beside its arks.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

import kaldiio
import numpy as np

from dnf.data.data_dir import sets_below
from dnf.data.kaldi_files import read_table, read_text, write_table
from dnf.data.rates import say_low_rates
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    CMVN_ARK,
    CMVN_SCP,
    CONFIG_YAML,
    REJECTED_TXT,
    UTT2NUM_FRAMES,
    UTT2SPK,
    run_again,
)
from dnf.features.arks import read_all

log = logging.getLogger(__name__)


def gather_lines(out: Path, name: str, jobs: int) -> dict[str, str]:
    """``<utterance> <value>`` lines of all tasks, by utterance in byte order; ``name`` has JOB for the number of the task."""
    lines = {}
    for job in range(1, jobs + 1):
        path = out / name.replace("JOB", str(job))
        if not path.is_file():
            raise ValueError(f"{path}: task {job} of {jobs} has no output; see its log, and {run_again('features')}")
        for line in read_text(path).split("\n")[:-1]:
            key, blank, value = line.partition(" ")
            if not blank:
                raise ValueError(f"{path}: is damaged ({line!r} is not '<utterance> <value>'); {run_again('features')}")
            lines[key] = value
    return dict(sorted(lines.items()))


def speaker_stats(out: Path, jobs: int, utt2spk: dict[str, str]) -> dict[str, np.ndarray]:
    """CMVN statistics summed over the utterances of each speaker."""
    sums: dict[str, np.ndarray] = {}
    for job in range(1, jobs + 1):
        for utt, matrix in read_all(out / f"stats.{job}.ark"):
            sums[utt2spk[utt]] = sums.get(utt2spk[utt], 0) + matrix
    return dict(sorted(sums.items()))


def kinds(config: Config) -> tuple[str, ...]:
    """Kinds of arrays of each utterance, the first of which names the utterances that have them."""
    if not config.has_vectors:
        return "feats", "vad", "stats"
    from dnf.features.front_ends import FRONT_ENDS  # torch is slow to import

    return (FRONT_ENDS[config.vectors.front_end].kind,)


def collect_set(directory: Path, feats: Path, config: Config, jobs: int) -> dict[str, dict[str, str]]:
    """Check the output of the tasks for one set; its tables, with the final paths of the arks."""
    new, out = feats / "new" / directory.name, feats / directory.name
    utt2spk, main, settings = read_table(directory / UTT2SPK), kinds(config)[0], config.features
    scps = {kind: gather_lines(new, f"{kind}.JOB.scp", jobs) for kind in kinds(config) if kind != "stats"}
    rejected = gather_lines(new, "rejected.JOB.txt", jobs)
    processed = scps[main].keys() | rejected.keys()
    if lost := sorted(utt2spk.keys() - processed):
        raise ValueError(
            f"{directory}: no features for utterance {lost[0]} and {len(lost) - 1} more; {run_again('features')}"
        )
    if strange := sorted(processed - utt2spk.keys()):
        raise ValueError(
            f"{directory}: utterance {strange[0]} and {len(strange) - 1} more are in the manifests but not in utt2spk; "
            f"{run_again('data')}"
        )
    if len(rejected) > settings.max_rejected * len(utt2spk) or not scps[main]:
        limit = f"more than --max-rejected {settings.max_rejected:g}" if scps[main] else "all there are"
        utt = min(rejected)
        raise ValueError(
            f"{directory}: {len(rejected)} of {len(utt2spk)} utterances rejected, {limit}; utterance {utt}: {rejected[utt]}"
        )
    for utt, reason in sorted(rejected.items()):
        log.warning("%s: utterance %s rejected: %s", directory, utt, reason)
    if not config.has_vectors:
        scps["cmvn"] = write_cmvn(new, speaker_stats(new, jobs, utt2spk))
    tables = {
        f"{kind}.scp": {k: v.replace(str(new), str(out), 1) for k, v in scp.items()} for kind, scp in scps.items()
    }
    if not config.has_vectors:
        tables[UTT2NUM_FRAMES] = gather_lines(new, "num_frames.JOB", jobs)
    before = read_table(directory / REJECTED_TXT) if (directory / REJECTED_TXT).is_file() else {}
    unopened = {utt: reason for utt, reason in before.items() if utt not in utt2spk}
    tables[REJECTED_TXT] = dict(sorted((unopened | rejected).items()))
    return tables


def write_cmvn(new: Path, stats: dict[str, np.ndarray]) -> dict[str, str]:
    """Write the statistics of each speaker; the lines of their table."""
    with kaldiio.WriteHelper(f"ark,scp:{new / CMVN_ARK},{new / CMVN_SCP}") as writer:
        for speaker, matrix in stats.items():
            writer(speaker, matrix)
    return dict(line.rstrip("\n").split(" ", 1) for line in (new / CMVN_SCP).open(encoding="utf-8"))


def collect(data: Path, feats: Path, config: Config, jobs: int) -> None:
    """Check every set, then move all arks into place and write the tables. If a check fails, nothing changes.

    As with Kaldi's own scripts, rejected utterances stay in the set's other tables, which are the user's, and later
    stages ignore them; ``python3 -m dnf datadir fix`` removes them from a copy for Kaldi.
    """
    # wrong or incomplete output is made again
    for done in (feats / "new").glob("done.*"):
        done.unlink()
    main = f"{kinds(config)[0]}.scp"
    tables = {directory: collect_set(directory, feats, config, jobs) for directory in sets_below(data)}
    for directory, of_set in tables.items():
        out = feats / directory.name
        shutil.rmtree(out, ignore_errors=True)
        (feats / "new" / directory.name).replace(out)
        for name, table in of_set.items():
            path = (
                out if config.has_vectors else directory
            ) / name  # other experiments use what is in the data directory
            if table:
                write_table(path, table)
            else:
                path.unlink(missing_ok=True)
        frames = f" {sum(map(int, of_set[UTT2NUM_FRAMES].values()))} frames," if not config.has_vectors else ""
        log.info("%s: %d utterances,%s %d rejected", directory, len(of_set[main]), frames, len(of_set[REJECTED_TXT]))
        say_low_rates(directory, config.features)
    shutil.rmtree(feats / "new")
    (feats / f"{config.features.kind}.conf").write_text(
        "".join(f"{k}={v}\n" for k, v in dataclasses.asdict(config.features).items()), encoding="utf-8"
    )


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("data", type=Path, help="folder of the data directories")
    parser.add_argument("feats", type=Path, help="folder of the arks; its config.yaml has the settings")
    parser.add_argument("--jobs", type=int, default=1, help="tasks of the array (%(default)s)")
    args = parser.parse_args(argv)
    config = Config.load(args.feats / CONFIG_YAML)
    if config.reads_vectors:
        log.info("%s: its vectors are made already", args.data)
    else:
        collect(args.data, args.feats, config, args.jobs)
    return 0


if __name__ == "__main__":
    entry.run(main)
