"""What training minimises: the NLL as ever, hybrid training, Maximum Gaussianality training; as one process or several."""

import json
import math
import subprocess
import sys

import pytest
import torch
from one_step import one_step
from recipe_runs import SUPPORT, environment

from dnf.experiment.tables import read_tsv
from dnf.models import checkpoint
from dnf.plots import training_curves
from dnf.training import train
from dnf.training.evaluate import evaluate
from dnf.training.loss import Loss, backward
from dnf.training.objective import LENGTH_ENTROPY, Objective, cross_entropy, excess_of_angle, lack_of_length, log_length
from dnf.training.ranks import Ranks
from dnf.training.trainer import Trainer

HYBRID = ("train.beta=3", "train.sampling=natural")
GAUSSIAN = ("train.objective=gaussianality",)
BOTH = (*GAUSSIAN, "train.beta=0.5", "train.label_smoothing=0.1", "prior.cond_r=true", "prior.variances=free")
KINDS = {"hybrid": HYBRID, "gaussianality": GAUSSIAN, "both": BOTH}


def in_double(trainer: Trainer) -> Trainer:
    """With random weights and all in float64."""
    trainer.model.double()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    gather = trainer.train.gather
    trainer.train.gather = lambda rows: gather(rows).double()
    return trainer


def gradients(trainer: Trainer, rows: torch.Tensor, size: int, count: float | None = None, objective=None) -> tuple:
    trainer.model.zero_grad()
    figures = backward(Loss(trainer.model, objective or trainer.objective), trainer.train, rows, size, count)
    return figures, {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


def plain_hybrid(trainer: Trainer, rows: torch.Tensor, priors: list[float]) -> torch.Tensor:
    """(NLL / D + beta CE) D / (1 + beta) as one would write it down."""
    loglik, labels = trainer.model.log_prob(trainer.train.gather(rows)), trainer.train.labels(rows)
    own = loglik[torch.arange(len(rows)), labels]
    joint = loglik.exp() * torch.tensor(priors, dtype=torch.float64)
    posterior = joint[torch.arange(len(rows)), labels] / joint.sum(1)
    beta, dim = trainer.config.train.beta, trainer.config.dim
    return (-own.mean() / dim - beta * posterior.log().mean()) * dim / (1 + beta)


def plain_gaussianality(trainer: Trainer, rows: torch.Tensor) -> torch.Tensor:
    """The loss of the docstring over all pairs, one by one."""
    model, w = trainer.model, trainer.config.gaussianality
    z, logdet = model(trainer.train.gather(rows))
    prior, labels = model.prior, trainer.train.labels(rows)
    u = (z - prior.class_means()[labels]) / (0.5 * prior.class_log_variances()[labels]).exp()
    m = prior.means / (0.5 * prior.class_log_variances()[:, : prior.cond_dim]).exp()

    def of(vectors, length, angle):
        n, dim = vectors.shape
        normal = torch.distributions.Normal(*torch.tensor([dim, 0.5], dtype=torch.float64).sqrt())
        log_density = normal.log_prob(vectors.norm(dim=1)).mean()
        pairs = [
            torch.cosine_similarity(vectors[i], vectors[j], dim=0) ** 2 for i in range(n) for j in range(n) if i != j
        ]
        cos = torch.stack(pairs).mean()
        return length * torch.relu(-normal.entropy() - 0.01 - log_density) + angle * torch.relu(cos - 1 / dim - 0.001)

    return of(u, w.length, w.angle) + of(m, w.class_length, w.class_angle) - logdet.mean()


# ---- the likelihood as it was --------------------------------------------------------------------


def test_without_beta_a_step_is_bit_for_bit_that_of_the_nll(new_trainer):
    trainer, plain = new_trainer("train.lr=0.01"), new_trainer("train.lr=0.01")
    for step in range(5):
        one_step(trainer)
        rows = plain.sampler.batch(step)
        plain.optimizer.zero_grad(set_to_none=True)
        for group in plain.optimizer.param_groups:
            group["lr"] = trainer.optimizer.param_groups[0]["lr"]
        z, logdet = plain.model(plain.train.gather(rows))
        logp = plain.model.prior.of_class(z, plain.train.labels(rows))
        (-(logp + logdet).sum() / len(rows)).backward()
        torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 100.0)
        plain.optimizer.step()
    for one, other in zip(trainer.model.parameters(), plain.model.parameters()):
        assert torch.equal(one, other)


def test_without_beta_the_history_has_the_columns_it_always_had(new_trainer):
    trainer = new_trainer("train.steps=6")
    train.run(trainer)
    assert not {"ce", "dev_ce"} & read_tsv(trainer.out / "history.tsv")[0].keys()
    assert "ce" not in checkpoint.load(trainer.out / "best.pt")["dev"]


# ---- hybrid training -----------------------------------------------------------------------------


def test_cross_entropy_is_bayes_rule():
    logp = 300 * torch.randn(20, 3, generator=torch.Generator().manual_seed(1)).double()
    priors, labels = torch.tensor([0.2, 0.5, 0.3]).double(), torch.arange(20) % 3
    joint = logp + priors.log()
    wanted = -(joint - joint.logsumexp(1, keepdim=True))[torch.arange(20), labels]
    torch.testing.assert_close(cross_entropy(logp, labels, priors.log()), wanted)
    smooth = 0.9 * wanted - 0.1 * (joint - joint.logsumexp(1, keepdim=True)).mean(1)
    torch.testing.assert_close(cross_entropy(logp, labels, priors.log(), 0.1), smooth)


@pytest.mark.parametrize(("sampling", "priors"), [("natural", [50, 250]), ("balanced", [1, 1])])
def test_the_hybrid_gradient_is_that_of_the_plain_formula(new_trainer, sampling, priors):
    trainer = in_double(new_trainer("train.beta=3", f"train.sampling={sampling}"))
    trainer.objective = Objective(trainer.config, [50, 250])
    rows = trainer.sampler.batch(0)
    loss = plain_hybrid(trainer, rows, [p / sum(priors) for p in priors])
    wanted = dict(
        zip(dict(trainer.model.named_parameters()), torch.autograd.grad(loss, list(trainer.model.parameters())))
    )
    figures, got = gradients(trainer, rows, 50)
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-6, atol=1e-8, msg=name)  # priors are float32
    d, beta = trainer.config.dim, 3
    nll = -(figures["logp"] + figures["logdet"])
    torch.testing.assert_close((nll / d + beta * figures["ce"]) * d / (1 + beta), loss.detach(), rtol=1e-6, atol=1e-6)


def test_label_smoothing_is_in_the_gradient_and_not_in_the_figure(new_trainer):
    plain, smooth = (in_double(new_trainer(*HYBRID, f"train.label_smoothing={s}")) for s in (0, 0.2))
    rows = plain.sampler.batch(0)
    (a, one), (b, other) = (gradients(t, rows, 50) for t in (plain, smooth))
    torch.testing.assert_close(a["ce"], b["ce"])
    assert (one["prior.means"] - other["prior.means"]).abs().max() > 1e-3


def test_hybrid_training_tells_classes_apart_that_likelihood_does_not(new_trainer):
    words = ("train.lr=0.01", "train.steps=60", "train.batch_size=100")
    figures = []
    for beta in (0, 10):
        trainer = new_trainer(*words, f"train.beta={beta}", out=f"beta{beta}")
        trainer.objective.classifies = {}  # so that both are looked at alike
        train.run(trainer)
        priors = torch.tensor([0.5, 0.5]).log()
        figures.append(evaluate(trainer.model, trainer.train, log_priors=priors))
    assert figures[1]["ce"] < figures[0]["ce"] and figures[1]["accuracy"] >= figures[0]["accuracy"]
    assert figures[1]["nll"] > figures[0]["nll"]


def test_history_and_checkpoints_hold_the_cross_entropy(new_trainer):
    trainer = new_trainer(*HYBRID, "train.steps=12")
    train.run(trainer)
    rows = read_tsv(trainer.out / "history.tsv")
    assert all(row["ce"] and float(row["ce"]) > 0 for row in rows)
    looks = [row for row in rows if row["dev_nll"]]
    assert len(looks) == 2 and all(bool(row["dev_ce"]) == bool(row["dev_nll"]) for row in rows)
    best = checkpoint.load(trainer.out / "best.pt")
    wanted = evaluate(trainer.model, trainer.dev, log_priors=trainer.objective.log_priors)["ce"]
    assert best["step"] == 12 and best["dev"]["ce"] == pytest.approx(wanted)
    assert float(looks[-1]["dev_ce"]) == pytest.approx(wanted, rel=1e-5)
    columns = training_curves.read_history(trainer.out / "history.tsv")
    titles = [
        axes.get_title() for axes in training_curves.curves(columns, "exp", accuracy=True).axes if axes.get_visible()
    ]
    assert any(title.startswith("cross-entropy") for title in titles)


def test_priors_of_the_posteriors_are_those_of_the_batches(new_trainer, small_config):
    for sampling, wanted in (("natural", [0.25, 0.75]), ("balanced", [0.5, 0.5])):
        objective = Objective(small_config("train.beta=1", f"train.sampling={sampling}"), [100, 300])
        torch.testing.assert_close(objective.log_priors.exp(), torch.tensor(wanted))


def test_without_cross_entropy_the_loss_is_the_nll(small_config):
    objective = Objective(small_config("train.select=loss"), [1, 1])
    assert objective.rank({"nll": 2.0}) < objective.rank({"nll": 3.0})


@pytest.mark.parametrize(("select", "best"), [("nll", 1), ("accuracy", 3), ("ce", 2), ("loss", 0)])
def test_which_figure_of_dev_chooses(small_config, select, best):
    objective = Objective(small_config("train.beta=1", f"train.select={select}"), [1, 1])
    nll, accuracy, ce = (12.0, 11.0, 120.0, 60.0), (0.6, 0.5, 0.7, 0.8), (0.5, 9.0, 0.2, 0.4)  # D is 12
    ranks = [objective.rank({"nll": n, "accuracy": a, "ce": c}) for n, a, c in zip(nll, accuracy, ce)]
    assert min(range(4), key=ranks.__getitem__) == best


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train.beta=1", "prior.cond_dim=0"), "train.beta: a flow with prior.cond_dim 0 has no class posteriors"),
        (("train.beta=-1",), "train.beta must not be negative"),
        (("train.select=ce",), "train.select: ce needs hybrid training; set train.beta"),
        (("train.select=loss", *BOTH), "train.select: loss needs train.objective=likelihood"),
        (("train.label_smoothing=1",), "train.label_smoothing must be from 0 to below 1"),
        (("train.objective=gaussian",), "train.objective: 'gaussian' is not one of likelihood, gaussianality"),
        (("gaussianality.angle=-1",), "gaussianality.angle must not be negative"),
    ],
)
def test_settings_that_do_not_go_together_are_named(small_config, words, message):
    with pytest.raises(ValueError, match=message):
        small_config(*words)


# ---- Maximum Gaussianality -----------------------------------------------------------------------


def test_draws_of_a_gaussian_lack_nothing_and_others_do():
    generator, dim = torch.Generator().manual_seed(1), 500
    u = torch.randn(3000, dim, generator=generator).double()
    lengths, directions = u.norm(dim=1), torch.nn.functional.normalize(u)
    assert log_length(lengths, dim).mean().item() == pytest.approx(-LENGTH_ENTROPY, abs=0.05)
    square = ((directions @ directions.T).square().sum() - 3000) / (3000 * 2999)
    assert square.item() == pytest.approx(1 / dim, rel=0.01) and excess_of_angle(square, dim) == 0
    assert lack_of_length(log_length(1.2 * lengths, dim).mean()) > 1
    assert lack_of_length(log_length(lengths * 0.8, dim).mean()) > 1


@pytest.mark.parametrize("words", (GAUSSIAN, (*GAUSSIAN, "prior.cond_r=true", "prior.variances=free")))
def test_the_gradient_of_gaussianality_is_that_of_all_pairs(new_trainer, words):
    trainer = in_double(new_trainer(*words))
    rows = trainer.sampler.batch(0)[:20]
    loss = plain_gaussianality(trainer, rows)
    parameters = dict(trainer.model.named_parameters())
    wanted = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()))))
    _, got = gradients(trainer, rows, 50)
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-8, atol=1e-9, msg=name)
        assert gradient.abs().max() > 0


def test_gaussianality_makes_latents_gaussian(new_trainer):
    trainer = new_trainer(*GAUSSIAN, "train.lr=0.01", "train.steps=120", "train.batch_size=300", "train.eval_steps=60")
    rows, prior = torch.arange(300), trainer.model.prior

    def figures():
        z = trainer.model(trainer.train.gather(rows))[0].detach()
        of_batch = trainer.objective.look(prior, [(z, trainer.train.labels(rows))])
        return of_batch.length.item(), of_batch.angle.item()

    before = figures()
    train.run(trainer)
    after = figures()
    assert after[0] > before[0] and after[1] < before[1]
    assert all(row["length"] and row["angle"] for row in read_tsv(trainer.out / "history.tsv"))
    first, last = (read_tsv(trainer.out / "history.tsv")[n] for n in (0, -1))
    assert float(last["length"]) > float(first["length"]) and float(last["nll"]) < float(first["nll"])


def test_a_flow_without_classes_can_be_trained_so(new_trainer):
    trainer = new_trainer(*GAUSSIAN, "prior.cond_dim=0", "train.steps=6")
    train.run(trainer)
    assert trainer.step == 6 and trainer.restores == 0


# ---- micro-batches, ranks, bf16, broken steps, resume --------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", (1, 7))
def test_micro_batches_give_the_gradients_of_the_whole_batch(new_trainer, kind, size):
    trainer = in_double(new_trainer(*KINDS[kind]))
    rows = trainer.sampler.batch(0)
    figures, whole = gradients(trainer, rows, 50)
    more, parts = gradients(trainer, rows, size)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-8, atol=1e-9, msg=name)
    assert figures.keys() == more.keys() > {"logp", "logdet"}
    for name, value in figures.items():
        torch.testing.assert_close(more[name], value, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_unequal_shares_is_the_gradient_of_the_batch(new_trainer, kind, monkeypatch):
    trainer, size = in_double(new_trainer(*KINDS[kind])), 3
    figures, whole = gradients(trainer, trainer.sampler.batch(0), 50)
    shares = [trainer.sampler.batch(0, Ranks(rank, size)) for rank in range(size)]
    sums = []
    monkeypatch.setattr(Ranks, "sum_tensor", lambda self, values: sums.append(values) or values)
    for rows in shares:
        gradients(trainer, rows, 50)
    monkeypatch.setattr(Ranks, "sum_tensor", lambda self, values: sum(sums))
    got = [gradients(trainer, rows, 50, 50 / size) for rows in shares]
    for name, gradient in whole.items():
        torch.testing.assert_close(sum(g[name] for _, g in got) / size, gradient, rtol=1e-8, atol=1e-9, msg=name)
    for name, value in figures.items():
        torch.testing.assert_close(sum(f[name] for f, _ in got) / size, value, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_ends_with_the_same_weights(new_trainer, kind):
    words = (*KINDS[kind], "train.steps=12", "train.eval_steps=4")
    whole = new_trainer(*words, out="whole")
    train.run(whole)
    broken, again = new_trainer(*words, out="broken"), new_trainer(*words, out="broken")
    advance = broken.advance

    def dies():
        if broken.step == 10:
            raise KeyboardInterrupt
        return advance()

    broken.advance = dies
    with pytest.raises(KeyboardInterrupt):
        train.run(broken)
    state = checkpoint.load(broken.out / "last.pt")
    again.load_state({k: v for k, v in state.items() if k != "format"})
    assert again.step == 8
    train.run(again)
    for one, other in zip(whole.model.state_dict().values(), again.model.state_dict().values()):
        assert torch.equal(one, other)
    without = ("seconds", "frames_per_s")
    rows = [
        [{k: v for k, v in row.items() if k not in without} for row in read_tsv(t.out / "history.tsv")]
        for t in (whole, again)
    ]
    assert [r for r in rows[0] if int(r["step"]) % 4 == 0] == [r for r in rows[1] if int(r["step"]) % 4 == 0]


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_trains(new_trainer, kind):
    trainer = new_trainer(*KINDS[kind], "train.precision=bf16", "train.lr=0.01")
    before = new_trainer(*KINDS[kind])
    figures, exact = one_step(trainer), one_step(before)
    assert all(math.isfinite(value) for value in figures.values())
    for name in ("logp", "logdet", *({"ce"} & figures.keys())):
        assert figures[name] == pytest.approx(exact[name], rel=0.05, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_not_finite_is_undone(new_trainer, kind):
    trainer = new_trainer(*KINDS[kind])
    one_step(trainer)
    trainer.last_good = trainer.state()
    before = [p.detach().clone() for p in trainer.model.parameters()]
    gather = trainer.train.gather
    trainer.train.gather = lambda rows: gather(rows) * math.nan
    assert one_step(trainer) is None and trainer.restores == 1
    trainer.train.gather = gather
    for one, other in zip(before, trainer.model.parameters()):
        assert torch.equal(one, other)
    assert one_step(trainer) is not None and trainer.lr_scale == 0.5


def test_two_processes_learn_what_one_learns(problem, small_config, tmp_path):
    """Through the launcher: hybrid, and Gaussianality with every kind of parameter."""
    plan = []
    for kind, words in KINDS.items():
        words = (*words, "train.steps=12", "train.micro_batch=7", "train.lr=0.01")
        small_config(*words).save(tmp_path / f"{kind} 1" / "config.yaml")
        small_config(*words, "train.num_gpus=2").save(tmp_path / f"{kind} 2" / "config.yaml")
        classes = str(problem.parent / "classes.txt")
        train.main([str(problem), str(tmp_path / f"{kind} 1"), "--classes", classes, "--device", "cpu"])
        plan.append([str(tmp_path / f"{kind} 2"), {}])
    path = environment(SUPPORT) | {"OMP_NUM_THREADS": "1"}
    exp = tmp_path / "hybrid 2"
    argv = [sys.executable, "-m", "dnf.training.launch", exp, "rank_program", problem, classes, json.dumps(plan)]
    done = subprocess.run([*map(str, argv)], env=path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        one, other = (checkpoint.load(tmp_path / f"{kind} {n}" / "last.pt")["model"] for n in (1, 2))
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=2e-3, msg=name)
        rows, others = (read_tsv(tmp_path / f"{kind} {n}" / "history.tsv") for n in (1, 2))
        for a, b in zip(rows, others, strict=True):
            for name in {"ce", "dev_ce", "length", "angle"} & a.keys():
                assert bool(a[name]) == bool(b[name])
                assert not a[name] or float(a[name]) == pytest.approx(float(b[name]), rel=1e-3, abs=1e-3)


def test_weight_decay_spares_the_class_means(new_trainer):
    trainer = new_trainer("train.weight_decay=1.0")
    groups = {len(group["params"]): group["weight_decay"] for group in trainer.optimizer.param_groups}
    prior = [p for group in trainer.optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]]
    assert sorted(groups.values()) == [0.0, 1.0]
    assert {id(p) for p in prior} == {id(p) for p in trainer.model.prior.parameters()}
    everything = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in everything} == {id(p) for p in trainer.model.parameters()}
