"""Samples of one utterance of a Lhotse recording, or why it cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lhotse import Recording, SupervisionSegment

from dnf.data import sphere
from dnf.experiment import entry
from dnf.experiment.settings import Features

# A pipe's writer leaves this or more as the length of what it cannot know
STREAMED = 0x7FFFF000


class Rejected(ValueError):
    """A recording or utterance that cannot be used; the message is the reason and the remedy."""


def load_samples(recording: Recording, utterance: SupervisionSegment, settings: Features) -> np.ndarray:
    """Samples ``(T,)`` of one utterance in -1..1.

    Raises:
        Rejected: the recording is missing, damaged, of another rate, of several channels, silent, too short or not a number.
    """
    where = recording.sources[0].source
    recording = at_rate(recording, settings)
    channel = channel_of(recording, settings)
    if utterance.duration < settings.min_duration:
        raise Rejected(
            f"{where}: {utterance.duration:.3f} s is shorter than features.min_duration {settings.min_duration} s; "
            f"leave it out or lower the limit"
        )
    if utterance.duration < settings.frame_length:
        raise Rejected(f"{where}: {utterance.duration:.3f} s is shorter than one frame; leave it out")
    if recording.sources[0].type == "file":
        if truncated(where):
            raise Rejected(f"{where}: shorter than its header says; it was cut off: restore or leave out the file")
        if reason := sphere.refusal(where):
            raise Rejected(f"{where}: {reason}")
    try:
        samples = recording.load_audio(channels=channel, offset=utterance.start, duration=utterance.duration)[0]
    except Exception as error:  # what a damaged file raises depends on the backend that reads it
        raise Rejected(
            f"{where}: cannot be read ({entry.describe(error)[:200]}); restore or leave out the file"
        ) from None
    if not np.isfinite(samples).all():
        raise Rejected(f"{where}: has samples that are not numbers; write it again as 16-bit PCM")
    if not samples.any():
        raise Rejected(f"{where}: digital silence; leave it out")
    return samples


def at_rate(recording: Recording, settings: Features) -> Recording:
    """The recording at the rate of the settings; raises ``Rejected`` where it may not be changed."""
    if recording.sampling_rate == settings.sampling_rate:
        return recording
    if not settings.resample:
        raise Rejected(
            f"{recording.sources[0].source}: {recording.sampling_rate} Hz, not features.sampling_rate "
            f"{settings.sampling_rate}; convert it, or set features.resample=true"
        )
    return recording.resample(settings.sampling_rate)


def channel_of(recording: Recording, settings: Features) -> int:
    """Which channel to take; raises ``Rejected`` where that is not said, or not there."""
    where = recording.sources[0].source
    if recording.num_channels > 1 and settings.channel is None:
        raise Rejected(
            f"{where}: {recording.num_channels} channels; make it mono, or set features.channel=0 to take the first"
        )
    channel = settings.channel if recording.num_channels > 1 else recording.channel_ids[0]
    if channel not in recording.channel_ids:
        raise Rejected(f"{where}: has no channel {channel}; its channels are {recording.channel_ids}")
    return channel


def truncated(path: Path | str) -> bool:
    """Whether a RIFF or SPHERE file ends before its samples do; libsndfile reads such a file without a word."""
    path = Path(path)
    if not path.is_file():
        return False
    if sphere.cut_off(path):
        return True
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return False
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, length = head[:4], int.from_bytes(head[4:], "little")
            if name == b"data":
                return length < STREAMED and file.tell() + length > path.stat().st_size
            file.seek(length + length % 2, 1)
    return True
