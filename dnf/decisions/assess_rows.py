"""Stage decide: predict the expert scores of every set that has some; rows of ``accuracy.tsv`` on their agreement.

The main score is that of ``utt2score``; those of ``utt2score_<name>`` have fits and figures of their own. Predictions are
written to ``assess/<set>.tsv``, and the fits to ``assess.npz``. For utterances of train and dev, in any set, the
speaker is left out of the fit. A copied model applies the fit that came with it to all utterances.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.decisions.accuracy_rows import agreement_rows
from dnf.decisions.assess import LEAST_SPEAKERS, Assessment, load_fits, save_fits
from dnf.decisions.assess_columns import Columns, Scored
from dnf.decisions.breakdowns import whole_sets
from dnf.experiment.config import Config
from dnf.experiment.layout import ASSESS, ASSESS_NPZ, DECILES_TSV, UTT2SCORE, is_taken
from dnf.experiment.sets import name_of
from dnf.experiment.tables import write_tsv
from dnf.metrics.bootstrap import interval
from dnf.metrics.correlation import AGREEMENT, one_against_others, pairwise, partial
from dnf.metrics.figure_rows import row_of, share_row
from dnf.metrics.figures import EXPERTS, FUSED, MAIN, predictor_of

log = logging.getLogger(__name__)

DECILES = 10


def fit(
    parts: Mapping[str, Scored], columns: Mapping[str, Mapping[str, np.ndarray]], config: Config, score: str
) -> Assessment | None:
    """Fit on some sets; None, with a log line, if there are too few speakers or all scores are equal.

    Args:
        parts: the sets, by name.
        columns: columns of each predictor, of all of them.
        config: settings.
        score: name of the score.
    """
    speakers = np.concatenate([part.speakers for part in parts.values()])
    scores = np.concatenate([part.scores for part in parts.values()])
    count, where = len(set(speakers)), " and ".join(parts)
    if count < LEAST_SPEAKERS:
        log.warning(
            "%s: %s have %d speakers with scores; %d are needed",
            *(no_prediction(score), where, count, LEAST_SPEAKERS),
        )
        return None
    if scores.min() == scores.max():
        log.warning("%s: all scores of %s are %g", no_prediction(score), where, scores[0])
        return None
    names = list(columns[next(iter(parts))])
    together = {name: np.concatenate([columns[part][name] for part in parts]) for name in names}
    return Assessment.fit(together, scores, speakers, config.assess.regression)


def no_prediction(score: str) -> str:
    """The beginning of a message."""
    return f"no prediction of expert scores{score and f' {score}'}"


def check_scale(name: str, scored: Scored, low: float, high: float, score: str) -> None:
    """Warn if most scores of a set are outside the range of those that are fitted, as in another scale."""
    known = scored.scores[~np.isnan(scored.scores)]
    outside = int(((known < low) | (known > high)).sum())
    if outside > len(known) / 2:
        log.warning(
            "%s: %d of %d expert scores%s are outside %g to %g, the range of the fitted ones; give them the same scale",
            *(name, outside, len(known), score and f" {score}", low, high),
        )


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


class Predicted(NamedTuple):
    """A score of all sets as it is predicted.

    Attributes:
        assessment: the fit.
        sets: utterances by set.
        found: predictions ``(U,)`` by predictor, by set.
    """

    assessment: Assessment
    sets: dict[str, Scored]
    found: dict[str, dict[str, np.ndarray]]


def write_predictions(path: Path, of_scores: Mapping[str, Predicted], columns: Columns) -> None:
    """Write ``assess/<set>.tsv``: predictions, ends of the intervals, parts of the score, which part lowers it, log-likelihood.

    Of scores besides the main one it has the expert score, the fused prediction and the ends of its interval.
    """
    assessment, sets, found = of_scores[MAIN]
    scored = sets[path.stem]
    cells = prediction_cells(scored, found[path.stem], assessment)
    for score, predicted in of_scores.items():
        if score != MAIN and path.stem in predicted.sets:
            cells |= further_cells(scored, score, predicted, path.stem)
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


def further_cells(scored: Scored, score: str, predicted: Predicted, name: str) -> dict[str, list[str]]:
    """Columns of ``assess/<set>.tsv`` of a score besides the main one, for the utterances ``scored`` of set ``name``."""
    of_score = predicted.sets[name]
    fused = predicted.found[name][FUSED]
    columns = of_score.scores, fused, *predicted.assessment.ends(fused, of_score.speakers)
    names = [f"score_{score}", f"predicted_{score}", f"{score}_low", f"{score}_high"]
    rows = dict(zip((utt["utt"] for utt in of_score.utts), zip(*columns)))
    cells = [["" if np.isnan(v) else f"{v:.4f}" for v in rows.get(utt["utt"], [np.nan] * 4)] for utt in scored.utts]
    return dict(zip(names, map(list, zip(*cells))))


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


def expert_rows(scored: Scored, marks: Sequence[list[float]], draw: tuple[int, int], **names: str) -> list[dict]:
    """Rows on the agreement of experts, over utterances with ``marks`` of several; arguments as of ``prediction_rows``."""
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


def sets_of_fit(sets: Mapping[str, Scored], config: Config, score: str) -> dict[str, Scored]:
    """The sets that are fitted: those of ``assess.fit``, else train and dev.

    Empty if train has no scores, or, with a log line, if a set of ``assess.fit`` has none.
    """
    names = config.assess.fit or dict.fromkeys(name_of(config.data, role) for role in ("train", "dev"))
    missing = [name for name in config.assess.fit if name not in sets]
    if missing:
        log.warning("%s: %s of assess.fit is not scored or has no scores", no_prediction(score), missing[0])
    parts = {name: sets[name] for name in names if name in sets}
    return parts if not missing and next(iter(names)) in parts else {}


def predicted_score(
    score: str, directories: Sequence[Path], columns: Columns, config: Config, copied: Assessment | None
) -> Predicted | None:
    """A score of every set that has it; None, with a log line, where a fit is impossible, and without scores of train.

    Args:
        score: name of the score.
        directories: ``latents/<set>``.
        columns: of the predictors.
        config: settings.
        copied: the fit of a copied model, which predicts all utterances; None: fit.
    """
    sets = {directory.name: columns.scored(directory, score, everything=bool(copied)) for directory in directories}
    sets = without_repeats({name: scored for name, scored in sets.items() if scored.utts}, config.data.views)
    parts, predictors = {} if copied else sets_of_fit(sets, config, score), columns.predictors()
    assessment = copied
    if parts and predictors:
        assessment = fit(parts, {n: columns.of(n, part, predictors) for n, part in parts.items()}, config, score)
    if assessment is None:
        return None
    scale = assessment.scale
    if parts:
        log.info("weights of the predictors of expert scores%s: %s", score and f" {score}", assessment.weights)
        first = next(iter(parts.values())).scores
        scale = float(first.min()), float(first.max())
    utts = (utt for part in parts.values() for utt in part.utts)
    fitted = {utt["utt"]: place for place, utt in enumerate(utts)}
    found = {}
    for name, scored in sets.items():
        check_scale(name, scored, *scale, score)
        found[name] = predictions(scored, columns.of(name, scored, list(assessment.models)), assessment, fitted)
    return Predicted(assessment, sets, found)


def predicted_scores(exp: Path, config: Config, columns: Columns) -> dict[str, Predicted]:
    """The main score and the others, by name, and write ``assess.npz``; empty if the main one cannot be predicted.

    For a copied model all sets are predicted, with the copied fits.
    """
    path, directories = exp / ASSESS_NPZ, list(whole_sets(exp, config))
    copied: dict[str, Assessment | None] = {MAIN: None}
    if is_taken(exp):
        copied = dict(load_fits(path)) if path.is_file() else {}
    else:
        path.unlink(missing_ok=True)
        copied |= dict.fromkeys(columns.further_scores(config.assess.fit or config.data.train))
    found = {}
    for score, fits in copied.items():
        predicted = predicted_score(score, directories, columns, config, fits)
        if predicted is None and score == MAIN:
            others = [other for other in copied if other != MAIN]
            if others:
                log.warning("%s, which need the main score, %s", no_prediction(", ".join(others)), UTT2SCORE)
            return {}
        if predicted is not None:
            found[score] = predicted
    if found and not is_taken(exp):
        save_fits(path, {score: predicted.assessment for score, predicted in found.items()})
    return found


def assess_rows(exp: Path, config: Config) -> list[dict]:
    """Predict the expert scores of every set that has some; rows of ``accuracy.tsv``, none if train has no scores.

    Predictors of a score besides the main one are called ``<score>.<predictor>`` there.
    """
    folder, columns = exp / ASSESS, Columns(exp, config)
    shutil.rmtree(folder, ignore_errors=True)
    (exp / DECILES_TSV).unlink(missing_ok=True)
    of_scores = predicted_scores(exp, config, columns)
    if not of_scores:
        return []
    folder.mkdir()
    for name in of_scores[MAIN].sets:
        write_predictions(folder / f"{name}.tsv", of_scores, columns)
    draw, rows, deciles = (config.report.bootstrap, config.seed), [], []
    for score, (assessment, sets, found) in of_scores.items():
        for name, everything in sets.items():
            scored, known = everything.with_scores(found[name])
            if not scored.utts:
                continue
            names, marks = {"set": name, "class": scored.name}, [columns.marks(utt, score) for utt in scored.utts]
            ends = assessment.ends(known[FUSED], scored.speakers)
            made = prediction_rows(scored, known, ends, draw, **names) + expert_rows(scored, marks, draw, **names)
            rows += [row | {"decided": predictor_of(score, row["decided"])} for row in made]
            if score == MAIN:
                deciles += decile_rows(scored, known[FUSED], **names)
    if deciles:
        write_tsv(exp / DECILES_TSV, deciles)
    return rows
