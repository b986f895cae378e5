"""Two systems against each other, utterance by utterance.

``python3 -m dnf compare exp/a exp/b`` compares two systems, experiments or their ``baselines/<name>``, on the sets
that both decided: differences of accuracy, AUC and Cllr with paired intervals by bootstrap over speakers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from dnf.decisions.detection_rows import ACCURACY, weighted
from dnf.experiment import entry
from dnf.experiment.classes import reference_first
from dnf.experiment.config import Config, of_any_version
from dnf.experiment.layout import CONFIG_YAML, DECISIONS, check_folder, experiment_of, run_stage
from dnf.experiment.sets import name_of
from dnf.experiment.tables import aligned, read_tsv
from dnf.metrics import bootstrap, detection, figure_rows
from dnf.metrics.trials import Trials, with_control


def read_decided(path: Path) -> Trials:
    """Utterances of known classes from a set's table of decisions of stage decide.

    Scores are whether the decision is right, and the log-likelihood ratio ``(U,)`` of the reference class against the
    others: the mean over frames, and the calibrated one where there is a calibration.
    """
    rows = read_tsv(path)
    classes = [name.removeprefix("logp_") for name in rows[0] if name.startswith("logp_")]
    known = [row for row in rows if row["class"] in classes]
    utts, speakers, labels = ([row[column] for row in known] for column in ("utt", "speaker", "class"))
    scores = {
        ACCURACY: np.array([float(row["decision"] == row["class"]) for row in known]),
        "mean": np.array([float(row["llr"]) for row in known]),
    }
    if known and all(row.get("llr_calibrated") for row in known):
        scores["calibrated"] = np.array([float(row["llr_calibrated"]) for row in known])
    return Trials(utts, speakers, labels, scores, classes)


def paired_rows(
    a: Trials, b: Trials, reference: str, resamples: int, seed: int
) -> Iterator[tuple[str, float, float, tuple, int]]:
    """Metric, figure of a, of b, their difference with interval and p, and number of speakers.

    Cllr is there only if the model has two classes.

    Args:
        a, b: of the same utterances, as ``read_decided`` gives them.
        reference: class of the log-likelihood ratio.
        resamples, seed: of the intervals over speakers.

    Raises:
        ValueError: the utterances are not the same.
    """
    place = {utt: i for i, utt in enumerate(b.utts)}
    if sorted(a.utts) != sorted(b.utts) or len(place) < len(b):
        raise ValueError("the two systems have different utterances; score both on the same data")
    if not len(a):
        return
    b = b.only(np.array([place[utt] for utt in a.utts]))
    speakers, target, draw = a.speakers, a.labels == reference, (resamples, seed)
    hits = [trials.scores[ACCURACY] for trials in (a, b)]
    difference = bootstrap.paired_share(speakers, *hits, *draw)
    yield ACCURACY, *(float(values.mean()) for values in hits), difference, len(set(speakers))
    measures = {}
    if target.any() and not target.all():
        measures["auc"] = detection.auc
        if len(a.classes) == 2 and a.calibrated and b.calibrated:
            measures["cllr"] = detection.cllr
    for metric, measure in measures.items():
        arrays = [(trials.ranked_by(metric), target) for trials in (a, b)]
        difference = bootstrap.paired(partial(weighted, measure), speakers, *arrays, target.tolist(), *draw)
        yield metric, *(measure(*side) for side in arrays), difference, len(set(speakers))


def two_systems(a: Path, b: Path) -> str:
    """A table of differences between two systems on every set, and set with control, that both decided.

    Args:
        a, b: folders of systems, with ``decisions/<set>.txt`` of stage decide.

    Raises:
        ValueError: a folder is not there; the systems decided no set in common, or between other classes, or with another reference class.
    """
    for system in (a, b):
        check_folder(system)
    both = sorted(set.intersection(*({p.stem for p in (s / DECISIONS).glob("*.txt")} for s in (a, b))))
    if not both:
        raise ValueError(f"{a} and {b}: no set has decisions of both; {run_stage('decide')} for both")
    config, other_config = map(settings_of, (a, b))
    sets = {name: [read_decided(system / DECISIONS / f"{name}.txt") for system in (a, b)] for name in both}
    lines = [["set", "metric", "a", "b", "a - b", "95% interval", "p", "utterances", "speakers"]]
    for name, (ours, theirs) in sets.items():
        if ours.classes != theirs.classes:
            of_a, of_b = (", ".join(trials.classes) for trials in (ours, theirs))
            raise ValueError(f"{name}: {a} decides between {of_a}, but {b} between {of_b}")
        reference, other = (reference_first(ours.classes, c.data.classes)[0] for c in (config, other_config))
        if reference != other:
            raise ValueError(
                f"{name}: the log-likelihood ratios of {a} are of {reference}, those of {b} of {other}; "
                f"give both the same first class of data.classes"
            )
        lines += difference_lines(name, ours, theirs, reference, config)
        control = config.data.controls.get(name)
        if control in sets and all(map(len, sets[control])):
            of_both = (with_control(*sides) for sides in zip((ours, theirs), sets[control]))
            lines += difference_lines(f"{name}|{control}", *of_both, reference, config)
    return "\n".join([f"a: {a}", f"b: {b}", *aligned(lines, 7)])


def settings_of(system: Path) -> Config:
    """The settings of the system's experiment, which an earlier version may have written.

    Raises:
        ValueError: they do not say which classes and sets there are.
    """
    path = experiment_of(system) / CONFIG_YAML
    config, lacking = of_any_version(path)
    if "data" in lacking:
        raise ValueError(f"{path}: does not exist, or has no section data; restore it, or run the experiment again")
    return config


def difference_lines(name: str, a: Trials, b: Trials, reference: str, config: Config) -> Iterator[list[str]]:
    """Lines of the table of ``two_systems`` for one set; those a model is fitted on have no p-value."""
    resamples, fitted = config.report.bootstrap, {name_of(config.data, role) for role in ("train", "dev")}
    for metric, of_a, of_b, (value, low, high, p), speakers in paired_rows(a, b, reference, resamples, config.seed):
        ends = "-" if low is None else f"{low:+.4f} to {high:+.4f}"
        shown = p is not None and name.split("|")[0] not in fitted
        p_value = figure_rows.p_text(p, metric, resamples).removeprefix("p ") if shown else "-"
        figures = f"{of_a:.4f}", f"{of_b:.4f}", f"{value:+.4f}"
        yield [name, metric, *figures, ends, p_value, str(len(a)), str(speakers)]


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__, description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("a", type=Path, help="folder of an experiment, or of one of its baselines")
    parser.add_argument("b", type=Path, help="folder of another")
    args = parser.parse_args(argv)
    print(two_systems(args.a, args.b))
    return 0


if __name__ == "__main__":
    entry.run(main)
