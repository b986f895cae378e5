"""Predict expert scores by regression, with each predictor alone and with all together.

A predictor is one or several columns: the log-likelihood ratio, the duration, the timing, the mean latents,
or an external score. Cheng et al., "ASR-free pronunciation assessment", Interspeech 2020, arXiv:2005.11902, predict scores
from mean latents by support vector regression; the fusion is stacking with non-negative weights (Breiman,
"Stacked regressions", Machine Learning 24, 1996).

Everything is fitted on the scored utterances of train and dev. Settings of the regressions, weights of the fusion and widths
of the intervals come from cross-validation that leaves the speaker out. All figures of these utterances use the left-out
predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnf.metrics.figures import FUSED

FOLDS = 5
LEAST_SPEAKERS = 10  # fewest speakers of a fit
COVERAGE = 0.8  # share of scores within the prediction intervals
NEAR = 0.25  # share of the fitted utterances, those with the nearest predictions, that determine an interval
GRIDS = {
    "svr": {"C": (0.1, 1.0, 10.0), "gamma": (0.01, 0.1, 1.0)},  # gamma is divided by the number of columns
    "ridge": {"alpha": (1.0, 10.0, 100.0, 1000.0)},
}


def regressions(kind: str, columns: int) -> list:
    """Regressions of standardized scores on standardized columns, one for each point of the grid."""
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
class Assessment:
    """Fitted regressions of expert scores.

    Attributes:
        models: regression of each predictor, by its name.
        fusion: regression on their predictions.
        left_out: predictions ``(U,)`` for the fitted utterances by each predictor and ``FUSED``, with the speaker left out.
        errors: ``(U,)`` absolute errors of the fused predictions.
        speakers: ``(U,)``.
        scale: lowest and highest score of the fitted utterances; predictions are clipped to it.
    """

    models: Mapping[str, object]
    fusion: object
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
            regression: a key of ``GRIDS``.
        """
        from sklearn.linear_model import LinearRegression

        fits = {name: best_fit(regressions(regression, x.shape[1]), x, scores, speakers) for name, x in columns.items()}
        scale = float(scores.min()), float(scores.max())
        left_out = {name: np.clip(predicted, *scale) for name, (_, predicted) in fits.items()}
        stacked = np.stack(list(left_out.values()), 1)
        fusion, fused = best_fit([LinearRegression(positive=True)], stacked, scores, speakers)
        left_out[FUSED] = np.clip(fused, *scale)
        errors = np.abs(left_out[FUSED] - scores)
        return cls({name: model for name, (model, _) in fits.items()}, fusion, left_out, errors, speakers, scale)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each predictor in the fusion."""
        return dict(zip(self.models, map(float, self.fusion.coef_)))

    def predict(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Predicted scores ``(U,)`` by each predictor and ``FUSED``, from columns ``(U, F)`` of each predictor."""
        found = {name: np.clip(model.predict(columns[name]), *self.scale) for name, model in self.models.items()}
        fused = self.fusion.predict(np.stack(list(found.values()), 1))
        return found | {FUSED: np.clip(fused, *self.scale)}

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
