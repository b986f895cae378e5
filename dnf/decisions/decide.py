"""Stage decide: decisions per utterance and frame, accuracy, near-ties, decided shares, and predicted expert scores.

Also calibration on dev, and how well each system separates classes on every set and its control. Figures of the flow and
of every baseline have intervals by bootstrap over speakers.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.decisions.accuracy_rows import Tally, accuracy_rows, calibrated_rows, correlation_rows
from dnf.decisions.assess_rows import assess_rows
from dnf.decisions.breakdowns import breakdown_rows
from dnf.decisions.calibration import Calibration, absent_classes, prior_of
from dnf.decisions.decision_rows import calibrated_columns, decide, without_class_columns
from dnf.decisions.detection_rows import (
    ACCURACY,
    accuracy_gap_rows,
    cllr_rows,
    detection_rows,
    difference_rows,
    gap_rows,
    pair_aucs,
    summarized,
    trials_of,
    utterances_of,
)
from dnf.decisions.doubt_sets import SetDoubt, no_doubt, set_doubts
from dnf.decisions.evidence import Evidence, evidence
from dnf.decisions.many_classes import blocks, for_fit
from dnf.decisions.open_set_rows import open_set_rows
from dnf.decisions.trivial import Trivial
from dnf.decisions.unseen_rows import unseen_rows
from dnf.experiment import entry
from dnf.experiment.classes import reference_first
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    ACCURACY_TSV,
    CALIBRATION_JSON,
    CONFIG_YAML,
    DECISIONS,
    FITTED_TSV,
    FLOW,
    PAIRS_TSV,
    is_fused,
    is_taken,
    systems,
)
from dnf.experiment.progress import progress
from dnf.experiment.sets import fitted_sets, name_of, views_of
from dnf.experiment.tables import read_tsv, write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.metrics.figures import CONTROL, IN_SAMPLE, LEFT_OUT, MOST_CLASSES, WITHOUT_DOUBT
from dnf.metrics.trials import Trials, joined, with_control
from dnf.plots import assess_figures, detection_figures
from dnf.scoring.latent_store import Latents, latent_sets

log = logging.getLogger(__name__)


def calibrate(folder: Path, dev: Evidence, config: Config) -> Calibration | None:
    """Fit a system's calibration on dev and write ``calibration.json``; None, and no file, if it is off or impossible.

    Args:
        folder: folder of the system.
        dev: its evidence of the dev set.
        config: settings.
    """
    missing = absent_classes(dev)
    impossible = missing and len(dev.classes) <= MOST_CLASSES
    if impossible:
        log.warning("%s: no calibration: dev has no utterance of class %s", folder, ", ".join(missing))
    if impossible or not config.calibrate.enabled or len(missing) == len(dev.classes):
        return None
    calibration = Calibration.fit(dev, config.calibrate)
    if calibration.slope == 0:
        log.warning("%s: its scores do not separate the classes of dev; calibrated scores carry no information", folder)
    calibration.save(folder / CALIBRATION_JSON)
    return calibration


class System(NamedTuple):
    """A system that makes decisions.

    Attributes:
        folder: folder of the system.
        config: settings of the experiment.
        is_flow: whether it is the flow; else it is a baseline.
        order: its classes, the reference class first.
        dev: its evidence of dev, of many classes that of some utterances; None for a copied model.
        covariance: autocovariance of the frames' log-likelihood ratio on dev.
        calibration: fitted on dev; None without a calibration.
        dev_auc: AUC of pairs of classes, from ``pair_aucs`` of the flow, so that all systems have the same pairs.
        doubts: doubt about each test set, from the flow; None without channels of training.
        trivial: the trivial systems, whose figures stand beside those of the flow; None for vectors, baselines and
            many classes.
    """

    folder: Path
    config: Config
    is_flow: bool
    order: list[str]
    dev: Evidence | None
    covariance: np.ndarray
    calibration: Calibration | None
    dev_auc: Mapping[str, float]
    doubts: Mapping[str, SetDoubt] | None
    trivial: Trivial | None

    @property
    def draw(self) -> tuple[int, int]:
        """Number of resamples for intervals, and their seed."""
        return self.config.report.bootstrap, self.config.seed


def remove_decisions(folder: Path) -> None:
    """Remove the output of an earlier run for a system, and leave an empty ``decisions/``."""
    shutil.rmtree(folder / DECISIONS, ignore_errors=True)
    (folder / DECISIONS).mkdir()


def open_system(
    folder: Path,
    config: Config,
    latents: Mapping[str, Latents],
    dev_auc: Mapping[str, float],
    doubts: Mapping[str, SetDoubt] | None,
    *,
    is_flow: bool,
    taken: bool,
) -> System | None:
    """A system, calibrated on dev; None for a flow with fewer than two classes.

    Args:
        folder: folder of the system.
        config: settings of the experiment.
        latents: latents by set.
        dev_auc: AUC of pairs of classes by the flow; computed here if this is the flow.
        doubts: doubt about each test set by the flow; computed here if this is the flow.
        is_flow: whether it is the flow.
        taken: whether its model and calibration are copied from another experiment.
    """
    first = next(iter(latents.values()))
    if len(first.classes) < 2 or is_flow and first.cond_dim == 0:
        log.info("%s: a flow without classes makes no decisions; its densities are in scores/", folder)
        return None
    order = reference_first(first.classes, config.data.classes)
    prior_of(order, config.calibrate.priors)
    if taken:
        path = folder / CALIBRATION_JSON
        calibration = Calibration.load(path) if path.is_file() else None
        covariance = np.array(calibration.covariance) if calibration else np.zeros(0)
        dev = None
    else:
        dev = evidence(for_fit(latents[name_of(config.data, "dev")]))
        is_calibrated = is_fused(folder)  # by the fusion, and its dev without the speaker
        calibration = Calibration.load(folder / CALIBRATION_JSON) if is_calibrated else calibrate(folder, dev, config)
        covariance = dev.covariance
    if is_flow:
        dev_auc = dev_auc if taken else pair_aucs(trials_of(dev, None, order, {}))
        doubts = set_doubts(folder, config, calibration, list(latents))
    elif doubts:
        doubts = {name: doubt.without_bias for name, doubt in doubts.items()}
    trivial = Trivial.open(folder, config) if is_flow and len(order) <= MOST_CLASSES else None
    return System(folder, config, is_flow, order, dev, covariance, calibration, dev_auc, doubts, trivial)


def calibrated(system: System, name: str, of_set: Evidence) -> tuple[np.ndarray | None, str]:
    """Calibrated log-likelihoods ``(U, K)`` of a set before doubt, None without a calibration, and the name of their Cllr.

    Utterances of dev are calibrated without their speakers if possible. A map of many classes has only one slope; they are
    calibrated by the fit on all.

    Args:
        system: the system.
        name: name of the set.
        of_set: evidence of U of its utterances.
    """
    if system.calibration is None:
        return None, "cllr"
    if name != name_of(system.config.data, "dev"):
        ending = IN_SAMPLE if name in views_of(system.config.data, "dev") else ""
        return system.calibration.loglik(of_set), f"cllr{ending}"
    if is_fused(system.folder):
        return system.calibration.loglik(of_set), f"cllr{LEFT_OUT}"
    few = len(of_set.classes) <= MOST_CLASSES
    left_out = Calibration.left_out(of_set, system.config.calibrate) if few else None
    if left_out is None:
        return system.calibration.loglik(of_set), f"cllr{IN_SAMPLE}"
    return left_out, f"cllr{LEFT_OUT}"


def decide_block(
    system: System, name: str, latents: Latents, tally: Tally, doubt: SetDoubt
) -> tuple[Iterator[dict], Trials, Trials, str]:
    """Rows of ``decisions/<set>.txt`` of some utterances, those of known classes and all of them, and the name of their Cllr."""
    config, reference, few = system.config, system.order[0], len(latents.classes) <= MOST_CLASSES
    window = max(1.0, (config.splice.left + 1 + config.splice.right) / config.splice.hop)
    is_dev = name == name_of(config.data, "dev")
    of_block = system.dev if is_dev and few else evidence(latents, system.covariance)
    loglik, cllr = calibrated(system, name, of_block)
    decisions = map(tally.add, decide(latents, reference, window, config.decide.near_tie, system.covariance))
    doubted = None
    if loglik is not None and doubt.changes:
        doubted = doubt.factor[:, None] * calibrated(system, name, of_block.without(doubt.bias))[0]
    foreign = None if system.doubts is None else doubt.foreign
    columns = calibrated_columns(
        of_block, loglik if doubted is None else doubted, reference, config.calibrate.priors, foreign
    )
    rows = (without_class_columns(row, latents.classes) for row in decisions)
    rows = (row | more | {"open_set": ""} for row, more in zip(rows, columns))
    trivial = system.trivial.scores(name, system.order) if system.trivial else {}
    trials = trials_of(of_block, loglik, system.order, config.calibrate.priors, system.dev_auc, doubted, **trivial)
    everything = utterances_of(of_block, system.order)
    if not few:
        trials = summarized(trials)
        everything = replace(everything, scores={})
    return rows, trials, everything, cllr


def decide_set(system: System, name: str, latents: Latents) -> tuple[list[dict], Trials, Trials]:
    """Write ``decisions/<set>.txt``; rows of ``accuracy.tsv``, and the set's utterances of known and of unseen classes."""
    config, draw, reference = system.config, system.draw, system.order[0]
    tally, parts, doubt = Tally(latents.classes), [], (system.doubts or {}).get(name, no_doubt(len(latents.utts)))

    def rows_of_blocks() -> Iterator[dict]:
        first = 0
        for block in blocks(latents):
            last = first + len(block.utts)
            rows, *part = decide_block(system, name, block, tally, doubt.only(slice(first, last)))
            first = last
            parts.append(part)
            yield from rows

    write_tsv(system.folder / DECISIONS / f"{name}.txt", rows_of_blocks())
    known, all_parts, (cllr, *_) = zip(*parts)
    trials, everything, decided = joined(known), joined(all_parts), tally.trials()
    trials = replace(trials, scores=trials.scores | {ACCURACY: decided.scores[ACCURACY][everything.known]})
    rows = accuracy_rows(name, tally, *draw)
    rows += calibrated_rows(name, trials, *draw) if trials.calibrated else []
    rows += detection_rows(trials, config.calibrate, *draw, cllr=cllr, set=name)
    scored = decided.only(~np.isnan(decided.scores["score"]))
    names = {"set": name, "class": "+".join(sorted(set(scored.labels))), "decided": reference}
    return rows + correlation_rows(scored, *draw, **names), trials, everything.only(~everything.known)


def control_rows(system: System, of_set: Trials, control: Trials, of_both: Trials, name: str) -> list[dict]:
    """Rows of ``accuracy.tsv`` of a set with its control, and of the differences of both.

    Differences of Cllr are without doubt: the ratios of a foreign control are shrunk, so its Cllr would differ for this alone.

    Args:
        system: the system of the decisions.
        of_set, control: utterances of the set and of the control.
        of_both: utterances from ``with_control``.
        name: name of the set.
    """
    settings, draw, is_doubted = system.config.calibrate, system.draw, of_set.is_doubted or control.is_doubted
    cllr = f"cllr{WITHOUT_DOUBT}" if is_doubted else "cllr"
    rows = detection_rows(of_both, settings, *draw, ending=CONTROL, set=name)
    rows += accuracy_gap_rows(of_set, control, *draw, set=name)
    of_set, control = of_set.without_doubt, control.without_doubt
    plain = with_control(of_set, control)
    for trials, ending in ((of_set, ""), (plain, CONTROL)) if is_doubted else ():
        rows += cllr_rows(trials, *draw, metric=cllr + ending, set=name)
    return rows + gap_rows(of_set, plain, settings, *draw, cllr=cllr, set=name)


def decide_system(
    folder: Path,
    config: Config,
    dev_auc: Mapping[str, float],
    doubts: Mapping[str, SetDoubt] | None,
    *,
    is_flow: bool,
    taken: bool,
) -> tuple[list[dict], dict[str, Trials], Mapping[str, SetDoubt] | None]:
    """Write a system's decisions; its rows of ``accuracy.tsv``, each set's utterances of known classes, and the doubts."""
    latents = {directory.name: Latents.open(directory) for directory in latent_sets(folder)}
    remove_decisions(folder)
    if not taken and not is_fused(folder):
        (folder / CALIBRATION_JSON).unlink(missing_ok=True)
    system = open_system(folder, config, latents, dev_auc, doubts, is_flow=is_flow, taken=taken)
    rows, trials, unseen = [], {}, {}
    for name in progress(latents, what=f"decide {folder.name}", unit="sets") if system else ():
        set_rows, trials[name], unseen[name] = decide_set(system, name, latents[name])
        rows += set_rows
    rows += unseen_rows(trials, unseen, config)
    for name, of_both in with_controls(trials, config.data.controls).items():
        rows += control_rows(system, trials[name], trials[config.data.controls[name]], of_both, name)
    return rows, trials, system.doubts if system else None


def with_controls(trials: Mapping[str, Trials], controls: Mapping[str, str]) -> dict[str, Trials]:
    """Each set with a control; classes that the control has come from the control."""
    pairs = {name: (trials[name], trials[c]) for name, c in controls.items() if name in trials and c in trials}
    return {name: both for name, sides in pairs.items() if (both := with_control(*sides)) is not None}


def system_difference_rows(trials: Mapping[str, Mapping[str, Trials]], config: Config, ending: str) -> Iterator[dict]:
    """Rows of ``accuracy.tsv`` that compare the flow with every baseline.

    Args:
        trials: utterances by system and set.
        config: settings.
        ending: end of the names of the metrics.
    """
    draw, fitted = (config.report.bootstrap, config.seed), fitted_sets(config.data)
    for system in (name for name in trials if name != FLOW):
        for name in sorted(trials[system].keys() & trials[FLOW].keys()):
            sides = trials[FLOW][name], trials[system][name]
            names = {"ending": ending, "fitted": name in fitted, "system": system, "set": name}
            yield from difference_rows(*sides, config.calibrate, *draw, **names)


def write_pairs(path: Path, dev_auc: Mapping[str, float]) -> None:
    """Write the AUC on dev of the pairs of classes, the most confused first; no file if all pairs are shown."""
    path.unlink(missing_ok=True)
    if dev_auc:
        ranked = sorted(dev_auc, key=dev_auc.get)
        write_tsv(path, ({"class": pair, "auc": f"{dev_auc[pair]:.6f}"} for pair in ranked))


def read_pairs(path: Path) -> dict[str, float]:
    """Read the file of ``write_pairs``; empty if it does not exist."""
    return {row["class"]: float(row["auc"]) for row in read_tsv(path)} if path.is_file() else {}


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="folder of the experiment, with latents/<set>/ of stage latents")
    args = parser.parse_args(argv)
    config, taken, rows, trials = Config.load(args.exp / CONFIG_YAML), is_taken(args.exp), [], {}
    dev_auc = read_pairs(args.exp / PAIRS_TSV) if taken else {}
    doubts: Mapping[str, SetDoubt] | None = None
    for system, folder in systems(args.exp).items():
        system_rows, trials[system], doubts = decide_system(
            folder, config, dev_auc, doubts, is_flow=system == FLOW, taken=taken
        )
        dev_auc = next((of_set.dev_auc for of_set in trials[system].values()), dev_auc)
        rows += [{"system": system} | row for row in system_rows]
    of_both = {system: with_controls(sets, config.data.controls) for system, sets in trials.items()}
    rows += [*system_difference_rows(trials, config, ""), *system_difference_rows(of_both, config, CONTROL)]
    parts = (breakdown_rows,) if is_fused(args.exp) else (open_set_rows, breakdown_rows, assess_rows)
    rows += [{"system": FLOW} | row for part in parts for row in part(args.exp, config)]
    write_tsv(args.exp / ACCURACY_TSV, rows + (read_tsv(args.exp / FITTED_TSV) if taken else []), COLUMNS)
    write_pairs(args.exp / PAIRS_TSV, dev_auc)
    detection_figures.make_plots(args.exp, trials, of_both, config)
    assess_figures.make_plots(args.exp, config)
    return 0


if __name__ == "__main__":
    entry.run(main)
