"""The last checks of stage data: every set is a valid data directory, and the splits share no speakers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from dnf.data import leaks
from dnf.data.data_dir import sets_below
from dnf.data.kaldi_files import normal, read_table
from dnf.data.rates import say_low_rates
from dnf.data.validate import validate
from dnf.experiment import entry
from dnf.experiment.classes import read_classes
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    CLASSES_TXT,
    CONFIG_YAML,
    HASHES_JSONL,
    LISTS,
    LOG,
    OWN,
    RECORDINGS_JSONL,
    UTT2CLASS,
    UTT2SPK,
    VECTOR_SCP,
)
from dnf.experiment.sets import check_shared
from dnf.experiment.settings import DataSettings

log = logging.getLogger(__name__)

RESERVED = (LISTS, LOG, "new", OWN, "wav")


def check_splits(speakers: Mapping[str, Mapping[str, str]], data: DataSettings) -> None:
    """Raise ``ValueError`` for a set of a reserved name, a speaker of two classes, or one of train or dev in another set.

    Args:
        speakers: class by speaker, by set.
        data: which sets are train and dev.
    """
    for name in speakers:
        if name in RESERVED:
            raise ValueError(f"the name {name} is reserved for another folder; rename the set")
    first: dict[str, tuple[str, str]] = {}
    for name, classes in speakers.items():
        for speaker, of_class in classes.items():
            other, before = first.setdefault(normal(speaker), (name, of_class))
            if before != of_class:
                raise ValueError(
                    f"speaker {speaker} is of class {before} in {other} and of class {of_class} in {name}; "
                    f"correct utt2class, or use two speaker ids"
                )
    check_shared({name: classes.keys() for name, classes in speakers.items()}, data)


def speaker_classes(utt2spk: Mapping[str, str], utt2class: Mapping[str, str]) -> dict[str, str]:
    """Class by speaker of one set; ``ValueError`` for a speaker with two classes."""
    classes: dict[str, str] = {}
    for utt, speaker in utt2spk.items():
        before = classes.setdefault(speaker, utt2class[utt])
        if before != utt2class[utt]:
            raise ValueError(
                f"speaker {speaker} is of class {before} and, in utterance {utt}, of class {utt2class[utt]}; "
                f"correct the class, or use two speaker ids"
            )
    return classes


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("data", type=Path, help="folder of the data directories; its config.yaml names train and dev")
    entry.add_pipes(parser)
    args = parser.parse_args(argv)
    read_classes(args.data / CLASSES_TXT)
    speakers, directories = {}, sets_below(args.data)
    for directory in directories:
        counts = validate(
            directory,
            allow_pipes=args.allow_pipes == "true",
            need_wav=not (directory / VECTOR_SCP).is_file(),
            classes=args.data / CLASSES_TXT,
        )
        log.info("%s: %s", directory, counts)
        speakers[directory.name] = speaker_classes(read_table(directory / UTT2SPK), read_table(directory / UTT2CLASS))
    config = Config.load(args.data / CONFIG_YAML)
    check_splits(speakers, config.data)
    recorded = [directory for directory in directories if (directory / RECORDINGS_JSONL).is_file()]
    leaks.check_recordings(recorded, config.data, args.data / HASHES_JSONL)
    leaks.say_shared_words(directories, config.data)
    for directory in recorded:
        say_low_rates(directory, config.features)
    return 0


if __name__ == "__main__":
    entry.run(main)
