"""The sets that stage latents scores, and the files that every system writes for each of them."""

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
    """The sets to score, with their frames, and the sets that are left out, with the missing set."""

    sets: list[Scored]
    left_out: dict[str, str]
    stores: dict[str, FrameStore]


def open_sets(frames: Path, config: Config) -> Opened:
    """The frame stores of all sets that are scored; speakers of train or dev in other sets are an error.

    Args:
        frames: folder of the frame stores.
        config: settings with the sets and views.
    """
    present = {path.parent.name for path in frames.glob(f"*/{META_JSON}")}
    sets, left_out = scored_sets(config.data, present)
    stores = {name: FrameStore(frames / name) for name in sorted({s for _, view in sets for s in view.sets})}
    check_speakers(stores, config.data)
    return Opened(sets, left_out, stores)


def each_set(
    opened: Opened, settings: Config, classes: list[str], device: torch.device
) -> Iterator[tuple[str, Windows | None, str]]:
    """Name and vectors of each set to score; without vectors, the reason in words instead.

    Args:
        opened: the sets.
        settings: settings of the model's vectors.
        classes: classes of the model; vectors of other classes are included.
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
