"""Score pieces of recordings in stage latents, for the accuracy on short recordings.

A piece has a given number of seconds of one utterance, with its pauses. It is processed like a recording of this length: CMVN
over the utterance, or over the speaker, uses only the piece, windows at its ends repeat its own edge frames, and centring
(``channel.centre``) uses only the piece. Pieces that are cut after normalization over the complete utterance would give much
better results than short recordings. A piece is never longer than its utterance, so long durations can have other speakers
than short ones, or none.

``exp/<exp>/pieces.tsv`` has one row per piece, decided by likelihood: the class with the largest sum of the frames' log
densities. ``dnf.decisions.breakdowns`` computes accuracies from it.
"""

from __future__ import annotations

import copy
import dataclasses

import torch

from dnf.experiment.config import Config
from dnf.experiment.sets import name_of
from dnf.features.frame_store import FrameStore
from dnf.features.rows import batch_for, evenly_spaced, few_of_each
from dnf.features.windows import Windows
from dnf.models.checkpoint import Trained
from dnf.scoring import channel_compensation
from dnf.scoring.open_sets import Opened

MOST = 8  # most utterances, and most pieces, of each speaker and class, for a duration
COLUMNS = ("set", "seconds", "speaker", "class", "decision", "frames")


def with_few_utterances(store: FrameStore, frames: int) -> FrameStore:
    """The store with up to ``MOST`` utterances of at least ``frames`` of each speaker and class; others lose their class."""
    long = torch.nonzero(store.offsets[1:] - store.offsets[:-1] >= frames)[:, 0].tolist()
    chosen = {long[i] for i in few_of_each([(store.speakers[u], store.classes[u]) for u in long], MOST)}
    few = copy.copy(store)
    few.classes = [name if u in chosen else "" for u, name in enumerate(store.classes)]
    return few


@torch.no_grad()
def decide_pieces(
    trained: Trained, windows: Windows, correction: channel_compensation.Correction | None, most: int
) -> list[tuple[str, str, str, int]]:
    """Speaker, class, decision and vectors of up to ``MOST`` pieces of each speaker and class.

    Args:
        windows: vectors, cut to pieces.
        correction: of the channel, computed from the pieces.
        most: most vectors in total; more pieces are thinned evenly, to one at least.
    """
    model, segments = trained.model, list(windows.segments())
    chosen = few_of_each([(s.speaker, s.name) for s in segments], MOST)
    share = most / max(1, sum(segments[i].rows for i in chosen))
    if share < 1:
        chosen = [chosen[j] for j in evenly_spaced(len(chosen), max(1, int(share * len(chosen)))).tolist()]
    segments = [segments[i] for i in chosen]
    rows = torch.cat([torch.arange(s.first, s.first + s.rows) for s in segments])
    counts = torch.tensor([s.rows for s in segments])
    piece = torch.arange(len(segments)).repeat_interleave(counts)
    device = model.prior.means.device
    z = torch.cat([model(windows.gather(part).to(device))[0] for part in rows.split(batch_for(device))])
    prior = model.prior
    if correction:
        dim = prior.cond_dim
        sums = torch.zeros(len(segments), dim, dtype=torch.float64).index_add_(0, piece, z[:, :dim].double().cpu())
        alone = [s._replace(speaker=s.utt) for s in segments]
        z = channel_compensation.centred(
            z, correction.shifts_of(sums.numpy(), counts.double().numpy(), alone, device), piece
        )
    logp = torch.cat([prior.of_all(part) for part in z.split(batch_for(device))]).double().cpu()
    best = torch.zeros(len(segments), logp.shape[1], dtype=torch.float64).index_add_(0, piece, logp).argmax(1)
    return [(s.speaker, s.name, trained.classes[k], s.rows) for s, k in zip(segments, best.tolist())]


def piece_rows(
    trained: Trained, opened: Opened, config: Config, correction: channel_compensation.Correction | None
) -> list[dict]:
    """Rows of ``pieces.tsv`` of all sets except training sets and sets that are already cut; none if the model makes no decisions.

    Frames stay on disk for any device, since a duration uses only a few utterances of a set.
    """
    rows = []
    if not trained.config.prior.cond_dim or len(trained.classes) < 2 or not config.latents.duration_frames:
        return rows
    trained.model.eval()
    splice, cmvn, shift = trained.config.splice, trained.config.cmvn, trained.config.features.frame_shift
    if cmvn.scope == "speaker":
        cmvn = dataclasses.replace(cmvn, scope="utterance")
    for name, view in opened.sets:
        if view.seconds or name == name_of(config.data, "train"):
            continue
        for seconds in config.latents.durations:
            frames = max(1, round(seconds / shift))
            stores = [with_few_utterances(opened.stores[s], frames) for s in view.sets]
            windows = Windows(
                stores,
                splice,
                cmvn,
                trained.classes,
                keep_unseen=False,
                device=torch.device("cpu"),
                scores=view.scores,
                piece_frames=frames,
            )
            if len(windows):
                for row in decide_pieces(trained, windows, correction, config.latents.duration_frames):
                    rows.append(dict(zip(COLUMNS, (name, f"{seconds:g}", *row))))
    return rows
