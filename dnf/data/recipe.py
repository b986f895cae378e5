"""Common parts of all recipes' data preparation: corpora and their options, division of speakers, lists, counts, writing.

A recipe's ``local/prepare_data.py`` reads corpora into manifests, divides them by speaker, and hands all sets to ``write``.
A missing corpus is no error here: ``missing.txt`` names its sets, and the driver reads from it what an
experiment lacks.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lhotse import RecordingSet, SupervisionSet
from lhotse.utils import fastcopy

from dnf.data.kaldi_files import write_table
from dnf.data.manifests import Utterance, check_rejected, identifier, manifests
from dnf.data.write_set import write_set
from dnf.experiment.files import replace_file
from dnf.experiment.layout import CLASSES_TXT, LISTS, MISSING_TXT, UTT2SPK

log = logging.getLogger(__name__)


class Corpus(NamedTuple):
    """A corpus that a recipe can use.

    Attributes:
        name: name of its option, ``--name PATH``.
        layout: the expected content of PATH, in one line.
        sets: sets that need the corpus.
    """

    name: str
    layout: str
    sets: tuple[str, ...]


class Manifests(NamedTuple):
    """Recordings and their supervisions, one per utterance."""

    recordings: RecordingSet
    supervisions: SupervisionSet


def parser(description: str, corpora: Sequence[Corpus]) -> argparse.ArgumentParser:
    """Command line of a recipe's data preparation: output, seed, jobs, and a path for each corpus."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="output folder of the sets, such as data")
    made.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the division into sets (%(default)s)")
    made.add_argument(
        "--nj", type=int, default=1, metavar="N", help="processes of readers that use several (%(default)s)"
    )
    made.add_argument(
        "--max-rejected",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="largest share of unreadable recordings in a corpus (%(default)s)",
    )
    for corpus in corpora:
        made.add_argument(f"--{corpus.name}", type=Path, metavar="PATH", help=corpus.layout)
    return made


def given(corpora: Sequence[Corpus], paths: Mapping[str, Path | None]) -> dict[str, Path]:
    """The corpora whose path is given; logs one line for each other corpus, with its option and its sets.

    Raises:
        ValueError: a path does not exist, or no path is given.
    """
    path_of = {}
    for corpus in corpora:
        path = paths.get(corpus.name)
        if path is None:
            left_out = f": sets {' '.join(corpus.sets)} are left out" if corpus.sets else ""
            log.info("no --%s (%s)%s", corpus.name, corpus.layout, left_out)
        elif not path.exists():
            raise ValueError(f"--{corpus.name} {path}: does not exist; expected {corpus.layout}")
        else:
            path_of[corpus.name] = path
    if not path_of:
        options = "; ".join(f"--{corpus.name} ({corpus.layout})" for corpus in corpora)
        raise ValueError(f"no corpus; give at least one of: {options}")
    return path_of


def make(name: str, spoken: Sequence[Utterance], output_dir: Path, max_rejected: float) -> Manifests:
    """Manifests of utterances; unreadable recordings are listed in ``lists/<name>_rejected.txt``.

    Raises:
        ValueError: more than the share ``max_rejected`` of them cannot be read, or there are none.
    """
    if not spoken:
        raise ValueError(f"corpus {name}: no recording found")
    recordings, supervisions, rejected = manifests(spoken)
    check_rejected(rejected, len(spoken), max_rejected, f"corpus {name}")
    path = output_dir / LISTS / f"{name}_rejected.txt"
    path.unlink(missing_ok=True)
    if rejected:
        log.warning("corpus %s: %d of %d utterances rejected, listed in %s", name, len(rejected), len(spoken), path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, rejected)
    return Manifests(recordings, supervisions)


def label(manifests: Manifests, name: str, prefix: str) -> Manifests:
    """The same recordings as utterances of class ``name``, with ids ``<prefix>_<speaker>-<utterance>``.

    Args:
        manifests: as Lhotse's recipes make them; each supervision names its speaker. ``score``, ``marks``, ``corpus`` and
            ``tables`` in ``custom`` are kept.
        name: class of all of them.
        prefix: of the speakers, so that those of two corpora are never the same.
    """
    segments = Counter(s.recording_id for s in manifests.supervisions)
    recordings = {r.id: f"{prefix}_{r.id}" for r in manifests.recordings}
    supervisions = []
    for s in manifests.supervisions:
        speaker = identifier(f"{prefix}_{s.speaker}")
        utt = f"{speaker}-{identifier(s.id.removeprefix(s.speaker).lstrip('-_'))}"
        if segments[s.recording_id] == 1:
            recordings[s.recording_id] = utt
        custom = {"class": name} | {
            key: s.custom[key] for key in ("score", "marks", "corpus", "tables") if key in (s.custom or {})
        }
        supervisions.append(
            fastcopy(s, id=utt, recording_id=recordings[s.recording_id], speaker=speaker, custom=custom, alignment=None)
        )
    return Manifests(
        RecordingSet.from_recordings(fastcopy(r, id=recordings[r.id]) for r in manifests.recordings),
        SupervisionSet.from_segments(supervisions),
    )


def of_utterances(manifests: Manifests, utts: Iterable[str]) -> Manifests:
    """The utterances ``utts`` and their recordings."""
    utts = set(utts)
    supervisions = [s for s in manifests.supervisions if s.id in utts]
    used = {s.recording_id for s in supervisions}
    return Manifests(
        RecordingSet.from_recordings(r for r in manifests.recordings if r.id in used),
        SupervisionSet.from_segments(supervisions),
    )


def of_speakers(manifests: Manifests, speakers: Iterable[str]) -> Manifests:
    """The utterances of ``speakers`` and their recordings."""
    speakers = set(speakers)
    return of_utterances(manifests, [s.id for s in manifests.supervisions if s.speaker in speakers])


def combine(parts: Iterable[Manifests]) -> Manifests:
    """All recordings and supervisions of ``parts``, which share no ids."""
    parts = list(parts)
    return Manifests(
        RecordingSet.from_recordings(r for part in parts for r in part.recordings),
        SupervisionSet.from_segments(s for part in parts for s in part.supervisions),
    )


def seconds_by(manifests: Manifests, key: str) -> dict[str, float]:
    """Seconds of speech by ``speaker`` or by utterance ``id``."""
    sums: dict[str, float] = {}
    for s in manifests.supervisions:
        sums[getattr(s, key)] = sums.get(getattr(s, key), 0.0) + s.duration
    return sums


def divide(seconds: Mapping[str, float], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Divide speakers (or utterances) into parts. Ids and seed determine the parts, and the input order has no influence.

    They are sorted by a hash of seed and id and assigned until each part has its share. The last part gets
    the rest.

    Args:
        seconds: length by id.
        shares: of the total length, by part; they add up to one.

    Returns:
        Sorted ids by part, at least one each.

    Raises:
        ValueError: fewer ids than parts.
    """
    if len(seconds) < len(shares):
        raise ValueError(f"{len(seconds)} speakers or utterances cannot be divided into {', '.join(shares)}")
    order = sorted(seconds, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    total, names, parts = sum(seconds.values()), list(shares), {}
    taken = wanted = 0.0
    for i, name in enumerate(names):
        wanted += shares[name] * total
        left = len(names) - 1 - i
        part = [order.pop(0)]
        taken += seconds[part[0]]
        while len(order) > left and (not left or taken + seconds[order[0]] / 2 <= wanted):
            taken += seconds[order[0]]
            part.append(order.pop(0))
        parts[name] = sorted(part)
    return parts


def write_list(output_dir: Path, name: str, ids: Iterable[str]) -> None:
    """Write ``lists/<name>.txt``, the ids that define a set, one per line."""
    path = output_dir / LISTS / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, "".join(f"{one}\n" for one in sorted(ids)))


def expect(what: str, found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Warn, in one line, if counts differ from those of the published corpus."""
    other = [
        f"{found.get(name, 0)} {name}, {count} in the published corpus"
        for name, count in expected.items()
        if found.get(name, 0) != count
    ]
    if other:
        log.warning("%s: %s", what, "; ".join(other))


def counts(manifests: Manifests) -> dict[str, int]:
    """Numbers of utterances and speakers."""
    return {"utterances": len(manifests.supervisions), "speakers": len({s.speaker for s in manifests.supervisions})}


def name_corpora(manifests: Manifests, corpora: Sequence[str]) -> None:
    """Note the corpus of each utterance that has none yet, if the set is of a single corpus."""
    for supervision in manifests.supervisions if len(corpora) == 1 else ():
        supervision.custom.setdefault("corpus", corpora[0])


def write(
    sets: Mapping[str, Manifests], output_dir: Path, corpora: Sequence[Corpus] = (), found: Iterable[str] = ()
) -> None:
    """Write a data directory of each set, ``classes.txt``, and ``missing.txt``; sets of earlier runs are removed.

    Args:
        sets: manifests by name of the set.
        output_dir: such as ``data``.
        corpora: those the recipe can use.
        found: names of the given corpora.
    """
    for path in output_dir.glob(f"*/{UTT2SPK}"):
        if path.parent.name not in sets:
            shutil.rmtree(path.parent)
    classes = set()
    for name, of_name in sorted(sets.items()):
        name_corpora(of_name, [corpus.name for corpus in corpora if name in corpus.sets])
        write_set(*of_name, output_dir / name)
        of_set = {s.custom["class"] for s in of_name.supervisions}
        hours = sum(s.duration for s in of_name.supervisions) / 3600
        speakers = counts(of_name)["speakers"]
        log.info(
            "%s: class %s, %d speakers, %d utterances, %.2f h",
            name,
            "+".join(sorted(of_set)),
            speakers,
            len(of_name.supervisions),
            hours,
        )
        classes |= of_set
    replace_file(output_dir / CLASSES_TXT, "".join(f"{name}\n" for name in sorted(classes)))
    missing = {
        name: f"--{corpus.name} PATH ({corpus.layout})"
        for corpus in corpora
        if corpus.name not in found
        for name in corpus.sets
        if name not in sets
    }
    path = output_dir / MISSING_TXT
    if missing:
        write_table(path, dict(sorted(missing.items())))
    else:
        path.unlink(missing_ok=True)
