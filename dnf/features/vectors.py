"""One vector per utterance: reading, preprocessing fitted on the training sets, and the frame store.

The steps have this order; each needs its setting:

    x' = the dims of x that change in training
    x' = x' - mean                                                        vectors.centre
    x' = sqrt(D) x' / ||x'||                                              vectors.length_norm
    x' = P (x' - mean'), P an LDA or PCA to N dims                        vectors.project, vectors.project_to
    x' = W (x' - mean''), W P such that the total covariance is I         vectors.whiten

Length normalization comes before the projection, since vectors of equal length are on a sphere, where a flow has no density
to learn (Garcia-Romero and Espy-Wilson, "Analysis of i-vector length normalization in speaker recognition
systems", Interspeech 2011, use it after whitening, for PLDA). ``preprocessing.npz`` beside the stores has the fitted steps.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.data.kaldi_files import read_table
from dnf.experiment.classes import choose_classes, read_classes
from dnf.experiment.config import Config
from dnf.experiment.files import intact, write_arrays
from dnf.experiment.layout import (
    CENTRES_BIN,
    FRAMES_BIN,
    META_JSON,
    OFFSETS_NPY,
    PREPROCESSING_NPZ,
    SPOKEN_NPY,
    STATS_BIN,
    UTT2CLASS,
    UTT2SCORE,
    UTT2SPK,
    UTTS_TSV,
    VECTOR_SCP,
    is_taken,
    run_again,
)
from dnf.experiment.settings import VectorsSettings
from dnf.features.arks import read_array
from dnf.features.front_ends import FrontEnd, make_front_end

log = logging.getLogger(__name__)

LEAST_VARIANCE = 1e-6  # share of the largest variance; smaller variances of directions are rounding errors
NAMED = 8  # most dims that a message names
CHUNK = 10_000  # vectors of a batch for the statistics


class Vectors(NamedTuple):
    """The vectors of a set.

    Attributes:
        name: name of the set.
        utts, speakers, classes: U names.
        scores: U expert scores as text, empty for none.
        x: ``(U, D)`` float32.
    """

    name: str
    utts: list[str]
    speakers: list[str]
    classes: list[str]
    scores: list[str]
    x: np.ndarray

    @classmethod
    def read(cls, directory: Path, front_end: FrontEnd | None = None) -> Vectors:
        """The vectors of a data directory, which come with it or are made by a front-end.

        Raises:
            ValueError: a vector is unreadable, is not finite, or has another length than the first.
        """
        path = table_of(directory, front_end)
        if not path.is_file():
            remedy = run_again("features") if front_end else f"{run_again('data')} with features.kind=vectors"
            raise ValueError(f"{path}: does not exist; {remedy}")
        places, speakers, classes = map(read_table, (path, directory / UTT2SPK, directory / UTT2CLASS))
        scores = read_table(directory / UTT2SCORE) if (directory / UTT2SCORE).is_file() else {}
        utts, rows = list(places), []
        for utt, place in places.items():
            row = read_array(place, path, utt, "extract its vector again, or remove it")
            row = front_end.vector(row) if front_end else row
            if row.ndim != 1 or len(row) != len(rows[0] if rows else row):
                expected = f"a vector of {len(rows[0])} dims, as {utts[0]}" if rows else "a vector"
                raise ValueError(
                    f"{path}: {utt} has shape {row.shape}, not that of {expected}; extract its vector again"
                )
            rows.append(row.astype(np.float32))
        x = np.stack(rows)
        if wrong := np.flatnonzero(~np.isfinite(x).all(1)).tolist():
            raise ValueError(
                f"{path}: {utts[wrong[0]]} and {len(wrong) - 1} more have NaN or infinite values; remove them"
            )
        columns = ([table.get(utt, "") for utt in utts] for table in (speakers, classes, scores))
        return cls(directory.name, utts, *columns, x)


def table_of(directory: Path, front_end: FrontEnd | None) -> Path:
    """The table of the vectors of a data directory, or of what a front-end has measured."""
    return front_end.folder / directory.name / f"{front_end.kind}.scp" if front_end else directory / VECTOR_SCP


class Preprocessing(NamedTuple):
    """The fitted steps.

    Attributes:
        size: dims of the input.
        kept: ``(E,)`` those of them that change in training.
        mean: ``(E,)``.
        length_norm: whether vectors are scaled to length sqrt(E).
        matrix: ``(E, D)``, ``offset`` ``(D,)``: the last step, x' = x matrix + offset.
    """

    size: int
    kept: np.ndarray
    mean: np.ndarray
    length_norm: bool
    matrix: np.ndarray
    offset: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, labels: Sequence[str], settings: VectorsSettings) -> Preprocessing:
        """Fit to training vectors ``(U, D)`` and the class of each.

        Raises:
            ValueError: the projection has more dims than possible.
        """
        kept = np.flatnonzero(x.min(0) < x.max(0))
        if not len(kept):
            raise ValueError("training sets: all vectors are the same; extract them again")
        if len(kept) < x.shape[1]:
            constant = np.setdiff1d(np.arange(x.shape[1]), kept)
            names = " ".join(map(str, constant[:NAMED])) + " ..." * (len(constant) > NAMED)
            log.warning("%d of %d dims never change in training and are left out: %s", len(constant), x.shape[1], names)
        size, x = x.shape[1], x[:, kept].astype(np.float64)
        mean = x.mean(0) if settings.centre else np.zeros(len(kept))
        matrix, offset = np.eye(len(kept)), np.zeros(len(kept))
        first = cls(size, kept, mean, settings.length_norm, matrix, offset)
        x = first.direction(x - mean)
        if settings.project != "none":
            matrix, offset = projection(x, labels, settings)
        if settings.whiten:
            matrix, offset = whitened(x @ matrix + offset, matrix, offset)
        return first._replace(matrix=matrix, offset=offset)

    def direction(self, x: np.ndarray) -> np.ndarray:
        """Centred vectors ``(U, E)``, length-normalized if the setting is on; a zero vector has no direction and stays zero."""
        if not self.length_norm:
            return x
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        return x * np.divide(np.sqrt(x.shape[1]), lengths, out=np.zeros_like(lengths), where=lengths > 0)

    def apply(self, vectors: Vectors) -> np.ndarray:
        """The vectors of a set after all steps, ``(U, D)`` float32.

        Raises:
            ValueError: one of them is all zero and has no direction.
        """
        x = vectors.x
        if self.length_norm and len(zero := np.flatnonzero(~x.any(1))):
            raise ValueError(
                f"set {vectors.name}: the vector of {vectors.utts[zero[0]]} is all zero and has no direction "
                f"(vectors.length_norm); remove the utterance ({len(zero)} in total), or extract its vector again"
            )
        centred = self.direction(x[:, self.kept] - self.mean)
        return (centred @ self.matrix + self.offset).astype(np.float32)

    def save(self, path: Path) -> None:
        write_arrays(path, self._asdict())

    @classmethod
    def load(cls, path: Path) -> Preprocessing:
        """Raises ``ValueError`` if the file is missing or damaged."""
        with intact(path, run_again("frames")), np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in cls._fields})


def projection(x: np.ndarray, labels: Sequence[str], settings: VectorsSettings) -> tuple[np.ndarray, np.ndarray]:
    """Matrix ``(E, N)`` and offset ``(N,)`` of an LDA or PCA of ``x`` ``(U, E)``."""
    from sklearn.decomposition import PCA  # slow to import, and only a fit needs it
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    dims, classes = settings.project_to, len(set(labels))
    most = min(x.shape) if settings.project == "pca" else min(*x.shape, classes - 1)
    if dims > most:
        why = f"{x.shape[0]} vectors of {x.shape[1]} dims" + f" and {classes} classes" * (settings.project == "lda")
        raise ValueError(f"vectors.project_to {dims}: {settings.project} of {why} has at most {most} dims")
    if settings.project == "pca":
        fitted = PCA(dims, svd_solver="covariance_eigh" if len(x) > x.shape[1] else "full").fit(x)
        matrix, centre = fitted.components_.T, fitted.mean_
    else:
        fitted = LinearDiscriminantAnalysis(n_components=dims).fit(x, labels)
        matrix, centre = fitted.scalings_[:, :dims], fitted.xbar_
    return matrix, -centre @ matrix


def whitened(x: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Append to ``matrix`` and ``offset``, whose output is ``x`` ``(U, N)``, a step to mean 0 and covariance I."""
    mean = x.mean(0)
    values, directions = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    good = values > LEAST_VARIANCE * values[-1]
    if not good.all():
        log.warning("%d directions have no variance and are left out", int((~good).sum()))
    step = directions[:, good][:, ::-1] / np.sqrt(values[good][::-1])
    return matrix @ step, (offset - mean) @ step


def write_store(vectors: Vectors, x: np.ndarray, out: Path) -> None:
    """Write the frame store of a set with vectors ``x`` ``(U, D)`` as its frames."""
    count, dim = x.shape
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    x.tofile(temporary / FRAMES_BIN)
    np.arange(count, dtype=np.int64).tofile(temporary / CENTRES_BIN)
    np.save(temporary / OFFSETS_NPY, np.arange(count + 1))
    np.save(temporary / SPOKEN_NPY, np.arange(count + 1))
    with (temporary / STATS_BIN).open("wb") as file:
        for first in range(0, count, CHUNK):
            part = x[first : first + CHUNK].astype(np.float64)
            stats = np.zeros((len(part), 2, dim + 1))
            stats[:, 0, :-1], stats[:, 0, -1], stats[:, 1, :-1] = part, 1, part**2
            stats.tofile(file)
    rows = zip(vectors.utts, vectors.speakers, vectors.classes, vectors.scores)
    lines = ["utt\tspeaker\tclass\tscore", *map("\t".join, rows)]
    (temporary / UTTS_TSV).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    meta = {"dtype": x.dtype.name, "dim": dim, "frames": count, "speech": count, "utterances": count}
    (temporary / META_JSON).write_text(json.dumps(meta) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)


def fit_training(train: Sequence[Vectors], known: Collection[str], settings: VectorsSettings) -> Preprocessing:
    """The steps, fitted to the vectors of the ``known`` classes in the training sets.

    Raises:
        ValueError: the sets have vectors of several lengths, or the steps leave other than ``vectors.dim`` dims.
    """
    lengths = {of_set.name: of_set.x.shape[1] for of_set in train}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"training sets have vectors of several lengths: {lengths}; use one kind of vector")
    labels = [name for of_set in train for name in of_set.classes]
    mine = np.array([name in known for name in labels])
    fitted = Preprocessing.fit(
        np.concatenate([of_set.x for of_set in train])[mine], [name for name in labels if name in known], settings
    )
    dim, wanted = fitted.matrix.shape[1], settings.dim
    if wanted is not None and dim != wanted:
        raise ValueError(f"vectors.dim is {wanted}, but the vectors have {dim} dims; set it to null")
    return fitted


def build(directories: Sequence[Path], frames: Path, config: Config, classes_txt: Path, feats: Path) -> None:
    """Fit the preprocessing to the training sets and write the store of each set below ``frames``.

    A model that was trained elsewhere has brought its preprocessing, and ``feats`` has what a front-end has measured.

    Raises:
        ValueError: vectors are missing or damaged, differ in length, or do not go with the settings.
    """
    front_end, by_name = make_front_end(config, feats), {directory.name: directory for directory in directories}
    train: dict[str, Vectors] = {}
    if is_taken(frames.parent):
        fitted = Preprocessing.load(frames / PREPROCESSING_NPZ)
    else:
        train = {name: Vectors.read(by_name[name], front_end) for name in config.data.train if name in by_name}
        if not train:
            raise ValueError(f"{classes_txt.parent}: no set {config.data.train[0]} (data.train)")
        known = choose_classes(read_classes(classes_txt), config.data.classes, classes_txt)
        fitted = fit_training(list(train.values()), set(known), config.vectors)
        fitted.save(frames / PREPROCESSING_NPZ)
    for name, directory in by_name.items():
        vectors = train.pop(name, None) or Vectors.read(directory, front_end)
        size = vectors.x.shape[1]
        if size != fitted.size:
            path = table_of(directory, front_end)
            raise ValueError(
                f"{path}: vectors of {size} dims, but those of training have {fitted.size}; extract all alike"
            )
        write_store(vectors, fitted.apply(vectors), frames / name)
        log.info("%s: %d vectors of %d dims, from %d", frames / name, len(vectors.utts), fitted.matrix.shape[1], size)
