"""The sets that stage 4 scores, one after the other, and the files that every system leaves for each of them."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from tqdm import tqdm

from dnf.config import Config
from dnf.evaluate import batch_for
from dnf.frames import FrameStore
from dnf.sets import Scored, scored_sets
from dnf.splits import check_speakers
from dnf.windows import Windows


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
    present = {path.parent.name for path in frames.glob("*/meta.json")}
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
        windows = Windows(stores, settings.splice, settings.cmvn, classes, True, device, view.scores, pieces)
        yield name, windows if len(windows) else None, "" if len(windows) else "no utterance of it is left"


@contextlib.contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A new folder to write to that takes the place of ``out`` when the block ends well."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)


def write_scored(
    folder: Path,
    windows: Windows,
    meta: dict,
    density: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    what: str,
) -> None:
    """Write ``meta.json``, ``utts.tsv``, ``logp.npy`` and ``logdet.npy`` of a set, in batches.

    Args:
        folder: is there, and empty.
        windows: all vectors of the set; at least one.
        meta: goes to ``meta.json``, with ``classes``; the number of frames is added.
        density: from rows ``(B,)`` and vectors ``(B, D)`` to log-likelihoods ``(B, K)`` of the classes and what is
            added to each to make them log p(x | k), ``(B,)``; nats.
        what: system and set, for the progress bar and errors.

    Raises:
        ValueError: a log density is not finite.
    """
    total = len(windows)
    logp = open_memmap(folder / "logp.npy", "w+", np.float32, (total, len(meta["classes"])))
    logdet = open_memmap(folder / "logdet.npy", "w+", np.float32, (total,))
    batch = batch_for(windows.device)
    for start in tqdm(range(0, total, batch), desc=what, unit="batch"):
        rows = torch.arange(start, min(start + batch, total))
        of_all, change = density(rows, windows.gather(rows))
        if not (torch.isfinite(change).all() and torch.isfinite(of_all).all()):
            raise ValueError(
                f"{what}: a log density is not finite; the checkpoint is damaged or the frames are far from training"
            )
        logp[start : start + batch], logdet[start : start + batch] = of_all.cpu(), change.cpu()
    logp.flush()
    logdet.flush()
    with (folder / "utts.tsv").open("w", encoding="utf-8") as file:
        file.write("utt\tspeaker\tclass\tset\tscore\tfirst\trows\n")
        for utt, speaker, name, of_set, score, first, rows in windows.segments():
            file.write(f"{utt}\t{speaker}\t{name}\t{of_set}\t{'' if score is None else score}\t{first}\t{rows}\n")
    (folder / "meta.json").write_text(json.dumps(meta | {"frames": total}) + "\n", encoding="utf-8")
