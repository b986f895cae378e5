"""Utterances with expert scores, and the columns of each predictor of these scores."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dnf.data.kaldi_files import further_scores, not_a_file, number_of, read_loose, read_table
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    DECISIONS,
    LATENTS,
    UTT2SCORE,
    UTT2SCORES,
    Z_MEAN_NPY,
    Z_SQUASHED_NPY,
    Layout,
)
from dnf.experiment.tables import each_row
from dnf.features.timing import COLUMNS, store_measures
from dnf.metrics.figures import MAIN
from dnf.scoring.latent_store import Latents, mapped

if TYPE_CHECKING:
    from dnf.features.frame_store import FrameStore

log = logging.getLogger(__name__)

TextOf = Callable[[Mapping[str, str]], str]  # of a row of utts.tsv
TIME = ("duration", "timing", "tempo")  # predictors that need frames, which a model of vectors does not have


@dataclass(frozen=True, eq=False)
class Scored:
    """The U utterances of a set that have an expert score, or all of them.

    Attributes:
        utts: their rows of ``utts.tsv``.
        places: ``(U,)`` indices of these rows among all rows of the set.
        scores: ``(U,)``; NaN without a score.
        speakers: ``(U,)``.
    """

    utts: list[dict]
    places: np.ndarray
    scores: np.ndarray
    speakers: np.ndarray

    @classmethod
    def read(
        cls, directory: Path, everything: bool = False, name: str = UTT2SCORE, text_of: TextOf = itemgetter("score")
    ) -> Scored:
        """Read them from ``latents/<set>``; warns if only some utterances of a class have scores.

        Args:
            directory: the folder.
            everything: also read utterances without scores.
            name: of the table of the scores, for messages.
            text_of: the score of an utterance as text; empty without one.

        Raises:
            ValueError: a score is not a finite number.
        """
        utts = Latents.open(directory).utts
        texts = list(map(text_of, utts))
        chosen = [(place, utt) for place, utt in enumerate(utts) if everything or texts[place]]
        classes = {utt["class"] for _, utt in chosen}
        missing = [utt["utt"] for utt, text in zip(utts, texts) if utt["class"] in classes and not text]
        if missing and not everything:
            log.warning(
                "%s: %d utterances have no expert score (%s) and are left out, the first is %s",
                directory, len(missing), name, missing[0],
            )  # fmt: skip
        scores = np.array([number_of(texts[place]) for place, _ in chosen])
        for (place, utt), score in zip(chosen, scores):
            if texts[place] and np.isnan(score):
                raise ValueError(f"{directory}: {utt['utt']}: score {texts[place]!r} is not a number; correct {name}")
        return cls(
            [utt for _, utt in chosen],
            np.array([place for place, _ in chosen], dtype=int),
            scores,
            np.array([utt["speaker"] for _, utt in chosen], dtype=object),
        )

    def with_scores(self, values: Mapping[str, np.ndarray]) -> tuple[Scored, dict[str, np.ndarray]]:
        """Those with a score, and their ``values`` ``(U,)``."""
        has = np.flatnonzero(~np.isnan(self.scores))
        part = Scored([self.utts[u] for u in has], self.places[has], self.scores[has], self.speakers[has])
        return part, {name: of_all[has] for name, of_all in values.items()}

    @property
    def name(self) -> str:
        """Their classes, joined by +."""
        return "+".join(sorted({utt["class"] for utt in self.utts}))


class Columns:
    """Columns of the predictors of an experiment."""

    def __init__(self, exp: Path, config: Config):
        self._exp, self._config, self._layout = exp, config, Layout.read(exp)
        self._timing = functools.cache(self._read_timing)
        self._vectors = functools.cache(self._read_vectors)
        self._table = functools.cache(self._read_table)
        self._external = functools.cache(self._read_external)

    def further_scores(self, sets: Iterable[str]) -> list[str]:
        """Names of the scores besides the main one that sets of the data directory have."""
        names = {name for of_set in sets for name in further_scores(self._layout.data / of_set)}
        return sorted(name.removeprefix(f"{UTT2SCORE}_") for name in names if name.startswith(f"{UTT2SCORE}_"))

    def scored(self, directory: Path, score: str, everything: bool) -> Scored:
        """``Scored.read`` of the main score, or of the one of this name."""
        if score == MAIN:
            return Scored.read(directory, everything)
        name = f"{UTT2SCORE}_{score}"
        return Scored.read(directory, everything, name, lambda utt: self._table(utt["set"], name).get(utt["utt"], ""))

    def marks(self, utt: Mapping[str, str], score: str) -> list[float]:
        """Marks of each expert for a score of an utterance; none without a table of them."""
        table = self._table(utt["set"], f"{UTT2SCORES}_{score}" if score else UTT2SCORES)
        return [number_of(mark) for mark in table.get(utt["utt"], "").split()]

    def predictors(self) -> list[str]:
        """Predictors of the settings that the experiment has: vectors have no timing, a flow without decisions has no ratio.

        Frames are not vectors of an utterance.
        """
        lacking = set() if any((self._exp / DECISIONS).glob("*.txt")) else {"llr"}
        lacking |= set(TIME) if self._config.has_vectors else {"vectors"}
        return [name for name in self._config.assess.predictors if name not in lacking]

    def of(self, name: str, scored: Scored, predictors: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns ``(U, F)`` of each predictor for the utterances ``scored`` of set ``name``."""
        columns = {}
        for predictor in predictors:
            if predictor == "latents":
                columns[predictor] = np.hstack(self._means(name, scored))
            elif predictor == "vectors":
                columns[predictor] = np.array([self._vectors(utt["set"])[utt["utt"]] for utt in scored.utts])
            elif predictor == "llr":
                ratios = {row["utt"]: float(row["llr"]) for row in each_row(self._exp / DECISIONS / f"{name}.txt")}
                columns[predictor] = np.array([[ratios[utt["utt"]]] for utt in scored.utts])
            elif predictor == "external":
                columns[predictor] = self.external(scored)
            else:
                columns[predictor] = self._times(scored)[:, COLUMNS[predictor]]
        return columns

    def seconds(self, scored: Scored) -> list[float]:
        """Durations of the utterances; empty for vectors."""
        if self._config.has_vectors:
            return []
        return np.exp(self._times(scored)[:, 0]).tolist()

    def loglik(self, name: str, scored: Scored) -> list[float]:
        """Log-likelihood of each utterance under the mean of the classes, nats per frame."""
        latents = Latents.open(self._exp / LATENTS / name)
        of_utts = (np.logaddexp.reduce(latents.loglik(utt), axis=1).mean() for utt in scored.utts)
        return [float(value - np.log(len(latents.classes))) for value in of_utts]

    def external(self, scored: Scored) -> np.ndarray:
        """Scores ``(U, 1)`` of ``assess.external``.

        Raises:
            ValueError: the file does not exist or lacks an utterance, or a score in it is not a number.
        """
        path, table = self._config.assess.external, self._external()
        missing = [utt["utt"] for utt in scored.utts if utt["utt"] not in table]
        if missing:
            raise ValueError(
                f"{path}: has no score of {missing[0]} and {len(missing) - 1} more utterances; write a line "
                "'utterance score' for each scored utterance, or remove external from assess.predictors"
            )
        values = np.array([number_of(table[utt["utt"]]) for utt in scored.utts])
        for utt, value in zip(scored.utts, values):
            if np.isnan(value):
                raise ValueError(f"{path}: {utt['utt']}: {table[utt['utt']]!r} is not a number; correct the score")
        return values[:, None]

    def _read_external(self) -> dict[str, str]:
        path = Path(self._config.assess.external)
        if reason := not_a_file(path):
            raise ValueError(f"assess.external: {path}: {reason}; name a file of lines 'utterance score'")
        return read_loose(path)

    def _means(self, name: str, scored: Scored) -> list[np.ndarray]:
        """Mean latents and mean squashed latents of the utterances, ``(U, D)`` each."""
        paths = [self._exp / LATENTS / name / file for file in (Z_MEAN_NPY, Z_SQUASHED_NPY)]
        return [mapped(path)[scored.places] for path in paths]

    def _times(self, scored: Scored) -> np.ndarray:
        return np.array([self._timing(utt["set"])[utt["utt"]] for utt in scored.utts])

    def _read_timing(self, name: str) -> dict[str, list[float]]:
        """Measures of timing of the utterances of a set of the data directory."""
        return dict(store_measures(self._store(name), self._config.features.frame_shift))

    def _read_vectors(self, name: str) -> dict[str, np.ndarray]:
        """The vectors of the utterances of a set of the data directory."""
        store = self._store(name)
        return dict(zip(store.utterances, store.frames.float().numpy()))

    def _store(self, name: str) -> FrameStore:
        from dnf.features.frame_store import FrameStore  # imports torch, which is slow and needed only with scores

        return FrameStore(self._layout.frames / name)

    def _read_table(self, name: str, table: str) -> dict[str, str]:
        """A table of a set of the data directory; empty without one."""
        path = self._layout.data / name / table
        return read_table(path) if path.is_file() else {}
