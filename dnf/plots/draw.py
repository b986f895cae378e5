"""Stage plots: training curves, 2-D scatter and t-SNE of the latents, score histograms, per-dimension Gaussianity.

Reads config.yaml, history.tsv, gaussianity_dims.tsv and latents/<set>/ of an experiment and writes plots/*.png, each
6 inches wide (1200 pixels at 200 dpi). The same input gives the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import CONFIG_YAML, PLOTS, run_stage
from dnf.experiment.progress import progress
from dnf.plots.kinds import KINDS, drawers

logger = logging.getLogger(__name__)

# Pictures of later stages, which replace them themselves.
LATER = tuple(f"{name}_" for name, kind in KINDS.items() if kind.stage == "decide")


def make_plots(exp: Path, sets: Sequence[str] | None = None) -> list[Path]:
    """Write all figures of an experiment, or those of some sets; none with ``plots.enabled: false``.

    Args:
        exp: experiment folder, stages train and latents done.
        sets: the sets to show; None for all that have latents, and then figures left by earlier runs are removed.

    Returns:
        The files written.
    """
    written, folder = draw_kinds(exp, sets) if read_config(exp / CONFIG_YAML).plots.enabled else [], exp / PLOTS
    if sets is None:
        for path in sorted(set(folder.glob("*.png")) - set(written)):
            if not path.name.startswith(LATER):
                path.unlink()
    logger.info("%d figures in %s", len(written), folder)
    return written


def draw_kinds(exp: Path, sets: Sequence[str] | None) -> list[Path]:
    """Draw every kind of this stage, and return the files."""
    from dnf.plots.drawing import read_drawing, sets_of  # slow to import, and needless without plots
    from dnf.plots.style import write_figures

    drawing = read_drawing(exp, sets)
    for latents in drawing.shown:
        counts = latents.name, len(latents.z), len(latents.loglik)
        logger.info("set %s: latents of %d frames, scores of %d utterances", *counts)
    if sets is None and len(drawing.shown) < len(all_sets := sets_of(exp)):
        logger.info("drew %d of %d sets; plots.sets chooses others", len(drawing.shown), len(all_sets))
    drawn = progress(drawers("plots"), what="plots", unit="kinds")
    return write_figures((named for draw in drawn for named in draw(drawing)), exp / PLOTS, drawing.config.plots.dpi)


def read_config(path: Path) -> Config:
    """The resolved settings of the experiment."""
    if not path.is_file():
        raise ValueError(f"{path}: does not exist; {run_stage('train')}")
    return Config.load(path)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="experiment folder, with latents")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="only these sets (default: all with latents)")
    args = parser.parse_args(argv)
    make_plots(args.exp, args.sets)
    return 0


if __name__ == "__main__":
    entry.run(main)
