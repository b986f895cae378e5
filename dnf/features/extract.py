"""Stage features: frames of ``features.kind``, energy VAD and CMVN statistics, or vectors of a front-end, as Kaldi arks.

``python3 -m dnf.features.extract compute`` is one task of a job array: it processes its share of every set's utterances and writes
arks below ``<feats>/new``. ``python3 -m dnf.features.extract collect`` counts the output, moves the arks into place and writes
``feats.scp``, ``vad.scp``, ``cmvn.scp``, ``utt2num_frames`` and ``rejected.txt`` into the data directories. What front-ends
make is the experiment's own: its table is beside its arks. ``python3 -m dnf.features.extract fit`` comes before, for the
front-ends that are fitted to the training sets.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import kaldiio
import numpy as np
import torch
from lhotse import Recording, SupervisionSegment
from lhotse.serialization import deserialize_item

from dnf.data import sphere
from dnf.data.audio import Rejected, load_samples
from dnf.data.data_dir import sets_below
from dnf.data.kaldi_files import read_table, read_text, write_table
from dnf.data.rates import say_low_rates
from dnf.experiment import entry
from dnf.experiment.classes import choose_classes, read_classes
from dnf.experiment.config import Config
from dnf.experiment.environment import choose_device
from dnf.experiment.layout import (
    CLASSES_TXT,
    CMVN_ARK,
    CMVN_SCP,
    CONFIG_YAML,
    RECORDINGS_JSONL,
    REJECTED_TXT,
    SEGMENTS,
    SUPERVISIONS_JSONL,
    UTT2CLASS,
    UTT2NUM_FRAMES,
    UTT2SPK,
    is_taken,
    run_again,
)
from dnf.experiment.progress import progress
from dnf.experiment.settings import Features
from dnf.features.arks import read_all
from dnf.features.cmvn import cmvn_stats
from dnf.features.extractor import extract_whole
from dnf.features.front_ends import FrontEnd, make_front_end
from dnf.features.vad import speech_marks

log = logging.getLogger(__name__)


def extract(
    recording: Recording, utterance: SupervisionSegment, config: Config, front_end: FrontEnd | None = None
) -> dict[str, np.ndarray]:
    """The arrays of one utterance by kind: frames ``(N, F)``, speech marks ``(N,)`` and CMVN statistics, or what a front-end measures.

    Raises:
        Rejected: the recording is unusable.
    """
    samples = load_samples(recording, utterance, config.features)
    try:
        if front_end:
            return {front_end.kind: front_end.measure(samples)}
        frames, log_energy = extract_whole(samples, config.features)
        speech = speech_marks(log_energy, config.vad)
    except ValueError as error:
        raise Rejected(f"{recording.sources[0].source}: {error}") from None
    return {"feats": frames, "vad": speech, "stats": cmvn_stats(frames[speech > 0])}


def task_utterances(directory: Path, job: int, jobs: int) -> tuple[int, Iterator[tuple[Recording, SupervisionSegment]]]:
    """The number of utterances of a set for task ``job`` of ``jobs`` (from 1), and these utterances with their recordings.

    The manifests are read line by line. Only if recordings have several utterances, the recordings of the task
    are held in memory.
    """
    total = sum(1 for _ in manifest_lines(directory / SUPERVISIONS_JSONL))
    first, last = total * (job - 1) // jobs, total * job // jobs
    supervisions = items(directory / SUPERVISIONS_JSONL, first, last)
    if not (directory / SEGMENTS).is_file():
        recordings = items(directory / RECORDINGS_JSONL, first, last)
        return last - first, zip(recordings, supervisions)
    mine = list(supervisions)
    wanted = {utterance.recording_id for utterance in mine}
    by_id = {r.id: r for r in items(directory / RECORDINGS_JSONL) if r.id in wanted}
    lost = [utterance for utterance in mine if utterance.recording_id not in by_id]
    if lost:
        raise ValueError(
            f"{directory / RECORDINGS_JSONL}: no recording {lost[0].recording_id} of utterance {lost[0].id}; {run_again('data')}"
        )
    return last - first, ((by_id[utterance.recording_id], utterance) for utterance in mine)


def items(path: Path, first: int = 0, last: int | None = None) -> Iterator:
    """Lines ``first : last`` of a manifest as Lhotse's objects, one at a time."""
    for line in itertools.islice(manifest_lines(path), first, last):
        try:
            item = deserialize_item(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is damaged ({entry.describe(error)}); {run_again('data')}") from None
        yield item


def manifest_lines(path: Path) -> Iterator[str]:
    """Lines of a manifest; ``ValueError`` if the file is truncated or is no manifest."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is damaged ({entry.describe(error)}); {run_again('data')}") from None


def check_pair(directory: Path, recording: Recording, utterance: SupervisionSegment, *, allow_pipes: bool) -> None:
    """Raise ``ValueError`` where an utterance is not of the recording beside it, or reading that would run a command."""
    if recording.id != utterance.recording_id:
        raise ValueError(
            f"{directory}: utterance {utterance.id} does not match recording {recording.id} in the manifests; {run_again('data')}"
        )
    if not allow_pipes and any(source.type == "command" for source in recording.sources):
        raise ValueError(
            f"{directory / RECORDINGS_JSONL}: the source of {recording.id!r} is a command; "
            "give --allow-pipes true if you trust it"
        )


def compute(
    data: Path, feats: Path, config: Config, job: int, jobs: int, work: str = "", *, allow_pipes: bool = False
) -> None:
    """One task: arks and scp files of its share of every set below ``feats/new/<set>``.

    Commands in the manifests run only with ``allow_pipes``. A task that has succeeded in the same work does nothing. A task
    that had to reject utterances runs again, since the user may have corrected them.
    """
    done, this = feats / f"new/done.{job}", f"{work} task {job} of {jobs}"
    if work and done.is_file() and done.read_text(encoding="utf-8") == this:
        log.info("%s: done by an earlier run", this)
        return
    done.unlink(missing_ok=True)
    clean = True
    torch.set_num_threads(1)
    sphere.install()
    front_end = make_front_end(config, feats)
    if front_end:
        front_end.prepare()  # what is wrong with it is wrong for all utterances
    for directory in sets_below(data):
        out = feats / "new" / directory.name
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed + job)
        compression = {"feats": {"compression_method": 2}} if config.features.compress else {}
        writers = {
            kind: kaldiio.WriteHelper(
                f"ark,scp:{out}/{kind}.{job}.ark,{out}/{kind}.{job}.scp", **compression.get(kind, {})
            )
            for kind in kinds(front_end)
        }
        rejected, lengths = {}, (out / f"num_frames.{job}").open("w", encoding="utf-8")
        count, pairs = task_utterances(directory, job, jobs)
        for recording, utterance in progress(pairs, what=f"features {directory.name}", unit="utterances", total=count):
            check_pair(directory, recording, utterance, allow_pipes=allow_pipes)
            try:
                arrays = extract(recording, utterance, config, front_end)
            except Rejected as reason:
                rejected[utterance.id] = str(reason)
                continue
            for kind, array in arrays.items():
                writers[kind](utterance.id, array)
            if not front_end:
                lengths.write(f"{utterance.id} {len(arrays['feats'])}\n")
        for writer in (*writers.values(), lengths):
            writer.close()
        (out / f"rejected.{job}.txt").write_text("".join(f"{k} {v}\n" for k, v in rejected.items()), encoding="utf-8")
        clean = clean and not rejected
    if work and clean:
        os.sync()  # the arks are on the disk before the marker, in case the machine crashes
        done.write_text(this, encoding="utf-8")


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


def kinds(front_end: FrontEnd | None) -> tuple[str, ...]:
    """Kinds of arrays of each utterance, the first of which names the utterances that have them."""
    return (front_end.kind,) if front_end else ("feats", "vad", "stats")


def collect_set(
    directory: Path, feats: Path, settings: Features, front_end: FrontEnd | None, jobs: int
) -> dict[str, dict[str, str]]:
    """Check the output of the tasks for one set; its tables, with the final paths of the arks."""
    new, out = feats / "new" / directory.name, feats / directory.name
    utt2spk, main = read_table(directory / UTT2SPK), kinds(front_end)[0]
    scps = {kind: gather_lines(new, f"{kind}.JOB.scp", jobs) for kind in kinds(front_end) if kind != "stats"}
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
    if not front_end:
        scps["cmvn"] = write_cmvn(new, speaker_stats(new, jobs, utt2spk))
    tables = {
        f"{kind}.scp": {k: v.replace(str(new), str(out), 1) for k, v in scp.items()} for kind, scp in scps.items()
    }
    if not front_end:
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
    front_end = make_front_end(config, feats)
    main = f"{kinds(front_end)[0]}.scp"
    tables = {
        directory: collect_set(directory, feats, config.features, front_end, jobs) for directory in sets_below(data)
    }
    for directory, of_set in tables.items():
        out = feats / directory.name
        shutil.rmtree(out, ignore_errors=True)
        (feats / "new" / directory.name).replace(out)
        for name, table in of_set.items():
            path = (out if front_end else directory) / name  # other experiments use what is in the data directory
            if table:
                write_table(path, table)
            else:
                path.unlink(missing_ok=True)
        frames = f" {sum(map(int, of_set[UTT2NUM_FRAMES].values()))} frames," if not front_end else ""
        log.info("%s: %d utterances,%s %d rejected", directory, len(of_set[main]), frames, len(of_set[REJECTED_TXT]))
        say_low_rates(directory, config.features)
    shutil.rmtree(feats / "new")
    (feats / f"{config.features.kind}.conf").write_text(
        "".join(f"{k}={v}\n" for k, v in dataclasses.asdict(config.features).items()), encoding="utf-8"
    )


def training_sound(
    data: Path, config: Config, seconds: float, *, allow_pipes: bool
) -> Iterator[tuple[Recording, SupervisionSegment]]:
    """Utterances of the training sets, evenly spaced: about ``seconds`` in total, equally of each class, or all of a class with less."""
    classes = choose_classes(read_classes(data / CLASSES_TXT), config.data.classes, data / CLASSES_TXT)
    directories = [directory for directory in sets_below(data) if directory.name in config.data.train]
    totals = dict.fromkeys(classes, 0.0)
    for directory in directories:
        names = read_table(directory / UTT2CLASS)
        for utterance in items(directory / SUPERVISIONS_JSONL):
            if names[utterance.id] in totals:
                totals[names[utterance.id]] += utterance.duration
    share = {name: min(1.0, seconds / len(totals) / total) if total else 0.0 for name, total in totals.items()}
    due = dict.fromkeys(classes, 0.0)
    for directory in directories:
        names = read_table(directory / UTT2CLASS)
        for recording, utterance in task_utterances(directory, 1, 1)[1]:
            check_pair(directory, recording, utterance, allow_pipes=allow_pipes)
            if (name := names[utterance.id]) in due:
                due[name] += share[name]
                if due[name] >= 1 - 1e-9:
                    due[name] -= 1
                    yield recording, utterance


def fit(data: Path, feats: Path, config: Config, device: torch.device, *, allow_pipes: bool = False) -> None:
    """Fit the front-end to sound of the training sets, equally of each class.

    A model that was trained elsewhere has brought what was fitted.

    Raises:
        ValueError: no utterance is usable.
    """
    front_end = make_front_end(config, feats)
    if front_end is None or not front_end.fitted or is_taken(feats.parent):
        return
    sphere.install()
    feats.mkdir(parents=True, exist_ok=True)

    def sound() -> Iterator[np.ndarray]:
        chosen = training_sound(data, config, config.vectors.ubm_seconds, allow_pipes=allow_pipes)
        for recording, utterance in chosen:
            try:
                yield load_samples(recording, utterance, config.features)
            except Rejected as reason:
                log.warning("%s: %s", utterance.id, reason)

    front_end.fit(sound(), device)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("verb", choices=("fit", "compute", "collect"))
    parser.add_argument("data", type=Path, help="folder of the data directories")
    parser.add_argument("feats", type=Path, help="output folder of the arks; its config.yaml has the settings")
    parser.add_argument("--job", type=int, default=1, help="number of this task, from 1 (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="tasks of the array (%(default)s)")
    parser.add_argument("--work", default="", help="name of this run; its finished tasks are not repeated")
    entry.add_pipes(parser)
    entry.add_device(parser)
    args = parser.parse_args(argv)
    config, pipes = Config.load(args.feats / CONFIG_YAML), args.allow_pipes == "true"
    if config.reads_vectors:
        log.info("%s: its vectors are made already", args.data)
    elif args.verb == "fit":
        fit(args.data, args.feats, config, choose_device(args.device), allow_pipes=pipes)
    elif args.verb == "compute":
        compute(args.data, args.feats, config, args.job, args.jobs, args.work, allow_pipes=pipes)
    else:
        collect(args.data, args.feats, config, args.jobs)
    return 0


if __name__ == "__main__":
    entry.run(main)
