"""Check whether an experiment can run with the sets of its data directory."""

from __future__ import annotations

from pathlib import Path

from dnf.data.kaldi_files import read_table
from dnf.experiment import entry
from dnf.experiment.classes import check_priors, choose_classes, read_classes
from dnf.experiment.config import Config, add_arguments, resolve
from dnf.experiment.layout import CLASSES_TXT, MISSING_TXT, UTT2CLASS, UTT2SPK
from dnf.experiment.sets import check_shared, name_of, scored_sets
from dnf.experiment.settings import DataSettings

CANNOT_RUN = 4


def reasons(left_out: dict[str, str], data_dir: Path) -> dict[str, str]:
    """Why each item is left out: the missing set and, if the recipe names it, the option that gives the set."""
    path = data_dir / MISSING_TXT
    missing = read_table(path) if path.is_file() else {}
    return {
        name: f"no set {absent}" + (f": give {missing[absent]}" if absent in missing else f" in {data_dir}")
        for name, absent in left_out.items()
    }


def lacking(data: DataSettings, data_dir: Path) -> str | None:
    """Why an experiment cannot run, in one line; None if its training and dev sets exist.

    Raises:
        ValueError: stage latents would refuse the sets after hours of training; see ``scored_sets`` and ``check_shared``.
    """
    present = {path.parent.name for path in data_dir.glob(f"*/{UTT2SPK}")}
    used = {name for _, view in scored_sets(data, present)[0] for name in view.sets}
    check_shared({name: set(read_table(data_dir / name / UTT2SPK).values()) for name in sorted(used)}, data)
    absent = [name for name in (*data.train, *data.dev) if name not in present]
    if not absent:
        return None
    return "; ".join(dict.fromkeys(reasons({name: name for name in absent}, data_dir).values()))


def check_classes(config: Config, data_dir: Path) -> None:
    """Raise ``ValueError`` if a class of the model is missing in the corpus, in training or in dev, or has no prior."""
    path = data_dir / CLASSES_TXT
    classes = choose_classes(read_classes(path), config.data.classes, path)
    for role in ("train", "dev"):
        names = getattr(config.data, role)
        there = {label for name in names for label in read_table(data_dir / name / UTT2CLASS).values()}
        absent = [name for name in classes if name not in there]
        if absent:
            raise ValueError(
                f"{data_dir}: class {absent[0]} has no utterance in {' '.join(names)} (data.{role}); "
                "add utterances, or remove the class from data.classes"
            )
    check_priors(classes, config.calibrate.priors)


def check_names(config: Config, data_dir: Path) -> None:
    """Raise ``ValueError`` if a setting names a set that neither exists nor comes from an option."""
    data, present = config.data, sorted(path.parent.name for path in data_dir.glob(f"*/{UTT2SPK}"))
    path = data_dir / MISSING_TXT
    known = {*present, *(read_table(path) if path.is_file() else ())}
    named = [("data.test", name) for name in data.test if name not in data.views]
    named += [(f"data.views: {view}", name) for view, made_of in data.views.items() for name in made_of.sets]
    named += [("data.controls", name) for pair in data.controls.items() for name in pair if name not in data.views]
    named += [("plots.sets", name) for name in config.plots.sets if name not in data.views]
    joined = {name_of(data, "train"), name_of(data, "dev")}
    for setting, name in named:
        if name not in known and name not in joined:
            raise ValueError(f"{setting}: there is no set {name} in {data_dir}, which has {', '.join(present)}")


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("data", type=Path, help="folder of the data directories")
    add_arguments(parser)
    args = parser.parse_args(argv)
    config = resolve(args.layers)
    reason = lacking(config.data, args.data)
    if reason:
        print(reason)
        return CANNOT_RUN
    check_names(config, args.data)
    check_classes(config, args.data)
    return 0


if __name__ == "__main__":
    entry.run(main)
