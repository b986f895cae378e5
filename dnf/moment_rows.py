"""Rows of the tables that say how Gaussian a set's latents are, and which dims carry class: ``gaussianity.tsv``,
``gaussianity_dims.tsv`` and ``fisher.tsv`` of stage 4."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dnf.checkpoint import Trained
from dnf.evaluate import evenly_spaced
from dnf.gaussianity import Moments, Shape, mardia
from dnf.windows import Windows

log = logging.getLogger(__name__)

FISHER = ("set", "classes", "part", "dim_index", "fisher")
SHAPES = ("skew", "kurt", "skew_within", "kurt_within")
MARDIA = ("mardia_frames", "mardia_skew", "mardia_skew_p", "mardia_kurt", "mardia_kurt_z", "mardia_kurt_p")


def groups_of_classes(moments: Moments, all_classes: list[str], model_classes: list[str]) -> Iterator[list[int]]:
    """Class ids whose frames are judged together: those the model knows, then with the others where there are any."""
    present = [k for k in range(len(all_classes)) if moments.count[k] > 0]
    seen = [k for k in present if all_classes[k] in model_classes]
    if seen:
        yield seen
    if seen != present:
        yield present


def parts(dim: int, cond_dim: int) -> dict[str, slice]:
    """Columns of c and of r; what is empty is left out."""
    both = {"c": slice(0, cond_dim), "r": slice(cond_dim, dim)}
    return {name: columns for name, columns in both.items() if columns.start < columns.stop}


def gaussianity_rows(
    name: str,
    out: Path,
    windows: Windows,
    moments: Moments,
    all_classes: list[str],
    trained: Trained,
    mardia_frames: int,
) -> tuple[list[dict], list[dict]]:
    """Rows of ``gaussianity.tsv`` and ``gaussianity_dims.tsv`` for one set; ``out`` is its ``latents/<set>``."""
    z = torch.from_numpy(np.load(out / "z.npy", mmap_mode="c"))
    of_segment = torch.tensor([all_classes.index(segment.name) for segment in windows.segments()])
    true = of_segment[windows.segment(torch.from_numpy(np.load(out / "z_rows.npy")))]
    rows, dims = [], []
    for group in groups_of_classes(moments, all_classes, trained.classes):
        names = "+".join(all_classes[k] for k in group)
        pooled, within = moments.pooled(group), moments.within(group)
        chosen = torch.nonzero(torch.isin(true, torch.tensor(group)))[:, 0]
        chosen = chosen[evenly_spaced(len(chosen), mardia_frames)]
        for part, columns in parts(moments.dim, trained.config.prior.cond_dim).items():
            shapes = per_dim(pooled, within, columns)
            test = mardia_figures(z[chosen, columns], true[chosen], f"{name} {names} {part}")
            row = {"set": name, "classes": names, "part": part, "dim": columns.stop - columns.start}
            row["frames"] = int(sum(moments.count[k] for k in group))
            rows.append(row | {key: f"{values.nanmean().item():.6g}" for key, values in shapes.items()} | test)
            for i, values in enumerate(zip(*(values.tolist() for values in shapes.values()))):
                dims.append(
                    {"set": name, "classes": names, "part": part, "dim_index": i}
                    | {k: f"{v:.6g}" for k, v in zip(SHAPES, values)}
                )
    return rows, dims


def per_dim(pooled: Shape, within: Shape, columns: slice) -> dict[str, torch.Tensor]:
    return dict(zip(SHAPES, (pooled.skew[columns], pooled.kurt[columns], within.skew[columns], within.kurt[columns])))


def mardia_figures(z: torch.Tensor, labels: torch.Tensor, what: str) -> dict[str, str]:
    """Mardia's test as table cells; empty ones where there are too few frames for it."""
    try:
        test = mardia(z, labels)
    except ValueError as error:
        log.warning("%s: no multivariate test: %s", what, error)
        return dict.fromkeys(MARDIA, "")
    values = (len(z), test.skew, test.skew_p, test.kurt, test.kurt_z, test.kurt_p)
    return {key: f"{value:.6g}" for key, value in zip(MARDIA, values)}


def input_rows(
    name: str,
    windows: Windows,
    moments: Moments,
    all_classes: list[str],
    model_classes: list[str],
    out: Path,
    mardia_frames: int,
) -> list[dict]:
    """Rows of ``gaussianity.tsv`` of a set's vectors before the flow, part ``x``: the same frames as those of z."""
    kept = torch.from_numpy(np.load(out / "z_rows.npy"))
    of_segment = torch.tensor([all_classes.index(segment.name) for segment in windows.segments()])
    true, rows = of_segment[windows.segment(kept)], []
    for group in groups_of_classes(moments, all_classes, model_classes):
        names = "+".join(all_classes[k] for k in group)
        shapes = per_dim(moments.pooled(group), moments.within(group), slice(None))
        chosen = torch.nonzero(torch.isin(true, torch.tensor(group)))[:, 0]
        chosen = chosen[evenly_spaced(len(chosen), mardia_frames)]
        row = {"set": name, "classes": names, "part": "x", "dim": moments.dim}
        row["frames"] = int(sum(moments.count[k] for k in group))
        row |= {key: f"{values.nanmean().item():.6g}" for key, values in shapes.items()}
        rows.append(row | mardia_figures(windows.gather(kept[chosen]).cpu(), true[chosen], f"{name} {names} x"))
    return rows


def fisher_rows(name: str, moments: Moments, of_input: Moments, all_classes: list[str], trained: Trained) -> list[dict]:
    """Rows of ``fisher.tsv`` for one set: Fisher ratio of every latent dim (part c or r) and input dim (part x)."""
    rows, cond_dim = [], trained.config.prior.cond_dim
    for group in groups_of_classes(moments, all_classes, trained.classes):
        if len(group) < 2:
            continue
        names, of_z = "+".join(all_classes[k] for k in group), moments.fisher(group)
        found = {part: of_z[columns] for part, columns in parts(moments.dim, cond_dim).items()}
        for part, values in (found | {"x": of_input.fisher(group)}).items():
            rows += [
                {"set": name, "classes": names, "part": part, "dim_index": i, "fisher": f"{value:.6g}"}
                for i, value in enumerate(values.tolist())
            ]
    return rows
