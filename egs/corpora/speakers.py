"""Sets of speaker recognition: the training speakers are the classes, and dev has other utterances of them.

Speakers of other sets are no classes of the model: their utterances are unlabelled.
"""

from __future__ import annotations

import logging

import numpy as np
from lhotse import SupervisionSet
from lhotse.utils import fastcopy

from dnf.data import recipe
from dnf.data.recipe import Manifests
from dnf.experiment.classes import UNLABELLED

log = logging.getLogger(__name__)

DEV_SHARE = 0.15  # of the utterances of each training speaker


def with_class(manifests: Manifests, name: str | None = None) -> Manifests:
    """The utterances with ``name`` as class, or the speaker of each."""
    supervisions = (fastcopy(s, custom=s.custom | {"class": name or s.speaker}) for s in manifests.supervisions)
    return Manifests(manifests.recordings, SupervisionSet.from_segments(supervisions))


def unlabelled(manifests: Manifests) -> Manifests:
    """The utterances of speakers that are no classes."""
    return with_class(manifests, UNLABELLED)


def train_and_dev(manifests: Manifests, least: int, seed: int) -> dict[str, Manifests]:
    """Sets ``train`` and ``dev``: ``DEV_SHARE`` of the utterances of each speaker with ``least`` or more, one at least, is dev.

    Raises:
        ValueError: fewer than two speakers have enough utterances.
    """
    rng, by_speaker = np.random.default_rng(seed), {}
    for supervision in sorted(manifests.supervisions, key=lambda supervision: supervision.id):
        by_speaker.setdefault(supervision.speaker, []).append(supervision.id)
    enough = [utts for utts in by_speaker.values() if len(utts) >= least]
    if len(enough) < 2:
        raise ValueError(f"{len(enough)} training speakers have {least} utterances or more; give more of the corpora")
    log.info("%d of %d training speakers have %d utterances or more", len(enough), len(by_speaker), least)
    dev = [str(utt) for utts in enough for utt in rng.permutation(utts)[: max(1, round(DEV_SHARE * len(utts)))]]
    train = {utt for utts in enough for utt in utts}.difference(dev)
    return {name: with_class(recipe.of_utterances(manifests, utts)) for name, utts in (("train", train), ("dev", dev))}
