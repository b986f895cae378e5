"""How all pictures look: size, colours, markers, and how they are saved."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib.style
from matplotlib import colors
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from dnf.experiment.files import replace_file

# Okabe and Ito's palette, distinct also for the colour-blind, and a grey.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
BLUE, ORANGE, _, PINK, *_, BLACK, _ = OKABE_ITO
INPUT_GREY = "#666666"  # the input, beside parts of the latents
REFERENCE = "gray"  # lines that values are compared with

NamedFigures = Iterator[tuple[str, Figure]]  # name of the file, without .png

WIDTH = 6.0  # inches: as narrow as a page, so that letters are readable on a phone
MOST_HEIGHT = 24.0  # inches
TITLE_LETTERS = 60  # of a line of a title
MOST_SETS = 16  # of an experiment that have pictures, unless more are asked for; lines of a picture
STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
MARKERS = "o^sDvPX*"
LINES = ("-", "--", "-.", ":")
# Of further sets of a class: towards black (0) or white (1), and how far.
SET_SHADES = ((0.0, 0.0), (0.0, 0.55), (1.0, 0.5), (0.0, 0.3))


def colours_of(known: Sequence[str], given: Mapping[str, str], others: Collection[str] = ()) -> dict[str, str]:
    """Colour of each class: the given one, else the next of matplotlib's cycle that is not given to another class.

    Args:
        known: classes of the model, which come first, so that pictures without the other classes have the same colours.
        given: colours by class.
        others: more classes.
    """
    taken = {colors.to_hex(colour) for colour in given.values()}
    free = [c for c in colors.TABLEAU_COLORS if colors.to_hex(c) not in taken] or ["tab:gray"]
    cycle = itertools.cycle(free)
    order = dict.fromkeys([*sorted(known), *sorted({*others, *given})])
    return {name: given[name] if name in given else next(cycle) for name in order}


def fitting(height: float, rest: float) -> int:
    """How many panels of a height fit below each other in a picture whose rest takes so much, inches; at least one."""
    return max(1, int((MOST_HEIGHT - rest) / height))


def wrapped(text: str, letters: int = TITLE_LETTERS) -> str:
    """A text in lines of so many letters at most."""
    return textwrap.fill(text, letters, break_long_words=False, break_on_hyphens=False)


def new_figure(title: str, height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, min(height, MOST_HEIGHT)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(wrapped(title), fontsize=10, fontweight="bold")
    return figure


def plain_log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 of each decade, without powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path, dpi: int) -> Path:
    """Write as PNG, whole or not at all.

    The layout is computed once; ``savefig`` would draw the figure a second time for it.
    """
    figure.dpi = dpi
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})
    replace_file(path, png.getvalue())
    return path


def write_figures(figures: NamedFigures, folder: Path, dpi: int) -> list[Path]:
    """Write each figure, drawn and saved in the common style, as ``<name>.png``; the paths in order."""
    folder.mkdir(exist_ok=True)
    with matplotlib.style.context(["default", STYLE]):
        return [save(figure, folder / f"{name}.png", dpi) for name, figure in figures]
