"""Fixtures of several files of tests."""

from collections.abc import Callable

import numpy as np
import pytest

from dnf.decisions.channel_bias import ChannelBias
from dnf.scoring.channel_model import ChannelModel


@pytest.fixture(scope="session")
def bias_of() -> Callable[[ChannelModel], ChannelBias]:
    """Makes a random bias of two classes, from the part of profiles that normalization does not remove."""

    def make(channels: ChannelModel) -> ChannelBias:
        rng, counted = np.random.default_rng(1), slice(channels.unnormalized, None)
        home, scale = np.array(channels.profiles).mean(0)[counted], np.array(channels.scale)[counted]
        return ChannelBias(home, scale, rng.normal(0, 3, (50, len(home))), rng.normal(0, 0.1, (50, 2)))

    return make
