"""Latents and log-likelihoods of a set on disk, from stage latents."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.experiment.files import intact
from dnf.experiment.layout import LATENTS, LOGDET_NPY, LOGP_NPY, META_JSON, UTTS_TSV, run_again, run_stage

COUNTS = ("first", "rows")  # integer columns of utts.tsv


class UtteranceRows(Sequence):
    """The rows of ``utts.tsv`` as dicts, made on demand, since a dict takes several times the memory of a line."""

    def __init__(self, path: Path):
        with path.open(encoding="utf-8") as file:
            names = next(file).rstrip("\n").split("\t")
            self._columns = {name: array("q") if name in COUNTS else [] for name in names}
            for line in file:
                for name, value in zip(names, line.rstrip("\n").split("\t"), strict=True):
                    self._columns[name].append(int(value) if name in COUNTS else sys.intern(value))

    def __len__(self) -> int:
        return len(self._columns["rows"])

    def __getitem__(self, number: int) -> dict:
        return {name: column[number] for name, column in self._columns.items()}

    def __iter__(self) -> Iterator[dict]:
        return map(self.__getitem__, range(len(self)))


class Latents(NamedTuple):
    """Output of stage latents for one set, mapped from disk; an utterance has rows ``first : first + rows`` of the arrays.

    Attributes:
        classes: K names of the model's classes.
        cond_dim: dims of c.
        utts: sequence of U dicts with keys utt, speaker, class, set, score, and the integers ``first`` and ``rows``.
        logp: ``(S, K)`` float32, log prior density of z under each class, nats.
        logdet: ``(S,)`` float32, nats.
    """

    classes: list[str]
    cond_dim: int
    utts: Sequence[dict]
    logp: np.ndarray
    logdet: np.ndarray

    @classmethod
    def open(cls, directory: Path) -> Latents:
        if not (directory / META_JSON).is_file():
            raise ValueError(f"{directory}: no latents; {run_stage('latents')}")
        meta = json.loads((directory / META_JSON).read_text(encoding="utf-8"))
        arrays = (mapped(directory / name) for name in (LOGP_NPY, LOGDET_NPY))
        return cls(meta["classes"], meta["cond_dim"], UtteranceRows(directory / UTTS_TSV), *arrays)

    def loglik(self, utt: dict) -> np.ndarray:
        """log p(x | k) ``(rows, K)`` float64 of the frames of an utterance, nats."""
        rows = slice(utt["first"], utt["first"] + utt["rows"])
        return self.logp[rows].astype(np.float64) + self.logdet[rows, None]


def mapped(path: Path, mode: str = "r") -> np.ndarray:
    """An array of stage latents that stays on disk, as a plain ndarray, since slicing numpy's ``memmap`` is slow.

    ``mode`` is that of numpy's ``memmap``. Raises ``ValueError`` if the file is missing or damaged.
    """
    with intact(path, run_again("latents")):
        return np.load(path, mmap_mode=mode).view(np.ndarray)


def latent_sets(exp: Path) -> list[Path]:
    """``latents/<set>`` of every set of stage latents, in byte order."""
    directories = sorted(path.parent for path in (exp / LATENTS).glob(f"*/{META_JSON}"))
    if not directories:
        raise ValueError(f"{exp / LATENTS}: no latents; {run_stage('latents')}")
    return directories


def utterance_loglik(latents: Latents) -> np.ndarray:
    """Sums over frames of log p(x | k), ``(U, K)`` float64, nats."""
    sums = np.empty((len(latents.utts), len(latents.classes)))
    for row, utt in zip(sums, latents.utts):
        row[:] = latents.loglik(utt).sum(0)
    return sums
