"""Figures of results.tsv by metric, set, class and system, and which sets, classes and systems the answer is about."""

from __future__ import annotations

from collections.abc import Sequence

from dnf.experiment.classes import reference_first
from dnf.experiment.config import Config
from dnf.experiment.layout import FLOW
from dnf.experiment.sets import fitted_sets, name_of
from dnf.metrics.figures import GAP, LEFT_OUT

CALIBRATED, ACCURACY = "utt_accuracy_calibrated", "utt_accuracy"


class FigureIndex:
    """Figures of an experiment.

    Args:
        rows: of results.tsv.
        config: settings of the experiment.

    Attributes:
        config: the settings.
        against: rows of AUC against unseen classes by set, unseen class and known class.
        predicted: rows of predicted expert scores by metric, set and predictor.
        open_set: AUC of flagging an unseen class, by set, class and what it is against: a set, or ``KNOWN``.
        classes: those that the flow decides between, the reference class first; none for a flow that knows no classes.
        tests: sets that neither train nor dev is made of, the main one first.
        controls: the control of each test set that has one.
        others: the other systems.
        other: the best of them on dev; empty where the flow is alone.
        members: the systems of a fusion; empty for a flow.
    """

    def __init__(self, rows: Sequence[dict], config: Config):
        self.config = config
        self._rows: dict[tuple[str, str, str, str], dict] = {}
        self._labels: dict[tuple[str, str], dict[str, None]] = {}
        for row in rows:
            self._rows.setdefault((row["metric"], row["set"], row["class"], row.get("system") or FLOW), row)
            if (row.get("system") or FLOW) == FLOW:
                self._labels.setdefault((row["metric"], row["set"]), {})[row["class"]] = None
        against = (row for row in rows if row["metric"] == "auc_unseen" and (row.get("system") or FLOW) == FLOW)
        self.against = {(row["set"], row["class"], row["decided"]): row for row in against}
        self.predicted = {
            (row["metric"], row["set"], row["decided"]): row for row in rows if row["metric"].startswith("assess_")
        }
        self.shares = [row for row in rows if row["metric"] == "utt_share" and (row.get("system") or FLOW) == FLOW]
        self.open_set = {
            (row["set"], row["class"], row["decided"]): row for row in rows if row["metric"] == "open_set_auc"
        }
        data, names = config.data, dict.fromkeys(row["set"] for row in rows if row["set"])
        known = dict.fromkeys(label for name in names for label in self.labels(ACCURACY, name))
        self.classes = reference_first(sorted(known), data.classes) if known else []
        tests = [name for name in names if name not in fitted_sets(data)]
        self.controls = {name: c for name, c in data.controls.items() if {name, c} <= set(tests)}
        main = min(tests, key=self._rank, default="")
        self.tests = sorted(tests, key=lambda name: name != main)
        self.others = sorted({key[3] for key in self._rows} - {FLOW})
        self.other = self._best_other()
        self.members = [row["decided"] for row in rows if row["metric"] == "fusion_weight"]

    @property
    def subject(self) -> str:
        """What the figures are of, in words."""
        return "fused system" if self.members else "flow"

    def _rank(self, name: str) -> tuple:
        """Order of the test sets: those of most classes, with a control, and of whole utterances come first."""
        view = self.config.data.views.get(name)
        is_part = bool(view and (view.seconds or view.scores))
        is_control = name in self.controls.values()
        return is_control, -len(self.labels(ACCURACY, name)), name not in self.controls, is_part

    def _best_other(self) -> str:
        """The other system of highest utterance accuracy on dev, and of several the one of lowest Cllr there."""
        dev = name_of(self.config.data, "dev")

        def rank(system: str) -> tuple[float, float]:
            accuracy = self.row(CALIBRATED, dev, "all", system) or self.row(ACCURACY, dev, "all", system)
            costs = [self.row(f"cllr{LEFT_OUT}", dev, label, system) for label in self.labels(f"cllr{LEFT_OUT}", dev)]
            costs = [float(row["value"]) for row in costs if row]
            return float(accuracy["value"]) if accuracy else 0.0, -max(costs, default=0.0)

        return max(self.others, key=rank, default="")

    def row(self, metric: str, name: str = "", label: str = "", system: str = FLOW) -> dict | None:
        """The row of a figure; None where there is none."""
        return self._rows.get((metric, name, label, system))

    def labels(self, metric: str, name: str) -> list[str]:
        """Classes, or classes joined by +, of which the flow has a figure on a set, without ``all``."""
        return [label for label in self._labels.get((metric, name), ()) if label != "all"]

    def whole(self, metric: str, name: str, system: str = FLOW) -> dict | None:
        """The row of all classes of a set, or of its only one."""
        labels = self.labels(metric, name)
        return self.row(metric, name, "all", system) or (
            self.row(metric, name, *labels, system) if len(labels) == 1 else None
        )

    def gaps(self, name: str, metrics: Sequence[str], system: str = FLOW) -> list[tuple[str, dict]]:
        """Metrics with the rows of a set minus its control."""
        found = ((m, self.row(m + GAP, name, label, system)) for m in metrics for label in self.labels(m + GAP, name))
        return [(metric, row) for metric, row in found if row]

    def known(self, metric: str, name: str) -> list[str]:
        """Classes of a set that the model was trained on, or all its classes if the model has none."""
        present = self.labels(metric, name)
        known = set(self.classes or self.config.data.classes)
        return [label for label in present if not known or label in known]

    def mean(self, metric: str, name: str) -> float | None:
        """A mean log density of a set over the frames of its known classes; None where there are none."""
        rows = [self.row(metric, name, label) for label in self.known(metric, name)]
        frames = sum(int(row["total"]) for row in rows)
        return sum(float(row["value"]) * int(row["total"]) for row in rows) / frames if frames else None

    @property
    def systems(self) -> list[str]:
        """The flow and the best other system."""
        return [FLOW, self.other] if self.other else [FLOW]

    @property
    def main(self) -> str:
        """The test set that the sentences are about; empty where no set is tested."""
        return self.tests[0] if self.tests else ""

    @property
    def pairs(self) -> list[str]:
        """Pairs of classes of the main test set."""
        return [label for label in self.labels("auc", self.main) if label.count("+") == 1]

    def with_controls(self) -> list[tuple[str, str]]:
        """Test sets with the set that each is the control of, empty for none; a control stands behind its set."""
        order: dict[str, str] = {}
        for name in (name for name in self.tests if name not in self.controls.values()):
            order.setdefault(name, "")
            if name in self.controls:
                order.setdefault(self.controls[name], name)
        return list(order.items())
