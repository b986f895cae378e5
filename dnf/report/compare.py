"""Two systems against each other, utterance by utterance.

``python3 -m dnf compare exp/a exp/b`` holds two systems, experiments or their ``baselines/<name>``, against each other
on the sets that both decided: differences of accuracy, AUC and Cllr with paired intervals by bootstrap over speakers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.experiment import entry
from dnf.experiment.classes import reference_first
from dnf.experiment.config import Config
from dnf.experiment.layout import BASELINES, CONFIG_YAML, DECISIONS, run_stage
from dnf.experiment.sets import name_of
from dnf.experiment.tables import aligned, read_tsv
from dnf.metrics import bootstrap, detection, figure_rows


class Decided(NamedTuple):
    """What a system decided on the utterances of a set whose classes it knows.

    Attributes:
        utts, speakers, labels: of each of U utterances.
        hits: ``(U,)`` 1 where the decision is right.
        llr: ``(U,)`` log-likelihood ratio of the reference class against the others, mean over frames: what the AUC
            ranks by. The calibrated one knows the duration, which tells corpora apart where one has the longer
            utterances.
        calibrated: ``(U,)`` the same after calibration, for Cllr; None where there is none.
    """

    utts: list[str]
    speakers: list[str]
    labels: list[str]
    hits: np.ndarray
    llr: np.ndarray
    calibrated: np.ndarray | None

    def part(self, rows: Sequence[int]) -> Decided:
        """Some utterances, by number."""
        lists = ([names[row] for row in rows] for names in (self.utts, self.speakers, self.labels))
        calibrated = None if self.calibrated is None else self.calibrated[rows]
        return Decided(*lists, self.hits[rows], self.llr[rows], calibrated)

    def and_rest(self, other: Decided) -> Decided:
        """Utterances of this set, and of another one those of classes that this one has none of."""
        rest = other.part([i for i, label in enumerate(other.labels) if label not in self.labels])
        names = (mine + more for mine, more in zip(self[:3], rest[:3]))
        arrays = (
            None if mine is None or more is None else np.concatenate([mine, more])
            for mine, more in zip(self[3:], rest[3:])
        )
        return Decided(*names, *arrays)


def experiment_of(folder: Path) -> Path:
    """The experiment that a system belongs to."""
    return folder.parent.parent if folder.parent.name == BASELINES else folder


def read_decided(path: Path) -> tuple[Decided, list[str]]:
    """A set's table of decisions of stage decide, and the classes of the model."""
    rows = read_tsv(path)
    classes = [name.removeprefix("logp_") for name in rows[0] if name.startswith("logp_")]
    known = [row for row in rows if row["class"] in classes]
    llr = np.array([float(row["llr"]) for row in known])
    calibrated = None
    if known and all(row.get("llr_calibrated") for row in known):
        calibrated = np.array([float(row["llr_calibrated"]) for row in known])
    hits = np.array([float(row["decision"] == row["class"]) for row in known])
    names = ([row[column] for row in known] for column in ("utt", "speaker", "class"))
    return Decided(*names, hits, llr, calibrated), classes


def paired_rows(
    a: Decided, b: Decided, reference: str, two_classes: bool, resamples: int, seed: int
) -> Iterator[tuple[str, float, float, tuple, int]]:
    """Metric, figure of a, of b, their difference with interval and p, and number of speakers.

    Args:
        a, b: of the same utterances.
        reference: class of the log-likelihood ratio.
        two_classes: whether the model knows but two, so that the ratio has a Cllr.

    Raises:
        ValueError: the utterances are not the same.
    """
    place = {utt: i for i, utt in enumerate(b.utts)}
    if sorted(a.utts) != sorted(b.utts) or len(place) < len(b.utts):
        raise ValueError("the utterances of the two systems are not the same; score both on the same data")
    if not a.utts:
        return
    b = b.part([place[utt] for utt in a.utts])
    target, once, draw = (
        np.array([label == reference for label in a.labels]),
        np.ones((1, len(a.utts))),
        (resamples, seed),
    )
    found = bootstrap.paired_share(a.speakers, a.hits, b.hits, *draw)
    yield "utt_accuracy", float(a.hits.mean()), float(b.hits.mean()), found, len(set(a.speakers))
    statistics = {}
    if target.any() and not target.all():
        strata = target.tolist()
        statistics["auc"] = (lambda w, x, t: detection.auc(x, t, w), lambda s: (s.llr, target), strata)
        if two_classes and a.calibrated is not None and b.calibrated is not None:
            statistics["cllr"] = (lambda w, x, t: detection.cllr(x, t, w), lambda s: (s.calibrated, target), strata)
    for metric, (statistic, arrays, strata) in statistics.items():
        values = [float(statistic(once, *arrays(s))[0]) for s in (a, b)]
        found = bootstrap.paired(statistic, a.speakers, arrays(a), arrays(b), strata, *draw)
        yield metric, *values, found, len(set(a.speakers))


def two_systems(a: Path, b: Path) -> str:
    """A table of differences between two systems on every set, and set with control, that both decided.

    Args:
        a, b: folders of systems, with ``decisions/<set>.txt`` of stage decide.

    Raises:
        ValueError: the systems decided no set in common, or between other classes, or with another reference class.
    """
    both = sorted(set.intersection(*({p.stem for p in (s / DECISIONS).glob("*.txt")} for s in (a, b))))
    if not both:
        raise ValueError(f"{a} and {b}: no set that both decided; {run_stage('decide')} of both")
    config, other_config = (Config.load(experiment_of(system) / CONFIG_YAML) for system in (a, b))
    fitted = {name_of(config.data, role) for role in ("train", "dev")}
    read = {name: [read_decided(system / DECISIONS / f"{name}.txt") for system in (a, b)] for name in both}
    lines = [["set", "metric", "a", "b", "a - b", "95% interval", "p", "utterances", "speakers"]]
    for name, ((ours, classes), (theirs, other)) in read.items():
        if classes != other:
            raise ValueError(f"{name}: {a} decides between {', '.join(classes)}, but {b} between {', '.join(other)}")
        reference, of_b = (reference_first(classes, c.data.classes)[0] for c in (config, other_config))
        if reference != of_b:
            raise ValueError(
                f"{name}: the log-likelihood ratios of {a} are of {reference}, those of {b} of {of_b}; "
                f"give both the same first class of data.classes"
            )
        pairs, control = {name: (ours, theirs)}, config.data.controls.get(name)
        if control in read:
            (of_ours, _), (of_theirs, _) = read[control]
            pairs[f"{name}|{control}"] = of_ours.and_rest(ours), of_theirs.and_rest(theirs)
        for shown, (one, two) in pairs.items():
            draw = (len(classes) == 2, config.report.bootstrap, config.seed)
            for metric, x, y, (value, low, high, p), speakers in paired_rows(one, two, reference, *draw):
                ends = ["-", "-"] if low is None else [f"{low:+.4f} to {high:+.4f}", "-"]
                if p is not None and name not in fitted:
                    ends[1] = figure_rows.p_text(p, metric, config.report.bootstrap).removeprefix("p ")
                counts = str(len(one.utts)), str(speakers)
                lines.append([shown, metric, f"{x:.4f}", f"{y:.4f}", f"{value:+.4f}", *ends, *counts])
    return "\n".join([f"a: {a}", f"b: {b}", *aligned(lines, 7)])


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__, description=__doc__.split("\n\n")[1])
    parser.add_argument("a", type=Path, help="folder of an experiment, or of one of its baselines")
    parser.add_argument("b", type=Path, help="folder of another")
    args = parser.parse_args(argv)
    print(two_systems(args.a, args.b))
    return 0


if __name__ == "__main__":
    entry.run(main)
