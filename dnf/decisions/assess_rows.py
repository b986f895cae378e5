"""Stage decide: predict the expert scores of every set that has some; rows of ``accuracy.tsv`` on their agreement.

Predictions are written to ``assess/<set>.tsv``, and the fit to ``assess.npz``. For utterances of train and dev, in any set, the
speaker is left out of the fit. A copied model applies the fit that came with it to all utterances.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dnf.decisions.accuracy_rows import agreement_rows
from dnf.decisions.assess import LEAST_SPEAKERS, Assessment
from dnf.decisions.assess_columns import Columns, Scored
from dnf.decisions.breakdowns import whole_sets
from dnf.experiment.config import Config
from dnf.experiment.layout import ASSESS, ASSESS_NPZ, DECILES_TSV, is_taken
from dnf.experiment.sets import name_of
from dnf.experiment.tables import write_tsv
from dnf.metrics.bootstrap import interval
from dnf.metrics.correlation import AGREEMENT, one_against_others, pairwise, partial
from dnf.metrics.figure_rows import row_of, share_row
from dnf.metrics.figures import EXPERTS, FUSED

log = logging.getLogger(__name__)

DECILES = 10


def fit(
    parts: Mapping[str, Scored], columns: Mapping[str, Mapping[str, np.ndarray]], config: Config
) -> Assessment | None:
    """Fit on some sets; None, with a log line, if there are too few speakers or all scores are equal.

    Args:
        parts: the sets, by name.
        columns: columns of each predictor, of all of them.
        config: settings.
    """
    speakers = np.concatenate([part.speakers for part in parts.values()])
    scores = np.concatenate([part.scores for part in parts.values()])
    count, where = len(set(speakers)), " and ".join(parts)
    if count < LEAST_SPEAKERS:
        log.warning(
            "no prediction of expert scores: %s have %d speakers with scores; %d are needed",
            where,
            count,
            LEAST_SPEAKERS,
        )
        return None
    if scores.min() == scores.max():
        log.warning("no prediction of expert scores: all scores of %s are %g", where, scores[0])
        return None
    names = list(columns[next(iter(parts))])
    together = {name: np.concatenate([columns[part][name] for part in parts]) for name in names}
    return Assessment.fit(together, scores, speakers, config.assess.regression)


def predictions(
    scored: Scored, columns: Mapping, assessment: Assessment, fitted: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Predictions ``(U,)`` by each predictor and ``FUSED``; for fitted utterances, the left-out predictions.

    Args:
        scored: scored utterances of a set.
        columns: their columns.
        assessment: the regressions.
        fitted: index of each fitted utterance.
    """
    found = assessment.predict(columns)
    pairs = [(u, fitted[utt["utt"]]) for u, utt in enumerate(scored.utts) if utt["utt"] in fitted]
    if pairs:
        here, there = map(list, zip(*pairs))
        for name, predicted in found.items():
            predicted[here] = assessment.left_out[name][there]
    return found


def write_predictions(path: Path, scored: Scored, found: Mapping, assessment: Assessment, columns: Columns) -> None:
    """Write ``assess/<set>.tsv``: predictions, ends of the intervals, parts of the score, which part lowers it, log-likelihood."""
    cells = prediction_cells(scored, found, assessment)
    cells["loglik"] = [f"{value:.4f}" for value in columns.loglik(path.stem, scored)]
    cells["seconds"] = [f"{value:.3f}" for value in columns.seconds(scored)] or [""] * len(scored.utts)
    write_tsv(
        path,
        (
            {name: utt[name] for name in ("utt", "speaker", "class", "score")} | dict(zip(cells, row))
            for utt, row in zip(scored.utts, zip(*cells.values()))
        ),
    )


def prediction_cells(scored: Scored, found: Mapping, assessment: Assessment) -> dict[str, list[str]]:
    """Columns of ``assess/<set>.tsv`` from the predictions."""
    columns = {name: [f"{value:.4f}" for value in values] for name, values in found.items()}
    ends = assessment.ends(found[FUSED], scored.speakers)
    columns |= {end: [f"{value:.4f}" for value in values] for end, values in zip(("low", "high"), ends)}
    parts = assessment.parts(found)
    columns |= {f"part_{name}": [f"{value:.4f}" for value in values] for name, values in parts.items()}
    columns["lowered_by"] = [assessment.lowered_by(dict(zip(parts, values))) for values in zip(*parts.values())]
    return columns


def prediction_rows(scored: Scored, found: Mapping, ends: Sequence, draw: tuple[int, int], **names: str) -> list[dict]:
    """Rows on the predictions of a set: agreement with the scores, partial correlation of the latents, and coverage.

    Args:
        scored: scored utterances of a set.
        found: predictions by predictor.
        ends: ends of the prediction intervals.
        draw: resamples and seed of the confidence intervals.
        names: set and class, for the rows.
    """
    rows, speakers = [], scored.speakers
    for name, predicted in found.items():
        rows += agreement_rows(
            predicted, scored.scores, speakers, AGREEMENT, *draw, prefix="assess_", decided=name, **names
        )
    for metric, given in (("assess_partial", "timing"), ("assess_partial_tempo", "tempo")):
        if {"latents", given} <= found.keys():
            arrays = found["latents"], scored.scores, found[given]
            rows += statistic_row(metric, partial, speakers, arrays, draw, decided="latents", **names)
    hits = (ends[0] <= scored.scores) & (scored.scores <= ends[1])
    shares = [(speaker, int(hit), 1) for speaker, hit in zip(speakers, hits)]
    return [*rows, share_row("assess_coverage", shares, *draw, decided=FUSED, **names)]


def statistic_row(
    metric: str, statistic, speakers: Sequence, arrays: Sequence, draw: tuple[int, int], **names
) -> list[dict]:
    """The row of a statistic with its interval; none if it is undefined."""
    value = float(statistic(np.ones((1, len(speakers))), *arrays)[0])
    if np.isnan(value):
        return []
    ends = interval(statistic, speakers, *arrays, resamples=draw[0], seed=draw[1])
    return [row_of(value, ends, speakers, metric=metric, **names)]


def expert_rows(scored: Scored, columns: Columns, draw: tuple[int, int], **names: str) -> list[dict]:
    """Rows on the agreement of experts, over utterances with marks of several; arguments as of ``prediction_rows``."""
    marks = [columns.marks(utt["set"]).get(utt["utt"], []) for utt in scored.utts]
    several = np.array([len(given) > 1 for given in marks], dtype=bool)
    if several.sum() < DECILES:
        return []
    most = max(map(len, marks))
    table = np.array([given + [np.nan] * (most - len(given)) for given in marks])[several]
    speakers, rows = scored.speakers[several], []
    who = np.unique(speakers)
    means = np.array([mean_marks(table[speakers == speaker]) for speaker in who])
    for level, of_level, names_of_level in (("utt", table, speakers), ("speaker", means, who)):
        for metric, statistic in (("ceiling", one_against_others), ("pairs", pairwise)):
            more = names | {"decided": EXPERTS}
            rows += statistic_row(f"assess_{level}_{metric}", statistic, names_of_level, (of_level,), draw, **more)
    return rows


def mean_marks(marks: np.ndarray) -> np.ndarray:
    """Mean mark of each expert ``(E,)`` from marks ``(U, E)``; NaN for an expert without marks."""
    given = np.isfinite(marks).sum(0)
    return np.where(given > 0, np.nansum(marks, 0) / np.maximum(given, 1), np.nan)


def decile_rows(scored: Scored, fused: np.ndarray, **names: str) -> Iterable[dict]:
    """Mean predicted and mean expert score of each tenth of the utterances, in order of their predictions."""
    tenths = np.array_split(np.argsort(fused, kind="stable"), min(DECILES, len(fused)))
    for number, part in enumerate(tenths, start=1):
        means = {"predicted": f"{fused[part].mean():.4f}", "score": f"{scored.scores[part].mean():.4f}"}
        yield names | {"decile": number} | means | {"utterances": len(part)}


def without_repeats(sets: Mapping[str, Scored], views: Collection[str]) -> dict[str, Scored]:
    """Sets without views that repeat a set: a view of a scored and an unscored set has the scored utterances of the first."""
    names: dict[tuple[str, ...], str] = {}
    for name in sorted(sets, key=views.__contains__):
        names.setdefault(tuple(sorted(utt["utt"] for utt in sets[name].utts)), name)
    kept = set(names.values())
    return {name: scored for name, scored in sets.items() if name in kept}


def sets_of_fit(sets: Mapping[str, Scored], config: Config) -> dict[str, Scored]:
    """The sets that are fitted: those of ``assess.fit``, else train and dev.

    Empty if train has no scores, or, with a log line, if a set of ``assess.fit`` has none.
    """
    names = config.assess.fit or dict.fromkeys(name_of(config.data, role) for role in ("train", "dev"))
    missing = [name for name in config.assess.fit if name not in sets]
    if missing:
        log.warning("no prediction of expert scores: %s of assess.fit is not scored or has no scores", missing[0])
    parts = {name: sets[name] for name in names if name in sets}
    return parts if not missing and next(iter(names)) in parts else {}


def fitted_assessment(exp: Path, parts: Mapping[str, Scored], columns: Columns, config: Config) -> Assessment | None:
    """Fit on ``parts`` and write ``assess.npz``; None, and no file, if there are none or a fit is impossible."""
    path, predictors = exp / ASSESS_NPZ, columns.predictors()
    path.unlink(missing_ok=True)
    if not predictors or not parts:
        return None
    assessment = fit(parts, {name: columns.of(name, part, predictors) for name, part in parts.items()}, config)
    if assessment is not None:
        log.info("weights of the predictors of expert scores: %s", assessment.weights)
        assessment.save(path)
    return assessment


def assess_rows(exp: Path, config: Config) -> list[dict]:
    """Predict the expert scores of every set that has some; rows of ``accuracy.tsv``, none if train has no scores.

    For a copied model all sets are predicted, with the copied fit.
    """
    folder, columns, taken = exp / ASSESS, Columns(exp, config), is_taken(exp)
    shutil.rmtree(folder, ignore_errors=True)
    (exp / DECILES_TSV).unlink(missing_ok=True)
    if taken and not (exp / ASSESS_NPZ).is_file():
        return []
    sets = {directory.name: Scored.read(directory, everything=taken) for directory in whole_sets(exp, config)}
    sets = without_repeats({name: scored for name, scored in sets.items() if scored.utts}, config.data.views)
    parts = {} if taken else sets_of_fit(sets, config)
    assessment = Assessment.load(exp / ASSESS_NPZ) if taken else fitted_assessment(exp, parts, columns, config)
    if assessment is None:
        return []
    utts = (utt for part in parts.values() for utt in part.utts)
    fitted = {utt["utt"]: place for place, utt in enumerate(utts)}
    folder.mkdir()
    draw, rows, deciles = (config.report.bootstrap, config.seed), [], []
    for name, scored in sets.items():
        found = predictions(scored, columns.of(name, scored, list(assessment.models)), assessment, fitted)
        write_predictions(folder / f"{name}.tsv", scored, found, assessment, columns)
        scored, found = scored.with_scores(found)
        if scored.utts:
            ends = assessment.ends(found[FUSED], scored.speakers)
            names = {"set": name, "class": scored.name}
            rows += prediction_rows(scored, found, ends, draw, **names) + expert_rows(scored, columns, draw, **names)
            deciles += decile_rows(scored, found[FUSED], **names)
    if deciles:
        write_tsv(exp / DECILES_TSV, deciles)
    return rows
