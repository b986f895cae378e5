"""Frame stores: 40-d frames of a set as a flat memory map, with its utterances."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from dnf.experiment.files import intact
from dnf.experiment.layout import (
    CENTRES_BIN,
    FRAMES_BIN,
    META_JSON,
    OFFSETS_NPY,
    SPOKEN_NPY,
    STATS_BIN,
    UTTS_TSV,
    run_again,
    run_stage,
)
from dnf.experiment.sets import check_shared
from dnf.experiment.settings import DataSettings


class FrameStore:
    """The frames of one set, mapped from disk; memory grows with the utterances, not with the frames.

    Attributes:
        name: of the set.
        frames: ``(T, F)`` tensor, as stored.
        offsets: ``(U + 1,)`` int64.
        centres: ``(S,)`` int64, speech frames.
        spoken: ``(U + 1,)`` int64, the centres of utterance u are ``spoken[u] : spoken[u + 1]``.
        stats: ``(U, 2, F + 1)`` float64, Kaldi's layout.
        utterances, speakers, classes: lists of U names.
        scores: list of U expert scores, or None.
        corpora: list of U names, empty where the corpus is not known.
    """

    def __init__(self, directory: Path):
        meta_path = directory / META_JSON
        if not meta_path.is_file():
            raise ValueError(f"{directory}: no frame store; {run_stage('frames')}")
        with intact(meta_path, run_again("frames")):
            meta = json.loads(meta_path.read_text(encoding="utf-8"))
            counts = {name: int(meta[name]) for name in ("frames", "dim", "speech", "utterances")}
            meta = {"dtype": np.dtype(meta["dtype"]).name, **counts}
        self.directory, self.name = directory, directory.name
        self.frames = map_file(directory / FRAMES_BIN, meta["dtype"], (meta["frames"], meta["dim"]))
        self.centres = map_file(directory / CENTRES_BIN, "int64", (meta["speech"],))
        self.stats = map_file(directory / STATS_BIN, "float64", (meta["utterances"], 2, meta["dim"] + 1))
        self.offsets, self.spoken = (
            load_places(directory / name, meta["utterances"] + 1) for name in (OFFSETS_NPY, SPOKEN_NPY)
        )
        self.utterances, self.speakers, self.classes, self.scores, self.corpora = [], [], [], [], []
        with intact(directory / UTTS_TSV, run_again("frames")), (directory / UTTS_TSV).open(encoding="utf-8") as file:
            next(file, None)
            for line in file:
                utt, speaker, name, score, *corpus = line.rstrip("\n").split("\t")
                self.utterances.append(utt)
                self.speakers.append(sys.intern(speaker))
                self.classes.append(sys.intern(name))
                self.scores.append(float(score) if score else None)
                self.corpora.append(sys.intern(corpus[0]) if corpus else "")
            if len(self.utterances) != meta["utterances"]:
                raise ValueError(f"{len(self.utterances)} utterances, not {meta['utterances']}")

    def marks(self, first: int, last: int) -> np.ndarray:
        """Whether frames ``first : last`` are speech, ``(n,)``."""
        speech = np.zeros(last - first, bool)
        spoken = torch.searchsorted(self.centres, torch.tensor([first, last])).tolist()
        speech[self.centres[slice(*spoken)].numpy() - first] = True
        return speech

    def fingerprint(self) -> str:
        """Short hash of names, counts and statistics, which identifies a set of frames."""
        digest = hashlib.sha256(self.stats.sum(0).numpy().tobytes())
        digest.update(f"{int(self.offsets[-1])} {len(self.centres)}".encode())
        for names in (self.utterances, self.speakers, self.classes):
            for name in names:
                digest.update(f"{name}\n".encode())
        return digest.hexdigest()[:16]


def load_places(path: Path, count: int) -> torch.Tensor:
    """``count`` positions, int64, from a .npy file."""
    with intact(path, run_again("frames")):
        places = np.load(path)
        if places.shape != (count,):
            raise ValueError(f"{places.shape} positions, not {count}")
    return torch.from_numpy(places)


def map_file(path: Path, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A flat file as a tensor on disk; writes to it are not saved."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if path.stat().st_size != size:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, not {shape} of {dtype}; {run_again('frames')}")
    return torch.from_numpy(np.memmap(path, dtype=dtype, mode="c", shape=shape))


def check_speakers(stores: Mapping[str, FrameStore], data: DataSettings) -> None:
    """The same of frame stores, for the sets that an experiment uses."""
    check_shared({name: set(store.speakers) for name, store in stores.items()}, data)
