"""Stage decide: decisions per utterance and frame, accuracy, near-ties, decided shares and correlation with expert scores.

Also calibration on dev, and how well each system tells classes apart on every set and its control. All of the flow
and of every baseline, with intervals by bootstrap over speakers.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from dnf.decisions.accuracy_rows import Tally, accuracy_rows, calibrated_rows, correlation_rows, hits_of
from dnf.decisions.breakdowns import information_rows
from dnf.decisions.calibration import Calibration, absent_classes, posteriors, prior_of
from dnf.decisions.detection_rows import detection_rows, difference_rows, gap_rows, share_gap_rows, trials_of
from dnf.decisions.evidence import Evidence, evidence
from dnf.decisions.open_set_rows import open_set_rows
from dnf.experiment import entry
from dnf.experiment.classes import reference_first
from dnf.experiment.config import Config
from dnf.experiment.layout import ACCURACY_TSV, CALIBRATION_JSON, CONFIG_YAML, DECISIONS, FLOW, systems
from dnf.experiment.sets import name_of
from dnf.experiment.tables import write_tsv
from dnf.metrics.effective_frames import observed
from dnf.metrics.figure_rows import COLUMNS
from dnf.metrics.trials import Trials, with_control
from dnf.plots import detection_figures
from dnf.scoring.latent_store import Latents, latent_sets

log = logging.getLogger(__name__)


def decide(
    latents: Latents, reference: str, window: float, near_tie: float, covariance: np.ndarray = np.zeros(0)
) -> Iterator[dict]:
    """One row an utterance: the class of highest log-likelihood, how sure that is, and how its frames were decided.

    ``margin`` is the mean over frames of log p(x | best class) - log p(x | second), nats per frame; ``near_tie`` is yes
    where it is below ``near_tie`` of its standard errors, or where there is but one frame. ``llr`` is that of the
    reference class against the mean density of the others, nats per frame. ``logp_<class>`` and ``logdet`` are means
    over frames.

    Args:
        latents: of a set.
        reference: class of the log-likelihood ratio.
        window: frames of the utterance that one vector spans, in hops; that many neighbours count as one observation
            where there is no ``covariance``.
        near_tie: standard errors.
        covariance: autocovariance of the frames' log-likelihood ratio on dev, which says how many observations frames
            are worth; empty: not known.
    """
    place = latents.classes.index(reference)
    others = [k for k in range(len(latents.classes)) if k != place]
    frames = np.array([utt["rows"] for utt in latents.utts])
    observations = observed(frames, covariance, window)
    for utt, worth in zip(latents.utts, observations):
        loglik, part = latents.loglik(utt), slice(utt["first"], utt["first"] + utt["rows"])
        sums = loglik.sum(0)
        shares = np.bincount(loglik.argmax(1), minlength=len(latents.classes))
        second, best = np.argsort(sums)[-2:]
        margins = loglik[:, best] - loglik[:, second]
        error = margins.std() / np.sqrt(worth)
        ratio = sums[place] - np.logaddexp.reduce(sums[others]) + np.log(len(others))
        row = {name: utt[name] for name in ("utt", "speaker", "class")} | {"decision": latents.classes[best]}
        tie = len(margins) == 1 or margins.mean() < near_tie * error
        row |= {"margin": f"{margins.mean():.6f}", "near_tie": "yes" if tie else "no"}
        row |= {"llr": f"{ratio / utt['rows']:.6f}", "score": utt["score"], "frames": utt["rows"]}
        row |= {f"frames_{name}": int(count) for name, count in zip(latents.classes, shares)}
        logp = latents.logp[part].astype(np.float64).mean(0)
        row |= {f"logp_{name}": f"{value:.6f}" for name, value in zip(latents.classes, logp)}
        yield row | {"logdet": f"{latents.logdet[part].astype(np.float64).mean():.6f}"}


def calibrate(folder: Path, dev: Evidence, config: Config) -> Calibration | None:
    """Fit a system's calibration on dev and write ``calibration.json``; None, and no file, if it is off or cannot be.

    Args:
        folder: of the system.
        dev: its evidence of the dev set.
        config: settings.
    """
    missing = absent_classes(dev)
    if missing:
        log.warning("%s: no calibration: dev has no utterance of class %s", folder, ", ".join(missing))
    if missing or not config.calibrate.enabled:
        return None
    made = Calibration.fit(dev, config.calibrate)
    if made.slope == 0:
        log.warning("%s: its scores do not tell dev's classes apart; calibrated, they say nothing", folder)
    made.save(folder / CALIBRATION_JSON)
    return made


def calibrated_columns(evidence: Evidence, loglik: np.ndarray | None, reference: str, priors: dict) -> Iterable[dict]:
    """Each utterance's posteriors, the class of the highest, and the reference class's log-likelihood ratio, nats.

    The ratio is that against the mean of the others. All are empty without calibrated log-likelihoods ``(U, K)``.
    """
    names = [f"posterior_{name}" for name in evidence.classes] + ["decision_calibrated", "llr_calibrated"]
    if loglik is None:
        return (dict.fromkeys(names, "") for _ in evidence.utts)
    place = evidence.classes.index(reference)
    others = np.delete(loglik, place, axis=1)
    ratios = loglik[:, place] - np.logaddexp.reduce(others, axis=1) + np.log(others.shape[1])
    found = posteriors(loglik, evidence.classes, priors)
    decided = (evidence.classes[k] for k in found.argmax(1))
    cells = ([*(f"{p:.6f}" for p in own), best, f"{ratio:.6f}"] for own, best, ratio in zip(found, decided, ratios))
    return (dict(zip(names, row)) for row in cells)


def decide_system(folder: Path, config: Config, is_flow: bool) -> tuple[list[dict], dict[str, Trials]]:
    """Write a system's decisions; its rows of ``accuracy.tsv``, and each set's utterances of known classes."""
    window = max(1.0, (config.splice.left + 1 + config.splice.right) / config.splice.hop)
    sets, out = latent_sets(folder), folder / DECISIONS
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (folder / CALIBRATION_JSON).unlink(missing_ok=True)
    rows, all_judged, accuracies = [], {}, {}
    opened = {directory.name: Latents.open(directory) for directory in sets}
    model = next(iter(opened.values()))
    if len(model.classes) < 2 or is_flow and model.cond_dim == 0:
        log.info("%s: a flow that knows no classes decides nothing; its densities are in scores/", folder)
        return [], {}
    order = reference_first(model.classes, config.data.classes)
    prior_of(order, config.calibrate.priors)
    name_of_dev = name_of(config.data, "dev")
    dev = evidence(opened[name_of_dev])
    calibration = calibrate(folder, dev, config)
    draw, pairs = (config.report.bootstrap, config.seed), config.data.controls
    for name, latents in opened.items():
        found, cllr = dev if name == name_of_dev else evidence(latents, dev.covariance), "cllr"
        loglik = calibration.loglik(found) if calibration else None
        if calibration and name == name_of_dev:
            left_out = Calibration.left_out(found, config.calibrate)
            loglik, cllr = (loglik, "cllr_in_sample") if left_out is None else (left_out, "cllr_left_out")
        tally = Tally(latents.classes, keep_hits=name in pairs or name in pairs.values())
        decisions = map(tally.add, decide(latents, order[0], window, config.decide.near_tie, dev.covariance))
        columns = calibrated_columns(found, loglik, order[0], config.calibrate.priors)
        write_tsv(out / f"{name}.txt", (row | more | {"open_set": ""} for row, more in zip(decisions, columns)))
        rows += accuracy_rows(name, tally, *draw)
        judged = all_judged[name] = trials_of(found, loglik, order)
        rows += calibrated_rows(name, judged, config) if calibration else []
        if tally.keep_hits:
            accuracies[name] = hits_of(tally, judged, config)
        rows += detection_rows(judged, config.calibrate, *draw, duration=is_flow, cllr=cllr, set=name)
        if tally.scored:
            ratios, scores, speakers, true = map(list, zip(*tally.scored))
            names = {"set": name, "class": "+".join(sorted(set(true))), "decided": order[0]}
            rows += correlation_rows(ratios, scores, speakers, *draw, **names)
    for name, control in controls(all_judged, config.data.controls).items():
        rows += detection_rows(control, config.calibrate, *draw, ending="_control", duration=is_flow, set=name)
        rows += gap_rows(all_judged[name], control, config.calibrate, *draw, set=name)
        for metric, hits in accuracies[name].items():
            beside = accuracies[config.data.controls[name]][metric]
            rows += share_gap_rows(metric, hits, beside, *draw, set=name)
    return rows, all_judged


def controls(judged: dict[str, Trials], names: dict[str, str]) -> dict[str, Trials]:
    """Each set with a control, its classes taken from the control where that has them."""
    pairs = {name: with_control(judged[name], judged[c]) for name, c in names.items() if name in judged and c in judged}
    return {name: control for name, control in pairs.items() if control}


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="folder of the experiment, with latents/<set>/ of stage latents")
    args = parser.parse_args(argv)
    config, rows, judged = Config.load(args.exp / CONFIG_YAML), [], {}
    for system, folder in systems(args.exp).items():
        found, judged[system] = decide_system(folder, config, system == FLOW)
        rows += [{"system": system} | row for row in found]
    beside = {system: controls(sets, config.data.controls) for system, sets in judged.items()}
    draw, fitted = (config.report.bootstrap, config.seed), {name_of(config.data, role) for role in ("train", "dev")}
    for ending, of_each in (("", judged), ("_control", beside)):
        for system, sets in of_each.items():
            for name in sorted(sets.keys() & of_each[FLOW].keys()) if system != FLOW else ():
                ours = of_each[FLOW][name], sets[name]
                rows += difference_rows(*ours, config.calibrate, *draw, ending, name in fitted, system=system, set=name)
    rows += [{"system": FLOW} | row for row in (*open_set_rows(args.exp, config), *information_rows(args.exp, config))]
    write_tsv(args.exp / ACCURACY_TSV, rows, COLUMNS)
    detection_figures.make_plots(args.exp, judged, beside, config)
    return 0


if __name__ == "__main__":
    entry.run(main)
