"""Read the samples of one utterance of a Lhotse recording, or say why it cannot be used."""

from __future__ import annotations

import numpy as np
from lhotse import AudioSource, Recording, SupervisionSegment
from lhotse.utils import fastcopy

from dnf.data.sound_file import cause, failure, run_pipe, unusable
from dnf.experiment.settings import Features


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
    try:
        if recording.sources[0].type == "file":
            if reason := unusable(where):
                raise Rejected(f"{where}: {reason}")
        elif recording.sources[0].type == "command":
            made = AudioSource("memory", recording.sources[0].channels, run_pipe(where))
            recording = fastcopy(recording, sources=[made])
        samples = recording.load_audio(channels=channel, offset=utterance.start, duration=utterance.duration)[0]
    except Rejected:
        raise
    except Exception as error:  # the exception for a damaged file depends on the backend
        if recording.sources[0].type == "file":
            raise Rejected(f"{where}: {failure(where, error)}") from None
        raise Rejected(f"{where}: cannot be read ({cause(error)}); correct the command or leave it out") from None
    if not np.isfinite(samples).all():
        raise Rejected(f"{where}: has NaN or infinite samples; convert it to 16-bit PCM")
    if not samples.any():
        raise Rejected(f"{where}: digital silence; leave it out")
    return samples


def at_rate(recording: Recording, settings: Features) -> Recording:
    """The recording at the rate of the settings; ``Rejected`` if resampling is off."""
    if recording.sampling_rate == settings.sampling_rate:
        return recording
    if not settings.resample:
        raise Rejected(
            f"{recording.sources[0].source}: {recording.sampling_rate} Hz, not features.sampling_rate "
            f"{settings.sampling_rate}; convert it, or set features.resample=true"
        )
    return recording.resample(settings.sampling_rate)


def channel_of(recording: Recording, settings: Features) -> int:
    """Which channel to use; ``Rejected`` if the settings do not name an existing one."""
    where = recording.sources[0].source
    if recording.num_channels > 1 and settings.channel is None:
        raise Rejected(
            f"{where}: {recording.num_channels} channels; convert it to mono, or set features.channel=0 to use the first"
        )
    channel = settings.channel if recording.num_channels > 1 else recording.channel_ids[0]
    if channel not in recording.channel_ids:
        raise Rejected(f"{where}: has no channel {channel}; its channels are {recording.channel_ids}")
    return channel
