"""A conditional flow: densities of frames given the frames before them, from start to scores."""

import numpy as np
import pytest
import torch
from flow_checks import jacobian_logdet, randomized, vectors
from scipy.stats import multivariate_normal

from dnf.inference import moving
from dnf.models.checkpoint import Trained
from dnf.models.dnf import DNF
from dnf.training.start import residual

KIND = ("flow.kind=conditional", "prior.cond_dim=4", "prior.variances=free", "flow.summary=16", "splice.right=0")


@pytest.fixture
def model(small_config):
    """A conditional flow with weights that are nowhere zero: windows of 2 + 1 frames of 4 dims."""
    return randomized(DNF.from_config(small_config(*KIND, "splice.left=2", "flow.first=joint"), 2), scale=0.4)


@pytest.mark.parametrize("first", ("joint", "whiten", "standardize"))
def test_step_0_is_the_gaussian_of_what_the_frames_before_do_not_predict(new_trainer, first):
    """Scipy's densities of the residual, with the covariance of each class (joint) or of both (whiten); standardize
    predicts nothing, and has the variances of each class.
    """
    variances = "tied" if first == "whiten" else "free"
    trainer = new_trainer(*KIND, "splice.left=2", f"flow.first={first}", f"prior.variances={variances}")
    x, labels = trainer.train.gather(rows := torch.arange(len(trainer.train))).double(), trainer.train.labels(rows)
    covariances = [np.cov(x[labels == k].numpy().T, bias=True) for k in (0, 1)]
    average, frame = sum(covariances) / 2, slice(8, 12)
    taken = np.eye(12)[:, frame] if first == "standardize" else residual(torch.from_numpy(average), frame).numpy()
    with torch.no_grad():
        ours = trainer.model.double().log_prob(x).numpy()
    for k in (0, 1):
        covariance = taken.T @ (average if first == "whiten" else covariances[k]) @ taken
        if first == "standardize":
            covariance = np.diag(np.diag(covariance))
        mean = x[labels == k].numpy().mean(0) @ taken
        np.testing.assert_allclose(
            ours[:, k], multivariate_normal(mean, covariance).logpdf(x.numpy() @ taken), atol=1e-4
        )


@pytest.mark.parametrize("first", ("joint", "standardize"))
def test_a_conditional_flow_is_given_standardized_frames(new_trainer, first):
    trainer = new_trainer(*KIND, "splice.left=2", f"flow.first={first}", "prior.variances=fixed")
    x = trainer.train.gather(torch.arange(len(trainer.train)))
    (context,) = trainer.model._context(x)
    np.testing.assert_allclose(context.mean(0), np.zeros(8), atol=0.2)
    np.testing.assert_allclose(context.std(0), np.ones(8), atol=0.2)


def test_a_residual_is_what_the_other_frames_do_not_predict():
    frames = np.random.default_rng(0).standard_normal((4000, 6)) @ np.random.default_rng(1).standard_normal((6, 6))
    covariance = torch.from_numpy(np.cov(frames.T))
    taken = residual(covariance, slice(2, 4))
    left = frames @ taken.numpy()
    others = np.delete(frames, [2, 3], axis=1)
    assert np.abs(np.cov(left.T, others.T)[:2, 2:]).max() < 1e-10
    fit = np.linalg.lstsq(others - others.mean(0), frames[:, 2:4] - frames[:, 2:4].mean(0), rcond=None)[0]
    np.testing.assert_allclose(-np.delete(taken.numpy(), [2, 3], axis=0), fit, rtol=1e-8, atol=1e-10)


def test_latents_are_those_of_the_current_frame(model):
    """Forward, inverse and log-determinant, the other frames held."""
    x = vectors(20, 12)
    z, logdet = model(x)
    assert z.shape == (20, 4) and model.log_prob(x).shape == (20, 2)
    back, inverse = model.inverse(z, x)
    torch.testing.assert_close(back, x[:, 8:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inverse, -logdet, rtol=1e-9, atol=1e-9)
    before = x[0, :8]
    given = lambda frame: model(torch.cat([before.expand(len(frame), -1), frame], 1))  # noqa: E731
    torch.testing.assert_close(given(x[:5, 8:])[1], jacobian_logdet(given, x[:5, 8:]), rtol=1e-8, atol=1e-8)


def test_frames_before_and_after_are_context(small_config):
    model = randomized(DNF.from_config(small_config(*KIND, "splice.left=1", "splice.right=1"), 2), scale=0.4)
    x = vectors(3, 12)
    for columns in (slice(0, 4), slice(8, 12)):
        other = x.clone()
        other[:, columns] += 1.0
        assert (model(other)[0] - model(x)[0]).abs().min(0).values.max() > 1e-3
    torch.testing.assert_close(model.inverse(model(x)[0], x)[0], x[:, 4:8], rtol=1e-9, atol=1e-9)


def test_a_move_is_made_frame_by_frame(model, small_config):
    """Each frame is given those moved before it, so the latents of the moved recording are those asked for."""
    config = small_config(*KIND, "splice.left=2", "splice.hop=1")
    trained = Trained(randomized(model, scale=0.1), config, ["en", "zh"], {})  # so that nothing blows up on the way
    frames = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    utterance = moving.Utterance("u", "s", "en", frames, torch.arange(30) % 4 > 0)
    shift = 0.5 * moving.shift_between(trained, ("en", "zh")).detach()
    none, moved = (moving.move(utterance, trained, scale * shift) for scale in (0.0, 1.0))
    assert none.error < 1e-9
    torch.testing.assert_close(none.after, frames, atol=1e-5, rtol=0)
    with torch.no_grad():
        z = model(moved.before.double())[0]
        again = model(moved.respliced.double())[0]
    torch.testing.assert_close(again, z + shift, atol=1e-4, rtol=0)


def test_dropout_follows_seed_and_step(new_trainer):
    """Steps of training that go on from a state are those of a run that was not stopped, and evaluation drops nothing."""
    trainer = new_trainer(*KIND, "splice.left=2", "flow.dropout=0.3")
    state = trainer.state()
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        trainer.load_state(state)
        torch.rand(7)  # whatever else is drawn
        trainer.advance()
        trainer.settle()
        weights.append([p.detach().clone() for p in trainer.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights))
    x = trainer.train.gather(torch.arange(50))
    trainer.model.train()
    assert not torch.equal(trainer.model(x)[0], trainer.model(x)[0])
    trainer.model.eval()
    assert torch.equal(trainer.model(x)[0], trainer.model(x)[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prior.cond_dim=5",), "prior.cond_dim 5 is more than the 4 dims of a frame"),
        (("splice.left=0",), "flow.kind conditional needs frames around each; set splice.left"),
        (("flow.first_trainable=true",), "no trainable first layer; set flow.first_trainable=false"),
        (("flow.dropout=1.0",), "flow.dropout must be from 0 to below 1"),
        (("flow.dropout=0.1", "train.objective=gaussianality"), "flow.dropout: train.objective gaussianality"),
    ],
)
def test_what_it_cannot_serve_is_refused(small_config, words, message):
    with pytest.raises(ValueError, match=message):
        DNF.from_config(small_config(*KIND, *words), 2)
