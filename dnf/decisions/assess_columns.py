"""Utterances with expert scores, and the columns of each predictor of these scores."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnf.data.kaldi_files import not_a_file, number_of, read_loose, read_table
from dnf.experiment.config import Config
from dnf.experiment.layout import DECISIONS, LATENTS, UTT2SCORES, Z_MEAN_NPY, Layout
from dnf.experiment.tables import each_row
from dnf.scoring.latent_store import Latents

log = logging.getLogger(__name__)

TIME = ("duration", "timing")  # predictors that need frames, which a model of vectors does not have


@dataclass(frozen=True, eq=False)
class Scored:
    """The U utterances of a set that have an expert score.

    Attributes:
        utts: their rows of ``utts.tsv``.
        places: ``(U,)`` indices of these rows among all rows of the set.
        scores: ``(U,)``.
        speakers: ``(U,)``.
    """

    utts: list[dict]
    places: np.ndarray
    scores: np.ndarray
    speakers: np.ndarray

    @classmethod
    def read(cls, directory: Path) -> Scored:
        """Read them from ``latents/<set>``; warns if only some utterances of a class have scores.

        Raises:
            ValueError: a score is not a finite number.
        """
        utts = Latents.open(directory).utts
        chosen = [(place, utt) for place, utt in enumerate(utts) if utt["score"]]
        classes = {utt["class"] for _, utt in chosen}
        missing = [utt["utt"] for utt in utts if utt["class"] in classes and not utt["score"]]
        if missing:
            log.warning(
                "%s: %d utterances have no expert score and are left out, the first is %s",
                directory, len(missing), missing[0],
            )  # fmt: skip
        scores = np.array([number_of(utt["score"]) for _, utt in chosen])
        for (_, utt), score in zip(chosen, scores):
            if np.isnan(score):
                raise ValueError(
                    f"{directory}: {utt['utt']}: score {utt['score']!r} is not a number; correct utt2score"
                )
        return cls(
            [utt for _, utt in chosen],
            np.array([place for place, _ in chosen], dtype=int),
            scores,
            np.array([utt["speaker"] for _, utt in chosen], dtype=object),
        )

    @property
    def name(self) -> str:
        """Their classes, joined by +."""
        return "+".join(sorted({utt["class"] for utt in self.utts}))


class Columns:
    """Columns of the predictors of an experiment."""

    def __init__(self, exp: Path, config: Config):
        self._exp, self._config, self._layout = exp, config, Layout.read(exp)
        self.timing = functools.cache(self._timing)
        self.marks = functools.cache(self._marks)
        self._external = functools.cache(self._read_external)

    def predictors(self) -> list[str]:
        """Predictors of the settings that the experiment has: vectors have no timing, a flow without decisions has no ratio."""
        lacking = set() if any((self._exp / DECISIONS).glob("*.txt")) else {"llr"}
        lacking |= set(TIME) if self._config.has_vectors else set()
        return [name for name in self._config.assess.predictors if name not in lacking]

    def of(self, name: str, scored: Scored) -> dict[str, np.ndarray]:
        """Columns ``(U, F)`` of each predictor for the scored utterances of set ``name``."""
        columns = {}
        for predictor in self.predictors():
            if predictor == "latents":
                columns[predictor] = np.load(self._exp / LATENTS / name / Z_MEAN_NPY, mmap_mode="r")[scored.places]
            elif predictor == "llr":
                ratios = {row["utt"]: float(row["llr"]) for row in each_row(self._exp / DECISIONS / f"{name}.txt")}
                columns[predictor] = np.array([[ratios[utt["utt"]]] for utt in scored.utts])
            elif predictor == "external":
                columns[predictor] = self.external(scored)
            else:
                times = np.array([self.timing(utt["set"])[utt["utt"]] for utt in scored.utts])
                columns[predictor] = times[:, :1] if predictor == "duration" else times
        return columns

    def seconds(self, scored: Scored) -> list[float]:
        """Durations of the utterances; empty for vectors."""
        if self._config.has_vectors:
            return []
        return [float(np.exp(self.timing(utt["set"])[utt["utt"]][0])) for utt in scored.utts]

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

    def _timing(self, name: str) -> dict[str, list[float]]:
        """Timing of the scored utterances of a set of the data directory."""
        from dnf.decisions.timing import store_timing  # imports torch, which is slow and needed only with scores
        from dnf.features.frame_store import FrameStore

        return dict(store_timing(FrameStore(self._layout.frames / name), self._config.features.frame_shift))

    def _marks(self, name: str) -> dict[str, list[float]]:
        """Marks of each expert for the utterances of a set of the data directory; empty without ``utt2scores``."""
        path = self._layout.data / name / UTT2SCORES
        table = read_table(path) if path.is_file() else {}
        return {utt: [number_of(mark) for mark in marks.split()] for utt, marks in table.items()}
