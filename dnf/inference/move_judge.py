"""Test whether the class of moved speech has changed, by a perceptron that is independent of the flow, and by the flow itself."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from dnf.experiment.config import Config
from dnf.features.rows import BATCH
from dnf.inference.moving import Moved, Utterance, Vectors, largest_error
from dnf.metrics.bootstrap import interval, weighted_share
from dnf.models.checkpoint import Trained


class Perceptron:
    """A perceptron that separates windows of two classes, trained on the training frames without the flow."""

    def __init__(self, of_class: list[Tensor], seed: int, hidden: int = 256, rounds: int = 20):
        vectors = torch.cat(of_class).numpy()
        labels = np.repeat([0, 1], [len(part) for part in of_class])
        self.mean, self.std = vectors.mean(0), vectors.std(0) + 1e-6
        self.net = MLPClassifier(
            (hidden,), alpha=1e-3, batch_size=min(500, len(vectors)), max_iter=rounds, early_stopping=True,
            n_iter_no_change=4, random_state=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that has not converged is good enough
            self.net.fit((vectors - self.mean) / self.std, labels)

    def calls(self, vectors: Tensor) -> np.ndarray:
        """Which of the windows ``(N, D)`` are classified as the second class, ``(N,)``."""
        return self.net.predict((vectors.numpy() - self.mean) / self.std) == 1


@torch.no_grad()
def calls_of_flow(trained: Trained, vectors: Tensor, source: str, target: str) -> np.ndarray:
    """Which of the windows ``(N, D)`` have a higher density of the flow under ``target`` than under ``source``."""
    means = trained.model.prior.means
    scores = torch.cat(
        [trained.model.log_prob(part.to(means.device, means.dtype)).cpu() for part in vectors.split(BATCH)]
    )
    a, b = (trained.classes.index(name) for name in (source, target))
    return (scores[:, b] > scores[:, a]).numpy()


def has_moved(before: float, after: float, real: float) -> bool:
    """Whether the share of frames classified as the target class rises at least half way to that of real frames of the class."""
    return real > before and after >= before + (real - before) / 2


def share_with_interval(calls: np.ndarray, speakers: list[str], config: Config) -> dict:
    """Share of the windows ``(N,)`` classified as the target class, with a 95 % interval over speakers, and counts."""
    names, index = np.unique(speakers, return_inverse=True)
    hits, totals = np.bincount(index, calls).astype(float), np.bincount(index).astype(float)
    ends = interval(weighted_share, list(names), hits, totals, resamples=config.report.bootstrap, seed=config.seed)
    row = {"value": f"{calls.mean():.6f}"} | dict(
        zip(("low", "high"), (f"{e:.6f}" for e in ends) if ends else ("", ""))
    )
    return row | {"frames": len(calls), "speakers": len(names)}


def rows_of(
    utterances: list[Utterance],
    moved: list[Moved],
    trained: Trained,
    perceptron: Perceptron,
    names: tuple[str, str],
    held_out: dict[str, Vectors],
) -> list[dict]:
    """One row per figure: name, value, 95 % interval over speakers, and numbers of windows, utterances and speakers.

    Args:
        utterances: the original utterances.
        moved: the same utterances, moved.
        trained: the flow.
        perceptron: classifier of windows.
        names: source and target class.
        held_out: windows of dev by class, for comparison; the verdict needs those of the target.
    """
    speakers = [u.speaker for u, m in zip(utterances, moved) for _ in range(len(m.before))]
    counts = {"frames": len(speakers), "utterances": len(moved), "speakers": len(set(speakers))}
    windows = {
        "before": Vectors(torch.cat([m.before for m in moved]), speakers),
        "moved": Vectors(torch.cat([m.windows for m in moved]), speakers),
        "respliced": Vectors(torch.cat([m.respliced for m in moved]), speakers),
    }
    change = (windows["moved"].x - windows["before"].x).abs().mean()
    figures = {"reconstruction_max_error": f"{largest_error(moved):.3e}", "mean_abs_change": f"{float(change):.6f}"}
    rows = [{"figure": name, "value": value, "low": "", "high": ""} | counts for name, value in figures.items()]
    windows |= {f"dev_{name}": vectors for name, vectors in held_out.items()}
    calls_of = {"mlp": perceptron.calls, "flow": partial(calls_of_flow, trained, source=names[0], target=names[1])}
    shares = {}
    for system, predict in calls_of.items():
        for name, vectors in windows.items():
            calls = predict(vectors.x)
            shares[system, name] = float(calls.mean())
            row = share_with_interval(calls, vectors.speakers, trained.config)
            of_utterances = {} if name.startswith("dev_") else {"utterances": len(moved)}
            rows.append({"figure": f"{system}_share_{names[1]}_{name}"} | row | of_utterances)
    if names[1] in held_out:
        before, after, real = (shares["mlp", name] for name in ("before", "respliced", f"dev_{names[1]}"))
        value = "yes" if has_moved(before, after, real) else "no"
        rows.append({"figure": "moved", "value": value, "low": "", "high": ""} | counts)
    return rows


def verdict_line(rows: list[dict], target: str) -> str:
    """The last line: three shares of the perceptron with their intervals, and whether the class has moved."""
    figures = {row["figure"]: row for row in rows}
    if "moved" not in figures:
        return f"moved: no verdict, as dev has no frames of class {target}"

    def words(name: str) -> str:
        row = figures[f"mlp_share_{target}_{name}"]
        ends = f"95% {float(row['low']):.3f}-{float(row['high']):.3f}, " if row["low"] else "no interval, "
        return f"{float(row['value']):.3f} ({ends}{row['speakers']} speakers)"

    return (
        f"moved: {figures['moved']['value']}; share of frames that the perceptron takes for {target}: before "
        f"{words('before')}, after {words('respliced')}, real {target} of dev {words(f'dev_{target}')}; "
        "yes means at least half way"
    )
