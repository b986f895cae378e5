"""Accent moved: speech of one class given the class mean of another in the latent space, and made features again.

    python3 -m dnf.move exp/dnf120 test --from en --to ce --plot
    python3 -m dnf.move exp/dnf120 talk.wav --from en --to ce

The vectors x of class a become f^-1(f(x) + [mu_b - mu_a ; 0]) (Sun et al., "Deep generative factorization for speech
signal", ICASSP 2021); with ``prior.cond_r`` r moves as well. ``--by latents`` takes for mu the means of the training
latents instead: hybrid training leaves those of the prior closer together than they are. Of each moved window the
central frame is taken, so speech frames form a moved recording, which differs from the first in these frames alone.
Whether the class has changed is for a multilayer perceptron to say, which has seen the training frames and nothing of
the flow. It is asked twice: about the moved windows as the flow makes them, and about windows spliced anew from the
moved frames, whose parts agree with each other as those of speech do. With no move, what comes back must be what went
in.

The verdict is on the windows spliced anew: the class has moved if the perceptron's share of frames of class b goes at
least half way from what it was before to what it is on frames of dev that are of class b.

Writes ``exp/dnf120/move/<what>_<a>_to_<b>.tsv`` and, with --plot, a picture of the recording before and after.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dnf import entry
from dnf.channel_statistics import mel_frequencies
from dnf.checkpoint import Trained, load_model
from dnf.config import Config
from dnf.evaluate import BATCH, evenly_spaced
from dnf.figures import STYLE, new_figure
from dnf.frames import FrameStore
from dnf.move_judge import Judge, Vectors, rows_of, verdict
from dnf.sound import Source
from dnf.streaming import Frames, normalization
from dnf.tables import write_tsv
from dnf.timeline_figure import draw_spectrum
from dnf.windows import Windows

log = logging.getLogger(__name__)

BOUND = 1e-3  # of the largest error of a reconstruction without a move, in the units of the features
TRAINING = 20000  # frames of each class that the perceptron learns
LONGEST = 6000  # frames of a recording; what is longer is cut
SHOWN = 400  # frames in the picture


class Utterance(NamedTuple):
    """Normalized frames ``(N, F)`` float32 of a recording, which of them are speech ``(N,)``, its speaker and class."""

    name: str
    speaker: str
    label: str
    frames: Tensor
    speech: Tensor


class Moved(NamedTuple):
    """What became of the speech frames of an utterance, S of them.

    Attributes:
        before: ``(S, D)`` windows as they were.
        windows: ``(S, D)`` windows moved.
        respliced: ``(S, D)`` windows spliced from ``after``.
        after: ``(N, F)`` frames, those of speech moved.
        error: largest difference between the windows and their reconstruction without a move.
    """

    before: Tensor
    windows: Tensor
    respliced: Tensor
    after: Tensor
    error: float


def of_store(store: FrameStore, config: Config, label: str, most: int) -> Iterator[Utterance]:
    """Up to ``most`` utterances of a class, evenly spaced over the set, normalized as in training."""
    windows = Windows([store], config.splice, config.cmvn, [label], keep_unseen=False, device=torch.device("cpu"))
    (part,) = windows.parts
    source = part.source
    for i in evenly_spaced(len(part.utterance), most).tolist():
        u, first, last = part.utterance[i].item(), source.begin[i].item(), source.end[i].item()
        frames = store.frames[first:last].float()
        if source.mean is not None:
            frames = (frames - source.mean[i]) * source.scale[i]
        speech = torch.zeros(last - first, dtype=torch.bool)
        speech[store.centres[store.spoken[u] : store.spoken[u + 1]] - first] = True
        yield cut(Utterance(store.utterances[u], store.speakers[u], label, frames, speech))


def of_recording(path: str, config: Config, label: str) -> Utterance:
    """A file's frames, normalized by themselves."""
    with tempfile.TemporaryDirectory(prefix="move.") as folder:
        read = Frames(Source(path, config.features.channel), config, Path(folder))
        last = min(read.count, LONGEST)
        frames, norm = torch.from_numpy(read.frames(0, last)).float(), normalization(read.stats, config)
        speech = torch.from_numpy(read.marks(0, last))
    frames = frames if norm is None else (frames - norm[0]) * norm[1]
    return cut(Utterance(Path(path).stem, Path(path).stem, label, frames, speech))


def cut(utterance: Utterance) -> Utterance:
    return utterance._replace(frames=utterance.frames[:LONGEST], speech=utterance.speech[:LONGEST])


def splice(frames: Tensor, centres: Tensor, config: Config) -> Tensor:
    """Windows ``(S, D)`` around frames ``centres`` of ``(N, F)``, edges repeated."""
    index = centres[:, None] + torch.arange(-config.splice.left, config.splice.right + 1)
    return frames[index.clamp(0, len(frames) - 1)].flatten(1)


@torch.no_grad()
def way(trained: Trained, names: tuple[str, str], vectors: list[Tensor] | None = None) -> Tensor:
    """What a move adds to z ``(D,)``: the difference of the class means of the prior, or of the latents of ``vectors``.

    Args:
        names: class to move from and to.
        vectors: ``(N, D)`` of each of the two; None for the means of the prior. r stays where it has no class means.
    """
    prior = trained.model.prior
    if vectors is None:
        a, b = (prior.class_means()[trained.classes.index(name)] for name in names)
        return b - a
    a, b = (sum(trained.model(part.to(prior.means))[0].sum(0) for part in of.split(BATCH)) / len(of) for of in vectors)
    shift = b - a
    if prior.means_r is None:
        shift[prior.cond_dim :] = 0
    return shift


@torch.no_grad()
def move(utterance: Utterance, trained: Trained, shift: Tensor) -> Moved:
    """Move the speech of an utterance by ``shift`` ``(D,)`` in the latent space."""
    config, model, dim = trained.config, trained.model, utterance.frames.shape[1]
    kind, device = model.prior.means.dtype, model.prior.means.device
    centres = torch.nonzero(utterance.speech)[:, 0]
    before, windows, error = splice(utterance.frames, centres, config), [], 0.0
    for part in before.split(BATCH):
        x = part.to(device, kind)
        z = model(x)[0]
        error = max(error, float((model.inverse(z)[0] - x).abs().max()))
        windows.append(model.inverse(z + shift)[0].cpu().float())
    moved, after = torch.cat(windows), utterance.frames.clone()
    after[centres] = moved[:, config.splice.left * dim : (config.splice.left + 1) * dim]
    return Moved(before, moved, splice(after, centres, config), after, error)


def vectors_of(sets: list[str], frames: Path, config: Config, names: tuple[str, str], most: int) -> dict[str, Vectors]:
    """Up to ``most`` vectors of each class in some sets, evenly spaced; classes without any are left out."""
    stores, found = [FrameStore(frames / name) for name in sets], {}
    for name in names:
        windows = Windows(stores, config.splice, config.cmvn, [name], keep_unseen=False, device=torch.device("cpu"))
        if len(windows):
            rows, speakers = evenly_spaced(len(windows), most), [s.speaker for s in windows.segments()]
            found[name] = Vectors(windows.gather(rows), [speakers[i] for i in windows.segment(rows).tolist()])
    return found


def figure_of(utterance: Utterance, moved: Moved, config: Config, title: str, names: tuple[str, str]) -> Figure:
    """Spectrogram before and after, side by side, and what the move added; from the first speech on."""
    first = int(torch.nonzero(utterance.speech)[0, 0])
    part = slice(max(0, first - 10), max(0, first - 10) + SHOWN)
    before, after = utterance.frames[part].numpy(), moved.after[part].numpy()
    frequencies, end = mel_frequencies(config.features).tolist(), len(before) * config.features.frame_shift
    limits = tuple(np.quantile(before, (0.01, 0.995)))
    with matplotlib.rc_context(STYLE):
        figure = new_figure(title, 4.4)
        axes = figure.subplots(1, 3, sharey=True)
        for panel, frames, head in zip(axes, (before, after), (f"before: {names[0]}", f"after: moved to {names[1]}")):
            draw_spectrum(panel, frames, end, frequencies, limits)
            panel.set(title=head, xlabel="time, seconds")
        change = after - before
        far = float(np.quantile(np.abs(change), 0.995)) or 1.0
        draw_spectrum(axes[2], change, end, frequencies, (-far, far), "difference", "RdBu_r")
        axes[2].set(title="after - before", xlabel="time, seconds")
        for panel in axes[1:]:
            panel.set_ylabel("")
    return figure


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m dnf.move", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exp", type=Path, help="folder of an experiment, with config.yaml and best.pt")
    parser.add_argument("what", help="a set that has a frame store, or a recording")
    parser.add_argument("--from", dest="source", required=True, metavar="CLASS", help="class of the speech")
    parser.add_argument("--to", dest="target", required=True, metavar="CLASS", help="class it is moved to")
    parser.add_argument("--frames", type=Path, help="frame stores (default: frames beside the experiment)")
    parser.add_argument("--utterances", type=int, default=50, help="of a set at most, evenly spaced (%(default)s)")
    parser.add_argument(
        "--by", choices=("means", "latents"), default="means", help="class means of the prior or of training latents"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="how far to move, 1: from mean to mean (%(default)s)")
    parser.add_argument("--plot", action="store_true", help="also a picture of the first utterance")
    args = parser.parse_args(argv)
    trained, store_folder = load_model(args.exp / "best.pt"), args.frames or args.exp.parent / "frames"
    names = args.source, args.target
    if trained.config.prior.cond_dim == 0:
        raise ValueError(f"{args.exp}: a plain flow has no class means to move between")
    if unknown := [name for name in names if name not in trained.classes]:
        raise ValueError(f"class {unknown[0]} is not one of the model's: {', '.join(trained.classes)}")
    if names[0] == names[1]:
        raise ValueError(f"--from and --to are both {names[0]}; name two classes")
    hop = dataclasses.replace(trained.config.splice, hop=1)  # every speech frame is moved
    trained = dataclasses.replace(
        trained, model=trained.model.double(), config=dataclasses.replace(trained.config, splice=hop)
    )
    if (store_folder / args.what / "meta.json").is_file():
        store, label = FrameStore(store_folder / args.what), args.what
        utterances = list(of_store(store, trained.config, args.source, args.utterances))
    elif Path(args.what).is_file():
        utterances, label = [of_recording(args.what, trained.config, args.source)], Path(args.what).stem
    else:
        raise ValueError(f"{args.what}: neither a set with a frame store in {store_folder} nor a file")
    if not utterances:
        raise ValueError(f"{args.what}: no speech of class {args.source}")
    config = trained.config
    learned = vectors_of(config.data.train, store_folder, config, names, TRAINING)
    if missing := [name for name in names if name not in learned]:
        raise ValueError(f"{store_folder}: no training frames of class {missing[0]}")
    training = [learned[name].x for name in names]
    shift = args.scale * way(trained, names, training if args.by == "latents" else None)
    moved = [move(utterance, trained, shift) for utterance in utterances]
    held_out = vectors_of(config.data.dev, store_folder, config, names, TRAINING)
    rows = rows_of(utterances, moved, trained, Judge(training, config.seed), names, held_out)
    times = "_by_latents" * (args.by == "latents") + ("" if args.scale == 1 else f"_x{args.scale:g}")
    out = args.exp / "move" / f"{label}_{args.source}_to_{args.target}{times}.tsv"
    out.parent.mkdir(exist_ok=True)
    write_tsv(out, rows)
    print(out.read_text(encoding="utf-8") + verdict(rows, args.target))
    if args.plot:
        title = f"{args.exp.name}: {utterances[0].name} moved from {args.source} to {args.target}"
        title += f", {args.scale:g} times as far" if args.scale != 1 else ""
        figure = figure_of(utterances[0], moved[0], trained.config, title, names)
        figure.savefig(out.with_suffix(".png"), dpi=Config.load(args.exp / "config.yaml").plots.dpi)
    error = max(m.error for m in moved)
    if error > BOUND:
        raise ValueError(
            f"{args.exp}: without a move the features come back with an error of {error:.2e}, above {BOUND}"
        )
    return 0


if __name__ == "__main__":
    entry.run(main)
