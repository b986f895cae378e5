"""Write latents and log-likelihoods of a set, completely or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from dnf.experiment.layout import LOGDET_NPY, LOGP_NPY, META_JSON, UTTS_TSV
from dnf.experiment.progress import progress
from dnf.experiment.tables import write_tsv
from dnf.features.rows import batch_for
from dnf.features.windows import Windows


class SegmentMeans:
    """Mean vector of each segment, written to a file on arrival; only the current segment is in memory.

    Args:
        path: ``.npy`` file to write, ``(G, D)`` float32.
        frames: ``(G,)`` number of rows of each segment, at least one.
        dim: D.
    """

    def __init__(self, path: Path, frames: torch.Tensor, dim: int):
        self.file = open_memmap(path, "w+", np.float32, (len(frames), dim))
        self._frames, self._open, self._sum = frames, -1, torch.zeros(dim, dtype=torch.float64)

    def update(self, z: torch.Tensor, segments: torch.Tensor) -> None:
        """Add the next rows ``z`` ``(N, D)``, of ascending ``segments`` ``(N,)``."""
        numbers, counts = segments.unique_consecutive(return_counts=True)
        sums = torch.stack([rows.double().sum(0) for rows in z.split(counts.tolist())]).cpu()
        if numbers[0] == self._open:
            sums[0] += self._sum
        self._open, self._sum = int(numbers[-1]), sums[-1]
        self.file[int(numbers[0]) : self._open + 1] = (sums / self._frames[numbers, None]).float()


@contextlib.contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A new folder that replaces ``out`` if the block succeeds."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)


def write_scored(
    folder: Path,
    windows: Windows,
    meta: dict,
    density: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    what: str,
) -> None:
    """Write ``meta.json``, ``utts.tsv``, ``logp.npy`` and ``logdet.npy`` of a set, in batches.

    Args:
        folder: an existing, empty folder.
        windows: all vectors of the set; at least one.
        meta: content of ``meta.json``, with ``classes``; the number of frames is added.
        density: maps rows ``(B,)`` and vectors ``(B, D)`` to log-likelihoods ``(B, K)`` of the classes and a summand
            ``(B,)`` that makes them log p(x | k); nats.
        what: system and set, for the progress bar and errors.

    Raises:
        ValueError: a log density is not finite.
    """
    total = len(windows)
    logp = open_memmap(folder / LOGP_NPY, "w+", np.float32, (total, len(meta["classes"])))
    logdet = open_memmap(folder / LOGDET_NPY, "w+", np.float32, (total,))
    batch = batch_for(windows.device)
    for start in progress(range(0, total, batch), what=what, unit="batches"):
        rows = torch.arange(start, min(start + batch, total))
        of_all, change = density(rows, windows.gather(rows))
        if not (torch.isfinite(change).all() and torch.isfinite(of_all).all()):
            raise ValueError(
                f"{what}: a log density is not finite; the checkpoint is damaged or the frames are far from training"
            )
        logp[start : start + batch], logdet[start : start + batch] = of_all.cpu(), change.cpu()
    logp.flush()
    logdet.flush()
    with (folder / UTTS_TSV).open("w", encoding="utf-8") as file:
        file.write("utt\tspeaker\tclass\tset\tscore\tfirst\trows\tcorpus\n")
        for utt, speaker, name, of_set, score, first, rows, corpus in windows.segments():
            file.write(
                f"{utt}\t{speaker}\t{name}\t{of_set}\t{'' if score is None else score}\t{first}\t{rows}\t{corpus}\n"
            )
    (folder / META_JSON).write_text(json.dumps(meta | {"frames": total}) + "\n", encoding="utf-8")


def write_utterances(out: Path, classes: Sequence[str], utts: Sequence[dict], loglik: np.ndarray) -> None:
    """Write ``latents/<set>`` with one row for each utterance.

    Args:
        out: the folder, replaced completely.
        classes: K names.
        utts: U rows of utts.tsv.
        loglik: ``(U, K)`` log-likelihoods of the utterances, nats.
    """
    with written_whole(out) as folder:
        np.save(folder / LOGP_NPY, loglik.astype(np.float32))
        np.save(folder / LOGDET_NPY, np.zeros(len(loglik), np.float32))
        write_tsv(folder / UTTS_TSV, (utt | {"first": u, "rows": 1} for u, utt in enumerate(utts)))
        meta = {"classes": list(classes), "cond_dim": len(classes), "frames": len(loglik)}
        (folder / META_JSON).write_text(json.dumps(meta) + "\n", encoding="utf-8")
