"""Front-ends: vectors of utterances from their samples, one file each.

A front-end is made of the settings, and of the folder of stage features with what ``fit`` has written. It has

    folder            that of stage features
    kind              name of the archives of what stage features keeps of each utterance
    prepare()         loads what ``measure`` needs; raises ``ValueError`` if it is missing or damaged
    measure(samples)  what it keeps: an array, of samples (T,) in -1..1; raises ``ValueError`` with the reason if there is nothing
    vector(kept)      the vector (E,) float32 of that
    fit(...)          optional; fits what it needs to the utterances of the training sets, before the first ``measure``
    fitted            names of the files of this fit, in the folder of stage features

To add one: its file, its row in ``FRONT_ENDS``, its name and settings in ``dnf.experiment.settings.VectorsSettings`` and
``conf/default.yaml``; ``tests/features/test_front_ends.py`` then tests it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from dnf.experiment.config import Config
from dnf.features.front_ends.encoder import EncoderFrontEnd
from dnf.features.front_ends.pool import PoolFrontEnd
from dnf.features.front_ends.rates import RatesFrontEnd
from dnf.features.front_ends.ubm import UbmFrontEnd


class FrontEnd(Protocol):
    folder: Path
    kind: str
    fitted: tuple[str, ...]

    def prepare(self) -> None: ...

    def measure(self, samples: np.ndarray) -> np.ndarray: ...

    def vector(self, kept: np.ndarray) -> np.ndarray: ...


FRONT_ENDS: dict[str, type[FrontEnd]] = {
    "ubm": UbmFrontEnd,
    "pool": PoolFrontEnd,
    "encoder": EncoderFrontEnd,
    "rates": RatesFrontEnd,
}


def make_front_end(config: Config, folder: Path) -> FrontEnd | None:
    """The front-end of ``vectors.front_end``; None where utterances are frames, or vectors that come with the data."""
    if not config.has_vectors or config.reads_vectors:
        return None
    return FRONT_ENDS[config.vectors.front_end](config, folder)
