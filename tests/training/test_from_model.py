"""Training that starts from a trained model: the flow is its own, the classes are others."""

import logging

import pytest
import torch

from dnf.training.evaluate import evaluate
from dnf.training.ranks import ALONE
from dnf.training.train import make_trainer, run

BENT = ("flow.mix=lu", "train.eval_steps=6")


@pytest.fixture
def trained(new_trainer):
    """Folder of a model of en and zh."""
    run(new_trainer(*BENT, out="first"))
    return new_trainer(*BENT, out="first").out


def renamed(write_store, two_classes, folder):
    """The stores of ``problem`` with classes en and ce, and ce of other frames than zh."""
    for name, seed, utterances in (("train", 1, 6), ("dev", 2, 2)):
        made = two_classes(seed, utterances, offset=2.0)
        write_store(folder / name, {u: (s, c.replace("zh", "ce"), *rest) for u, (s, c, *rest) in made.items()})
    return folder


@pytest.mark.parametrize("words", [(), ("prior.variances=free", "prior.cond_r=true"), ("prior.cond_dim=0",)])
def test_the_flow_is_kept_and_the_prior_is_that_of_its_latents(
    trained, words, write_store, two_classes, small_config, tmp_path, caplog
):
    stores, config = (
        renamed(write_store, two_classes, tmp_path / "stores"),
        small_config(*BENT, *words, f"train.from_model={trained}"),
    )
    (tmp_path / "second").mkdir()
    with caplog.at_level(logging.INFO):
        trainer = make_trainer(stores, tmp_path / "second", config, ["ce", "en"], ALONE)
    assert f"{trained}: first layer and flow are kept" in caplog.text and "the prior is new, for ce en" in caplog.text
    before, now = torch.load(trained / "best.pt", weights_only=True)["model"], trainer.model.state_dict()
    kept = [name for name in now if not name.startswith("prior.")]
    assert len(kept) > 10 and all(torch.equal(now[name], before[name]) for name in kept)
    rows = torch.arange(len(trainer.train))
    z, labels = trainer.model(trainer.train.gather(rows))[0].double(), trainer.train.labels(rows)
    means, dims = trainer.model.prior.class_means().double(), config.prior.cond_dim
    for k in range(2 if dims else 0):
        torch.testing.assert_close(means[k, :dims], z[labels == k].mean(0)[:dims], rtol=0, atol=1e-4)
    if "prior.variances=free" in words:
        spread = z[labels == 1].var(0, correction=0).log()
        torch.testing.assert_close(trainer.model.prior.class_log_variances()[1].double(), spread, rtol=0, atol=1e-4)
    run(trainer)
    assert any(not torch.equal(trainer.model.state_dict()[name], before[name]) for name in kept)


def test_it_starts_nearer_to_its_end_than_a_new_flow(trained, new_trainer):
    new, from_model = (new_trainer(*words) for words in (BENT, (*BENT, f"train.from_model={trained}")))
    rows = torch.arange(len(new.dev))
    start, later = (evaluate(trainer.model, trainer.dev, rows)["nll"] for trainer in (new, from_model))
    assert later < start - 0.1


def test_another_flow_or_no_model_is_refused_in_a_line(trained, new_trainer, tmp_path):
    for word, reason in (
        ("flow.hidden=16", r"was trained with flow.hidden=8, not 16; set the same"),
        ("flow.activation=tanh", r"was trained with flow.activation=relu, not tanh"),
        ("cmvn.scope=utterance", r"was trained with cmvn.scope=none, not utterance"),
        ("flow.kind=maf", r"flow.kind=realnvp, not maf"),
        ("splice.left=2", r"splice.left=1, not 2"),
    ):
        with pytest.raises(ValueError, match=f"^train.from_model: {trained} .*{reason}"):
            new_trainer(*BENT, f"train.from_model={trained}", word)
    with pytest.raises(ValueError, match=r"none: no such folder; name the folder of an experiment"):
        new_trainer(*BENT, f"train.from_model={tmp_path / 'none'}")
    new_trainer(*BENT, f"train.from_model={trained}", "splice.hop=2", "train.beta=1.0")


def test_a_checkpoint_of_other_shapes_is_refused_in_a_line(trained, new_trainer):
    content = torch.load(trained / "best.pt", weights_only=True)
    content["model"]["first.mean"] = torch.zeros(1)
    torch.save(content, trained / "best.pt")
    with pytest.raises(ValueError, match="best.pt: the shape of its weights does not match its settings"):
        new_trainer(*BENT, f"train.from_model={trained}")
