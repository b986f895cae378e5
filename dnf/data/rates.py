"""Recordings whose rate is below that of the features."""

from __future__ import annotations

import logging
from pathlib import Path

from dnf.data.kaldi_files import read_manifest
from dnf.experiment.layout import RECORDINGS_JSONL
from dnf.experiment.settings import Features

log = logging.getLogger(__name__)


def say_low_rates(directory: Path, settings: Features) -> None:
    """Warn if recordings of a set are upsampled, which leaves the upper mel bins empty."""
    rates = [record["sampling_rate"] for record in read_manifest(directory / RECORDINGS_JSONL).values()]
    low = [rate for rate in rates if rate < settings.sampling_rate]
    if settings.resample and low:
        log.warning(
            "%s: %d of %d recordings are sampled at %s Hz, below features.sampling_rate %d Hz: they have no signal above "
            "%d Hz, and resampling leaves the mel bins above it empty; set features.sampling_rate=%d or record again",
            *(directory, len(low), len(rates), " and ".join(map(str, sorted(set(low)))), settings.sampling_rate),
            *(min(low) // 2, min(low)),
        )
