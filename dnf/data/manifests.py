"""Utterances as tables and corpus folders name them, and the Lhotse manifests made from them and the files' headers."""

from __future__ import annotations

import io
import math
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from tqdm import tqdm

from dnf.data import sphere
from dnf.experiment import entry


class Utterance(NamedTuple):
    """One utterance; ``name`` is its class, ``end`` is None for the whole recording, times are in seconds."""

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


def identifier(text: str) -> str:
    """``text`` as part of a Kaldi id: white space becomes an underscore."""
    return re.sub(r"\s+", "_", text.strip())


def number(text: str, where: str) -> float:
    """``text`` as a finite number; ``ValueError`` names ``where`` it stands."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {text!r} is not a number")
    return value


def absolute(path: str, base: Path) -> str:
    """A path of a table from the folder it is relative to; a command as it is."""
    return path if path.rstrip().endswith("|") else str((base / path).absolute())


def make_recording(utterance: Utterance) -> Recording | str:
    """Lhotse's recording from the header of the file, or why there is none."""
    try:
        if not utterance.path.rstrip().endswith("|"):
            if not Path(utterance.path).is_file():
                return f"{utterance.path}: no such file; correct the path or leave the recording out"
            if reason := sphere.refusal(utterance.path):
                return f"{utterance.path}: {reason}"
            return Recording.from_file(utterance.path, recording_id=utterance.recording)
        command = utterance.path.rstrip()[:-1]
        info = soundfile.info(
            io.BytesIO(subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True).stdout)
        )
        source = AudioSource(type="command", channels=list(range(info.channels)), source=command)
        return Recording(utterance.recording, [source], info.samplerate, info.frames, info.frames / info.samplerate)
    except Exception as error:  # what a damaged header raises depends on the backend that reads it
        return f"{utterance.path}: cannot be read ({entry.describe(error)[:200]}); restore or leave out the file"


def manifests(utterances: Sequence[Utterance]) -> tuple[RecordingSet, SupervisionSet, dict[str, str]]:
    """Recordings and supervisions of utterances, and those whose recording cannot be opened, with the reason."""
    sphere.install()
    unique = {u.recording: u for u in utterances}
    with ThreadPoolExecutor() as pool:
        made = dict(
            zip(unique, tqdm(pool.map(make_recording, unique.values()), total=len(unique), desc="headers", unit="file"))
        )
    rejected = {u.id: made[u.recording] for u in utterances if isinstance(made[u.recording], str)}
    supervisions = [supervision(u, made[u.recording]) for u in utterances if u.id not in rejected]
    return (
        RecordingSet.from_recordings(r for r in made.values() if not isinstance(r, str)),
        SupervisionSet.from_segments(supervisions),
        rejected,
    )


def supervision(utterance: Utterance, recording: Recording) -> SupervisionSegment:
    """The supervision of an utterance; ``ValueError`` when its segment does not lie in the recording."""
    end = recording.duration if utterance.end is None else utterance.end
    if not utterance.start < end <= recording.duration + 0.01:
        raise ValueError(
            f"utterance {utterance.id}: its segment {utterance.start} to {end} s does not lie in {utterance.path} "
            f"of {recording.duration:.2f} s; correct segments"
        )
    custom = {"class": utterance.name} | ({} if utterance.score is None else {"score": utterance.score})
    return SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.recording,
        start=utterance.start,
        duration=min(end, recording.duration) - utterance.start,
        speaker=utterance.speaker,
        gender=utterance.gender,
        text=utterance.text,
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
