"""The benchmark: its rows compute what they say, its counts are those of the products, and one command prints all."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from recipe_runs import ROOT, environment

from benchmarks import families, ours, parts, peers, profiling, rows, table
from benchmarks.masked import MaskedRealNVP
from benchmarks.timing import Watch, multiply_adds, passes, spread
from dnf.experiment.config import resolve
from dnf.experiment.settings import Flow
from dnf.models.flows import make_flow
from dnf.models.flows.realnvp import RealNVP

CPU = torch.device("cpu")


def flow_settings(mask: str = "halves", nets: str = "two", blocks: int = 4) -> Flow:
    return resolve([f"flow.mask={mask}", f"flow.nets={nets}", f"flow.blocks={blocks}", "flow.hidden=7"]).flow


def randomize(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def embed(split: RealNVP, masked: MaskedRealNVP) -> None:
    """Put the weights of split halves where full-width networks read and write these dims; the rest stays as it is."""
    dims = split.order.split(split.sizes)
    for i, (of_split, of_masked) in enumerate(zip(split.blocks, masked.blocks)):
        kept, changed = dims[i % 2], dims[(i + 1) % 2]
        for name in ("scale_net", "shift_net"):
            small, full = getattr(of_split, name), getattr(of_masked, name)
            with torch.no_grad():
                full[0].weight[:, kept], full[0].bias[:] = small[0].weight, small[0].bias
                full[2].load_state_dict(small[2].state_dict())
                full[4].weight[changed], full[4].bias[changed] = small[4].weight, small[4].bias


@pytest.mark.parametrize("mask", ["halves", "evenodd"])
@pytest.mark.parametrize("dim", [5, 6])
def test_the_notes_way_computes_what_split_halves_do(mask, dim):
    split, masked = RealNVP(dim, flow_settings(mask)).double(), MaskedRealNVP(dim, flow_settings(mask)).double()
    randomize(split, 1)
    randomize(masked, 2)  # what the masks hide is anything but zero
    x = torch.randn(50, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert (masked(x)[0] - split(x)[0]).abs().max() > 0.1
    embed(split, masked)
    for of_split, of_masked in zip(split(x), masked(x)):
        torch.testing.assert_close(of_masked, of_split, rtol=1e-12, atol=1e-12)
    assert (split(x)[0] - x).abs().max() > 0.5


def test_the_notes_way_is_one_of_two_networks():
    with pytest.raises(ValueError, match="flow.nets: two, not one"):
        MaskedRealNVP(4, flow_settings(nets="one"))


def test_the_notes_way_is_what_its_row_trains(tmp_path):
    store, config = (
        ours.make_store(tmp_path / "train", 3000, 40),
        ours.settings(0, 8, 100, "prior.cond_dim=40", "flow.nets=two"),
    )
    windows = ours.open_windows(store, config, CPU)
    for masked, family in ((True, MaskedRealNVP), (False, RealNVP)):
        assert type(ours.make_trainer(windows, config, masked=masked).model.flow) is family


def test_multiply_adds_are_those_of_the_weights():
    flow = RealNVP(6, flow_settings(nets="one"))
    weights = sum(p.numel() for p in flow.parameters() if p.dim() == 2)
    forward, both = passes(flow, lambda x: flow(x)[0].sum(1) + flow(x)[1], torch.randn(10, 6))
    assert forward == 2 * weights  # the flow runs twice
    assert 2 * forward < both < 3 * forward  # the first layer's input needs no gradient
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert multiply_adds(lambda: torch.mm(a, b)) == 60


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_have_our_sizes(name):
    package = peers.PEERS[name][0]
    if package not in peers.available()[0]:
        pytest.skip(f"{package} is not there; benchmarks/run.sh installs it")
    settings, x = flow_settings(nets="one"), torch.randn(10, 6)
    reference = RealNVP(6, settings)
    flow, density = peers.PEERS[name][1](6, settings)
    randomize(flow, 1)
    permutations = settings.blocks * 6 * 6 if "AllInOne" in name else 0  # FrEIA's are matrix products
    expected, forward = passes(reference, lambda x: reference(x)[1], x)[0], passes(flow, density, x)[0]
    assert forward == expected + permutations
    density(x).mean().backward()
    assert all(p.grad is not None for p in flow.parameters() if p.requires_grad)


def test_rows_are_timed_in_turn_and_the_first_round_does_not_count():
    calls, ticks = [], iter(range(100))
    actions = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    times = Watch(CPU, 3, lambda: next(ticks)).in_turn(actions)
    assert calls == list("abababab")
    assert times == {"a": [1, 1, 1], "b": [1, 1, 1]}
    assert Watch(CPU, 1, lambda: next(ticks)).in_turn(actions) == {"a": [1], "b": [1]}
    assert len(calls) == 10


def test_spread_is_median_and_quartiles():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0, 7.0)


def test_speed_and_share_are_medians_of_the_rounds():
    made = {
        rows.REFERENCE: rows.Row(None, 10, 100.0, 300.0, "float32"),
        "train: other": rows.Row(None, 20, 200.0, 600.0, "float32"),
    }
    seconds = {rows.REFERENCE: [1.0, 2.0, 4.0], "train: other": [2.0, 4.0, 4.0]}
    text = table.of_size(
        rows.Size(1, 32, 200), rows.Measured(made, seconds, {}, {"float32": [120_000.0, 60_000.0, 30_000.0]}), 3
    )
    line = next(line for line in text.splitlines() if line.startswith("train: other"))
    assert line.split()[2:] == ["50", "[50", "75]", "0.50", "0.50", "20", "200", "600"]
    measured = rows.Measured(made, seconds, dict.fromkeys(made, 5.0), {"float32": [1.0]})
    on_gpu = table.of_size(rows.Size(1, 32, 200), measured, 3)
    assert on_gpu.splitlines()[2].split()[-2:] == ["160000", "5"]  # 80 000 steps of 2 s, 5 MiB
    found = table.figures(rows.Size(1, 32, 200), measured)["train: other"]
    assert found["frames/s"] == (50.0, 50.0, 75.0) and found["80000 steps, s"] == 320_000 and found["peak MiB"] == 5.0


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("aten::addmm", "matmul"),
        ("aten::mm", "matmul"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matmul"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT", "matmul"),
        ("void cutlass::Kernel2<cutlass_80_simt_sgemm_128x128_8x4_nn_align1>(...)", "matmul"),
        ("aten::_fused_adamw_", "optimizer"),
        ("void at::native::multi_tensor_apply_kernel<at::native::FusedAdamMathFunctor<float>>", "optimizer"),
        ("aten::index_select", "gather"),
        ("void at::native::indexSelectLargeIndex<c10::Half>", "gather"),
        ("aten::copy_", "copies"),
        ("aten::cat", "copies"),
        ("Memcpy HtoD (Pageable -> Device)", "copies"),
        ("void at::native::CatArrayBatchedCopy<float>", "copies"),
        ("aten::sum", "reduction"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>", "reduction"),
        ("triton_red_fused_sum_3", "reduction"),
        ("triton_poi_fused_exp_tanh_1", "elementwise"),
        ("## Call CompiledFxGraph fbj45eyd ##", "elementwise"),
        ("aten::tanh", "elementwise"),
        ("aten::threshold_backward", "elementwise"),
        ("aten::slice_backward", "copies"),
        ("aten::as_strided", "views"),
        ("aten::addcmul", "elementwise"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::tanh_kernel_cuda>", "elementwise"),
    ],
)
def test_operators_and_kernels_have_their_group(name, group):
    assert profiling.group_of(name) == group


def test_a_profile_adds_up_to_the_step():
    a, b = torch.randn(2, 300, 300)
    found = profiling.groups(lambda: (torch.mm(a, b), torch.tanh(a)), 3, CPU)
    assert found["matmul"].calls == found["elementwise"].calls == 1
    assert set(found) <= {"matmul", "elementwise", "views", profiling.IDLE}
    assert found["matmul"].seconds > 0 and found[profiling.IDLE].seconds >= 0
    lines = [line.split() for line in profiling.table(found).splitlines()[1:]]
    parts, (name, total, *_) = [float(line[1]) for line in lines[:-1]], lines[-1]
    assert name == "all" and sum(parts) == pytest.approx(float(total), abs=0.01)


def run_benchmark(*options: str, status: int = 0) -> str:
    command = [ROOT / "benchmarks" / "run.sh", *options]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_one_command_prints_all(tmp_path):
    said = run_benchmark("--quick", "--threads", "1", "--profile", "--json", str(tmp_path / "speed.json"))
    lines = {line.split("  ")[0]: line.split() for line in said.splitlines() if line}
    assert "benchmarks/run.sh --quick --threads 1 --profile" in said.splitlines()[0]
    assert re.search(r"threads: 1,.*products in float32", said) and re.search(r"git \w+.* torch \d", said)
    ours, two, notes = (lines[name] for name in (rows.REFERENCE, "train: ours, two networks", rows.NOTES))
    assert ours[-5] == "1.00"
    assert int(ours[-2]) < int(two[-2]) < int(notes[-2])  # multiply-adds
    assert {"score: all classes", "gather: spliced vectors"} <= set(lines)
    assert "frame store: 0.3 MB for 4.0 MB of spliced float32" in said
    for name in ("fbank and energy", "wav to decision, 2 recordings of 2 s", "wav to decision, one recording of 4 s"):
        assert float(lines[name][-1]) > 0  # times real time
    for name in ("python3 -c 'import torch'", "python3 -m dnf.features.extract --help", "utils/classify.sh"):
        assert f"start: {name}" in lines
    for group in ("matmul", "elementwise", "optimizer", "gather", "all"):
        assert lines[group][2].endswith("%")
    assert "zuko" not in said
    figures = json.loads((tmp_path / "speed.json").read_text())
    assert figures["environment"]["threads"] == 1 and figures["sound"]["fbank and energy"]["seconds of sound"] > 0
    ((_, of_size),) = ((title, found) for title, found in figures.items() if title.endswith("batch 200"))
    assert f"{of_size['rows'][rows.REFERENCE]['frames/s'][0]:.0f}" == ours[2]


@pytest.mark.slow
def test_rows_can_be_chosen():
    chosen = ("--only", "120 dims.*(score|not compiled)", "--set", "train.compile=never")
    said = run_benchmark("--quick", "--threads", "1", *chosen).partition("\n")[2]
    assert rows.REFERENCE in said and "score: all classes" in said
    for name in (
        rows.NOTES,
        "train: ours, two networks",
        "train: ours, not compiled",
        "gather:",
        "fbank",
        "wav to decision",
        "start:",
    ):
        assert name not in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU")
def test_the_checks_of_a_gpu_say_in_one_line_that_there_is_none(tmp_path):
    command = ["bash", ROOT / "benchmarks" / "gpu.sh", tmp_path / "out"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    line = f"benchmarks/gpu.sh: PyTorch {torch.__version__} finds no GPU here: nvidia-smi must list one, and PyTorch be a build for CUDA\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    assert not (tmp_path / "out").exists()


def test_the_clock_of_processors_is_for_one_thread():
    assert "--clock cpu goes with --threads 1" in run_benchmark("--quick", "--clock", "cpu", status=2)


def test_recordings_are_found_from_any_folder(tmp_path, monkeypatch):
    for name in ("b/2.wav", "a/1.flac", "c/3.WAV", "c/notes.txt"):
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / name).touch()
    monkeypatch.chdir(tmp_path)
    found = parts.find_recordings(Path("corpus"), 2)
    assert found == [tmp_path / "corpus" / "a/1.flac", tmp_path / "corpus" / "b/2.wav"]
    with pytest.raises(ValueError, match="--recordings b: has no .wav or .flac file"):
        parts.find_recordings(Path("b"), 2)


def test_families_are_measured_by_the_density_of_the_features(tmp_path, capsys):
    """An untrained flow of ours is a Gaussian of independent dims."""
    stores = [ours.make_store(tmp_path / "frames" / name, 1500, 40) for name in ("train", "dev")]
    size = ["--context", "0", "--hidden", "8", "--steps", "2", "--batch", "50"]
    words = ["train.lr=1.0e-30"]
    assert families.main([str(tmp_path / "frames"), *size, "--set", *words]) == 0
    found = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines() if ": ours" in line}
    assert list(found) == [f"{kind}: ours" for kind in families.KINDS]
    config = ours.settings(0, 8, 50, *words, "splice.hop=3")
    train, dev = (ours.open_windows(store, config, CPU) for store in stores)
    mean, std = train.global_normalization()
    x = dev.gather(torch.arange(len(dev)))
    expected = -torch.distributions.Normal(mean, std).log_prob(x).sum(1).mean().item()
    for row in found.values():
        assert int(row[2]) > 0 and float(row[3]) > 0
        assert float(row[5]) == pytest.approx(expected, abs=0.01)


def test_differences_of_seeds_are_paired():
    assert families.percent_above([-99.0], [-100.0]) == "+1.00 %"
    assert (
        families.percent_above([103.0, 99.0], [101.0, 99.0]) == "+1.00 (-11.71 to +13.71) %"
    )  # t of one degree: 12.706


@pytest.mark.parametrize("kind", families.KINDS)
def test_the_peer_of_a_family_has_its_size(kind):
    if "zuko" not in peers.available()[0]:
        pytest.skip("zuko is not there; benchmarks/run.sh installs it")
    settings = resolve([f"flow.kind={kind}", "flow.mask=evenodd" if kind != "maf" else "flow.mask=halves"]).flow
    peer, density = peers.PEERS["zuko"][1](12, settings)
    own = make_flow(12, settings)
    assert rows.parameters(peer) == rows.parameters(own)
    assert density(torch.randn(5, 12)).shape == (5,)
