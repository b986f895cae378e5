"""Stage 7: decisions per utterance and frame, accuracy, near-ties, decided shares and correlation with expert scores.

All with intervals by bootstrap over speakers.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path

import numpy as np
from scipy import stats

from dnf import entry
from dnf.config import Config
from dnf.correlation import correlation_rows
from dnf.score import Latents, latent_sets, utterance_loglik
from dnf.tables import write_tsv

log = logging.getLogger(__name__)

COLUMNS = ("metric", "set", "class", "decided", "value", "low", "high", "count", "total", "speakers")


def decide(latents: Latents, reference: str, window: float, near_tie: float) -> list[dict]:
    """One row an utterance: the class of highest log-likelihood, how sure that is, and how its frames were decided.

    ``margin`` is the mean over frames of log p(x | best class) - log p(x | second), nats per frame; ``near_tie`` is yes where it
    is below ``near_tie`` of its standard errors, or where there is but one frame. ``llr`` is that of the reference class against the mean density of the
    others, nats per frame. ``logp_<class>`` and ``logdet`` are means over frames.

    Args:
        latents: of a set.
        reference: class of the log-likelihood ratio.
        window: frames of the utterance that one vector spans, in hops; that many neighbours count as one observation.
        near_tie: standard errors.
    """
    place, rows = latents.classes.index(reference), []
    others = [k for k in range(len(latents.classes)) if k != place]
    for utt, sums in zip(latents.utts, utterance_loglik(latents)):
        loglik, part = latents.loglik(utt), slice(utt["first"], utt["first"] + utt["rows"])
        frames = np.bincount(loglik.argmax(1), minlength=len(latents.classes))
        second, best = np.argsort(sums)[-2:]
        margins = loglik[:, best] - loglik[:, second]
        error = margins.std() / np.sqrt(max(1.0, len(margins) / window))
        ratio = sums[place] - np.logaddexp.reduce(sums[others]) + np.log(len(others))
        row = {name: utt[name] for name in ("utt", "speaker", "class")} | {"decision": latents.classes[best]}
        tie = len(margins) == 1 or margins.mean() < near_tie * error
        row |= {"margin": f"{margins.mean():.6f}", "near_tie": "yes" if tie else "no"}
        row |= {"llr": f"{ratio / utt['rows']:.6f}", "score": utt["score"], "frames": utt["rows"]}
        row |= {f"frames_{name}": int(count) for name, count in zip(latents.classes, frames)}
        logp = latents.logp[part].astype(np.float64).mean(0)
        row |= {f"logp_{name}": f"{value:.6f}" for name, value in zip(latents.classes, logp)}
        rows.append(row | {"logdet": f"{latents.logdet[part].astype(np.float64).mean():.6f}"})
    return rows


def speaker_interval(
    hits: dict[str, float], totals: dict[str, float], resamples: int, seed: int
) -> tuple[float, float] | None:
    """95 % percentile interval of sum(hits) / sum(totals) by bootstrap over speakers; None for fewer than two speakers."""
    if len(totals) < 2:
        return None
    pairs = np.array([(hits.get(speaker, 0), totals[speaker]) for speaker in sorted(totals)], dtype=float).T
    result = stats.bootstrap(
        tuple(pairs),
        lambda hit, total, axis: hit.sum(axis) / total.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return result.confidence_interval.low, result.confidence_interval.high


def share_row(metric: str, rows: list[tuple[str, float, float]], resamples: int, seed: int, **names: str) -> dict:
    """A share with its interval from ``(speaker, hits, total)`` of each utterance."""
    hits, totals = {}, {}
    for speaker, hit, total in rows:
        hits[speaker] = hits.get(speaker, 0) + hit
        totals[speaker] = totals.get(speaker, 0) + total
    count, total = sum(hits.values()), sum(totals.values())
    interval = speaker_interval(hits, totals, resamples, seed)
    low, high = (f"{end:.6f}" for end in interval) if interval else ("", "")
    figures = {
        "value": f"{count / total:.6f}",
        "low": low,
        "high": high,
        "count": count,
        "total": total,
        "speakers": len(totals),
    }
    return {"metric": metric, **names, **figures}


def accuracy_rows(name: str, decisions: list[dict], classes: list[str], resamples: int, seed: int) -> list[dict]:
    """Accuracy and decided shares of a set by true class; ``all`` is every utterance of a class the model knows."""
    found = sorted({row["class"] for row in decisions})
    known = [c for c in found if c in classes]
    rows = []

    def add(metric: str, of: list[dict], count, total, **names: str) -> None:
        rows.append(
            share_row(metric, [(r["speaker"], count(r), total(r)) for r in of], resamples, seed, set=name, **names)
        )

    for true in (known + ["all"]) if known else []:
        of = [r for r in decisions if (r["class"] in known if true == "all" else r["class"] == true)]
        add("frame_accuracy", of, lambda r: r[f"frames_{r['class']}"], lambda r: r["frames"], **{"class": true})
        add("utt_accuracy", of, lambda r: int(r["decision"] == r["class"]), lambda r: 1, **{"class": true})
        add("near_ties", of, lambda r: int(r["near_tie"] == "yes"), lambda r: 1, **{"class": true})
        clear = [r for r in of if r["near_tie"] == "no"]
        if clear:
            add("utt_accuracy_clear", clear, lambda r: int(r["decision"] == r["class"]), lambda r: 1, **{"class": true})
    for true in found:
        of = [r for r in decisions if r["class"] == true]
        for decided in classes:
            names = {"class": true, "decided": decided}
            add("frame_share", of, lambda r: r[f"frames_{decided}"], lambda r: r["frames"], **names)
            add("utt_share", of, lambda r: int(r["decision"] == decided), lambda r: 1, **names)
    return rows


def more_rows(exp: Path, config: Config) -> list[dict]:
    """Open-set figures, and those of where the information is; both read what was written before."""
    from dnf import information, open_set_rows  # they read shares and intervals from here

    return open_set_rows.open_set_rows(exp, config) + information.information_rows(exp, config)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.decide", description=__doc__)
    parser.add_argument("exp", type=Path, help="folder of the experiment, with latents/<set>/ of stage 4")
    args = parser.parse_args(argv)
    config = Config.load(args.exp / "config.yaml")
    window = max(1.0, (config.splice.left + 1 + config.splice.right) / config.splice.hop)
    sets, out = latent_sets(args.exp), args.exp / "decisions"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    rows = []
    for directory in sets:
        latents = Latents.open(directory)
        if latents.cond_dim == 0 or len(latents.classes) < 2:
            log.info("%s: a flow that knows no classes decides nothing; its densities are in scores/", directory)
            continue
        reference = next((c for c in config.data.classes if c in latents.classes), latents.classes[0])
        decisions = decide(latents, reference, window, config.decide.near_tie)
        write_tsv(out / f"{directory.name}.txt", decisions)
        rows += accuracy_rows(directory.name, decisions, latents.classes, config.report.bootstrap, config.seed)
        scored = [r for r in decisions if r["score"]]
        columns = [float(r["llr"]) for r in scored], [float(r["score"]) for r in scored], [r["speaker"] for r in scored]
        names = {"set": directory.name, "class": "+".join(sorted({r["class"] for r in scored})), "decided": reference}
        rows += correlation_rows(*columns, config.report.bootstrap, config.seed, **names) if scored else []
    rows += more_rows(args.exp, config)
    write_tsv(args.exp / "accuracy.tsv", rows, COLUMNS)
    return 0


if __name__ == "__main__":
    entry.run(main)
