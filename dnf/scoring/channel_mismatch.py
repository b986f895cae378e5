"""Fit the channels of training (``dnf.scoring.channel_model``) to frame stores, and the statistics of sets to compare with them.

python3 -m dnf.scoring.channel_mismatch exp/frames exp/dnf120     (stage latents does this; writes exp/dnf120/channel.json)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import BEST_PT, CHANNEL_JSON
from dnf.features.extractor import make_extractor
from dnf.features.frame_store import FrameStore
from dnf.features.rows import evenly_spaced
from dnf.features.windows import Windows
from dnf.scoring.channel_model import MOST, ChannelModel
from dnf.scoring.channel_statistics import SCALARS, statistics

log = logging.getLogger(__name__)

MOST_DIMS = 512  # of vectors: their covariance is in channel.json


def frequencies_of(config: Config) -> np.ndarray:
    """Centres of the bins ``(F,)``, Hz; empty for a model of vectors."""
    return np.zeros(0) if config.has_vectors else make_extractor(config.features).frequencies


def statistics_of(store: FrameStore, first: int, last: int, frequencies: np.ndarray) -> np.ndarray:
    """Statistics ``(S,)`` of frames ``first : last`` of a store; where they are a vector, that itself."""
    if not len(frequencies):
        return store.frames[first].numpy()
    return statistics([(store.frames[first:last].numpy(), store.marks(first, last))], frequencies)


def write_statistics(path: Path, windows: Windows, frequencies: np.ndarray) -> None:
    """Write the statistics ``(G, S)`` float32 of every segment, in order, to a ``.npy`` file, one at a time."""
    places = (
        (part.store, first, last)
        for part in windows.parts
        for first, last in zip(part.source.begin.tolist(), part.source.end.tolist())
    )
    count = sum(len(part.source.begin) for part in windows.parts)
    width = 5 * len(frequencies) + len(SCALARS) if len(frequencies) else windows.parts[0].store.frames.shape[1]
    file = open_memmap(path, "w+", np.float32, (count, width))
    for row, (store, first, last) in zip(file, places):
        row[:] = statistics_of(store, first, last, frequencies)
    file.flush()


def store_vectors(store: FrameStore, classes: list[str], frequencies: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """Statistics and speaker of evenly spaced utterances of known classes of a training set."""
    known = [u for u, name in enumerate(store.classes) if name in classes and store.spoken[u + 1] > store.spoken[u]]
    for i in evenly_spaced(len(known), MOST).tolist():
        first, last = store.offsets[known[i] : known[i] + 2].tolist()
        yield statistics_of(store, first, last, frequencies), store.speakers[known[i]]


def fit_experiment(frames: Path, config: Config, classes: list[str]) -> ChannelModel:
    """The channels of an experiment's training sets, from their frame stores below ``frames``."""
    frequencies, vectors, of_set, speakers = frequencies_of(config), [], [], []
    for name in config.data.train:
        for vector, speaker in store_vectors(FrameStore(frames / name), classes, frequencies):
            vectors.append(vector)
            of_set.append(name)
            speakers.append(speaker)
    return ChannelModel.fit(np.stack(vectors), of_set, speakers, frequencies)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("frames", type=Path, help="folder of the frame stores")
    parser.add_argument("exp", type=Path, help="folder of the experiment, with best.pt; gets channel.json")
    args = parser.parse_args(argv)
    from dnf.models.checkpoint import load_model

    trained = load_model(args.exp / BEST_PT)
    model = fit_experiment(args.frames, trained.config, trained.classes)
    model.save(args.exp / CHANNEL_JSON)
    log.info("%s: %d utterances of %s", args.exp / CHANNEL_JSON, model.utterances, ", ".join(model.sets))
    return 0


if __name__ == "__main__":
    entry.run(main)
