"""The course of a training run: ``history.tsv`` and the same figures as TensorBoard scalars."""

from __future__ import annotations

import contextlib
import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from dnf.experiment.layout import HISTORY_TSV, TENSORBOARD
from dnf.experiment.tables import read_tsv, write_tsv

COLUMNS = (
    "step", "epoch", "seconds", "nll", "logp", "logdet", "grad_norm", "lr", "frames_per_s",
    "dev_nll", "dev_logp", "dev_logdet", "dev_accuracy", "spikes", "restores",
)  # fmt: skip
TAGS = {
    "nll": "NLL", "logp": "LogP", "logdet": "LogDet", "grad_norm": "gradient norm", "lr": "learning rate",
    "frames_per_s": "frames per s", "dev_nll": "dev NLL", "dev_logp": "dev LogP", "dev_logdet": "dev LogDet",
    "dev_accuracy": "dev accuracy", "ce": "cross-entropy", "dev_ce": "dev cross-entropy",
}  # fmt: skip


class NoHistory(contextlib.nullcontext):
    """The replacement for ranks that write nothing."""

    def __enter__(self) -> NoHistory:
        return self

    def seconds(self) -> float:
        return 0.0

    def rest(self) -> None:
        pass

    def write(self, step: int, epoch: float, frames: int, row: dict[str, float]) -> float:
        return 0.0


class History:
    """Writes rows; a run that continues from a step first drops the rows after it.

    Args:
        out: ``exp/<exp>``; gets ``history.tsv`` and ``tb/``.
        step: the step that the run continues from; 0 for a new run.
        more: columns that this objective adds.
    """

    def __init__(self, out: Path, step: int, more: Sequence[str] = ()):
        path, kept = out / HISTORY_TSV, []
        if step and path.is_file():
            kept = [row for row in read_tsv(path) if None not in row.values() and int(row["step"]) <= step]
        columns = (*COLUMNS, *more)
        write_tsv(path, kept, columns)
        self._file = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, columns, delimiter="\t", lineterminator="\n", restval="")
        self._board = SummaryWriter(out / TENSORBOARD, purge_step=step + 1)
        self._began = time.perf_counter() - (float(kept[-1]["seconds"]) if kept else 0.0)
        self._row_began = time.perf_counter()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        self._board.close()

    def seconds(self) -> float:
        """Seconds of training so far, with those before an interruption."""
        return time.perf_counter() - self._began

    def rest(self) -> None:
        """Do not count the time since the last row in the next row's frames per second."""
        self._row_began = time.perf_counter()

    def write(self, step: int, epoch: float, frames: int, row: dict[str, float]) -> float:
        """Add a row; ``frames`` were trained on since the last one. Returns frames per second."""
        now = time.perf_counter()
        rate = frames / (now - self._row_began)
        self._row_began = now
        figures = row | ({"frames_per_s": rate} if frames else {})
        numbers = {name: f"{value:.6g}" for name, value in figures.items()}
        self._writer.writerow({"step": step, "epoch": f"{epoch:.3f}", "seconds": f"{self.seconds():.2f}", **numbers})
        self._file.flush()
        os.fsync(self._file.fileno())  # before a checkpoint that needs it
        for name, value in figures.items():
            self._board.add_scalar(TAGS.get(name, name), value, step)
        if "nll" in figures:
            self._board.add_scalar("LogLL", -figures["nll"], step)
        return rate
