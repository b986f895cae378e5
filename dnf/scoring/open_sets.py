"""The sets that stage latents scores, one after the other, and the files that every system leaves for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from dnf.experiment.config import Config
from dnf.experiment.layout import META_JSON
from dnf.experiment.sets import Scored, scored_sets
from dnf.features.frame_store import FrameStore, check_speakers
from dnf.features.windows import Windows


class Opened(NamedTuple):
    """What there is to score, with its frames, and what is left out, with the set it lacks."""

    sets: list[Scored]
    left_out: dict[str, str]
    stores: dict[str, FrameStore]


def open_sets(frames: Path, config: Config) -> Opened:
    """The frame stores of all sets that are scored; speakers of train or dev in other sets are an error.

    Args:
        frames: folder of the frame stores.
        config: names the sets and views.
    """
    present = {path.parent.name for path in frames.glob(f"*/{META_JSON}")}
    sets, left_out = scored_sets(config.data, present)
    stores = {name: FrameStore(frames / name) for name in sorted({s for _, view in sets for s in view.sets})}
    check_speakers(stores, config.data)
    return Opened(sets, left_out, stores)


def each_set(
    opened: Opened, settings: Config, classes: list[str], device: torch.device
) -> Iterator[tuple[str, Windows | None, str]]:
    """Name and vectors of each set to score; no vectors but the reason, in words, where there are none.

    Args:
        opened: the sets.
        settings: of the model: how its vectors are made.
        classes: those the model knows; vectors of others are there, too.
    """
    for name, view in opened.sets:
        stores = [opened.stores[s] for s in view.sets]
        if view.scores and not any(score is not None for store in stores for score in store.scores):
            yield name, None, "its sets have no expert scores"
            continue
        pieces = max(1, round(view.seconds / settings.features.frame_shift)) if view.seconds else None
        windows = Windows(
            stores,
            settings.splice,
            settings.cmvn,
            classes,
            keep_unseen=True,
            device=device,
            scores=view.scores,
            piece_frames=pieces,
        )
        yield name, windows if len(windows) else None, "" if len(windows) else "it has no utterances"
