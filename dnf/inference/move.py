"""Move speech from one class to another: shift its latents by the difference of class means, and invert the flow.

    python3 -m dnf move exp/dnf120 test --from en --to ce --plot
    python3 -m dnf move exp/dnf120 talk.wav --from en --to ce

The vectors x of class a become f^-1(f(x) + [mu_b - mu_a ; 0]) (Sun et al., "Deep generative factorization for speech
signal", ICASSP 2021); with ``prior.cond_r`` r moves as well. ``--by latents`` uses the means of the training
latents as mu, since after hybrid training the means of the prior are closer together than those of the latents. The moved
recording has the central frame of each moved window, so it differs from the original only in its speech frames.
A multilayer perceptron, trained on the training frames without the flow, decides whether the class has changed. It gets two
inputs: the moved windows from the flow, and windows that are spliced from the moved frames and so have consistent
neighbours, as speech has. A move by zero must return the input.

The verdict uses the spliced windows: the class has moved if the perceptron's share of frames of class b rises at least half
way from the share before the move to the share on dev frames of class b.

Writes ``exp/dnf120/move/<what>_<a>_to_<b>.tsv`` and, with --plot, a picture of the recording before and after.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import BEST_PT, CONFIG_YAML, META_JSON, MOVE, Layout
from dnf.experiment.tables import write_tsv
from dnf.features.extractor import make_extractor
from dnf.features.frame_store import FrameStore
from dnf.inference.move_judge import Perceptron, rows_of, verdict_line
from dnf.inference.moving import (
    Moved,
    Utterance,
    largest_error,
    move,
    shift_between,
    utterance_of_recording,
    utterances_of_store,
    vectors_of,
)
from dnf.inference.timeline_figure import draw_spectrum
from dnf.models.checkpoint import Trained, load_model
from dnf.plots.style import STYLE, new_figure

log = logging.getLogger(__name__)

BOUND = 1e-3  # largest error of a reconstruction without a move, in the units of the features
TRAINING = 20000  # training frames of each class for the perceptron
SHOWN = 400  # frames in the picture


def figure_of(utterance: Utterance, moved: Moved, config: Config, title: str, names: tuple[str, str]) -> Figure:
    """Spectrograms before and after the move, and their difference; from the first speech on."""
    first = int(torch.nonzero(utterance.speech)[0, 0])
    part = slice(max(0, first - 10), max(0, first - 10) + SHOWN)
    before, after = utterance.frames[part].numpy(), moved.after[part].numpy()
    frequencies, end = make_extractor(config.features).frequencies.tolist(), len(before) * config.features.frame_shift
    limits = tuple(np.quantile(before, (0.01, 0.995)))
    with matplotlib.rc_context(STYLE):
        figure = new_figure(title, 5.4)
        axes = figure.subplots(3, 1, sharex=True)
        for panel, frames, head in zip(axes, (before, after), (f"before: {names[0]}", f"after: moved to {names[1]}")):
            draw_spectrum(panel, frames, end, frequencies, limits)
            panel.set_title(head)
        change = after - before
        far = float(np.quantile(np.abs(change), 0.995)) or 1.0
        draw_spectrum(axes[2], change, end, frequencies, (-far, far), "difference", "RdBu_r")
        axes[2].set(title="after - before", xlabel="time, seconds")
    return figure


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = entry.parser(__spec__, __doc__, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path, help="folder of an experiment, with config.yaml and best.pt")
    parser.add_argument("what", help="a set that has a frame store, or a recording")
    parser.add_argument("--from", dest="source", required=True, metavar="CLASS", help="class of the speech")
    parser.add_argument("--to", dest="target", required=True, metavar="CLASS", help="target class")
    parser.add_argument("--frames", type=Path, help="frame stores (default: those of the experiment)")
    parser.add_argument(
        "--utterances", type=int, default=50, help="most utterances of a set, evenly spaced (%(default)s)"
    )
    parser.add_argument(
        "--by", choices=("means", "latents"), default="means", help="class means of the prior or of training latents"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="length of the move; 1 is from mean to mean (%(default)s)"
    )
    parser.add_argument("--plot", action="store_true", help="also draw the first utterance")
    return parser.parse_args(argv)


def load_flow(exp: Path, source: str, target: str) -> Trained:
    """The flow of an experiment in double precision, with a hop of 1, so that every speech frame is moved.

    Raises:
        ValueError: it has no class means, or the names are not two of its classes.
    """
    trained = load_model(exp / BEST_PT)
    if trained.config.has_vectors:
        raise ValueError(f"{exp}: has one vector an utterance, and only frames can be moved; use a flow of frames")
    if trained.config.prior.cond_dim == 0:
        raise ValueError(f"{exp}: a plain flow has no class means; use a flow with classes")
    if unknown := [label for label in (source, target) if label not in trained.classes]:
        raise ValueError(f"class {unknown[0]} is not one of the model's: {', '.join(trained.classes)}")
    if source == target:
        raise ValueError(f"--from and --to are both {source}; name two classes")
    config = dataclasses.replace(trained.config, splice=dataclasses.replace(trained.config.splice, hop=1))
    return dataclasses.replace(trained, model=trained.model.double(), config=config)


def read_utterances(what: str, stores: Path, config: Config, label: str, most: int) -> tuple[list[Utterance], str]:
    """Up to ``most`` utterances of class ``label`` of a set with a frame store, or a recording; and a name for the output.

    Raises:
        ValueError: there is no such set or file, or no speech of the class.
    """
    if (stores / what / META_JSON).is_file():
        utterances, name = list(utterances_of_store(FrameStore(stores / what), config, label, most)), what
    elif Path(what).is_file():
        utterances, name = [utterance_of_recording(what, config, label)], Path(what).stem
    else:
        raise ValueError(f"{what}: no such file, and no set with a frame store in {stores}")
    if not utterances:
        raise ValueError(f"{what}: no speech of class {label}")
    return utterances, name


def check_reconstruction(exp: Path, moved: list[Moved]) -> None:
    """Raise ``ValueError`` if the flow does not reconstruct its input without a move."""
    error = largest_error(moved)
    if not error <= BOUND:  # NaN, too
        raise ValueError(f"{exp}: the reconstruction error without a move is {error:.2e}, above {BOUND}")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    stores, names = args.frames or Layout.read(args.exp).frames, (args.source, args.target)
    trained = load_flow(args.exp, *names)
    config = trained.config
    utterances, what = read_utterances(args.what, stores, config, args.source, args.utterances)
    training = vectors_of(config.data.train, stores, config, names, TRAINING)
    if missing := [name for name in names if name not in training]:
        raise ValueError(f"{stores}: no training frames of class {missing[0]}")
    windows = [training[name].x for name in names]
    shift = args.scale * shift_between(trained, names, windows if args.by == "latents" else None)
    moved = [move(utterance, trained, shift) for utterance in utterances]
    check_reconstruction(args.exp, moved)
    held_out = vectors_of(config.data.dev, stores, config, names, TRAINING)
    rows = rows_of(utterances, moved, trained, Perceptron(windows, config.seed), names, held_out)
    ending = "_by_latents" * (args.by == "latents") + ("" if args.scale == 1 else f"_x{args.scale:g}")
    out = args.exp / MOVE / f"{what}_{args.source}_to_{args.target}{ending}.tsv"
    out.parent.mkdir(exist_ok=True)
    write_tsv(out, rows)
    if args.plot:
        title = f"{args.exp.name}: {utterances[0].name} moved from {args.source} to {args.target}"
        title += f", {args.scale:g} times as far" if args.scale != 1 else ""
        figure = figure_of(utterances[0], moved[0], config, title, names)
        figure.savefig(out.with_suffix(".png"), dpi=Config.load(args.exp / CONFIG_YAML).plots.dpi)
    print(out.read_text(encoding="utf-8") + verdict_line(rows, args.target))
    return 0


if __name__ == "__main__":
    entry.run(main)
