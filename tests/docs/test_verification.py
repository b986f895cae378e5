"""The script behind the table of docs/vectors.md: its map is invertible, and the true model is the best of its world."""

import importlib.util

import numpy as np
import pytest
from recipe_runs import ROOT

from dnf.experiment.config import resolve
from dnf.models.backends import Plda


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("verification", ROOT / "docs" / "verification.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_map_can_be_undone(script):
    world = script.World(3)
    y = np.random.default_rng(1).normal(size=(50, script.DIM))
    z = np.arcsinh(world.bent(y) @ world.rotations[1].T) / script.BEND
    half = script.DIM // 2
    z[:, half:] /= np.exp(script.BEND * np.tanh(z[:, :half] @ world.mixing))
    np.testing.assert_allclose(z @ world.rotations[0].T, y, atol=1e-9)


def test_the_true_model_is_better_than_a_back_end_on_bent_vectors_and_a_short_training_helps_cosine(script):
    world = script.World(1)
    train, test = world.draw(100, script.UTTERANCES), world.draw(60, 5)
    best = script.eer(world.model, test.y, test.speaker)
    fitted = script.eer(Plda.fit(train.y, train.speaker), test.y, test.speaker)
    bent = script.eer(Plda.fit(train.x, train.speaker), test.x, test.speaker)
    assert best - 0.01 < fitted < best + 0.03 < bent
    model = script.fit(train, resolve(list(script.SETTINGS)), 20, 1)
    after = script.latents(model, train), script.latents(model, test)
    raw, found = (
        script.eer(script.Cosine.fit(x, train.speaker), tested, test.speaker)
        for x, tested in ((train.x, test.x), after)
    )
    assert found < raw - 0.03
