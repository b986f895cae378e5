"""Stage data for scoring recordings with an existing model: sets of any kind, with or without classes.

``PATH`` is a table of recordings, a Kaldi data directory, or a folder of either, in the formats of ``dnf.data.own_data``. No
training set is needed. A table needs only ``recording`` and ``speaker``, a data directory ``wav.scp`` and ``utt2spk``;
recordings without a class get the class ``unlabelled``. Relative paths of a table start from its folder; those of a data
directory start from it or from the nearest parent folder with the first recording.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from dnf.data.kaldi_files import read_table
from dnf.data.manifests import Utterance, is_visible
from dnf.data.own_data import TABLES, read_kaldi, write_sets
from dnf.data.recordings_table import SUFFIXES, read_recordings_table
from dnf.experiment import entry
from dnf.experiment.classes import UNLABELLED
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    CONFIG_YAML,
    SPEAKER_VECTORS,
    UTT2SPK,
    UTTERANCE_VECTORS,
    VECTORS_NPY,
    VECTORS_NPZ,
    WAV_SCP,
)
from dnf.experiment.sets import fitted_sets
from dnf.experiment.settings import DataSettings

log = logging.getLogger(__name__)

NEEDED = ("recording", "speaker")
VECTORS = (VECTORS_NPZ, VECTORS_NPY, *UTTERANCE_VECTORS, *SPEAKER_VECTORS)


def base_of(directory: Path) -> Path:
    """The start folder of relative paths of a data directory."""
    paths = read_table(directory / WAV_SCP).values() if (directory / WAV_SCP).is_file() else ()
    first = next((path for path in paths if not path.rstrip().endswith("|")), "")
    folders = (directory, *directory.absolute().parents)
    return next((folder for folder in folders if (folder / first).exists()), directory)


def read_table_sets(path: Path, *, allow_pipes: bool) -> dict[str, list[Utterance]]:
    """Utterances of a table by set; without a column ``set``, one set named after the table or its folder."""
    sets = read_recordings_table(path, NEEDED, allow_pipes=allow_pipes)
    name = path.absolute().parent.name if path.name in TABLES else path.stem
    return {of_set or re.sub("[^A-Za-z0-9_.-]", "_", name): utterances for of_set, utterances in sets.items()}


def read_sets(path: Path, *, allow_pipes: bool) -> dict[str, list[Utterance]]:
    """Utterances by set.

    Raises:
        ValueError: there are no recordings, or the path is ambiguous.
    """
    if path.is_file():
        return read_table_sets(path, allow_pipes=allow_pipes)
    tables = [path / name for name in TABLES if (path / name).is_file()]
    directories = [path] if (path / UTT2SPK).is_file() else []
    directories += [found.parent for found in sorted(path.glob(f"*/{UTT2SPK}")) if is_visible(found, path)]
    if len([*tables, *directories[:1]]) > 1 or path in directories[:-1]:
        found = " and ".join(str(place) for place in [*tables, *directories[:2]])
        raise ValueError(f"--data {path}: has {found}, which is ambiguous; name one of them")
    if tables:
        return read_table_sets(tables[0], allow_pipes=allow_pipes)
    if not any((directory / WAV_SCP).is_file() for directory in directories):
        vectors = next((found for name in VECTORS for found in (*path.glob(name), *path.glob(f"*/{name}"))), None)
        found = (
            f"has vectors ({vectors}), and the model scores frames of recordings" if vectors else "has no recordings"
        )
        wanted = f"{WAV_SCP} and {UTT2SPK}, or {' or '.join(f'a table *{suffix}' for suffix in SUFFIXES)}"
        raise ValueError(f"--data {path}: {found}; name data directories with {wanted}")
    return {
        directory.absolute().name: read_kaldi(
            directory, base_of(directory), allow_pipes=allow_pipes, missing_class=UNLABELLED
        )
        for directory in directories
    }


def choose_sets(sets: Mapping[str, list[Utterance]], data: DataSettings, path: Path) -> dict[str, list[Utterance]]:
    """The sets to score: all, or those that ``data.test`` and ``data.views`` name.

    Raises:
        ValueError: a set does not exist, or has the name of a set that the model was fitted on.
    """
    wanted = {name for name in data.test if name not in data.views} | {s for v in data.views.values() for s in v.sets}
    if lacking := sorted(wanted - sets.keys()):
        raise ValueError(f"--data {path}: there is no set {lacking[0]}; it has {', '.join(sets)}")
    chosen = {name: utterances for name, utterances in sets.items() if not data.test or name in wanted}
    if taken := sorted(chosen.keys() & fitted_sets(data)):
        raise ValueError(
            f"--data {path}: set {taken[0]} has the name of a set that the model was trained or chosen on; "
            "rename it, or name the other sets with --set 'data.test=[...]'"
        )
    return chosen


def say_classes(sets: Mapping[str, list[Utterance]], classes: list[str]) -> None:
    """Warn of unknown classes, and of classes of the model without recordings."""
    found = {utterance.name for utterances in sets.values() for utterance in utterances}
    for name in sorted(found - {*classes, UNLABELLED}):
        log.warning("class %s: the model does not know it; it is scored as unseen", name)
    for name in classes if found & set(classes) else ():
        if name not in found:
            log.warning("class %s of the model: no recording has it, so no figure separates it from others", name)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("path", type=Path, help="table, data directory, or folder of either")
    parser.add_argument("out", type=Path, help="output folder of the checked sets; its config.yaml has the settings")
    entry.add_pipes(parser)
    args = parser.parse_args(argv)
    config = Config.load(args.out / CONFIG_YAML)
    sets = read_sets(args.path, allow_pipes=args.allow_pipes == "true")
    sets = choose_sets(sets, config.data, args.path)
    write_sets(sets, args.path, args.out, config, config.data.classes)
    say_classes(sets, config.data.classes)
    return 0


if __name__ == "__main__":
    entry.run(main)
