"""Stage 7: decisions per utterance and frame, accuracy, near-ties, decided shares and correlation with expert scores.

Also calibration on dev, and how well each system tells classes apart on every set and its control. All of the flow
and of every baseline, with intervals by bootstrap over speakers.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from dnf import detection_plots, entry
from dnf.bootstrap import share_row
from dnf.calibration import Calibration, absent_classes, posteriors, prior_of
from dnf.classes import reference_first
from dnf.config import Config
from dnf.correlation import correlation_rows
from dnf.detection_rows import (
    Judged,
    detection_rows,
    difference_rows,
    gap_rows,
    judge,
    right,
    share_gap_rows,
    with_control,
)
from dnf.evidence import Evidence, evidence, observed
from dnf.information import information_rows
from dnf.open_set_rows import open_set_rows
from dnf.score import Latents, latent_sets
from dnf.sets import name_of
from dnf.systems import FLOW, systems
from dnf.tables import write_tsv

log = logging.getLogger(__name__)

COLUMNS = ("system", "metric", "set", "class", "decided", "value", "low", "high", "count", "total", "speakers")
COLUMNS += ("fewest", "p")  # speakers of the class that has the fewest, where an interval needs every class; p-value


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


class Tally:
    """What figures need of a set's decisions, counted as these are made and written; by speaker, not by utterance.

    Attributes:
        classes: those the model knows.
        counts: of utterances and frames, by true class and speaker.
        scored: log-likelihood ratio, expert score, speaker and class of each utterance with a score.
        hits: speaker, class and whether the decision is right, of each utterance of a known class, if they are kept.
    """

    def __init__(self, classes: list[str], keep_hits: bool = False):
        self.classes, self.keep_hits = classes, keep_hits
        self.counts: dict[tuple[str, str], Counter] = {}
        self.scored: list[tuple[float, float, str, str]] = []
        self.hits: list[tuple[str, str, bool]] = []

    def add(self, row: dict) -> dict:
        """Count a row of ``decide``; returns it."""
        true, speaker, right = row["class"], row["speaker"], row["decision"] == row["class"]
        own = self.counts.setdefault((true, speaker), Counter())
        own.update(utterances=1, right=int(right), frames=row["frames"], right_frames=row.get(f"frames_{true}", 0))
        clear = row["near_tie"] == "no"
        own.update(near_ties=int(not clear), clear=int(clear), clear_right=int(clear and right))
        own["decided", row["decision"]] += 1
        for name in self.classes:
            own["frames", name] += row[f"frames_{name}"]
        if row.get("score"):
            self.scored.append((float(row["llr"]), float(row["score"]), speaker, true))
        if self.keep_hits and true in self.classes:
            self.hits.append((speaker, true, right))
        return row


def accuracy_rows(name: str, tally: Tally, resamples: int, seed: int) -> list[dict]:
    """Accuracy and decided shares of a set by true class; ``all`` is every utterance of a class the model knows."""
    found = sorted({true for true, _ in tally.counts})
    known = [c for c in found if c in tally.classes]
    rows = []

    def add(metric: str, true: str, count, total="utterances", **names: str) -> None:
        wanted = known if true == "all" else [true]
        shares = [
            (speaker, own[count], own[total])
            for (c, speaker), own in tally.counts.items()
            if c in wanted and own[total]
        ]
        if shares:
            rows.append(share_row(metric, shares, resamples, seed, set=name, **{"class": true}, **names))

    for true in (known + ["all"]) if known else []:
        add("frame_accuracy", true, "right_frames", "frames")
        add("utt_accuracy", true, "right")
        add("near_ties", true, "near_ties")
        add("utt_accuracy_clear", true, "clear_right", "clear")
    for true in found:
        for decided in tally.classes:
            add("frame_share", true, ("frames", decided), "frames", decided=decided)
            add("utt_share", true, ("decided", decided), decided=decided)
    return rows


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
    made.save(folder / "calibration.json")
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


def calibrated_rows(name: str, judged: Judged, config: Config) -> list[dict]:
    """Accuracy of a set when the class of highest posterior is decided, by true class and of all."""
    hits, rows = right(judged, config.calibrate), []
    groups = {c: np.flatnonzero(judged.labels == k) for k, c in enumerate(judged.classes)}
    groups = {c: group for c, group in sorted(groups.items()) if len(group)} | {"all": np.arange(len(hits))}
    for true, group in groups.items():
        if len(group):
            cells = [(judged.speakers[u], int(hits[u]), 1) for u in group]
            draw = (config.report.bootstrap, config.seed)
            rows.append(share_row("utt_accuracy_calibrated", cells, *draw, set=name, **{"class": true}))
    return rows


def hits_of(tally: Tally, judged: Judged, config: Config) -> dict[str, list[tuple]]:
    """Speaker, class and whether the decision is right, of each utterance of a known class, by name of the accuracy."""
    found = {"utt_accuracy": tally.hits}
    if judged.calibrated:
        labels = [judged.classes[label] for label in judged.labels]
        hits = right(judged, config.calibrate)
        found["utt_accuracy_calibrated"] = list(zip(judged.speakers, labels, hits))
    return found


def decide_system(folder: Path, config: Config, is_flow: bool) -> tuple[list[dict], dict[str, Judged]]:
    """Write a system's decisions; its rows of ``accuracy.tsv``, and each set's utterances of known classes."""
    window = max(1.0, (config.splice.left + 1 + config.splice.right) / config.splice.hop)
    sets, out = latent_sets(folder), folder / "decisions"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (folder / "calibration.json").unlink(missing_ok=True)
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
        judged = all_judged[name] = judge(found, loglik, order)
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


def controls(judged: dict[str, Judged], names: dict[str, str]) -> dict[str, Judged]:
    """Each set with a control, its classes taken from the control where that has them."""
    pairs = {name: with_control(judged[name], judged[c]) for name, c in names.items() if name in judged and c in judged}
    return {name: control for name, control in pairs.items() if control}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.decide", description=__doc__.split("\n\n")[0])
    parser.add_argument("exp", type=Path, help="folder of the experiment, with latents/<set>/ of stage 4")
    args = parser.parse_args(argv)
    config, rows, judged = Config.load(args.exp / "config.yaml"), [], {}
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
    write_tsv(args.exp / "accuracy.tsv", rows, COLUMNS)
    detection_plots.make_plots(args.exp, judged, beside, config)
    return 0


if __name__ == "__main__":
    entry.run(main)
