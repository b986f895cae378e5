"""Prediction of expert scores by regression on what is known of an utterance, each predictor alone and all together.

A predictor is a column or several of an utterance: the log-likelihood ratio, the duration, the timing, the mean latents,
or a score from elsewhere. Cheng et al., "ASR-free pronunciation assessment", Interspeech 2020, arXiv:2005.11902, predict scores
from mean latents by support vector regression; the fusion is stacking with weights that are not negative (Breiman,
"Stacked regressions", Machine Learning 24, 1996).

All is fitted on the scored utterances of train and dev. Settings of the regressions, weights of the fusion and widths of the
intervals come from predictions by fits without the speaker, and these predictions stand for those utterances in all figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnf.metrics.figures import FUSED

FOLDS = 5
LEAST_SPEAKERS = 10  # of a fit
COVERAGE = 0.8  # of the prediction intervals
NEAR = 0.25  # share of the fitted utterances that an interval is from, those of the nearest predictions
GRIDS = {
    "svr": {"C": (0.1, 1.0, 10.0), "gamma": (0.01, 0.1, 1.0)},  # gamma: over the number of columns
    "ridge": {"alpha": (1.0, 10.0, 100.0, 1000.0)},
}


def regressions(kind: str, columns: int) -> list:
    """Regressions of standardized columns on standardized scores, one for each point of the grid of its kind."""
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
    """The model of least error in cross-validation over speakers, fitted on all; and its left-out predictions ``(U,)``.

    Args:
        models: to choose from.
        x: ``(U, F)``.
        scores: ``(U,)``.
        speakers: of the utterances; those of one speaker are in one fold.
    """
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(FOLDS)
    left_out = [cross_val_predict(model, x, scores, groups=speakers, cv=folds) for model in models]
    best = int(np.argmin([np.square(found - scores).mean() for found in left_out]))
    return models[best].fit(x, scores), left_out[best]


@dataclass(frozen=True, eq=False)
class Assessment:
    """Regressions of expert scores, fitted.

    Attributes:
        models: regression of each predictor, by its name.
        fusion: of their predictions.
        left_out: predictions ``(U,)`` of the fitted utterances by each predictor and ``FUSED``, by fits without the speaker.
        errors: ``(U,)`` absolute errors of the fused ones.
        speakers: ``(U,)``.
        scale: lowest and highest score of the fitted utterances, beyond which nothing is predicted.
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
            scores: ``(U,)``, which differ.
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
        """Scores ``(U,)`` of utterances by each predictor and ``FUSED``, from columns ``(U, F)`` of each predictor."""
        found = {name: np.clip(model.predict(columns[name]), *self.scale) for name, model in self.models.items()}
        fused = self.fusion.predict(np.stack(list(found.values()), 1))
        return found | {FUSED: np.clip(fused, *self.scale)}

    def ends(self, fused: np.ndarray, speakers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Low and high ends ``(U,)`` of the intervals that are to contain a share ``COVERAGE`` of the scores.

        Conformal, from the errors of left-out speakers (Barber et al., "Predictive inference with the jackknife+", Annals of
        Statistics 49, 2021), and local: errors are larger where scores are low, so each interval is from the errors of the
        ``NEAR`` utterances of nearest predictions. Those of the same speaker are not used.

        Args:
            fused: predictions ``(U,)``.
            speakers: of the utterances ``(U,)``.
        """
        widths, fitted = np.empty(len(fused)), self.left_out[FUSED]
        for u, (value, speaker) in enumerate(zip(fused, speakers)):
            others = np.flatnonzero(self.speakers != speaker)
            order = np.argsort(np.abs(fitted[others] - value), kind="stable")
            errors = np.sort(self.errors[others[order[: math.ceil(NEAR * len(others))]]])
            widths[u] = errors[min(len(errors), math.ceil(COVERAGE * (len(errors) + 1))) - 1]
        return np.clip(fused - widths, *self.scale), np.clip(fused + widths, *self.scale)
