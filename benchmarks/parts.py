"""Audio processing beside the training of a flow: filter banks, and wav to decision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch

from benchmarks.timing import Action
from dnf.experiment.config import Config
from dnf.features.extractor import extract_whole
from dnf.inference.classify import classify
from dnf.inference.recordings import read_items
from dnf.inference.system import load_system

FBANK_SECONDS, FBANK_CALLS = 10, 20
EVERY = 8  # score every 8th vector: one per 80 ms, and a vector spans 110 ms


class Part(NamedTuple):
    """A timed action, and the seconds of sound that it processes; 0 without sound."""

    action: Action
    sound: float = 0.0


def fbank(config: Config) -> Part:
    """Log-mel and log-energy of recordings of ten seconds, one after the other."""
    settings, rng = config.features, np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal(FBANK_SECONDS * settings.sampling_rate).astype(np.float32)
    extract_whole(samples, settings)  # creates the extractor
    return Part(lambda: [extract_whole(samples, settings) for _ in range(FBANK_CALLS)], FBANK_SECONDS * FBANK_CALLS)


def bursts(folder: Path, rate: int, count: int, seconds: float) -> list[Path]:
    """Recordings of noise in bursts, to replace real ones."""
    rng, files = np.random.default_rng(0), []
    for n in range(count):
        t = np.arange(round(seconds * rate)) / rate
        loud = np.where(np.sin(2 * np.pi * 2.3 * t) > -0.3, 0.08, 0.0001)
        files.append(folder / f"bursts{n}.wav")
        soundfile.write(files[-1], rng.standard_normal(len(t)) * loud, rate, subtype="PCM_16")
    return files


def find_recordings(folder: Path, count: int) -> list[Path]:
    """``count`` wav and FLAC files below a folder, evenly spaced over their sorted names."""
    files = sorted(path for path in folder.absolute().rglob("*") if path.suffix.lower() in (".wav", ".flac"))
    if not files:
        raise ValueError(f"--recordings {folder}: has no .wav or .flac file")
    return [files[n * len(files) // count] for n in range(min(count, len(files)))]


def joined(files: Sequence[Path], path: Path) -> Path:
    """One recording, concatenated from mono recordings of the same rate."""
    read = [soundfile.read(file, dtype="int16", always_2d=True) for file in files]
    rates = {rate for _, rate in read}
    if len(rates) > 1:
        raise ValueError(f"--recordings: {files[0]} and others have different rates: {sorted(rates)}")
    soundfile.write(path, np.concatenate([samples[:, 0] for samples, _ in read]), rates.pop(), subtype="PCM_16")
    return path


def decisions(folder: Path, files: Sequence[Path], device: torch.device) -> dict[str, Part]:
    """Wav to decision, with a loaded model: several recordings, and one of their total length, on all vectors and on every Nth.

    Args:
        folder: folder with the model, ``model``, and its training frame store, ``frames/train``.
    """
    model = load_system(folder / "model", None, device)
    sound, long = sum(soundfile.info(file).duration for file in files), joined(files, folder / "joined.wav")

    def decide(paths: Sequence[Path], every: int = 1) -> None:
        for record in classify(read_items(list(map(str, paths)), None, None), model, every=every):
            if "error" in record:
                raise ValueError(f"{record['recording']}: {record['error']}")

    one = f"wav to decision, one recording of {sound:.0f} s"
    return {
        f"wav to decision, {len(files)} recordings of {sound / len(files):.0f} s": Part(partial(decide, files), sound),
        one: Part(partial(decide, [long]), sound),
        f"{one}, --every {EVERY}": Part(partial(decide, [long], EVERY), sound),
    }
