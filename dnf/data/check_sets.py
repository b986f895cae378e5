"""Whether an experiment can run with the sets that its data directory has."""

from __future__ import annotations

from pathlib import Path

from dnf.data.kaldi_files import read_table
from dnf.experiment import entry
from dnf.experiment.config import add_arguments, resolve
from dnf.experiment.layout import MISSING_TXT, UTT2SPK
from dnf.experiment.sets import check_shared, scored_sets
from dnf.experiment.settings import DataSettings

CANNOT_RUN = 4


def reasons(left_out: dict[str, str], data_dir: Path) -> dict[str, str]:
    """Why each thing is left out, in words: the set it lacks and, where the recipe said so, the option that gives it."""
    path = data_dir / MISSING_TXT
    missing = read_table(path) if path.is_file() else {}
    return {
        name: f"no set {absent}" + (f": give {missing[absent]}" if absent in missing else f" in {data_dir}")
        for name, absent in left_out.items()
    }


def lacking(data: DataSettings, data_dir: Path) -> str | None:
    """What keeps an experiment from running, in a line; None if its training and dev sets are there.

    Raises:
        ValueError: what stage latents would refuse after hours of training, as ``scored_sets`` and ``check_shared`` say.
    """
    present = {path.parent.name for path in data_dir.glob(f"*/{UTT2SPK}")}
    used = {name for _, view in scored_sets(data, present)[0] for name in view.sets}
    check_shared({name: set(read_table(data_dir / name / UTT2SPK).values()) for name in sorted(used)}, data)
    absent = [name for name in (*data.train, *data.dev) if name not in present]
    if not absent:
        return None
    return "; ".join(dict.fromkeys(reasons({name: name for name in absent}, data_dir).values()))


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("data", type=Path, help="folder of the data directories")
    add_arguments(parser)
    args = parser.parse_args(argv)
    reason = lacking(resolve(args.layers).data, args.data)
    if reason:
        print(reason)
        return CANNOT_RUN
    return 0


if __name__ == "__main__":
    entry.run(main)
