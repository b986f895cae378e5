"""Stage data where corpora are left out: the sets of a data folder once more, a set for each corpus.

``SET.CORPUS`` has the utterances of a set that are of one corpus. A speaker of several corpora, counted over all sets, is
in ``SET.A+B``: it is left out with A and with B, and is test data of neither. A set without ``utt2corpus`` stays as it is.
Only tables and manifests are written, no sound.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dnf.data.data_dir import DataSet, load_loose, remove_sets, select, sets_below, spk2utt_of
from dnf.data.kaldi_files import MADE_FROM_AUDIO, read_table, render_manifest, write_table
from dnf.experiment import entry
from dnf.experiment.files import replace_file
from dnf.experiment.layout import CLASSES_TXT, SPK2UTT, UTT2CLASS, UTT2CORPUS, UTT2SPK
from dnf.experiment.settings import SET_NAME

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """The utterances of a set whose speakers are of the same corpora.

    Attributes:
        name: of its own set.
        of: the set that it is of.
        corpora: names; empty where they are not known.
        classes: that its utterances have.
        utterances: their ids.
    """

    name: str
    of: str
    corpora: frozenset[str]
    classes: frozenset[str]
    utterances: Sequence[str]


def parts_of(data: Path) -> list[Part]:
    """The parts of all sets below ``data``; ``ValueError`` for a corpus whose name cannot be that of a folder."""
    speakers, corpora = {}, defaultdict(set)
    for directory in sets_below(data):
        speakers[directory] = read_table(directory / UTT2SPK)
        table = directory / UTT2CORPUS
        for utt, corpus in (read_table(table) if table.is_file() else {}).items():
            if not SET_NAME.fullmatch(corpus):
                raise ValueError(
                    f"{table}: corpus {corpus!r} of {utt} cannot be in the name of a folder; use letters, digits, _ . + -"
                )
            corpora[speakers[directory][utt]].add(corpus)
    parts = []
    for directory, utt2spk in speakers.items():
        known, groups = (directory / UTT2CORPUS).is_file(), defaultdict(list)
        for utt, speaker in utt2spk.items():
            groups[frozenset(corpora[speaker]) if known else frozenset()].append(utt)
        classes = read_table(directory / UTT2CLASS)
        for of_group, utts in sorted(groups.items(), key=lambda group: sorted(group[0])):
            name = f"{directory.name}.{'+'.join(sorted(of_group))}" if known else directory.name
            parts.append(Part(name, directory.name, of_group, frozenset(map(classes.get, utts)), utts))
    return parts


def write_part(part: DataSet, directory: Path) -> None:
    """Write the tables and manifests of a part, without those that stage features makes."""
    directory.mkdir(parents=True)
    for name, table in part.tables.items():
        if name not in MADE_FROM_AUDIO:
            write_table(directory / name, table)
    write_table(directory / SPK2UTT, spk2utt_of(part.utt2spk))
    for name, records in part.manifests.items():
        replace_file(directory / name, render_manifest(records.values()))


def write(data: Path, out: Path) -> None:
    """Write the parts of all sets below ``data`` as sets below ``out``, and the classes."""
    parts = parts_of(data)
    remove_sets(out)
    for of, of_set in itertools.groupby(parts, key=lambda part: part.of):
        whole = load_loose(data / of)
        for part in of_set:
            write_part(select(whole, part.utterances), out / part.name)
            log.info("%s: %d utterances of %s", out / part.name, len(part.utterances), of)
    replace_file(out / CLASSES_TXT, (data / CLASSES_TXT).read_bytes())


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("data", type=Path, help="folder of the sets, with utt2corpus")
    parser.add_argument("out", type=Path, help="output folder of their parts")
    args = parser.parse_args(argv)
    write(args.data, args.out)
    return 0


if __name__ == "__main__":
    entry.run(main)
