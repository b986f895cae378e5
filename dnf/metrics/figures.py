"""Every figure of results.tsv: title, unit, better direction, meaning, and the tables that show it.

Results, report, comparisons, sweeps and docs/results.md take them from ``METRICS``, in this order. A new figure is computed in one
place and has its row here; where a table is named under ``shown``, it is there too. ``python3 -m dnf.metrics.figures``
prints the list of docs/results.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Endings of a metric: with the set's control; the set minus that; the flow minus another system.
CONTROL = "_control"
GAP = "_control_gap"
DIFFERENCE = "_difference"
# Of scores without doubt: a set and its control are compared without it.
WITHOUT_DOUBT = "_without_doubt"
# Of dev, on which the calibration is fitted: by a fit without the utterance's speaker, or by the fit itself.
LEFT_OUT = "_left_out"
IN_SAMPLE = "_in_sample"
# Of a metric of latents: class part, residual part, input.
PARTS = ("c", "r", "x")

KNOWN = "known"  # open set: all utterances of known classes in the test sets, as what a metric is against
UNSEEN = "unseen"  # the same of unseen classes, where classes are too many for rows of their own

MAIN = ""  # the expert score of utt2score; those of utt2score_<name> have their names
FUSED, EXPERTS = "fused", "experts"  # predicted expert scores: by all predictors together; agreement of the experts


def predictor_of(score: str, predictor: str) -> str:
    """The name of a predictor in the rows of a score: ``fused``, or ``fluency.fused``."""
    return f"{score}.{predictor}" if score else predictor


def score_of(predictor: str) -> str:
    """The score of such a name."""
    return predictor.rpartition(".")[0]


MOST_CLASSES = (
    100  # most classes of a model that have rows, columns and pairs of their own; of more, figures are of all
)
# Trivial systems, which need no model of speech; the metrics are auc_<name>
TRIVIAL = ("duration", "rate", "level", "bands")

MOST_NAMED = 8  # classes that are named where figures are of several
MOST_DECIDED = 8  # classes of a row of a confusion matrix, of more those decided most

HIGHER, LOWER, ZERO = "higher", "lower", "0"  # the better direction


class Metric(NamedTuple):
    """A figure.

    Attributes:
        title: its name in tables and pictures.
        unit: empty for a number without one.
        better: HIGHER, LOWER, ZERO, or empty for none.
        meaning: its meaning, in a line.
        digits: decimals of report.html; None: as in results.tsv.
        shown: besides results.tsv; ``systems``, ``detection`` and ``training`` are sections of results.txt; ``page``,
            ``trivial``, ``open set``, ``likelihood``, ``gaussianity`` and ``training`` are tables of report.html; ``folder`` is
            the table of ``dnf results FOLDER``, ``sweep`` that of ``dnf sweep``.
    """

    title: str
    unit: str
    better: str
    meaning: str
    shown: tuple[str, ...] = ()
    digits: int | None = None

    @property
    def head(self) -> str:
        """Title and unit, for the head of a column; the title of a share says what it is of."""
        return f"{self.title}, {self.unit}" if self.unit and not self.unit.startswith("share") else self.title


COMPARED = ("systems", "detection", "page")
METRICS = {
    "utt_accuracy": Metric(
        "utterance accuracy",
        "share of utterances",
        HIGHER,
        "decided as the true class by likelihood",
        ("systems", "folder", "sweep"),
    ),
    "utt_accuracy_calibrated": Metric(
        "calibrated utterance accuracy",
        "share of utterances",
        HIGHER,
        "decided as the true class by posterior under calibrate.priors",
        ("systems",),
    ),
    "frame_accuracy": Metric(
        "frame accuracy", "share of frames", HIGHER, "decided as the true class by likelihood", ("systems", "sweep")
    ),
    "auc": Metric(
        "AUC", "", HIGHER, "area under the ROC curve of the mean log-likelihood ratio per frame", (*COMPARED, "folder")
    ),
    "auc_duration": Metric(
        "AUC of duration alone", "", "", "the same of the number of frames", ("detection", "trivial")
    ),
    "auc_rate": Metric(
        "AUC of rate alone", "", "", "the same of the syllable nuclei in a second of speech", ("detection", "trivial")
    ),
    "auc_level": Metric(
        "AUC of level alone", "", "", "the same of the mean log energy of speech", ("detection", "trivial")
    ),
    "auc_bands": Metric(
        "AUC of bands alone",
        "",
        "",
        "the same of the channel's band statistics, by a Gaussian fitted on train",
        ("detection", "trivial"),
    ),
    "cllr": Metric(
        "Cllr",
        "bits",
        LOWER,
        "cost of the calibrated log-likelihood ratio; 0: correct and certain, 1: no information (two classes)",
        (*COMPARED, "folder", "sweep"),
    ),
    f"cllr{WITHOUT_DOUBT}": Metric(
        "Cllr without doubt",
        "bits",
        LOWER,
        "the same of ratios without doubt, where a set is compared with its control",
        ("detection",),
    ),
    f"cllr{LEFT_OUT}": Metric(
        "Cllr left out",
        "bits",
        LOWER,
        "of dev, by fits without the utterance's speaker",
        (*COMPARED, "folder", "sweep"),
    ),
    f"cllr{IN_SAMPLE}": Metric(
        "Cllr in sample",
        "bits",
        LOWER,
        "of dev, by the fit on all of dev, if no speaker can be left out",
        ("systems", "detection"),
    ),
    "min_cllr": Metric("minCllr", "bits", LOWER, "Cllr with the best monotone map of the scores", (*COMPARED, "sweep")),
    "rank_auc": Metric(
        "AUC within utterances",
        "",
        HIGHER,
        f"of more than {MOST_CLASSES} classes: share of the other classes whose likelihood is below that of the true one; a tie "
        "counts half",
        ("systems", "detection", "folder", "sweep"),
    ),
    "eer": Metric("EER", "", LOWER, "error rate at the threshold where both error rates are equal", COMPARED),
    "min_dcf": Metric("minDCF", "", LOWER, "least detection cost over all thresholds (calibrate.dcf_*)", COMPARED),
    **{
        f"min_dcf_{name}": Metric(
            f"minDCF({prior})",
            "",
            LOWER,
            f"of `dnf verify`: the same for trials with prior {prior} of a target, costs 1",
        )
        for name, prior in (("01", 0.01), ("05", 0.05))
    },
    "identification": Metric(
        "identification",
        "share of utterances",
        HIGHER,
        "of `dnf verify`: test utterances whose highest score is that of a trial of their speaker",
    ),
    "near_ties": Metric(
        "near-ties",
        "share of utterances",
        LOWER,
        "margin between the two best classes below decide.near_tie standard errors",
    ),
    "utt_accuracy_clear": Metric(
        "accuracy of the others", "share of utterances", HIGHER, "utterance accuracy without the near-ties"
    ),
    "utt_share": Metric("confusion", "share of utterances", "", "of a true class, decided as each class"),
    "frame_share": Metric("confusion", "share of frames", "", "of a true class, decided as each class"),
    "auc_unseen": Metric(
        "AUC against unseen classes",
        "",
        "",
        "probability that an utterance of a known class has a higher ratio of that class than one of an unseen class",
    ),
    "open_set_auc": Metric(
        "AUC",
        "",
        HIGHER,
        "probability that an utterance of an unseen class scores above one of a known class",
        ("open set",),
    ),
    "open_set_detected": Metric(
        "flagged, unseen class", "share of utterances", HIGHER, "of an unseen class, flagged as such", ("open set",)
    ),
    "open_set_false": Metric(
        "flagged, known class", "share of utterances", LOWER, "of a known class, flagged as unseen", ("open set",)
    ),
    "duration_accuracy": Metric(
        "accuracy of pieces", "share of pieces", HIGHER, "of recordings of so many seconds, decided by likelihood"
    ),
    **{
        f"{level}_{name.lower()}": Metric(
            f"{name} over {points}", "", HIGHER, "correlation of the log-likelihood ratio with expert scores"
        )
        for level, points in (("utt", "utterances"), ("speaker", "speakers"))
        for name in ("Pearson", "Spearman")
    },
    **{
        f"assess_{level}_{name}": Metric(f"{title} of predicted scores over {points}", unit, better, meaning)
        for level, points in (("utt", "utterances"), ("speaker", "speakers"))
        for name, title, unit, better, meaning in (
            ("pearson", "Pearson", "", HIGHER, "correlation of predicted scores with expert scores"),
            ("spearman", "Spearman", "", HIGHER, "rank correlation of predicted scores with expert scores"),
            ("rmse", "error", "points of the score", LOWER, "root mean squared error of predicted scores"),
            ("ceiling", "ceiling", "", "", "mean correlation of one expert with the mean of the others"),
            ("pairs", "agreement of experts", "", "", "mean correlation of two experts"),
        )
    },
    "assess_partial": Metric(
        "partial correlation",
        "",
        HIGHER,
        "of scores predicted from latents with expert scores, given those from timing",
    ),
    "assess_partial_tempo": Metric("partial correlation given tempo", "", HIGHER, "the same, given those from tempo"),
    "assess_coverage": Metric(
        "coverage", "share of utterances", "", "with the expert score inside the 80 % interval of the predicted one"
    ),
    "loglik": Metric("LogLL", "nats per frame", HIGHER, "mean log-likelihood, LogP + LogDet", ("likelihood",), 3),
    "logp": Metric("LogP", "nats per frame", "", "mean log density of the latents under the prior", ("likelihood",), 3),
    "logdet": Metric("LogDet", "nats per frame", "", "mean log|det| of the Jacobian", ("likelihood",), 3),
    "nll": Metric("NLL", "nats per frame", LOWER, "-LogLL, the loss", ("likelihood", "folder", "sweep"), 3),
    "skew": Metric("skewness", "", ZERO, "of the latents, mean over dims, pooled", ("gaussianity",), 4),
    "kurt": Metric("kurtosis", "", ZERO, "excess kurtosis of the latents, mean over dims, pooled", ("gaussianity",), 4),
    "skew_within": Metric("skewness within", "", ZERO, "the same within class", ("gaussianity",), 4),
    "kurt_within": Metric("kurtosis within", "", ZERO, "the same within class", ("gaussianity",), 4),
    "mardia_kurt_z": Metric(
        "mardia kurt z", "", ZERO, "z of Mardia's test of kurtosis, within class", ("gaussianity",)
    ),
    "mardia_skew_p": Metric("mardia skew p", "", "", "p of Mardia's test of skewness, within class", ("gaussianity",)),
    "mardia_kurt_p": Metric("mardia kurt p", "", "", "p of Mardia's test of kurtosis, within class", ("gaussianity",)),
    "autocorrelation": Metric(
        "autocorrelation",
        "",
        ZERO,
        "of latents of successive vectors of an utterance, within class, mean over dims; 0 is right for a conditional flow",
        ("gaussianity",),
        4,
    ),
    "fisher": Metric(
        "mean Fisher ratio", "", "", "variance of the class means over variance within class, mean over dims"
    ),
    "fisher_top": Metric("share of the top tenth", "share of the sum", "", "of the dims of highest Fisher ratio"),
    "training_nll": Metric(
        "NLL in training",
        "nats per frame",
        LOWER,
        "nats per frame, of a sample of training frames, scored when best.pt was written, in training mode",
        ("training",),
    ),
    "training_logp": Metric("LogP in training", "nats per frame", "", "its LogP", ("training",)),
    "training_logdet": Metric("LogDet in training", "nats per frame", "", "its LogDet", ("training",)),
    "train_eval_difference": Metric(
        "train/eval difference",
        "nats per frame",
        ZERO,
        "stage latents minus training on the same frames; 0 except for rounding, else model, features or code have changed",
        ("training",),
    ),
    "spikes": Metric("spikes", "", ZERO, "steps whose loss is far above the recent ones", ("training",)),
    "restores": Metric(
        "restores",
        "",
        ZERO,
        "times that training went back to the last good checkpoint because a loss or gradient was not finite",
        ("training",),
    ),
    "fusion_weight": Metric(
        "weight in the fusion",
        "",
        "",
        "nats of fused log-likelihood per nat of the calibrated log-likelihood of a system",
    ),
    "steps": Metric("steps", "", "", "updates of the weights", ("training",)),
    "best_step": Metric("best step", "", "", "the step whose weights were kept, chosen on dev", ("training",)),
    "parameters": Metric("parameters", "", "", "trainable numbers of the model", ("training", "folder")),
    "frames": Metric("frames", "", "", "training frames", ("training",)),
}


def class_names(joined: str) -> str:
    """Classes joined by +; of more than ``MOST_NAMED`` the first and the last, and how many there are."""
    names = joined.split("+")
    return joined if len(names) <= MOST_NAMED else f"{names[0]}+...+{names[-1]} ({len(names)} classes)"


def joined_names(names: Sequence[str]) -> str:
    """Classes joined by +, those of more than ``MOST_CLASSES`` as ``class_names`` shows them."""
    joined = "+".join(names)
    return joined if len(names) <= MOST_CLASSES else class_names(joined)


def shown(place: str) -> list[str]:
    """Metrics that a block or table shows, in the order of ``METRICS``."""
    return [name for name, metric in METRICS.items() if place in metric.shown]


def costs_last(names: list[str]) -> list[str]:
    """The order of columns and of systems side by side: costs in bits stand behind the rest."""
    return sorted(names, key=lambda name: METRICS[name].unit == "bits")


def of_part(metric: str) -> tuple[str, str]:
    """``kurt_within`` and ``c`` of ``kurt_within_c``; no part for a metric that is not of a part of the latents."""
    stem, _, part = metric.rpartition("_")
    return (stem, part) if part in PARTS and stem in METRICS else (metric, "")


def is_difference(metric: str) -> bool:
    """Whether a metric is the flow minus another system."""
    return metric.endswith(DIFFERENCE) and metric not in METRICS


def markdown() -> str:
    """The table of docs/results.md."""
    lines = ["| metric | title | unit | better | meaning |", "|---|---|---|---|---|"]
    for name, metric in METRICS.items():
        meaning = metric.meaning.replace("|", r"\|")
        lines.append(f"| `{name}` | {metric.title} | {metric.unit} | {metric.better} | {meaning} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
