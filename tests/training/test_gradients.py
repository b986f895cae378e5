"""The fast ways to the gradients of a batch: bfloat16, compilation, steps whose figures nobody fetches at once, a GPU."""

import math

import pytest
import torch
from one_step import one_step
from torch.utils._python_dispatch import TorchDispatchMode

from dnf.features.windows import Windows
from dnf.training import acceleration, train
from dnf.training.acceleration import can_compile, compiles, operations
from dnf.training.loss import Loss, backward
from dnf.training.trainer import Trainer

CPU = torch.device("cpu")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().cpu().flatten() for p in trainer.model.parameters()])


def gradient(trainer: Trainer, loss: Loss) -> tuple[dict, torch.Tensor]:
    trainer.model.zero_grad()
    figures = backward(loss, trainer.train, trainer.sampler.batch(0), trainer.micro_batch)
    return figures, torch.cat([p.grad.flatten() for p in trainer.model.parameters()])


def disturb(trainer: Trainer) -> Trainer:
    """Away from the identity a new flow is, where most gradients are 0."""
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    return trainer


# ---- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [("fpu avx2 avx512f", "float32"), ("avx512_bf16 avx2", "bf16"), ("amx_bf16 amx_tile", "bf16"), (None, "float32")],
)
def test_bfloat16_is_chosen_where_the_processor_has_it(tmp_path, monkeypatch, flags, wanted):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: amx_bf16\n")
    found = acceleration.processor_flags(cpuinfo)
    assert found == set((flags or "").split())
    monkeypatch.setattr(acceleration, "processor_flags", lambda: found)
    assert acceleration.choose("auto", CPU) == wanted
    assert [acceleration.choose(name, CPU) for name in ("float32", "tf32", "bf16")] == ["float32", "tf32", "bf16"]


def test_tf32_holds_for_the_products_of_backward_and_ends_with_the_block(new_trainer, monkeypatch):
    trainer, seen = new_trainer("train.precision=tf32"), []
    original = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda t: (seen.append(torch.get_float32_matmul_precision()), original(t))
    )
    trainer.advance()
    assert seen == ["high"] and torch.get_float32_matmul_precision() == "highest"


def test_bfloat16_gradients_point_the_same_way_and_densities_stay_in_float32(new_trainer):
    trainer = disturb(new_trainer())
    (exact, wide), (near, narrow) = (
        gradient(trainer, Loss(trainer.model, trainer.objective, p)) for p in ("float32", "bf16")
    )
    assert torch.cosine_similarity(wide, narrow, dim=0) > 0.999 and not torch.equal(wide, narrow)
    assert all(near[name].item() == pytest.approx(exact[name].item(), rel=0.02, abs=0.05) for name in exact)
    z, logdet = Loss(trainer.model, None, "bf16").latents(trainer.train.gather(torch.arange(5)))
    assert z.dtype == logdet.dtype == torch.float32


class Casts(TorchDispatchMode):
    """Counts casts of parameters to bfloat16."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default and isinstance(args[0], torch.nn.Parameter):
            self.count += kwargs.get("dtype") == torch.bfloat16
        return function(*args, **(kwargs or {}))


def test_a_step_casts_its_weights_once_for_all_parts_of_the_batch(new_trainer):
    trainer = disturb(new_trainer("train.precision=bf16", "train.micro_batch=20"))
    with Casts() as casts:
        _, together = gradient(trainer, trainer.loss)
    assert casts.count == len(list(trainer.model.flow.parameters()))
    rows = trainer.sampler.batch(0)
    trainer.model.zero_grad()
    with Casts() as casts:
        for part in rows.split(20):
            (trainer.loss(trainer.train.gather(part), trainer.train.labels(part))[0] / len(rows)).backward()
    assert casts.count == len(rows.split(20)) * len(list(trainer.model.flow.parameters()))
    assert torch.equal(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]), together)


def test_latents_that_come_first_leave_no_weights_without_gradients(new_trainer):
    trainer = disturb(new_trainer("train.precision=bf16", "train.objective=gaussianality", "train.micro_batch=20"))
    gradient(trainer, trainer.loss)
    assert all(p.grad.abs().max() > 0 for p in trainer.model.flow.parameters())


# ---- compilation ---------------------------------------------------------------------------------


def test_only_long_runs_are_compiled(new_trainer, monkeypatch):
    trainer = new_trainer()
    matrices = sum(p.numel() for p in trainer.model.flow.parameters() if p.dim() == 2)
    assert operations(trainer.model, 10) == 60 * matrices
    enough = math.ceil(acceleration.WORTH_COMPILING["cpu"] / (6 * matrices))

    def decides(setting: str, frames: int, of: Trainer = trainer) -> bool:
        return compiles(setting, CPU, of.objective, of.model, frames)

    monkeypatch.setattr(acceleration, "can_compile", lambda device: True)
    assert decides("auto", enough) and not decides("auto", enough - 1)
    assert decides("always", 1) and not decides("never", enough)
    assert not decides("auto", enough, new_trainer("train.objective=gaussianality"))
    monkeypatch.setattr(acceleration, "can_compile", lambda device: False)
    assert not decides("auto", enough)
    assert not trainer.compiled


def test_without_compiler_or_headers_nothing_can_be_compiled(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    (tmp_path / "Python.h").touch()
    assert not can_compile(CPU)
    (tmp_path / "g++").touch(mode=0o755)
    assert can_compile(CPU)
    (tmp_path / "Python.h").unlink()
    assert not can_compile(CPU)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(CPU), reason="no C++ compiler")
def test_compiled_steps_are_those_of_the_plain_code(new_trainer):
    words = ("train.beta=1", "train.micro_batch=25", "train.lr=0.01", "train.steps=12", "train.precision=float32")
    plain, fast = (new_trainer(*words, f"train.compile={c}", out=c) for c in ("never", "always"))
    assert fast.compiled and not plain.compiled
    (figures, wanted), (same, got) = (gradient(disturb(trainer), trainer.loss) for trainer in (plain, fast))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    assert all(same[name].item() == pytest.approx(figures[name].item(), rel=1e-5) for name in figures)
    for trainer in (plain, fast):
        train.run(trainer)
    torch.testing.assert_close(weights(fast), weights(plain), rtol=1e-3, atol=1e-4)
    assert fast.model.state_dict().keys() == plain.model.state_dict().keys()


# ---- steps whose figures wait --------------------------------------------------------------------


def test_a_step_that_is_not_finite_changes_no_weight_before_anyone_looks(new_trainer, monkeypatch):
    trainer = new_trainer()
    one_step(trainer)
    before, moments = weights(trainer), [state["exp_avg"].clone() for state in trainer.optimizer.state.values()]
    gather = trainer.train.gather
    monkeypatch.setattr(trainer.train, "gather", lambda rows: gather(rows) * math.nan)
    trainer.advance()
    assert torch.equal(weights(trainer), before) and trainer.restores == 0
    assert all(torch.equal(a, s["exp_avg"]) for a, s in zip(moments, trainer.optimizer.state.values()))
    assert {state["step"].item() for state in trainer.optimizer.state.values()} == {1}


@pytest.mark.parametrize("broken", [set(), {7}, {7, 8, 30}, {39}])
def test_a_run_ends_the_same_however_many_steps_wait(new_trainer, monkeypatch, broken):
    advance, gather, now = Trainer.advance, Windows.gather, []

    def advance_known(self):
        now.append(self.step)
        advance(self)
        now.pop()

    monkeypatch.setattr(Trainer, "advance", advance_known)
    monkeypatch.setattr(
        Windows, "gather", lambda self, r: gather(self, r) * (math.nan if now and now[-1] in broken else 1)
    )
    ended = []
    for most, eval_steps in ((1, 20), (50, 20), (3, 20)):
        monkeypatch.setattr(train, "MOST_PENDING", most)
        monkeypatch.setattr(train, "ROWS_PER_EPOCH", 1 if most > 1 else 20)
        trainer = new_trainer("train.steps=40", f"train.eval_steps={eval_steps}", "train.lr=0.01", out=f"most{most}")
        train.run(trainer)
        ended.append((weights(trainer), trainer.summary(), trainer.best))
    assert ended[0][1]["restores"] == len(broken)
    for other in ended[1:]:
        assert torch.equal(other[0], ended[0][0]) and other[1:] == ended[0][1:]


# ---- on a GPU ------------------------------------------------------------------------------------


@gpu
@pytest.mark.parametrize("compile", ("never", "always"))
def test_steps_on_a_gpu_do_not_wait_for_it(problem, small_config, tmp_path, compile):
    from dnf.training.ranks import Ranks
    from dnf.training.train import make_trainer

    words = (f"train.compile={compile}", "train.precision=float32", "train.lr=0.01")
    (tmp_path / "exp").mkdir()
    trainer = make_trainer(
        problem, tmp_path / "exp", small_config(*words), ["en", "zh"], Ranks(device=torch.device("cuda"))
    )
    plain = make_trainer(problem, tmp_path / "exp", small_config(*words[1:]), ["en", "zh"], Ranks())
    assert trainer.train.home.type == "cuda" and trainer.sampler.batch(0).is_cuda
    for _ in range(4):
        assert one_step(trainer)["nll"] == pytest.approx(one_step(plain)["nll"], rel=1e-3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [figures["nll"] for figures in trainer.settle()] == pytest.approx(
        [one_step(plain)["nll"] for _ in range(2)], rel=1e-3
    )


@gpu
def test_frames_that_do_not_fit_stay_on_disk(problem, small_config, tmp_path, monkeypatch):
    from dnf.training.ranks import Ranks
    from dnf.training.train import make_trainer

    (tmp_path / "exp").mkdir()
    monkeypatch.setattr("dnf.features.segments.SHARE", 0.0)
    trainer = make_trainer(problem, tmp_path / "exp", small_config(), ["en", "zh"], Ranks(device=torch.device("cuda")))
    assert trainer.train.home == CPU and one_step(trainer)["nll"] > 0
    assert trainer.train.gather(torch.arange(3)).is_cuda
