"""Rows of the tables of a set's Gaussianity, autocorrelation and class information of its dims: ``gaussianity.tsv``,
``gaussianity_dims.tsv``, ``autocorrelation.tsv`` and ``fisher.tsv`` of stage latents."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from dnf.features.rows import evenly_spaced
from dnf.metrics.autocorrelation import LAGS, Autocorrelation
from dnf.metrics.figures import joined_names
from dnf.metrics.gaussianity import Moments, Shape, mardia
from dnf.models.checkpoint import Trained

log = logging.getLogger(__name__)

FISHER = ("set", "classes", "part", "dim_index", "fisher")
AUTOCORRELATION = ("set", "classes", "part", "dim", "lag", "seconds", "autocorrelation", "pairs")
SHAPES = ("skew", "kurt", "skew_within", "kurt_within")
MARDIA = ("mardia_frames", "mardia_skew", "mardia_skew_p", "mardia_kurt", "mardia_kurt_z", "mardia_kurt_p")


def groups_of_classes(moments: Moments, all_classes: list[str], model_classes: list[str]) -> Iterator[list[int]]:
    """Groups of class ids for the figures: the model's classes, and then all classes if there are others."""
    present = [k for k in range(len(all_classes)) if moments.count[k] > 0]
    known = set(model_classes)
    seen = [k for k in present if all_classes[k] in known]
    if seen:
        yield seen
    if seen != present:
        yield present


def parts(dim: int, cond_dim: int) -> dict[str, slice]:
    """Columns of c and of r; an empty part is left out."""
    both = {"c": slice(0, cond_dim), "r": slice(cond_dim, dim)}
    return {name: columns for name, columns in both.items() if columns.start < columns.stop}


class Kept(NamedTuple):
    """Frames of a set for Mardia's test.

    Attributes:
        true: ``(M,)`` class id of each kept frame.
        vectors: returns latents or vectors ``(N, D)`` of frames by index ``(N,)``.
        most: most frames of a test.
    """

    true: torch.Tensor
    vectors: Callable[[torch.Tensor], torch.Tensor]
    most: int


def gaussianity_rows(
    name: str, moments: Moments, columns: dict[str, slice], kept: Kept, all_classes: list[str], known: list[str]
) -> tuple[list[dict], list[dict]]:
    """Rows of ``gaussianity.tsv`` and ``gaussianity_dims.tsv`` of a set, of its latents or of its vectors.

    Args:
        name: set.
        moments: moments by class id.
        columns: columns of each part.
        kept: frames for Mardia's test.
        all_classes: classes of the corpus.
        known: classes of the model.
    """
    rows, dims = [], []
    for group in groups_of_classes(moments, all_classes, known):
        names = joined_names([all_classes[k] for k in group])
        pooled, within = moments.pooled(group), moments.within(group)
        chosen = torch.nonzero(torch.isin(kept.true, torch.tensor(group)))[:, 0]
        chosen = chosen[evenly_spaced(len(chosen), kept.most)]
        vectors = kept.vectors(chosen)
        for part, of_part in columns.items():
            shapes = per_dim(pooled, within, of_part)
            test = mardia_figures(vectors[:, of_part], kept.true[chosen], f"{name} {names} {part}")
            row = {"set": name, "classes": names, "part": part, "dim": len(shapes["skew"])}
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
    """Mardia's test as table cells; empty cells if there are too few frames."""
    try:
        test = mardia(z, labels)
    except ValueError as error:
        log.warning("%s: no multivariate test: %s", what, error)
        return dict.fromkeys(MARDIA, "")
    values = (len(z), test.skew, test.skew_p, test.kurt, test.kurt_z, test.kurt_p)
    return {key: f"{value:.6g}" for key, value in zip(MARDIA, values)}


def autocorrelation_rows(
    name: str, moments: Moments, found: Autocorrelation, all_classes: list[str], trained: Trained
) -> list[dict]:
    """Rows of ``autocorrelation.tsv`` for one set, of utterances of the model's classes; seconds do not count pauses."""
    config = trained.config
    names = joined_names([all_classes[k] for k in next(groups_of_classes(moments, all_classes, trained.classes))])
    rows = []
    for part, columns in parts(moments.dim, config.prior.cond_dim).items():
        for lag, pairs, value in zip(LAGS, found.pairs.tolist(), found.means(columns).tolist()):
            seconds = lag * config.splice.hop * config.features.frame_shift
            cells = (name, names, part, columns.stop - columns.start, lag, f"{seconds:g}", f"{value:.6g}", pairs)
            rows += [dict(zip(AUTOCORRELATION, cells))] if pairs else []
    return rows


def fisher_rows(name: str, moments: Moments, of_input: Moments, all_classes: list[str], trained: Trained) -> list[dict]:
    """Rows of ``fisher.tsv`` for one set: Fisher ratio of every latent dim (part c or r) and input dim (part x)."""
    rows, cond_dim = [], trained.config.prior.cond_dim
    for group in groups_of_classes(moments, all_classes, trained.classes):
        if len(group) < 2:
            continue
        names, of_z = joined_names([all_classes[k] for k in group]), moments.fisher(group)
        of_parts = {part: of_z[columns] for part, columns in parts(moments.dim, cond_dim).items()}
        for part, values in (of_parts | {"x": of_input.fisher(group)}).items():
            rows += [
                {"set": name, "classes": names, "part": part, "dim_index": i, "fisher": f"{value:.6g}"}
                for i, value in enumerate(values.tolist())
            ]
    return rows
