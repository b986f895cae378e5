"""Stage plots: training curves, 2-D scatter and t-SNE of the latents, score histograms, per-dimension Gaussianity.

Reads config.yaml, history.tsv, gaussianity_dims.tsv and latents/<set>/ of an experiment and writes plots/*.png, each
12 inches wide (1200 pixels at 100 dpi). The same input gives the same bytes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
import torch
from matplotlib import colors
from matplotlib.figure import Figure

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    CONFIG_YAML,
    GAUSSIANITY_DIMS_TSV,
    HISTORY_TSV,
    LATENTS,
    META_JSON,
    PLOTS,
    run_again,
    run_stage,
)
from dnf.experiment.sets import name_of
from dnf.experiment.tables import read_tsv
from dnf.plots import gaussianity_figure, latent_figures, style, training_curves
from dnf.plots.breakdown_figures import information_figures
from dnf.plots.latent_figures import LatentSet
from dnf.plots.style import save
from dnf.scoring import latent_store

logger = logging.getLogger(__name__)

HISTORY = (
    *("step", "nll", "logp", "logdet", "grad_norm", "lr", "frames_per_s"),
    *("dev_nll", "dev_logp", "dev_logdet", "dev_accuracy", "spikes", "restores"),
)
HYBRID = ("ce", "dev_ce")
SHAPES = ("skew", "kurt", "skew_within", "kurt_within")
LATER = ("detection_",)  # figures of later stages, which replace them themselves


def make_plots(exp: Path, sets: Sequence[str] | None = None) -> list[Path]:
    """Write all figures of an experiment, or those of some sets.

    Args:
        exp: experiment folder, stage train and 4 done.
        sets: the sets to show; None for all that have latents, and then figures left by earlier runs are removed.

    Returns:
        The files written.
    """
    config = read_config(exp / CONFIG_YAML)
    plots, name = config.plots, exp.resolve().name
    names = list(sets) if sets is not None else sets_of(exp)
    fit = read_latents(exp / LATENTS / name_of(config.data, "train"))
    shown = [fit if s == fit.name else read_latents(exp / LATENTS / s) for s in names]
    colours = style.colours_of([c for s in (fit, *shown) for c in (*s.classes, *s.model_classes)], plots.colours)
    folder = exp / PLOTS
    folder.mkdir(exist_ok=True)
    written = []

    def write(stem: str, figure: Figure) -> None:
        written.append(save(figure, folder / f"{stem}.png", plots.dpi))

    with matplotlib.style.context(["default", style.STYLE]):
        write("curves", training_curves.curves(read_history(exp / HISTORY_TSV), name, fit.decides))
        write("gaussianity", gaussianity_figure.gaussianity(read_shapes(exp / GAUSSIANITY_DIMS_TSV, shown), name))
        for stem, figure in information_figures(exp, config, name):
            write(stem, figure)
        for latents in shown:
            logger.info(
                "set %s: latents of %d frames, scores of %d utterances",
                latents.name,
                len(latents.z),
                len(latents.loglik),
            )
            for made in (
                latent_figures.scatter(latents, fit, colours, name, plots.max_points),
                latent_figures.histograms(latents, colours, name),
                latent_figures.tsne(latents, colours, name, plots, config.seed),
            ):
                for stem, figure in made:
                    write(stem, figure)
    if sets is None:
        for path in sorted(set(folder.glob("*.png")) - set(written)):
            if not path.name.startswith(LATER):
                path.unlink()
    logger.info("%d figures in %s", len(written), folder)
    return written


def sets_of(exp: Path) -> list[str]:
    """Sets that have latents."""
    found = sorted(path.parent.name for path in exp.glob(f"latents/*/{META_JSON}"))
    if not found:
        raise ValueError(f"{exp / 'latents'}: no set has latents; {run_stage('latents')}")
    return found


def read_table(path: Path, stage: int, numbers: Sequence[str], gaps: bool = False) -> list[dict]:
    """Rows of a tab-separated file with a header; ``numbers`` are the columns to turn into floats.

    Args:
        path: the file.
        stage: the stage that writes it, for the messages.
        numbers: columns that must be there and hold numbers.
        gaps: whether an empty field is NaN, or an error.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not there; run stage {stage} first (--stage {stage})")
    rows = read_tsv(path)
    if not rows:
        raise ValueError(f"{path}: has no rows; run stage {stage} again (--stage {stage})")
    for number, row in enumerate(rows, start=2):
        for column in numbers:
            try:
                row[column] = math.nan if gaps and row[column] == "" else float(row[column])
            except (KeyError, TypeError, ValueError):
                raise ValueError(
                    f"{path}: line {number}: column {column}: expected a number, "
                    f"got {row.get(column)!r}; run stage {stage} again (--stage {stage})"
                ) from None
    return rows


def read_config(path: Path) -> Config:
    """The resolved settings of the experiment."""
    if not path.is_file():
        raise ValueError(f"{path}: not there; {run_stage('train')}")
    config = Config.load(path)
    for name, colour in config.plots.colours.items():
        if not colors.is_color_like(colour):
            raise ValueError(f"{path}: plots.colours: {name}: {colour!r} is not a colour; try tab:blue or '#1f77b4'")
    return config


def read_history(path: Path) -> dict[str, torch.Tensor]:
    """Columns of history.tsv, (rows,) float64; NaN where a row has no evaluation. Cross-entropy if it has one."""
    rows = read_table(path, 3, HISTORY, gaps=True)
    if "dev_ce" in rows[0]:
        rows = read_table(path, 3, (*HISTORY, *HYBRID), gaps=True)
    columns = [column for column in (*HISTORY, *HYBRID) if column in rows[0]]
    return {column: torch.tensor([row[column] for row in rows], dtype=torch.float64) for column in columns}


def read_shapes(path: Path, shown: Sequence[LatentSet]) -> list[tuple[str, list[dict]]]:
    """Rows of gaussianity_dims.tsv of the sets shown, grouped by set and classes, c before r, each with a title."""
    rows = read_table(path, 4, ("dim_index", *SHAPES))
    groups = []
    for latents in shown:
        of_set = [row for row in rows if row["set"] == latents.name]
        for classes in dict.fromkeys(row["classes"] for row in of_set):
            own = [row for row in of_set if row["classes"] == classes]
            counts = [latents.counts(name) for name in classes.split("+")]
            frames, utterances = (sum(column) for column in zip(*counts))
            title = f"{latents.name}, {classes}: {frames:,} frames, {utterances:,} utterances"
            groups.append((title, sorted(own, key=lambda row: (row["part"], row["dim_index"]))))
    if not groups:
        raise ValueError(f"{path}: no rows for {' '.join(s.name for s in shown)}; {run_again('latents')}")
    return groups


def read_latents(directory: Path) -> LatentSet:
    """One set's latents; the arrays stay on disk until used."""
    latents = latent_store.Latents.open(directory)
    z, rows = (torch.from_numpy(np.load(directory / f"{name}.npy", mmap_mode="c")) for name in ("z", "z_rows"))
    ends = [0, *(utt["first"] + utt["rows"] for utt in latents.utts)]
    if [utt["first"] for utt in latents.utts] != ends[:-1] or not ends[-1] == len(latents.logp) == len(latents.logdet):
        raise ValueError(
            f"{directory}/utts.tsv: its utterances do not fill the {len(latents.logp)} rows of logp.npy one after "
            f"the other; {run_again('latents')}"
        )
    if z.ndim != 2 or len(z) != len(rows) or z.shape[1] < latents.cond_dim or not len(z):
        raise ValueError(
            f"{directory}/z.npy: shape {tuple(z.shape)} does not go with {len(rows)} rows in z_rows.npy and cond_dim "
            f"{latents.cond_dim} in meta.json; {run_again('latents')}"
        )
    classes = sorted({utt["class"] for utt in latents.utts})
    of_utterance = torch.tensor([classes.index(utt["class"]) for utt in latents.utts])
    groups = sorted({(utt["class"], utt["set"]) for utt in latents.utts})
    group_of_utterance = torch.tensor([groups.index((utt["class"], utt["set"])) for utt in latents.utts])
    utterance = torch.searchsorted(torch.tensor(ends[:-1]), rows.clone(), right=True) - 1
    frames = torch.tensor([utt["rows"] for utt in latents.utts])
    loglik = torch.from_numpy(latent_store.utterance_loglik(latents)) / frames[:, None]
    return LatentSet(
        name=directory.name,
        model_classes=latents.classes,
        cond_dim=latents.cond_dim,
        utterances=latents.utts,
        classes=classes,
        groups=groups,
        z=z,
        labels=of_utterance[utterance],
        group=group_of_utterance[utterance],
        loglik=loglik,
    )


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="experiment folder, with latents")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="only these sets (default: all that have latents)")
    args = parser.parse_args(argv)
    make_plots(args.exp, args.sets)
    return 0


if __name__ == "__main__":
    entry.run(main)
