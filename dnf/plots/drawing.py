"""What the pictures of an experiment are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dnf.experiment.classes import read_classes
from dnf.experiment.config import Config
from dnf.experiment.layout import CLASSES_TXT, CONFIG_YAML, LATENTS, META_JSON, Layout, run_again, run_stage
from dnf.experiment.sets import name_of
from dnf.experiment.tables import each_row
from dnf.plots.drawn_sets import drawn_sets
from dnf.plots.latent_set import LatentSet, read_latents, with_control
from dnf.plots.style import MOST_SETS, colours_of


class Drawing(NamedTuple):
    """An experiment whose latents are there.

    Attributes:
        exp: its folder.
        config: its settings.
        fit: the training set, from which planes and class means come.
        shown: the sets to show.
        controls: the control of each of these sets that has one, by the set's name.
        colours: of each class.
    """

    exp: Path
    config: Config
    fit: LatentSet
    shown: list[LatentSet]
    controls: dict[str, LatentSet]
    colours: dict[str, str]

    @property
    def name(self) -> str:
        """The experiment, for titles."""
        return self.exp.resolve().name

    def with_controls(self) -> Iterator[LatentSet]:
        """The sets to show, each in one with its control."""
        for latents in self.shown:
            control = self.controls.get(latents.name)
            yield with_control(latents, control, self.config.plots.max_points) if control else latents


def read_drawing(exp: Path, sets: Sequence[str] | None) -> Drawing:
    """An experiment with some of its sets, or all that have latents.

    Raises:
        ValueError: a stage has not run, or a file is not what it should be.
    """
    config = Config.load(exp / CONFIG_YAML)
    present = sets_of(exp)
    names = list(sets) if sets is not None else drawn_sets(present, config)
    missing = [name for name in config.plots.sets if sets is None and name not in names]
    if missing:
        raise ValueError(f"plots.sets: set {missing[0]} has no latents; there are {' '.join(present[:MOST_SETS])}")
    fit = read_latents(exp / LATENTS / name_of(config.data, "train"))
    shown = [fit if name == fit.name else read_latents(exp / LATENTS / name) for name in names]
    controls = {name: config.data.controls[name] for name in names if config.data.controls.get(name) in present}
    beside = {name: read_latents(exp / LATENTS / control) for name, control in controls.items()}
    seen = {name for latents in (fit, *shown, *beside.values()) for name in latents.classes}
    colours = colours_of(fit.model_classes, config.plots.colours, {*classes_of(exp), *seen})
    return Drawing(exp, config, fit, shown, beside, colours)


def classes_of(exp: Path) -> list[str]:
    """All classes of the experiment's corpus, so that colours do not depend on the sets drawn; none without its list."""
    path = Layout.read(exp).data / CLASSES_TXT
    return read_classes(path) if path.is_file() else []


def sets_of(exp: Path) -> list[str]:
    """Sets that have latents."""
    names = sorted(path.parent.name for path in exp.glob(f"{LATENTS}/*/{META_JSON}"))
    if not names:
        raise ValueError(f"{exp / LATENTS}: no set has latents; {run_stage('latents')}")
    return names


def read_table(
    path: Path, stage: str, numbers: Sequence[str], *, gaps: bool = False, sets: Iterable[str] | None = None
) -> list[dict]:
    """Rows of a tab-separated file with a header; ``numbers`` are the columns to turn into floats.

    Args:
        path: the file.
        stage: the stage that writes it, for the messages.
        numbers: columns that must be there and hold numbers.
        gaps: whether an empty field is NaN, or an error.
        sets: whose rows to read; None: all.
    """
    if not path.is_file():
        raise ValueError(f"{path}: does not exist; {run_stage(stage)}")
    numbered, wanted = [*enumerate(each_row(path), start=2)], None if sets is None else set(sets)
    if not numbered:
        raise ValueError(f"{path}: has no rows; {run_again(stage)}")
    numbered = [(number, row) for number, row in numbered if wanted is None or row["set"] in wanted]
    for number, row in numbered:
        for column in numbers:
            try:
                row[column] = math.nan if gaps and row[column] == "" else float(row[column])
            except (KeyError, TypeError, ValueError):
                raise ValueError(
                    f"{path}: line {number}: column {column}: expected a number, "
                    f"got {row.get(column)!r}; {run_again(stage)}"
                ) from None
    return [row for _, row in numbered]
