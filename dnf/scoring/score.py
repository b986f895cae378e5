"""Stage score: log-likelihood of every class, per frame and per utterance, and mean densities per set and class."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import kaldiio
import numpy as np

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import CONFIG_YAML, DENSITIES_TSV, SCORES, UTT_SCORES_TXT
from dnf.experiment.progress import progress
from dnf.experiment.tables import write_tsv
from dnf.metrics.figures import MOST_CLASSES
from dnf.scoring.latent_store import Latents, latent_sets

log = logging.getLogger(__name__)


def mean_densities(latents: Latents) -> list[dict]:
    """Mean LogLL, LogP and LogDet (nats per frame) of each true class and over all frames.

    LogP is that of the frame's own class. For an unknown class it is the log of the mean of the class densities, which for
    a plain flow is its only density.
    """
    sums: dict[str, np.ndarray] = {}
    places = {name: k for k, name in enumerate(latents.classes)}
    for utt in latents.utts:
        rows = slice(utt["first"], utt["first"] + utt["rows"])
        if utt["class"] in places:
            of_frames = latents.logp[rows, places[utt["class"]]].astype(np.float64)
        else:
            logp = latents.logp[rows].astype(np.float64)
            of_frames = np.logaddexp.reduce(logp, axis=1) - np.log(logp.shape[1])
        figures = np.array([utt["rows"], of_frames.sum(), latents.logdet[rows].astype(np.float64).sum()])
        for name in (utt["class"], "all"):
            sums[name] = sums.get(name, 0) + figures
    return [
        {
            "class": name,
            "frames": int(n),
            "loglik": f"{(logp + logdet) / n:.6f}",
            "logp": f"{logp / n:.6f}",
            "logdet": f"{logdet / n:.6f}",
        }
        for name, (n, logp, logdet) in sorted(sums.items(), key=lambda item: (item[0] == "all", item[0]))
    ]


def score_rows(latents: Latents) -> Iterator[dict]:
    """Rows of ``utt_scores.txt``; with more than ``MOST_CLASSES`` classes only the best one, by name."""
    for utt in latents.utts:
        sums = latents.loglik(utt).sum(0)
        row = {"utt": utt["utt"], "speaker": utt["speaker"], "class": utt["class"], "frames": utt["rows"]}
        names, values = latents.classes, sums
        if len(names) > MOST_CLASSES:
            row |= {"best": names[sums.argmax()]}
            names, values = ["best"], sums.max(keepdims=True)
        row |= {f"sum_{name}": f"{value:.4f}" for name, value in zip(names, values)}
        yield row | {f"mean_{name}": f"{value / utt['rows']:.6f}" for name, value in zip(names, values)}


def write_scores(latents: Latents, out: Path, *, frame_scores: bool) -> None:
    """Write ``utt_scores.txt``, ``densities.tsv`` and, if asked, ``frame_scores.{ark,scp}`` of one set below ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write_tsv(out / UTT_SCORES_TXT, score_rows(latents))
    write_tsv(out / DENSITIES_TSV, mean_densities(latents))
    if frame_scores:
        with kaldiio.WriteHelper(f"ark,scp:{out}/frame_scores.ark,{out}/frame_scores.scp") as writer:
            for utt in latents.utts:
                writer(utt["utt"], latents.loglik(utt).astype(np.float32))


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="folder of the experiment, with latents/<set>/ of stage latents")
    args = parser.parse_args(argv)
    config = Config.load(args.exp / CONFIG_YAML)
    shutil.rmtree(args.exp / SCORES, ignore_errors=True)
    for directory in progress(latent_sets(args.exp), what="score", unit="sets"):
        latents = Latents.open(directory)
        out = args.exp / SCORES / directory.name
        write_scores(latents, out, frame_scores=config.score.frame_scores)
        log.info("%s: %d utterances, %d frames", out, len(latents.utts), len(latents.logdet))
    return 0


if __name__ == "__main__":
    entry.run(main)
