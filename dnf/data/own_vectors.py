"""Stage data for a user's own vectors, one per utterance: x-vectors, i-vectors, embeddings, supervectors.

``DIR`` has data directories ``train/ [dev/] <test sets>/``, each with ``vectors.npz`` or with a Kaldi table of vectors
(``UTTERANCE_VECTORS``, else ``SPEAKER_VECTORS``), ``utt2spk`` and optionally ``utt2class``; or it has one ``vectors.npz``
or ``vectors.npy`` of all sets. An npz has the arrays ``vector`` ``(U, D)``, ``utt``, ``spk``, optionally ``class``, and for
several sets ``set`` ``(U,)``. A table ``vectors.tsv`` beside ``vectors.npy`` has a header ``utt speaker class set`` and one
line per vector, in the same order. Without classes, the training speakers are the classes.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import kaldiio
import numpy as np

from dnf.data.kaldi_files import is_class_name, not_a_file, read_table, write_table
from dnf.data.manifests import absolute, identifier, is_visible, number
from dnf.data.recordings_table import read_rows
from dnf.data.validate import check_keys, validate
from dnf.data.write_set import check_class
from dnf.experiment import entry
from dnf.experiment.classes import UNLABELLED
from dnf.experiment.layout import (
    SPEAKER_VECTORS,
    SPK2UTT,
    UTT2CLASS,
    UTT2SCORE,
    UTT2SPK,
    UTTERANCE_VECTORS,
    VECTOR_ARK,
    VECTOR_SCP,
    VECTORS_NPY,
    VECTORS_NPZ,
    VECTORS_TSV,
)

log = logging.getLogger(__name__)

WHOLE = (VECTORS_NPZ, VECTORS_NPY)
COLUMNS = {"utt": "utt", "spk": "speaker", "class": "class", "set": "set", "score": "score"}  # by array of an npz
WANTED = f"data directories train/ [dev/] <test sets>/ with {VECTOR_SCP} or {VECTORS_NPZ}, or one {' or '.join(WHOLE)}"


class VectorUtterance(NamedTuple):
    """One utterance; ``name`` is its class, ``vector`` the vector ``(D,)`` or its place in an archive."""

    id: str
    speaker: str
    name: str
    vector: str | np.ndarray
    score: float | None = None
    gender: str | None = None


def read_sets(directory: Path) -> dict[str, list[VectorUtterance]]:
    """Utterances by set.

    Raises:
        ValueError: there are no vectors, or they are inconsistent.
    """
    if not directory.is_dir():
        raise ValueError(f"--data {directory}: is not a folder; name the folder of {WANTED}")
    whole = [directory / name for name in WHOLE if (directory / name).exists()]
    tables = (*UTTERANCE_VECTORS, *SPEAKER_VECTORS, VECTORS_NPZ)
    paths = [path for name in tables for path in directory.glob(f"*/{name}") if is_visible(path, directory)]
    if len([*whole, *paths[:1]]) > 1:
        names = " and ".join(str(path.relative_to(directory)) for path in [*whole, *paths[:1]])
        raise ValueError(f"--data {directory}: has {names}, but only one is read; remove the other")
    if whole:
        sets = read_whole(whole[0])
    else:
        sets = {folder.name: read_folder(folder, directory) for folder in sorted({path.parent for path in paths})}
    if not sets.get("train"):
        raise ValueError(f"--data {directory}: no vectors of a set 'train': expected {WANTED}")
    say_repeated(sets)
    return with_classes(sets)


def say_repeated(sets: Mapping[str, Sequence[VectorUtterance]]) -> None:
    """Warn of utterances of the training set that another set has, too."""
    trained = {utterance.id for utterance in sets["train"]}
    for name in sets.keys() - {"train"}:
        if again := sorted(trained & {utterance.id for utterance in sets[name]}):
            log.warning(
                "set %s: utterance %s and %d more are in train, too; scores on training vectors mean nothing",
                name,
                again[0],
                len(again) - 1,
            )


def read_folder(folder: Path, base: Path) -> list[VectorUtterance]:
    """Utterances of a data directory; relative archives are taken from ``base``."""
    if (folder / VECTORS_NPZ).exists():
        path, (vectors, columns) = folder / VECTORS_NPZ, read_arrays(folder / VECTORS_NPZ)
        for name, column in ((UTT2SPK, "speaker"), (UTT2CLASS, "class")):
            if (folder / name).is_file():
                table = read_table(folder / name)
                check_keys(path, columns["utt"], folder / name, table)
                columns[column] = [table[utt] for utt in columns["utt"]]
        return list(utterances(path, vectors, columns))
    validate(folder, wav_files=False, need_wav=False, need_spk2utt=False)
    name = next(name for name in (*UTTERANCE_VECTORS, *SPEAKER_VECTORS) if (folder / name).is_file())
    vectors, speakers = read_table(folder / name), read_table(folder / UTT2SPK)
    classes, scores = (
        read_table(folder / table) if (folder / table).is_file() else {} for table in (UTT2CLASS, UTT2SCORE)
    )
    if name in SPEAKER_VECTORS:
        classes = {speakers[utt]: of_utt for utt, of_utt in classes.items()}
        speakers, scores = {speaker: speaker for speaker in vectors}, {}
    return [
        VectorUtterance(
            utt,
            speaker,
            classes.get(utt, ""),
            absolute(vectors[utt], base),
            number(scores[utt], f"{folder / UTT2SCORE}: {utt}") if utt in scores else None,
        )
        for utt, speaker in speakers.items()
    ]


def read_whole(path: Path) -> dict[str, list[VectorUtterance]]:
    """Utterances by set of one file of all vectors."""
    if path.name == VECTORS_NPZ:
        vectors, columns = read_arrays(path)
    else:
        vectors, columns = load(path), read_columns(path.with_name(VECTORS_TSV))
    if "set" not in columns:
        raise ValueError(f"{path}: has no sets; add 'set', or make a folder of each set")
    sets: dict[str, list[VectorUtterance]] = {}
    for name, utterance in zip(columns["set"], utterances(path, vectors, columns)):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise ValueError(f"{path}: set {name!r} cannot be the name of a folder; use letters, digits, _ . -")
        sets.setdefault(name, []).append(utterance)
    return sets


def load(path: Path) -> np.ndarray | Mapping[str, np.ndarray]:
    """An array, or the arrays of an npz; pickled objects are refused, since reading them can run any code."""
    if reason := not_a_file(path):
        raise ValueError(f"{path}: {reason}")
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if "pickle" in str(error):
            raise ValueError(
                f"{path}: has pickled objects, which can run any code when read; save arrays of numbers and of text"
            ) from None
        raise ValueError(f"{path}: cannot be read ({entry.describe(error)}); make it again") from None


def read_arrays(path: Path) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Vectors ``(U, D)`` and columns of an npz."""
    arrays = load(path)
    if not isinstance(arrays, dict) or not {"vector", "utt"} <= arrays.keys():
        have = ", ".join(arrays) if isinstance(arrays, dict) else "one array"
        raise ValueError(f"{path}: lacks the arrays 'vector' and 'utt'; it has {have}")
    return arrays["vector"], {
        column: [str(value) for value in arrays[name].reshape(-1).tolist()]
        for name, column in COLUMNS.items()
        if name in arrays
    }


def read_columns(path: Path) -> dict[str, list[str]]:
    """Columns of ``vectors.tsv``."""
    if reason := not_a_file(path):
        raise ValueError(f"{path}: {reason}; it names utt, speaker, class and set of each vector, a line each")
    columns, rows = read_rows(path)
    return {name: [row[name] or "" for _, row in rows] for name in columns if name in COLUMNS.values()}


def utterances(path: Path, vectors: np.ndarray, columns: Mapping[str, Sequence[str]]) -> Iterator[VectorUtterance]:
    """The utterances of vectors ``(U, D)`` and their columns, after checks of both."""
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise ValueError(f"{path}: vectors of shape {vectors.shape} and type {vectors.dtype}, not (U, D) numbers")
    for name in ("utt", "speaker"):
        if name not in columns:
            raise ValueError(f"{path}: has no {name} of each vector; add '{name}' ('spk' in an npz)")
    for name, column in columns.items():
        if len(column) != len(vectors):
            raise ValueError(
                f"{path}: {len(vectors)} vectors and {len(column)} values of '{name}'; there must be one each"
            )
    first: dict[str, int] = {}
    for row, (utt, speaker) in enumerate(zip(columns["utt"], columns["speaker"])):
        utt, speaker = identifier(utt), identifier(speaker)
        if not utt or not speaker or not (utt + speaker).isprintable():
            raise ValueError(f"{path}: vector {row}: utt {utt!r}, speaker {speaker!r}: give both a visible name")
        utt = utt if utt.startswith(speaker) else f"{speaker}-{utt}"
        if first.setdefault(utt, row) != row:
            raise ValueError(f"{path}: utterance {utt} has vectors {first[utt]} and {row}; keep one of them")
        score = columns["score"][row] if "score" in columns else ""
        yield VectorUtterance(
            utt,
            speaker,
            columns["class"][row] if "class" in columns else "",
            vectors[row],
            number(score, f"{path}: {utt}: score") if score else None,
        )


def with_classes(sets: dict[str, list[VectorUtterance]]) -> dict[str, list[VectorUtterance]]:
    """The same utterances, with the training speakers as classes if there are none; those of others are unlabelled then.

    Raises:
        ValueError: only some utterances have a class, a class has no legal name, or two speakers would be one class.
    """
    everything = [(name, utterance) for name, of_set in sets.items() for utterance in of_set]
    lacking = [(name, utterance) for name, utterance in everything if not utterance.name]
    if not lacking:
        for name, utterance in everything:
            check_class(utterance.name, f"{name}: utterance {utterance.id}")
        return sets
    if len(lacking) < len(everything):
        name, utterance = lacking[0]
        raise ValueError(
            f"{name}: utterance {utterance.id} has no class, and others have one; give all a class, or none"
        )
    speakers = class_of_speaker(utterance.speaker for _, utterance in everything)
    trained = {utterance.speaker for utterance in sets["train"]}
    classes = {speaker: name if speaker in trained else UNLABELLED for speaker, name in speakers.items()}
    return {
        name: [utterance._replace(name=classes[utterance.speaker]) for utterance in of_set]
        for name, of_set in sets.items()
    }


def class_of_speaker(speakers: Iterable[str]) -> dict[str, str]:
    """A legal name of a class for each speaker."""
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for speaker in speakers:
        if speaker not in names:
            name = speaker if is_class_name(speaker) else "spk_" + re.sub("[^a-z0-9_]", "_", speaker.lower())
            if taken.setdefault(name, speaker) != speaker:
                raise ValueError(
                    f"speakers {taken[name]} and {speaker} would both be class {name}; give classes or rename one"
                )
            names[speaker] = name
    return names


def write_set(utterances: Sequence[VectorUtterance], directory: Path) -> None:
    """Write the data directory of a set, with ``vector.scp``; vectors that are not in an archive are written to one beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    if isinstance(ordered[0].vector, str):
        write_table(directory / VECTOR_SCP, {utterance.id: utterance.vector for utterance in ordered})
    else:
        with kaldiio.WriteHelper(f"ark,scp:{directory.absolute() / VECTOR_ARK},{directory / VECTOR_SCP}") as writer:
            for utterance in ordered:
                writer(utterance.id, np.asarray(utterance.vector, np.float32))
    speakers: dict[str, list[str]] = {}
    for utterance in ordered:
        speakers.setdefault(utterance.speaker, []).append(utterance.id)
    tables = {
        UTT2SPK: {utterance.id: utterance.speaker for utterance in ordered},
        SPK2UTT: {speaker: " ".join(utts) for speaker, utts in speakers.items()},
        UTT2CLASS: {utterance.id: utterance.name for utterance in ordered},
        UTT2SCORE: {utterance.id: f"{utterance.score}" for utterance in ordered if utterance.score is not None},
    }
    for name, table in tables.items():
        if table:
            write_table(directory / name, table)
