"""Sets of the experiment ``speakers``: the speakers are the classes.

    set            of                                                                        speakers
    train, dev     pieces of LibriSpeech train-clean-100 and adults of speechocean762,       those with 5 utterances or
                   train; 85 and 15 % of the utterances of each speaker                      more; 5/6 of the adults
    calibration    speechocean762, train                                                     the other 1/6 of the adults
    test           adults of speechocean762, test                                            all

Recordings of LibriSpeech are cut into pieces of 2.5 s, at most 20 of a reader, since a reader may have a single one. Pieces
of one recording say nothing about verification, so no reader is in ``calibration`` or ``test``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lhotse import SupervisionSet
from lhotse.utils import fastcopy

from dnf.data import recipe
from dnf.data.recipe import Manifests
from egs.corpora import librispeech, speakers, speechocean

SECONDS = 2.5
MOST = 20  # pieces of a reader, as many as a speaker of speechocean762 has utterances
LEAST = 5  # utterances of a training speaker
SHARES = {"train": 5 / 6, "calibration": 1 / 6}


def make(corpus_dirs: Mapping[str, Path], output_dir: Path, seed: int, max_rejected: float) -> dict[str, Manifests]:
    """Manifests by set of the corpora that are given.

    Raises:
        ValueError: too few training speakers have enough utterances.
    """
    sets, training = {}, []
    if folder := corpus_dirs.get("librispeech"):
        training.append(pieces(librispeech.read(folder, "train-clean-100", output_dir, max_rejected), seed))
    if folder := corpus_dirs.get("speechocean"):
        train, test = (
            recipe.make(f"speechocean_{part}", spoken, output_dir, max_rejected)
            for part, spoken in speechocean.read(folder).items()
        )
        parts = recipe.divide(recipe.seconds_by(train, "speaker"), SHARES, seed)
        training.append(recipe.of_speakers(train, parts["train"]))
        sets["calibration"] = speakers.unlabelled(recipe.of_speakers(train, parts["calibration"]))
        sets["test"] = speakers.unlabelled(test)
    return sets | speakers.train_and_dev(recipe.combine(training), LEAST, seed)


def pieces(manifests: Manifests, seed: int) -> Manifests:
    """Pieces of ``SECONDS`` of whole recordings, ``MOST`` of each speaker, drawn; what is left at the end is not used."""
    by_speaker: dict[str, list] = {}
    for whole in sorted(manifests.supervisions, key=lambda supervision: supervision.id):
        for number in range(int(whole.duration / SECONDS)):
            piece = fastcopy(whole, id=f"{whole.id}-{number:02}", start=number * SECONDS, duration=SECONDS)
            by_speaker.setdefault(whole.speaker, []).append(piece)
    rng = np.random.default_rng(seed)
    chosen = [of_one[n] for of_one in by_speaker.values() for n in sorted(rng.permutation(len(of_one))[:MOST])]
    return Manifests(manifests.recordings, SupervisionSet.from_segments(chosen))
