"""Stage features: frames of ``features.kind``, energy VAD and CMVN statistics, or vectors of a front-end, as Kaldi arks.

``python3 -m dnf.features.extract compute`` is one task of a job array: it processes its share of every set's utterances and writes
arks below ``<feats>/new``, which ``dnf.features.collect`` moves into place. ``python3 -m dnf.features.extract fit`` comes before, for the
front-ends that are fitted to the training sets.
"""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import os
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
from dnf.data.kaldi_files import read_table
from dnf.experiment import entry, packages
from dnf.experiment.classes import choose_classes, read_classes
from dnf.experiment.config import Config
from dnf.experiment.environment import choose_device
from dnf.experiment.layout import (
    CLASSES_TXT,
    CONFIG_YAML,
    RECORDINGS_JSONL,
    SEGMENTS,
    SUPERVISIONS_JSONL,
    UTT2CLASS,
    is_taken,
    run_again,
)
from dnf.experiment.progress import progress
from dnf.features.collect import kinds
from dnf.features.extractor import extract_whole
from dnf.features.front_ends import FrontEnd, make_front_end
from dnf.features.statistics import cmvn_stats
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
        speech = speech_marks(samples, log_energy, config)
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
    packages.check(config)
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
            for kind in kinds(config)
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
    parser.add_argument("verb", choices=("fit", "compute"))
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
    else:
        compute(args.data, args.feats, config, args.job, args.jobs, args.work, allow_pipes=pipes)
    return 0


if __name__ == "__main__":
    entry.run(main)
