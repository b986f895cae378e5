"""Predict expert scores by regression, with each predictor alone and with all together.

A predictor is one or several columns: the log-likelihood ratio, the duration, the timing, the tempo, the mean latents,
vectors, or an external score. Cheng et al., "ASR-free pronunciation assessment", Interspeech 2020, arXiv:2005.11902, predict scores
from mean latents by support vector regression; the fusion is stacking with non-negative weights (Breiman,
"Stacked regressions", Machine Learning 24, 1996).

Everything is fitted on the scored utterances of train and dev. Settings of the regressions, weights of the fusion and widths
of the intervals come from cross-validation that leaves the speaker out. All figures of these utterances use the left-out
predictions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from dnf.experiment.files import intact, write_arrays
from dnf.experiment.layout import run_again
from dnf.metrics.figures import FUSED

FOLDS = 10
LEAST_SPEAKERS = 10  # fewest speakers of a fit
COVERAGE = 0.8  # share of scores within the prediction intervals
NEAR = 0.25  # share of the fitted utterances, those with the nearest predictions, that determine an interval
GRIDS = {
    "svr": {"C": (0.1, 0.3, 1.0, 3.0), "gamma": (0.03, 0.1, 0.3, 1.0)},  # gamma is divided by the number of columns
    "ridge": {"alpha": (1.0, 10.0, 30.0, 100.0, 300.0, 1000.0)},
}
PARTS = {  # what predictors measure; those that are in none are external
    "timing": ("duration", "timing", "tempo"),
    "sound": ("llr", "latents", "vectors"),
}
NOTABLE = 0.05  # share of the scale: a part that lowers the score by less is not named


def regressions(kind: str, columns: int) -> list:
    """Regressions of standardized scores on standardized columns, one for each point of the grid.

    Args:
        kind: a key of ``GRIDS``, or ``best`` for all of them.
        columns: number of columns.
    """
    if kind == "best":
        return [model for grid in GRIDS for model in regressions(grid, columns)]
    from sklearn.compose import TransformedTargetRegressor  # slow to import, and only a fit needs it
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import ParameterGrid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    points = ParameterGrid(GRIDS[kind])
    if kind == "svr":
        models = [SVR(C=point["C"], gamma=point["gamma"] / columns) for point in points]
    else:
        models = [Ridge(**point) for point in points]
    return [
        TransformedTargetRegressor(make_pipeline(StandardScaler(), model), transformer=StandardScaler())
        for model in models
    ]


def best_fit(models: list, x: np.ndarray, scores: np.ndarray, speakers: np.ndarray) -> tuple:
    """The best model in cross-validation over speakers, fitted on all utterances, and its left-out predictions ``(U,)``.

    Args:
        models: the candidates.
        x: columns ``(U, F)``.
        scores: ``(U,)``.
        speakers: speaker of each utterance; the utterances of a speaker are in one fold.
    """
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(FOLDS)
    left_out = [cross_val_predict(model, x, scores, groups=speakers, cv=folds) for model in models]
    best = int(np.argmin([np.square(found - scores).mean() for found in left_out]))
    return models[best].fit(x, scores), left_out[best]


@dataclass(frozen=True, eq=False)
class Regression:
    """A fitted regression as arrays: linear, or the sum of Gaussian kernels of a support vector regression.

    Attributes:
        mean, scale: ``(F,)`` of the columns, which standardize them.
        support: ``(S, F)`` support vectors; none for a linear regression.
        weights: ``(S,)`` of the support vectors, or ``(F,)`` of the columns.
        numbers: intercept, gamma of the kernel, and mean and standard deviation of the scores.
    """

    mean: np.ndarray
    scale: np.ndarray
    support: np.ndarray
    weights: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, fitted) -> Regression:
        """The arrays of a fitted regression of ``regressions``."""
        columns, model = fitted.regressor_
        of_scores = float(fitted.transformer_.mean_[0]), float(fitted.transformer_.scale_[0])
        if hasattr(model, "support_vectors_"):
            support, weights, gamma = model.support_vectors_, model.dual_coef_[0], model.gamma
        else:
            support, weights, gamma = np.zeros((0, len(columns.mean_))), np.ravel(model.coef_), 0.0
        numbers = np.array([np.ravel(model.intercept_)[0], gamma, *of_scores])
        return cls(columns.mean_, columns.scale_, support, weights, numbers)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Scores ``(U,)`` from columns ``(U, F)``."""
        intercept, gamma, mean, deviation = self.numbers
        x = (x - self.mean) / self.scale
        values = np.exp(-gamma * cdist(x, self.support, "sqeuclidean")) if len(self.support) else x
        return mean + deviation * (values @ self.weights + intercept)

    def slope(self, x: np.ndarray) -> np.ndarray:
        """Change of the score by the unit of each column ``(F,)``, at columns ``(F,)``."""
        _, gamma, _, deviation = self.numbers
        if not len(self.support):
            return deviation * self.weights / self.scale
        x = (x - self.mean) / self.scale
        kernel = self.weights * np.exp(-gamma * np.square(self.support - x).sum(1))
        return deviation * 2 * gamma * (kernel @ (self.support - x)) / self.scale


@dataclass(frozen=True, eq=False)
class Assessment:
    """Fitted regressions of expert scores.

    Attributes:
        models: regression of each predictor, by its name.
        weights: weight of each predictor in the fusion.
        intercept: of the fusion.
        left_out: predictions ``(U,)`` for the fitted utterances by each predictor and ``FUSED``, with the speaker left out.
        errors: ``(U,)`` absolute errors of the fused predictions.
        speakers: ``(U,)``.
        scale: lowest and highest score of the fitted utterances; predictions are clipped to it.
    """

    models: Mapping[str, Regression]
    weights: Mapping[str, float]
    intercept: float
    left_out: Mapping[str, np.ndarray]
    errors: np.ndarray
    speakers: np.ndarray
    scale: tuple[float, float]

    @classmethod
    def fit(
        cls, columns: Mapping[str, np.ndarray], scores: np.ndarray, speakers: np.ndarray, regression: str
    ) -> Assessment:
        """Fit on U utterances.

        Args:
            columns: ``(U, F)`` of each predictor.
            scores: ``(U,)``, not all equal.
            speakers: ``(U,)``, ``LEAST_SPEAKERS`` or more of them.
            regression: a key of ``GRIDS``, or ``best``: for each predictor the one with the smaller error.
        """
        from sklearn.linear_model import LinearRegression

        fits = {name: best_fit(regressions(regression, x.shape[1]), x, scores, speakers) for name, x in columns.items()}
        scale = float(scores.min()), float(scores.max())
        left_out = {name: np.clip(predicted, *scale) for name, (_, predicted) in fits.items()}
        stacked = np.stack(list(left_out.values()), 1)
        fusion, fused = best_fit([LinearRegression(positive=True)], stacked, scores, speakers)
        weights = dict(zip(columns, map(float, fusion.coef_)))
        left_out[FUSED] = np.clip(fused, *scale)
        errors = np.abs(left_out[FUSED] - scores)
        models = {name: Regression.of(model) for name, (model, _) in fits.items()}
        return cls(models, weights, float(fusion.intercept_), left_out, errors, speakers, scale)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as plain arrays by name."""
        arrays = {"speakers": self.speakers.astype(str), "errors": self.errors, "scale": np.array(self.scale)}
        arrays |= {"predictors": np.array(list(self.models)), "intercept": np.array(self.intercept)}
        arrays |= {"weights": np.array([self.weights[name] for name in self.models])}
        arrays |= {f"left_out {name}": values for name, values in self.left_out.items()}
        for name, model in self.models.items():
            arrays |= {f"{field} {name}": values for field, values in vars(model).items()}
        return arrays

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Assessment:
        """The fit of ``arrays``; ``KeyError`` or ``ValueError`` if they are not complete."""
        names = arrays["predictors"].tolist()
        fields = [field.name for field in dataclasses.fields(Regression)]
        models = {name: Regression(*(arrays[f"{field} {name}"] for field in fields)) for name in names}
        left_out = {name: arrays[f"left_out {name}"] for name in (*names, FUSED)}
        weights = dict(zip(names, arrays["weights"].tolist(), strict=True))
        scale = float(arrays["scale"][0]), float(arrays["scale"][1])
        speakers = arrays["speakers"].astype(object)
        return cls(models, weights, float(arrays["intercept"]), left_out, arrays["errors"], speakers, scale)

    def predict(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Predicted scores ``(U,)`` by each predictor and ``FUSED``, from columns ``(U, F)`` of each predictor."""
        found = {name: np.clip(model.predict(columns[name]), *self.scale) for name, model in self.models.items()}
        fused = self.intercept + sum(self.weights[name] * values for name, values in found.items())
        return found | {FUSED: np.clip(fused, *self.scale)}

    def parts(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """How much timing, sound and external scores raise each fused prediction above the mean of the fitted utterances.

        With this mean the parts add up to the fused prediction before it is clipped, since the fusion is a sum.

        Args:
            found: predictions ``(U,)`` by predictor.
        """
        kinds = {name: part for part, names in PARTS.items() for name in names}
        sums: dict[str, np.ndarray] = {}
        for name, weight in self.weights.items():
            part = kinds.get(name, "external")
            sums[part] = sums.get(part, 0.0) + weight * (found[name] - self.left_out[name].mean())
        return sums

    def lowered_by(self, parts: Mapping[str, float]) -> str:
        """The parts that lower the prediction of an utterance notably, the strongest first; ``neither`` if none does."""
        least = NOTABLE * (self.scale[1] - self.scale[0])
        return " and ".join(sorted((name for name in parts if parts[name] < -least), key=parts.get)) or "neither"

    def ends(self, fused: np.ndarray, speakers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Low and high ends ``(U,)`` of prediction intervals with coverage ``COVERAGE``.

        They are conformal, from the errors of left-out speakers (Barber et al., "Predictive inference with the jackknife+",
        Annals of Statistics 49, 2021), and local: low scores have larger errors, so each interval uses the errors of the share
        ``NEAR`` of utterances with the nearest predictions. Utterances of the same speaker are not used.

        Args:
            fused: fused predictions ``(U,)``.
            speakers: speaker of each utterance ``(U,)``.
        """
        widths, fitted = np.empty(len(fused)), self.left_out[FUSED]
        for u, (value, speaker) in enumerate(zip(fused, speakers)):
            others = np.flatnonzero(self.speakers != speaker)
            order = np.argsort(np.abs(fitted[others] - value), kind="stable")
            errors = np.sort(self.errors[others[order[: math.ceil(NEAR * len(others))]]])
            widths[u] = errors[min(len(errors), math.ceil(COVERAGE * (len(errors) + 1))) - 1]
        return np.clip(fused - widths, *self.scale), np.clip(fused + widths, *self.scale)


def save_fits(path: Path, fits: Mapping[str, Assessment]) -> None:
    """Write the fits of all scores, by their names, to an .npz file of plain arrays."""
    arrays = {f"{score}:{name}": values for score, fit in fits.items() for name, values in fit.arrays().items()}
    write_arrays(path, {"scores": np.array(list(fits))} | arrays)


def load_fits(path: Path) -> dict[str, Assessment]:
    """Read the file of ``save_fits``.

    Raises:
        ValueError: the file is damaged.
    """
    with intact(path, run_again("decide")), np.load(path) as file:
        parts = {score: {} for score in file["scores"].tolist()}
        for name in file.files:
            score, colon, of_fit = name.partition(":")
            if colon:
                parts[score][of_fit] = file[name]
        return {score: Assessment.of_arrays(arrays) for score, arrays in parts.items()}
