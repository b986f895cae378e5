"""Utterances of tables and corpus folders, and Lhotse manifests made from them and from the headers of files."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from dnf.data import sphere
from dnf.data.sound_file import cause, run_pipe, unusable
from dnf.experiment.progress import progress


class Utterance(NamedTuple):
    """One utterance; ``name`` is its class, ``end`` is None for the whole recording, times are in seconds.

    ``score`` is that of the experts together, ``marks`` are those of each expert. ``tables`` are its values in further tables of
    its set, such as ``utt2score_fluency``.
    """

    id: str
    recording: str
    path: str
    speaker: str
    name: str
    start: float = 0.0
    end: float | None = None
    score: float | None = None
    gender: str | None = None
    text: str | None = None
    language: str | None = None
    marks: tuple[float, ...] = ()
    corpus: str | None = None
    tables: Mapping[str, str] = {}


def identifier(text: str) -> str:
    """``text`` as part of a Kaldi id: white space becomes an underscore."""
    return re.sub(r"\s+", "_", text.strip())


def is_visible(path: Path, root: Path) -> bool:
    """Whether neither the file nor a folder between it and ``root`` is hidden, like the ``._`` files of a Mac."""
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def number(text: str, where: str) -> float:
    """``text`` as a finite number; ``ValueError`` names ``where`` it is."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {text!r} is not a number")
    return value


def absolute(path: str, base: Path) -> str:
    """A path of a table, resolved from the folder of the table; a command does not change."""
    return path if path.rstrip().endswith("|") else str((base / path).absolute())


def make_recording(utterance: Utterance) -> Recording | str:
    """Lhotse's recording from the header of the file, or why there is none."""
    is_pipe = utterance.path.rstrip().endswith("|")
    try:
        if is_pipe:
            command = utterance.path.rstrip()[:-1]
            info = soundfile.info(io.BytesIO(run_pipe(command)))
            source = AudioSource(type="command", channels=list(range(info.channels)), source=command)
            made = Recording(utterance.recording, [source], info.samplerate, info.frames, info.frames / info.samplerate)
        else:
            if reason := unusable(utterance.path):
                return f"{utterance.path}: {reason}"
            made = Recording.from_file(utterance.path, recording_id=utterance.recording)
    except Exception as error:  # the exception for a damaged header depends on the backend
        remedy = "correct the command or leave it out" if is_pipe else "restore or leave out the file"
        return f"{utterance.path}: cannot be read ({cause(error, utterance.path)}); {remedy}"
    return made if made.num_samples else f"{utterance.path}: has no samples; leave it out"


def manifests(utterances: Sequence[Utterance]) -> tuple[RecordingSet, SupervisionSet, dict[str, str]]:
    """Recordings and supervisions of utterances, and those whose recording cannot be opened, with the reason."""
    sphere.install()
    unique = {u.recording: u for u in utterances}
    with ThreadPoolExecutor() as pool:
        made = dict(
            zip(
                unique,
                progress(pool.map(make_recording, unique.values()), what="headers", unit="files", total=len(unique)),
            )
        )
    rejected, supervisions = {}, []
    for u in utterances:
        recording = made[u.recording]
        reason = recording if isinstance(recording, str) else outside(u, recording)
        if reason:
            rejected[u.id] = reason
        else:
            supervisions.append(supervision(u, recording))
    used = {s.recording_id for s in supervisions}
    return (
        RecordingSet.from_recordings(r for name, r in made.items() if name in used),
        SupervisionSet.from_segments(supervisions),
        rejected,
    )


def outside(utterance: Utterance, recording: Recording) -> str:
    """Why a segment cannot be cut from its recording; empty if it can."""
    end = recording.duration if utterance.end is None else utterance.end
    if 0 <= utterance.start < end <= recording.duration + 0.01 and utterance.start < recording.duration:
        return ""
    return (
        f"its segment {utterance.start} to {end} s is outside {utterance.path} of {recording.duration:.2f} s; "
        "correct segments"
    )


def supervision(utterance: Utterance, recording: Recording) -> SupervisionSegment:
    """The supervision of an utterance whose segment lies in the recording."""
    end = recording.duration if utterance.end is None else utterance.end
    custom = {"class": utterance.name} | ({} if utterance.score is None else {"score": utterance.score})
    custom |= {"marks": list(utterance.marks)} if utterance.marks else {}
    custom |= {"corpus": utterance.corpus} if utterance.corpus else {}
    custom |= {"tables": dict(utterance.tables)} if utterance.tables else {}
    return SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.recording,
        start=utterance.start,
        duration=min(end, recording.duration) - utterance.start,
        speaker=utterance.speaker,
        gender=utterance.gender,
        text=utterance.text,
        language=utterance.language,
        custom=custom,
    )


def check_rejected(rejected: dict[str, str], total: int, limit: float, what: str) -> None:
    """Raise ``ValueError`` when more than the share ``limit`` of ``total`` utterances of ``what`` is rejected."""
    if len(rejected) > limit * total:
        utt = min(rejected)
        raise ValueError(
            f"{what}: {len(rejected)} of {total} utterances rejected, more than --max-rejected {limit:g}; "
            f"utterance {utt}: {rejected[utt]}"
        )
