"""The experiments of a run: names, folders and settings for ``run.sh``, all checked before anything runs.

Prints a line for each: shell assignments of ``name``, ``data_dir``, ``feats_dir``, ``frames_dir``, ``exp_dir``,
``spliced_dir``, of the settings that ``run.sh`` itself needs, of whether stage latents has work with ``baselines``, of the package that is
``lacking``, and of the arrays ``config`` and ``folders``, which are options of ``dnf.experiment.stage``.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NamedTuple

from dnf.experiment import entry
from dnf.experiment.config import Config, add_arguments, resolve
from dnf.experiment.layout import BASELINES, BEST_PT, CONFIG_YAML, MEMBERS, STAGES, Layout
from dnf.experiment.markers import read_marker
from dnf.experiment.packages import missing


class Experiment(NamedTuple):
    """One experiment of a run; ``layers`` are settings for ``config.resolve``, and later ones have precedence."""

    name: str
    layers: list[Path | str]


def experiments(
    yamls: Iterable[Path], weaker: Sequence[str], stronger: Sequence[Path | str], sweep: str
) -> list[Experiment]:
    """One for each YAML file or, with ``sweep`` (``KEY=V1,V2,...``), for each file and value."""
    key, _, values = sweep.partition("=")
    words = [f"{key}={value}" for value in values.split(",")] if sweep else []
    return [
        Experiment("_".join((path.stem, *word)), [*weaker, path, *stronger, *word])
        for path in yamls
        for word in ([[word] for word in words] or [[]])
    ]


def check_unshared(layout: Layout) -> None:
    """Raise ``ValueError`` if the experiment's folder is of other data."""
    if (layout.exp / CONFIG_YAML).is_file():
        data = Layout.read(layout.exp).data
        if data != layout.data:
            raise ValueError(
                f"{layout.exp}: has an experiment on {data}, not on {layout.data}; "
                "rename the experiment or the folder of --data, or remove the old one"
            )


def check_folders(layout: Layout) -> None:
    """Raise ``ValueError`` if a file has the name of one of the run's folders."""
    for folder in (layout.data, layout.feats, layout.frames, layout.exp):
        for path in (folder, *folder.parents):
            if path.exists() and not path.is_dir():
                raise ValueError(f"'{path}' is not a folder, but the run needs a folder of this name; move it away")


def check_out(out: Path, earlier: str, *, is_own: bool) -> None:
    """Raise ``ValueError`` if ``out`` has other files, or is inside the folder of a model.

    Args:
        out: folder that a command writes to.
        earlier: name of the command's output.
        is_own: whether the files in the folder are the output of the same command.
    """
    has_files = out.is_dir() and any(not path.name.startswith(".") and path.name != MEMBERS for path in out.iterdir())
    if has_files and not is_own:
        raise ValueError(
            f"--out {out}: this folder has other files; name a new folder, or that of an earlier {earlier}"
        )
    for folder in out.absolute().parents:
        if (folder / BEST_PT).is_file():
            raise ValueError(f"--out {out}: is inside {folder}, which has a model; name a folder outside it")


def check_recordings(layout: Layout, own_data: Path, source: str) -> None:
    """Raise ``ValueError`` if a stage was made from other recordings, whose folder has the same name.

    Paths are compared relative to ``data/``, since a working folder may be moved with its contents.
    """
    tables = [os.path.relpath(own_data, layout.data)]
    markers = [(layout.folder(name), read_marker(layout.marker(name))) for name in STAGES]
    others = {
        str(folder): made["source"]
        for folder, made in markers
        if made and made["source"] != source and made.get("tables") != tables
    }
    if others:
        first, made_from = next(iter(others.items()))
        raise ValueError(
            f"{first}: made from {made_from}, not from {source}; rename the folder of --data, or remove {', '.join(others)}"
        )


def quoted(word: str) -> str:
    """A word for bash, on one line."""
    return shlex.quote(word).replace("\n", "'$'\\n''")


def assignments(name: str, layers: Iterable[Path | str], config: Config, layout: Layout) -> str:
    """Shell words that hand an experiment over."""
    places = {place: str(getattr(layout, place)) for place in ("data", "feats", "frames", "exp", "spliced")}
    words = {"name": name, **{f"{place}_dir": folder for place, folder in places.items()}}
    words |= {"data_seed": config.seed, "num_gpus": config.train.num_gpus, "num_nodes": config.train.num_nodes}
    words["front_end"] = config.vectors.front_end if config.has_vectors else ""
    wanted = config.baselines.enabled and config.baselines.systems
    words["baselines"] = str(bool(wanted) or (layout.exp / BASELINES).is_dir()).lower()  # to make or to remove
    words["lacking"] = missing(config) or ""
    options = [word for layer in layers for word in ("--config" if isinstance(layer, Path) else "--set", str(layer))]
    folders = [word for place in ("data", "feats", "frames", "exp") for word in (f"--{place}", places[place])]
    lists = {"config": options, "folders": folders}
    return " ".join(
        [
            *(f"{key}={quoted(str(value))}" for key, value in words.items()),
            *(f"{key}=({' '.join(map(quoted, values))})" for key, values in lists.items()),
        ]
    )


def make_parser(spec: ModuleSpec | None, doc: str | None) -> argparse.ArgumentParser:
    """The command line of a module that plans experiments."""
    parser = entry.parser(spec, doc)
    parser.add_argument("experiments", type=Path, nargs="+", help="YAML files")
    parser.add_argument("--weaker", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a recipe's setting")
    add_arguments(parser)
    parser.add_argument("--sweep", default="", metavar="KEY=V1,V2,...", help="run each experiment once for each value")
    parser.add_argument("--own-data", type=Path, help="folder of the user's own recordings")
    parser.add_argument("--source", default="", help="the source of stage data, in words")
    return parser


def name_of_data(own_data: Path | None) -> str:
    """The name of the user's own recordings; empty for those of the recipe. ``ValueError`` if the folder has none."""
    name = os.path.basename(os.path.realpath(own_data)) if own_data else ""
    if own_data and not name:
        raise ValueError(f"--data {own_data}: its results have no name; give a folder with a name")
    return name


def planned(experiment: Experiment, layout: Layout, source: str, tables: Path | None) -> str:
    """The line of an experiment, after the checks of its folders; ``tables`` are what stage data reads, not of a recipe."""
    check_folders(layout)
    check_unshared(layout)
    if tables:
        check_recordings(layout, tables, source)
    return assignments(experiment.name, experiment.layers, resolve(experiment.layers), layout)


def main(argv: list[str] | None = None) -> int:
    args = make_parser(__spec__, __doc__).parse_args(argv)
    corpus, lines = name_of_data(args.own_data), []
    for experiment in experiments(args.experiments, args.weaker, args.layers, args.sweep):
        config = resolve(experiment.layers)
        layout = Layout.make(Path("exp"), experiment.name, corpus, has_vectors=config.has_vectors)
        lines.append(planned(experiment, layout, args.source, args.own_data))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    entry.run(main)
