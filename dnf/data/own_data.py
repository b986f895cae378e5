"""Stage data for a user's own recordings: data directories, or one table, to checked sets with Lhotse manifests.

``DIR`` holds Kaldi data directories ``train/ [dev/] <test sets>/`` with ``wav.scp``, ``utt2spk``, ``utt2class`` and, where
they exist, ``segments``, ``utt2score``, ``utt2corpus``, ``text``, ``spk2gender``; or one table ``recordings.tsv`` or ``recordings.csv`` with a
header line naming the columns ``recording speaker class set`` and, where they exist, ``utt score gender text corpus``. Paths that
are not absolute start from DIR. Without a dev set, some speakers of train become dev. With ``features.kind`` vectors,
``DIR`` holds vectors as ``dnf.data.own_vectors`` reads them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dnf.data import own_vectors
from dnf.data.data_dir import remove_sets
from dnf.data.kaldi_files import Genders, Spellings, further_scores, not_a_file, read_table, write_table
from dnf.data.manifests import Utterance, absolute, check_rejected, is_visible, manifests, number
from dnf.data.recordings_table import NEEDED, read_recordings_table
from dnf.data.splits import check_splits, speaker_classes
from dnf.data.validate import validate
from dnf.data.write_set import write_set
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.files import replace_file
from dnf.experiment.layout import (
    CLASSES_TXT,
    CONFIG_YAML,
    RECORDINGS_CSV,
    RECORDINGS_TSV,
    REJECTED_TXT,
    SEGMENTS,
    SPK2GENDER,
    UTT2CLASS,
    UTT2CORPUS,
    UTT2SCORE,
    UTT2SCORES,
    UTT2SPK,
    WAV_SCP,
)

log = logging.getLogger(__name__)

TABLES = (RECORDINGS_TSV, RECORDINGS_CSV)
DEV_SHARE = 0.15

Either = Utterance | own_vectors.VectorUtterance


def read_kaldi(directory: Path, base: Path, *, allow_pipes: bool, missing_class: str = "") -> list[Utterance]:
    """Utterances of a Kaldi data directory; ``ValueError`` if it breaks a rule.

    Args:
        directory: the set.
        base: relative paths start from it.
        allow_pipes: accept commands in place of recordings.
        missing_class: of all utterances where there is no utt2class; empty: that is an error.
    """
    validate(directory, allow_pipes=allow_pipes, wav_files=False, need_spk2utt=False, odd_times=True)
    unlabelled = missing_class and not (directory / UTT2CLASS).exists()
    if not unlabelled and (reason := not_a_file(directory / UTT2CLASS)):
        raise ValueError(f"{directory / UTT2CLASS}: {reason}; write one line '<utterance> <class>' for each utterance")
    tables = {name: read_table(directory / name) for name in (WAV_SCP, UTT2SPK)}
    classes = dict.fromkeys(tables[UTT2SPK], missing_class) if unlabelled else read_table(directory / UTT2CLASS)
    extra = {
        name: read_table(directory / name) if (directory / name).is_file() else {}
        for name in (SEGMENTS, UTT2SCORE, UTT2SCORES, UTT2CORPUS, "text", SPK2GENDER)
    }
    further = {name: read_table(directory / name) for name in further_scores(directory)}
    utterances = []
    for utt, speaker in tables[UTT2SPK].items():
        recording, start, end = utt, 0.0, None
        if extra[SEGMENTS]:
            recording, first, last = extra[SEGMENTS][utt].split()
            start, end = float(first), end_of(last)
        score = extra[UTT2SCORE].get(utt)
        utterances.append(
            Utterance(
                utt,
                recording,
                absolute(tables[WAV_SCP][recording], base),
                speaker,
                classes[utt],
                start,
                end,
                None if score is None else number(score, f"{directory / 'utt2score'}: {utt}"),
                extra[SPK2GENDER].get(speaker),
                extra["text"].get(utt),
                marks=tuple(map(float, extra[UTT2SCORES].get(utt, "").split())),
                corpus=extra[UTT2CORPUS].get(utt),
                tables={name: table[utt] for name, table in further.items() if utt in table},
            )
        )
    return utterances


def end_of(text: str) -> float | None:
    """The end of a segment in seconds; -1 is the end of the recording, as in Kaldi."""
    return None if float(text) == -1 else float(text)


def read_sets(directory: Path, *, allow_pipes: bool) -> dict[str, list[Utterance]]:
    """Utterances by set, from the table or the data directories of ``directory``."""
    if not directory.is_dir():
        reason = "is not a folder" if directory.exists() else "no such folder"
        raise ValueError(f"--data {directory}: {reason}; name the folder of {' or '.join(TABLES)} or data directories")
    tables = [directory / name for name in TABLES if (directory / name).exists()]
    for table in tables:
        if reason := not_a_file(table):
            raise ValueError(f"{table}: {reason}")
    kaldi = [path for path in sorted(directory.glob(f"*/{UTT2SPK}")) if is_visible(path, directory)]
    if len([*tables, *kaldi[:1]]) > 1:
        raise ValueError(
            f"--data {directory}: has {' and '.join(str(path.relative_to(directory)) for path in [*tables, *kaldi[:1]])}, "
            "which is ambiguous; remove one of them"
        )
    if tables:
        sets = read_recordings_table(tables[0], (*NEEDED, "set"), allow_pipes=allow_pipes)
    else:
        sets = {path.parent.name: read_kaldi(path.parent, directory, allow_pipes=allow_pipes) for path in kaldi}
    if sets and not sets.get("train"):
        found = f"{tables[0].name} has only" if tables else "there are only"
        raise ValueError(
            f"--data {directory}: no set 'train'; {found} {', '.join(map(repr, sorted(sets)))}: rename one"
        )
    if not sets:
        raise ValueError(
            f"--data {directory}: no set 'train': expected data directories train/ [dev/] <test sets>/ or {' or '.join(TABLES)}"
        )
    return sets


def split_dev(train: list[Either], seed: int, *, shared: bool = False) -> tuple[list[Either], list[Either]]:
    """Move the utterances of about 15 % of the speakers of each class, and at least one speaker, to dev.

    Where a speaker may be in both sets (``shared``) and each is a class of its own, 15 % of its utterances.
    """
    speakers: dict[str, set[str]] = {}
    for utterance in train:
        speakers.setdefault(utterance.name, set()).add(utterance.speaker)
    by_utterance = shared and all(len(of_class) == 1 for of_class in speakers.values())
    unit = "id" if by_utterance else "speaker"
    units: dict[str, set[str]] = {}
    for utterance in train:
        units.setdefault(utterance.name, set()).add(getattr(utterance, unit))
    chosen: set[str] = set()
    for name, of_class in sorted(units.items()):
        if len(of_class) < 2:
            what = "utterance" if by_utterance else "speaker"
            raise ValueError(
                f"train: class {name} has one {what}, {min(of_class)}: no speaker is left for dev; add a dev set"
            )
        chosen.update(
            random.Random(f"{seed}/{name}").sample(sorted(of_class), max(1, round(DEV_SHARE * len(of_class))))
        )
    return [u for u in train if getattr(u, unit) not in chosen], [u for u in train if getattr(u, unit) in chosen]


def check_speakers(sets: Mapping[str, Sequence[Either]]) -> None:
    """Raise ``ValueError`` if a speaker has two spellings in two sets, or two genders."""
    spellings, genders = Spellings("set "), Genders("set ")
    for name, utterances in sets.items():
        for utterance in utterances:
            spellings.check("speaker", utterance.speaker, name)
            if utterance.gender:
                genders.check(utterance.speaker, utterance.gender, name)


def check_order(name: str, utterances: Sequence[Either]) -> None:
    """Raise ``ValueError`` if sorting by utterance mixes two speakers, which Kaldi's tables do not allow."""
    speakers = [u.speaker for u in sorted(utterances, key=lambda u: u.id)]
    for one, other in zip(speakers, speakers[1:]):
        if one > other:
            raise ValueError(
                f"{name}: speaker {other} and speaker {one}: their utterances mix when sorted; rename one of the two"
            )


def prepare(directory: Path, out: Path, config: Config, *, allow_pipes: bool) -> None:
    """Check everything, and then write a data directory of each set below ``out``, and ``classes.txt``."""
    sets = own_vectors.read_sets(directory) if config.reads_vectors else read_sets(directory, allow_pipes=allow_pipes)
    if "dev" not in sets:
        sets["train"], sets["dev"] = split_dev(sets["train"], config.seed, shared=config.data.shared_speakers)
        log.info("no dev set: %d utterances of train set apart", len(sets["dev"]))
    write_sets(sets, directory, out, config)


def write_sets(
    sets: Mapping[str, Sequence[Either]], source: Path, out: Path, config: Config, classes: Collection[str] = ()
) -> None:
    """Check all sets, and then write a data directory of each below ``out``, and ``classes.txt`` with ``classes``, too."""
    check_speakers(sets)
    for name, utterances in sets.items():
        check_order(name, utterances)
    speakers = {
        name: speaker_classes({u.id: u.speaker for u in of_set}, {u.id: u.name for u in of_set})
        for name, of_set in sets.items()
    }
    check_splits(speakers, config.data)
    found = {u.name for of_set in sets.values() for u in of_set}
    if config.reads_vectors:
        write_vectors(sets, out)
    else:
        write_recordings(sets, source, out, config.features.max_rejected)
    replace_file(out / CLASSES_TXT, "".join(f"{name}\n" for name in sorted(found.union(classes))))


def write_vectors(sets: Mapping[str, Sequence[own_vectors.VectorUtterance]], out: Path) -> None:
    """Write a data directory of each set of vectors."""
    remove_sets(out)
    for name, utterances in sorted(sets.items()):
        own_vectors.write_set(utterances, out / name)
        log.info("%s: %d vectors of %d speakers", out / name, len(utterances), len({u.speaker for u in utterances}))


def write_recordings(sets: Mapping[str, Sequence[Utterance]], directory: Path, out: Path, max_rejected: float) -> None:
    """Write a data directory of each set of recordings, of which so large a share may be rejected."""
    made = {}
    for name, utterances in sorted(sets.items()):
        recordings, supervisions, rejected = manifests(utterances)
        check_rejected(rejected, len(utterances), max_rejected, f"{directory}: set {name}")
        made[name] = recordings, supervisions, rejected
    remove_sets(out, made)
    for name, (recordings, supervisions, rejected) in made.items():
        write_set(recordings, supervisions, out / name)
        write_rejected(out / name, rejected)
        log.info(
            "%s: %d utterances of %d speakers, %d rejected",
            out / name,
            len(supervisions),
            len({s.speaker for s in supervisions}),
            len(rejected),
        )


def write_rejected(directory: Path, rejected: dict[str, str]) -> None:
    if rejected:
        write_table(directory / REJECTED_TXT, rejected)
        for utt, reason in sorted(rejected.items()):
            log.warning("%s: utterance %s rejected: %s", directory, utt, reason)
    else:
        (directory / REJECTED_TXT).unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("directory", type=Path, help="folder of the data directories or of the table of recordings")
    parser.add_argument("out", type=Path, help="output folder of the checked sets; its config.yaml has the settings")
    entry.add_pipes(parser)
    args = parser.parse_args(argv)
    prepare(args.directory, args.out, Config.load(args.out / CONFIG_YAML), allow_pipes=args.allow_pipes == "true")
    return 0


if __name__ == "__main__":
    entry.run(main)
