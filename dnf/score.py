"""Stage 6: log-likelihood of every class, per frame and per utterance, and mean densities per set and class."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import kaldiio
import numpy as np

from dnf import entry
from dnf.config import Config
from dnf.tables import write_tsv

log = logging.getLogger(__name__)

COUNTS = ("first", "rows")  # columns of utts.tsv that are numbers


class Utterances(Sequence):
    """The rows of ``utts.tsv`` as dicts, made as they are asked for: a dict takes several times what it says."""

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
    """What stage 4 left for one set, mapped from disk; rows ``first : first + rows`` of the arrays are an utterance.

    Attributes:
        classes: K names of the model's classes.
        cond_dim: dims of c.
        utts: columns utt, speaker, class, set, score of each of U utterances, with ``first`` and ``rows`` as integers;
            a sequence of dicts.
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
        if not (directory / "meta.json").is_file():
            raise ValueError(f"{directory}: no latents; run stage 4")
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        arrays = (mapped(directory / f"{name}.npy") for name in ("logp", "logdet"))
        return cls(meta["classes"], meta["cond_dim"], Utterances(directory / "utts.tsv"), *arrays)

    def loglik(self, utt: dict) -> np.ndarray:
        """log p(x | k) ``(rows, K)`` float64 of the frames of an utterance, nats."""
        rows = slice(utt["first"], utt["first"] + utt["rows"])
        return self.logp[rows].astype(np.float64) + self.logdet[rows, None]


def mapped(path: Path) -> np.ndarray:
    """An array that stays on disk; a plain one, since parts of numpy's ``memmap`` take long to make."""
    return np.load(path, mmap_mode="r").view(np.ndarray)


def latent_sets(exp: Path) -> list[Path]:
    """``latents/<set>`` of every set that stage 4 left, in byte order."""
    found = sorted(path.parent for path in (exp / "latents").glob("*/meta.json"))
    if not found:
        raise ValueError(f"{exp / 'latents'}: no latents; run stage 4")
    return found


def utterance_loglik(latents: Latents) -> np.ndarray:
    """Sums over frames of log p(x | k), ``(U, K)`` float64, nats."""
    sums = np.empty((len(latents.utts), len(latents.classes)))
    for own, utt in zip(sums, latents.utts):
        own[:] = latents.loglik(utt).sum(0)
    return sums


def mean_densities(latents: Latents) -> list[dict]:
    """Mean LogLL, LogP and LogDet (nats per frame) of each true class and of all frames together.

    LogP is that of the frame's own class; for a class the model does not know it is the log of the mean of the class
    densities, which for a plain flow is its one density.
    """
    sums: dict[str, np.ndarray] = {}
    for utt in latents.utts:
        rows = slice(utt["first"], utt["first"] + utt["rows"])
        logp = latents.logp[rows].astype(np.float64)
        if utt["class"] in latents.classes:
            own = logp[:, latents.classes.index(utt["class"])]
        else:
            own = np.logaddexp.reduce(logp, axis=1) - np.log(logp.shape[1])
        figures = np.array([utt["rows"], own.sum(), latents.logdet[rows].astype(np.float64).sum()])
        for name in (utt["class"], "all"):
            sums[name] = sums.get(name, 0) + figures
    return [
        {
            "class": name,
            "frames": int(n),
            "loglik": f"{(logp + logdet) / n:.6f}",
            "logp": f"{logp / n:.6f}",
            "logdet": f"{logdet / n:.6f}",
        }
        for name, (n, logp, logdet) in sorted(sums.items(), key=lambda item: (item[0] == "all", item[0]))
    ]


def score_rows(latents: Latents) -> Iterator[dict]:
    """Rows of ``utt_scores.txt``."""
    for utt in latents.utts:
        sums = latents.loglik(utt).sum(0)
        row = {"utt": utt["utt"], "speaker": utt["speaker"], "class": utt["class"], "frames": utt["rows"]}
        row |= {f"sum_{name}": f"{value:.4f}" for name, value in zip(latents.classes, sums)}
        yield row | {f"mean_{name}": f"{value / utt['rows']:.6f}" for name, value in zip(latents.classes, sums)}


def write_scores(latents: Latents, out: Path, frame_scores: bool) -> None:
    """Write ``utt_scores.txt``, ``densities.tsv`` and, if asked, ``frame_scores.{ark,scp}`` of one set below ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write_tsv(out / "utt_scores.txt", score_rows(latents))
    write_tsv(out / "densities.tsv", mean_densities(latents))
    if frame_scores:
        with kaldiio.WriteHelper(f"ark,scp:{out}/frame_scores.ark,{out}/frame_scores.scp") as writer:
            for utt in latents.utts:
                writer(utt["utt"], latents.loglik(utt).astype(np.float32))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.score", description=__doc__)
    parser.add_argument("exp", type=Path, help="folder of the experiment, with latents/<set>/ of stage 4")
    args = parser.parse_args(argv)
    config = Config.load(args.exp / "config.yaml")
    shutil.rmtree(args.exp / "scores", ignore_errors=True)
    for directory in latent_sets(args.exp):
        latents = Latents.open(directory)
        out = args.exp / "scores" / directory.name
        write_scores(latents, out, config.score.frame_scores)
        log.info("%s: %d utterances, %d frames", out, len(latents.utts), len(latents.logdet))
    return 0


if __name__ == "__main__":
    entry.run(main)
