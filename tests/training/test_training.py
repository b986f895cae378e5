"""Training: steps, checkpoints, what happens when it breaks off or blows up, and whether evaluation agrees."""

import copy
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from one_step import one_step
from training_history import history

from dnf.features.rows import evenly_spaced
from dnf.features.windows import Windows
from dnf.models import checkpoint
from dnf.models.flows import FLOWS
from dnf.scoring import latents
from dnf.training import start, train
from dnf.training import trainer as trainer_module
from dnf.training.evaluate import evaluate
from dnf.training.history import COLUMNS
from dnf.training.loss import Loss, backward
from dnf.training.ranks import ALONE
from dnf.training.train import make_trainer
from dnf.training.trainer import CPU_MICRO_BATCH, Trainer, learning_rate

# ---- learning rate -------------------------------------------------------------------------------


def test_the_learning_rate_warms_up_and_falls_along_half_a_cosine(small_config):
    settings = small_config("train.warmup_steps=10", "train.lr_final=0.1").train
    rates = [learning_rate(step, 110, settings) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    assert rates[10] == pytest.approx(1.0) and rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)
    assert rates[35] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_the_learning_rate_can_stay(small_config):
    settings = small_config("train.warmup_steps=0", "train.lr_final=1.0").train
    assert {learning_rate(step, 50, settings) for step in range(50)} == {1.0}


def test_a_run_shorter_than_its_warm_up_has_a_learning_rate(small_config):
    settings = small_config("train.warmup_steps=100").train
    assert [learning_rate(step, 3, settings) for step in range(3)] == pytest.approx([0.01, 0.02, 0.03])


# ---- a small problem -----------------------------------------------------------------------------


def weights(of) -> torch.Tensor:
    state = of if isinstance(of, dict) else of.state_dict()
    return torch.cat([tensor.flatten() for tensor in state.values()])


@pytest.fixture
def broken_batches(monkeypatch):
    """A set of steps at which training gathers vectors that are not numbers, while evaluation gathers what there is."""
    steps, now = set(), []
    advance, gather = Trainer.advance, Windows.gather

    def advance_known(self):
        now.append(self.step)
        try:
            return advance(self)
        finally:
            now.pop()

    monkeypatch.setattr(Trainer, "advance", advance_known)
    monkeypatch.setattr(
        Windows, "gather", lambda self, rows: gather(self, rows) * (math.nan if now and now[-1] in steps else 1)
    )
    return steps


# ---- steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", (1, 7, 49))
@pytest.mark.parametrize("nets", ("one", "two"))
def test_micro_batches_give_the_gradients_of_the_whole_batch(new_trainer, micro_batch, nets):
    trainer = new_trainer(f"flow.nets={nets}")
    trainer.model.double()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    data = trainer.train
    gather = data.gather
    data.gather = lambda rows: gather(rows).double()
    rows, got = trainer.sampler.batch(0), {}
    for size in (micro_batch, 50):
        trainer.model.zero_grad()
        figures = backward(Loss(trainer.model), data, rows, size)
        got[size] = figures, {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
    for name, gradient in got[50][1].items():
        torch.testing.assert_close(got[micro_batch][1][name], gradient, rtol=1e-9, atol=1e-10, msg=name)
        assert gradient.abs().max() > 0
    for name in ("logp", "logdet"):
        torch.testing.assert_close(got[micro_batch][0][name], got[50][0][name], rtol=1e-10, atol=1e-10)
    x, labels = data.gather(rows), data.labels(rows)
    wanted = trainer.model.log_prob(x)[torch.arange(50), labels].mean()
    torch.testing.assert_close(got[50][0]["logp"] + got[50][0]["logdet"], wanted.detach())


def test_a_step_follows_the_gradient_of_the_mean_nll(new_trainer):
    trainer = new_trainer("train.grad_clip=1e9")
    figures = one_step(trainer)
    gradients = [p.grad.clone() for p in trainer.model.parameters()]
    again = new_trainer()
    rows = again.sampler.batch(0)
    z, logdet = again.model(again.train.gather(rows))
    nll = -(again.model.prior.of_class(z, again.train.labels(rows)) + logdet).mean()
    for wanted, got in zip(torch.autograd.grad(nll, list(again.model.parameters())), gradients):
        torch.testing.assert_close(got, wanted)
    assert figures["nll"] == pytest.approx(nll.item(), rel=1e-5)
    assert figures["nll"] == pytest.approx(-(figures["logp"] + figures["logdet"]))
    assert figures["grad_norm"] == pytest.approx(math.sqrt(sum(g.square().sum().item() for g in gradients)), rel=1e-5)


def test_gradients_are_clipped_to_their_norm(new_trainer):
    trainer = new_trainer("train.grad_clip=0.5")
    figures = one_step(trainer)
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in trainer.model.parameters()))
    assert norm == pytest.approx(0.5, rel=1e-4) and figures["grad_norm"] > 0.5


def test_steps_use_the_learning_rate_of_the_schedule(new_trainer):
    trainer = new_trainer("train.lr=0.01", "train.warmup_steps=4")
    got = []
    for _ in range(12):
        got.append(one_step(trainer)["lr"])
        assert trainer.optimizer.param_groups[0]["lr"] == got[-1]
    assert got == pytest.approx([0.01 * learning_rate(step, 12, trainer.config.train) for step in range(12)])


def test_length_of_a_run(new_trainer):
    assert new_trainer("train.epochs=3").total_steps == 18  # 300 vectors in batches of 50
    assert new_trainer("train.epochs=3", "train.steps=11").total_steps == 11
    assert new_trainer().eval_steps == 6 and new_trainer("train.eval_steps=4").eval_steps == 4
    assert new_trainer().micro_batch == CPU_MICRO_BATCH and new_trainer("train.micro_batch=7").micro_batch == 7


def test_training_starts_standardized_with_class_means_in_order_of_ids(new_trainer):
    trainer = new_trainer()
    x, labels = trainer.train.gather(torch.arange(300)), trainer.train.labels(torch.arange(300))
    z, _ = trainer.model(x)
    mean, std = x.view(-1, 4).mean(0).repeat(3), x.view(-1, 4).std(0, correction=0).repeat(3)
    torch.testing.assert_close(z, (x - mean) / std, rtol=1e-3, atol=1e-3)  # a new flow is the identity
    for k in range(2):
        torch.testing.assert_close(
            trainer.model.prior.means[k].detach(), z[labels == k, :6].mean(0).detach(), rtol=1e-3, atol=1e-3
        )


def test_a_rare_class_that_the_sample_misses_has_finite_means(
    write_store, two_classes, new_trainer, monkeypatch, tmp_path
):
    """The means start from a sample of the training frames, which need not hold every class."""
    rare = two_classes(1, utterances=6)
    name, row = next((name, row) for name, row in rare.items() if row[1] == "zh")
    utterances = {n: r for n, r in rare.items() if r[1] == "en"} | {name: (row[0], row[1], row[2][:1], row[3][:1])}
    for store in ("train", "dev"):
        write_store(tmp_path / "rare" / store, utterances)
    monkeypatch.setattr(start, "AGREEMENT_FRAMES", 20)
    trainer = new_trainer("data.shared_speakers=true", stores=tmp_path / "rare")
    assert weights(trainer.model).isfinite().all()
    assert one_step(trainer) is not None


def test_a_class_without_frames_is_named(write_store, two_classes, small_config, tmp_path):
    write_store(tmp_path / "train", two_classes(1))
    write_store(tmp_path / "dev", {name: row for name, row in two_classes(2).items() if row[1] == "en"})
    with pytest.raises(
        ValueError, match=r"class zh has no frames in dev; add recordings, or remove the class from data.classes"
    ):
        make_trainer(tmp_path, tmp_path, small_config(), ["en", "zh"], ALONE)


@pytest.mark.parametrize(("cond_dim", "warned"), ((2, True), (0, False)))
def test_a_single_class_is_trained_with_a_warning(
    write_store, two_classes, small_config, tmp_path, caplog, cond_dim, warned
):
    for name, seed in (("train", 1), ("dev", 2)):
        write_store(tmp_path / name, two_classes(seed))
    make_trainer(tmp_path, tmp_path, small_config(f"prior.cond_dim={cond_dim}"), ["en"], ALONE)
    assert ("en is the only class" in caplog.text) == warned


def test_utterances_of_other_classes_are_left_out(write_store, two_classes, small_config, tmp_path):
    for name, seed in (("train", 1), ("dev", 2)):
        rows = two_classes(seed)
        other = {f"{name}{n}": (f"{name}{n}", "ja", row[2] + 1e3, row[3]) for n, row in enumerate(rows.values())}
        write_store(tmp_path / name, rows | other)
    trainer = make_trainer(tmp_path, tmp_path, small_config(), ["en", "zh"], ALONE)
    assert len(trainer.train) == len(trainer.dev) == 300
    assert set(trainer.train.labels(torch.arange(300)).tolist()) == {0, 1}
    assert trainer.model.first.mean.abs().max() < 30


def true_log_density(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log p(x | y) of the frames ``(N, 4)`` that the fixture two_classes draws."""
    x = (x.double() - 10) / 4
    scale = torch.exp(0.5 * x[:, 0])
    class_mean = torch.where(labels == 1, 3.0, -1.0).double()
    normal = [x[:, 0], x[:, 1] - 2 * torch.tanh(2 * x[:, 0]), (x[:, 2] - class_mean) / scale, x[:, 3]]
    return sum(-0.5 * v.square() - 0.5 * math.log(2 * math.pi) for v in normal) - scale.log() - 4 * math.log(4)


def test_training_finds_the_true_density_and_no_more(write_store, two_classes, new_trainer, tmp_path):
    """The NLL of held-out frames falls to their entropy; a wrong log-determinant would take it past."""
    for name, seed, utterances in (("train", 1, 20), ("dev", 2, 10)):
        write_store(tmp_path / name, two_classes(seed, utterances, frames=200))
    words = ("splice.left=0", "splice.right=0", "prior.cond_dim=4", "flow.hidden=24", "flow.blocks=4")
    words += ("train.batch_size=400", "train.steps=200", "train.lr=0.02")
    trainer = new_trainer(*words, stores=tmp_path)
    before = evaluate(trainer.model, trainer.dev)
    train.run(trainer)
    after = evaluate(checkpoint.load_model(trainer.out / "best.pt").model, trainer.dev)
    rows = torch.arange(len(trainer.dev))
    entropy = -true_log_density(trainer.dev.gather(rows), trainer.dev.labels(rows)).mean().item()
    assert before["nll"] > entropy + 1.0
    assert entropy - 0.03 < after["nll"] < entropy + 0.15
    assert after["accuracy"] > 0.93


def test_the_same_seed_gives_the_same_weights(new_trainer):
    got = []
    for n, seed in enumerate((1, 1, 2)):
        trainer = new_trainer(f"seed={seed}", out=f"exp{n}")
        train.run(trainer)
        got.append(weights(trainer.model))
    assert torch.equal(got[0], got[1]) and not torch.equal(got[0], got[2])


def test_first_weights_follow_the_seed_alone(new_trainer):
    got = []
    for n, seed in enumerate((1, 1, 2)):
        torch.manual_seed(n)  # whatever was drawn before
        got.append(weights(new_trainer(f"seed={seed}").model.flow))
    assert torch.equal(got[0], got[1]) and not torch.equal(got[0], got[2])


@pytest.mark.parametrize(("sampling", "rare"), [("natural", 50), ("balanced", 100)])
def test_sampling_is_that_of_the_settings(new_trainer, write_store, two_classes, tmp_path, sampling, rare):
    utterances = dict(sorted(two_classes(1).items(), key=lambda item: item[1][1])[:4])  # three of en, one of zh
    for name in ("train", "dev"):
        write_store(tmp_path / name, utterances)
    trainer = new_trainer(f"train.sampling={sampling}", "data.shared_speakers=true", stores=tmp_path)
    drawn = torch.cat([trainer.train.labels(trainer.sampler.batch(step)) for step in range(4)])
    assert drawn.sum() == rare and len(drawn) == 200


def test_pieces_cut_the_training_sets_alone(new_trainer):
    whole = new_trainer("cmvn.scope=utterance", out="whole")
    cut = new_trainer("cmvn.scope=utterance", "train.pieces=0.1", out="cut")
    lengths = [s.end - s.begin for s in (part.source for part in cut.train.parts)]
    assert all(length.max() <= 10 for length in lengths) and len(list(cut.train.segments())) > len(
        list(whole.train.segments())
    )
    assert len(cut.dev) == len(whole.dev) and len(list(cut.dev.segments())) == len(list(whole.dev.segments()))
    train.run(cut)


@pytest.mark.parametrize("sampling", ("natural", "balanced"))
@pytest.mark.parametrize("cond_dim", (0, 6, 12))
def test_every_kind_of_prior_and_sampling_trains(new_trainer, sampling, cond_dim):
    trainer = new_trainer(
        f"train.sampling={sampling}", f"prior.cond_dim={cond_dim}", "prior.var_r=1000.0", "train.lr=0.01"
    )
    train.run(trainer)
    rows = [float(row["nll"]) for row in history(trainer.out)]
    assert np.isfinite(rows).all() and rows[-1] < rows[0]


@pytest.mark.parametrize("kind", FLOWS)
def test_bfloat16_trains_on_a_cpu_near_float32(new_trainer, kind):
    trainers = {
        p: new_trainer(f"flow.kind={kind}", "prior.cond_dim=4", f"train.precision={p}", "train.lr=0.003", out=p)
        for p in ("float32", "bf16")
    }
    for trainer in trainers.values():
        train.run(trainer)
        assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    wide, narrow = (history(trainer.out) for trainer in trainers.values())
    assert not torch.equal(weights(trainers["bf16"].model), weights(trainers["float32"].model))
    for a, b in zip(wide, narrow):
        assert float(a["nll"]) == pytest.approx(float(b["nll"]), abs=0.2)
    assert torch.get_float32_matmul_precision() == "highest"


# ---- history and checkpoints ---------------------------------------------------------------------


def test_history_has_a_row_for_every_step_of_a_short_run(new_trainer):
    trainer = new_trainer("train.steps=11", "train.eval_steps=4")
    train.run(trainer)
    rows = history(trainer.out, without=())
    assert list(rows[0]) == list(COLUMNS)
    assert [int(row["step"]) for row in rows] == list(range(1, 12))
    assert [int(row["step"]) for row in rows if row["dev_nll"]] == [4, 8, 11]
    for row in rows:
        assert float(row["nll"]) == pytest.approx(-float(row["logp"]) - float(row["logdet"]), rel=1e-4)
        assert float(row["epoch"]) == pytest.approx(int(row["step"]) / 6, abs=1e-3)
        assert row["spikes"] == row["restores"] == "0"
        if row["dev_nll"]:
            assert float(row["dev_nll"]) == pytest.approx(-float(row["dev_logp"]) - float(row["dev_logdet"]), rel=1e-4)
    assert json.loads(json.dumps(trainer.summary()))["steps"] == 11
    assert list((trainer.out / "tb").iterdir())


def test_rows_of_a_longer_run_are_means_over_their_steps(new_trainer):
    trainer = new_trainer("train.steps=45", "train.eval_steps=40")
    seen, settle = [], trainer.settle

    def recording():
        seen.append(settle())
        return seen[-1]

    trainer.settle = recording
    train.run(trainer)
    seen = dict(enumerate((figures["nll"] for block in seen for figures in block), 1))
    rows = history(trainer.out)
    assert [int(row["step"]) for row in rows] == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 45]
    for before, row in zip([0, *(int(row["step"]) for row in rows)], rows):
        steps = range(before + 1, int(row["step"]) + 1)
        assert float(row["nll"]) == pytest.approx(sum(seen[step] for step in steps) / len(steps), rel=1e-4)


@pytest.mark.parametrize(("select", "best"), [("nll", 8), ("accuracy", 10)])
def test_best_is_chosen_on_dev(new_trainer, monkeypatch, select, best):
    trainer = new_trainer("train.steps=12", "train.eval_steps=2", f"train.select={select}")
    nll = iter([5.0, 3.0, math.nan, 2.5, 4.0, 2.75])
    accuracy = iter([0.5, 0.6, 0.7, 0.7, 0.9, 0.8])
    looks = []

    def planned(model, data, rows=None, training=False, ranks=ALONE):
        if data is trainer.train:
            return {"nll": 0.0, "logp": 0.0, "logdet": 0.0, "accuracy": 1.0}
        assert data is trainer.dev and rows is None and not training
        looks.append(weights(model).clone())
        return {"nll": next(nll), "logp": 0.0, "logdet": 0.0, "accuracy": next(accuracy)}

    monkeypatch.setattr(trainer_module, "evaluate", planned)
    train.run(trainer)
    kept, last = (checkpoint.load(trainer.out / name) for name in ("best.pt", "last.pt"))
    assert kept["step"] == kept["best_step"] == best and last["step"] == 12 and last["best_step"] == best
    assert torch.equal(weights(kept["model"]), looks[best // 2 - 1]) and torch.equal(weights(last["model"]), looks[-1])
    assert kept["dev"]["nll" if select == "nll" else "accuracy"] == (2.5 if select == "nll" else 0.9)
    assert trainer.summary()["best_step"] == best


def test_a_run_that_never_was_finite_on_dev_is_an_error(new_trainer, monkeypatch):
    """There is no best.pt then, and stage 4 would say to run stage train."""
    trainer = new_trainer("train.steps=4", "train.eval_steps=2")
    nan = {"nll": math.nan, "logp": math.nan, "logdet": 0.0, "accuracy": 0.5}
    monkeypatch.setattr(trainer_module, "evaluate", lambda *_, **__: nan)
    with pytest.raises(ValueError):
        train.run(trainer)


def test_checkpoints_hold_plain_values_and_the_model_comes_back(new_trainer):
    trainer = new_trainer()
    train.run(trainer)
    for name in ("best.pt", "last.pt"):
        trained = checkpoint.load_model(trainer.out / name, known_classes=["en", "zh"])
        assert trained.classes == ["en", "zh"] and trained.config == trainer.config
    assert torch.equal(weights(trained.model), weights(trainer.model))
    assert not list(trainer.out.glob("*.tmp"))


# ---- steps that are not finite -------------------------------------------------------------------


def test_a_broken_step_goes_back_to_the_last_good_state_with_half_the_rate(new_trainer, broken_batches):
    trainer = new_trainer("train.warmup_steps=0", "train.lr_final=1.0")
    for _ in range(3):
        one_step(trainer)
    trainer.look()
    good = weights(trainer.model).clone()
    moments = [state["exp_avg"].clone() for state in trainer.optimizer.state.values()]
    for _ in range(2):
        assert one_step(trainer) is not None
    broken_batches.add(5)
    assert one_step(trainer) is None
    assert torch.equal(weights(trainer.model), good)
    assert all(torch.equal(a, s["exp_avg"]) for a, s in zip(moments, trainer.optimizer.state.values()))
    assert (trainer.step, trainer.restores) == (6, 1)  # past the batch that broke
    assert one_step(trainer)["lr"] == pytest.approx(trainer.config.train.lr / 2)
    assert weights(trainer.model).isfinite().all() and not torch.equal(weights(trainer.model), good)
    broken_batches.add(7)
    assert one_step(trainer) is None
    assert torch.equal(weights(trainer.model), good) and trainer.restores == 2
    assert one_step(trainer)["lr"] == pytest.approx(trainer.config.train.lr / 4)


def test_a_broken_step_moves_nothing_before_anyone_looks(new_trainer, broken_batches):
    """Weights and the optimizer's state stay: torch's fused optimizers still honour ``found_inf``."""
    trainer = new_trainer("train.warmup_steps=0")
    trainer.advance()
    before, moments = weights(trainer.model).clone(), copy.deepcopy(trainer.optimizer.state_dict()["state"])
    broken_batches.add(1)
    trainer.advance()
    assert torch.equal(weights(trainer.model), before)
    for one, other in zip(moments.values(), trainer.optimizer.state_dict()["state"].values()):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    trainer.advance()
    assert weights(trainer.model).isfinite().all() and not torch.equal(weights(trainer.model), before)


def test_a_run_counts_what_it_restored_and_ends_well(new_trainer, broken_batches):
    trainer = new_trainer("train.steps=24", "train.eval_steps=5")
    broken_batches.update({0, 7, 8, 14})
    train.run(trainer)
    rows = history(trainer.out)
    assert trainer.step == 24 and rows[-1]["step"] == "24"
    assert rows[-1]["restores"] == "4" and trainer.summary()["restores"] == 4
    assert not any("nan" in value for row in rows for value in row.values())
    assert weights(checkpoint.load(trainer.out / "best.pt")["model"]).isfinite().all()
    assert checkpoint.load(trainer.out / "last.pt")["restores"] == 4


def test_spikes_stay_counted_when_their_steps_are_undone(new_trainer, broken_batches):
    trainer = new_trainer("train.steps=24")
    trainer.look()
    for _ in range(3):
        one_step(trainer)
    trainer.monitor.spikes += 1
    broken_batches.add(3)
    assert one_step(trainer) is None and trainer.summary()["spikes"] == 1


def test_a_gradient_that_is_not_finite_is_a_broken_step(new_trainer, monkeypatch):
    trainer = new_trainer()
    before = weights(trainer.model).clone()
    original = backward

    def infinite(loss, *args):
        figures = original(loss, *args)
        loss.model.prior.means.grad[0, 0] = math.inf
        return figures

    monkeypatch.setattr(trainer_module, "backward", infinite)
    assert one_step(trainer) is None and trainer.restores == 1
    assert torch.equal(weights(trainer.model), before)


@pytest.mark.parametrize("most", (0, 2))
def test_training_gives_up_after_so_many_restores(new_trainer, broken_batches, most):
    trainer = new_trainer(f"train.max_restores={most}", "train.steps=24")
    broken_batches.update(range(4, 24))
    with pytest.raises(
        ValueError, match=rf"exp: training became non-finite {most + 1} times .* at step \d+\); lower train.lr"
    ) as caught:
        train.run(trainer)
    assert "\n" not in str(caught.value) and trainer.restores == most


# ---- when to go on, and when to begin anew -------------------------------------------------------


@pytest.fixture
def run_main(problem, small_config, tmp_path):
    def run(*words: str, options=(), stores: Path = problem, classes="en\nzh\n") -> dict:
        (tmp_path / "classes.txt").write_text(classes)
        small_config(*words).save(tmp_path / "exp" / "config.yaml")
        argv = [
            str(stores),
            str(tmp_path / "exp"),
            "--classes",
            str(tmp_path / "classes.txt"),
            "--device",
            "cpu",
            *options,
        ]
        assert train.main(argv) == 0
        return checkpoint.load(tmp_path / "exp" / "last.pt")

    return run


def steps_taken(caplog) -> bool:
    return not re.search(r"continuing from step (\d+) of \1\b", caplog.text)


def test_a_finished_run_is_not_trained_again(run_main, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    before = run_main()
    rows = history(tmp_path / "exp", without=())
    monkeypatch.setattr(trainer_module, "start_model", None)  # a model from a checkpoint needs no statistics of frames
    after = run_main()
    assert "continuing from step 12 of 12" in caplog.text
    assert (
        torch.equal(weights(before["model"]), weights(after["model"])) and history(tmp_path / "exp", without=()) == rows
    )


@pytest.mark.parametrize(
    "words", (["train.lr=0.01"], ["flow.hidden=9"], ["prior.var_r=5"], ["seed=2"], ["train.epochs=3"])
)
def test_other_settings_are_trained_from_scratch(run_main, tmp_path, caplog, words):
    caplog.set_level("INFO")
    run_main()
    got = run_main(*words)
    assert "training from scratch" in caplog.text
    assert history(tmp_path / "exp")[0]["step"] == "1"
    (tmp_path / "exp" / "last.pt").unlink()
    assert torch.equal(weights(run_main(*words)["model"]), weights(got["model"]))


def test_settings_of_other_stages_do_not_begin_anew(run_main, caplog):
    caplog.set_level("INFO")
    run_main()
    run_main("plots.dpi=50", "report.bootstrap=5")
    assert "continuing from step 12 of 12" in caplog.text


def test_restart_begins_anew(run_main, caplog):
    caplog.set_level("INFO")
    run_main()
    run_main(options=["--restart"])
    assert "continuing from" not in caplog.text


def test_other_classes_are_trained_from_scratch(run_main, write_store, two_classes, tmp_path):
    run_main()
    for name, seed in (("train", 1), ("dev", 2)):
        renamed = {u: (s, {"en": "de", "zh": "fr"}[c], x, v) for u, (s, c, x, v) in two_classes(seed).items()}
        write_store(tmp_path / "other" / name, renamed)
    assert run_main(stores=tmp_path / "other", classes="de\nfr\n")["classes"] == ["de", "fr"]


def test_other_frames_are_trained_from_scratch(run_main, write_store, two_classes, tmp_path):
    """Stages 1 and 2 run again with other features or recordings: a finished last.pt is not a model of these frames."""
    for name, seed in (("train", 1), ("dev", 2)):
        write_store(tmp_path / "other" / name, two_classes(seed + 10, offset=20.0))
    wanted = run_main(stores=tmp_path / "other")
    for name in ("last.pt", "best.pt"):
        (tmp_path / "exp" / name).unlink()
    run_main()
    got = run_main(stores=tmp_path / "other")
    assert torch.equal(weights(got["model"]), weights(wanted["model"]))


@pytest.mark.parametrize("change", ("class", "speaker"))
def test_frames_under_other_names_are_trained_from_scratch(run_main, write_store, two_classes, tmp_path, change):
    """The same frames with corrected classes are other data, as are other speakers where CMVN is by speaker."""
    swap = {"en": "zh", "zh": "en"}
    for name, seed, utterances in (("train", 1, 6), ("dev", 2, 2)):
        rows = two_classes(seed, utterances)
        for utt, (speaker, of, x, speech) in rows.items():
            rows[utt] = (speaker, swap[of], x, speech) if change == "class" else (f"{name}_one", of, x, speech)
        write_store(tmp_path / "other" / name, rows)
    words = ["cmvn.scope=speaker"] if change == "speaker" else []
    run_main(*words)
    got = run_main(*words, stores=tmp_path / "other")
    (tmp_path / "exp" / "last.pt").unlink()
    assert torch.equal(weights(got["model"]), weights(run_main(*words, stores=tmp_path / "other")["model"]))


def test_a_damaged_last_checkpoint_is_named(run_main, tmp_path):
    run_main()
    (tmp_path / "exp" / "last.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"last.pt: not a readable checkpoint; delete it and run stage train again"):
        run_main()


def test_files_of_a_run(run_main, tmp_path):
    run_main()
    names = {path.name for path in (tmp_path / "exp").iterdir()}
    assert names == {"config.yaml", "env.json", "training.json", "history.tsv", "tb", "last.pt", "best.pt"}
    summary = json.loads((tmp_path / "exp" / "training.json").read_text())
    assert summary["steps"] == 12 and summary["frames"] == 300 and summary["spikes"] == summary["restores"] == 0
    assert {"torch", "git", "device", "train_seconds"} <= json.loads((tmp_path / "exp" / "env.json").read_text()).keys()


# ---- training and evaluation agree ---------------------------------------------------------------


@pytest.mark.parametrize(("total", "count"), [(10, 3), (10, 10), (10, 99), (10, 0), (1_000_003, 1000), (1, 1)])
def test_evenly_spaced_rows(total, count):
    rows = evenly_spaced(total, count)
    wanted = total if count <= 0 or count >= total else count
    assert len(rows) == wanted and rows[0] == 0 and rows[-1] < total
    gaps = rows.diff()
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_evaluation_is_the_mean_over_frames_of_their_own_class(new_trainer, monkeypatch):
    trainer = new_trainer()
    for _ in range(5):
        one_step(trainer)
    monkeypatch.setattr("dnf.features.rows.BATCH", 7)
    got = evaluate(trainer.model, trainer.dev)
    x, labels = trainer.dev.gather(torch.arange(100)), trainer.dev.labels(torch.arange(100))
    scores = trainer.model.log_prob(x).double()
    _, logdet = trainer.model(x)
    assert got["nll"] == pytest.approx(-scores[torch.arange(100), labels].mean().item(), rel=1e-5)
    assert got["logdet"] == pytest.approx(logdet.mean().item(), rel=1e-5)
    assert got["nll"] == pytest.approx(-(got["logp"] + got["logdet"]))
    assert got["accuracy"] == pytest.approx((scores.argmax(1) == labels).double().mean().item())
    assert not trainer.model.training
    some = torch.tensor([3, 50, 99])
    assert evaluate(trainer.model, trainer.dev, some)["nll"] == pytest.approx(
        -scores[some, labels[some]].mean().item(), rel=1e-5
    )


@pytest.fixture
def run_latents(problem, tmp_path):
    def run() -> dict:
        argv = [str(problem), str(tmp_path / "exp"), "--classes", str(tmp_path / "classes.txt"), "--device", "cpu"]
        assert latents.main(argv) == 0
        return json.loads((tmp_path / "exp" / "agreement.json").read_text())

    return run


def tamper(path: Path, change) -> None:
    content = checkpoint.load(path)
    change(content)
    del content["format"]
    checkpoint.save(path, content)


@pytest.mark.parametrize("precision", ("float32", "bf16"))
def test_training_and_evaluation_give_the_same_frames_the_same_nll(run_main, run_latents, precision):
    run_main("train.lr=0.01", "train.micro_batch=17", f"train.precision={precision}")
    figures = run_latents()
    assert figures["frames"] == 300
    assert abs(figures["difference"]) < (1e-4 if precision == "float32" else 0.05)
    assert figures["difference"] == pytest.approx(figures["evaluation_nll"] - figures["training_nll"])


def nudge_flow(content):
    content["model"]["flow.blocks.1.net.2.bias"] += 0.5


def nudge_scaling(content):
    content["model"]["first.std"] *= 1.5


def swap_classes(content):
    content["model"]["prior.means"] = content["model"]["prior.means"].flip(0)


def plant_nan(content):
    content["model"]["flow.blocks.0.net.0.weight"][0, 0] = math.nan


@pytest.mark.parametrize("change", (nudge_flow, nudge_scaling, swap_classes, plant_nan))
def test_a_changed_weight_fails_stage_4_in_one_line(run_main, run_latents, tmp_path, change):
    run_main("train.lr=0.01")
    run_latents()
    tamper(tmp_path / "exp" / "best.pt", change)
    with pytest.raises(
        ValueError,
        match=r"best.pt: training frames score NLL \S+ now but \S+ in training, more than latents.max_difference 0.1",
    ) as caught:
        run_latents()
    assert "\n" not in str(caught.value) and "run stage train again" in str(caught.value)


def test_other_training_frames_fail_stage_4(run_main, run_latents, write_store, two_classes, tmp_path):
    run_main("train.lr=0.01")
    for name, seed in (("train", 1), ("dev", 2)):
        write_store(tmp_path / "other" / name, two_classes(seed, offset=1.0))
    argv = [
        str(tmp_path / "other"),
        str(tmp_path / "exp"),
        "--classes",
        str(tmp_path / "classes.txt"),
        "--device",
        "cpu",
    ]
    with pytest.raises(ValueError, match="the features or the code have changed since training"):
        latents.main(argv)


def test_stage_4_refuses_a_model_of_other_classes(run_main, run_latents, tmp_path):
    run_main()
    (tmp_path / "classes.txt").write_text("en\nja\n")
    with pytest.raises(ValueError, match="best.pt: was trained on classes en, zh; the data has en, ja; train again"):
        run_latents()


def test_stage_4_without_stage_3_says_so(run_main, run_latents, tmp_path):
    run_main()
    (tmp_path / "exp" / "best.pt").unlink()
    with pytest.raises(ValueError, match="best.pt: no checkpoint; run stage train"):
        run_latents()
