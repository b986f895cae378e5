"""Training as several processes: the same course as one, and what happens when one of them ends before its time."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import rank_program
import recipe_runs
import torch
from recipe_runs import SUPPORT, environment
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError

from dnf.experiment.tables import read_tsv
from dnf.models import checkpoint
from dnf.training import launch, rendezvous
from dnf.training.evaluate import evaluate
from dnf.training.launch import ABORTED, ENDED, KILLED, LOST, OWN, Cause, cause_of, main
from dnf.training.loss import backward
from dnf.training.ranks import ALONE, Ranks, dist, is_lost, join_ranks, leave, own_gpu
from dnf.training.sampler import Sampler
from dnf.training.train import make_trainer, run

# What differs from one process to several is the order of float32 sums: so far apart may the figures and weights be.
SAME = {"rel": 1e-4, "abs": 2e-3}
SAME_BF16 = {"rel": 1e-2, "abs": 0.1}
WORDS = ("train.steps=40", "train.eval_steps=13", "train.lr=0.01")
KINDS = {
    "plain": (),
    "micro-batches": ("train.micro_batch=7", "train.sampling=balanced", "flow.nets=two"),
    "no classes": ("prior.cond_dim=0",),
    "bf16": ("train.precision=bf16",),
    "maf": ("flow.kind=maf",),
    "spline": ("flow.kind=spline",),
    "first layer": ("flow.first=joint", "prior.variances=free", "flow.first_trainable=true", "flow.mix=lu"),
    "broken": (),
}
NAN = [4, 20, 21]


@pytest.fixture(scope="module")
def frames(write_store, two_classes, tmp_path_factory) -> Path:
    """Stores train (300 vectors) and dev (107, which no number of ranks divides), and classes.txt."""
    folder = tmp_path_factory.mktemp("several") / "frames"
    write_store(folder / "train", two_classes(1))
    dev = two_classes(2, utterances=2)
    some = next(iter(dev.values()))[2][:7]
    write_store(folder / "dev", dev | {"more-u": ("more", "en", some, some[:, 0] ** 0)})
    (folder.parent / "classes.txt").write_text("en\nzh\n")
    return folder


@pytest.fixture(scope="module")
def new_exp(small_config, tmp_path_factory):
    """Make the folder of an experiment with its settings, or lay others over it."""
    root = tmp_path_factory.mktemp("exp")

    def make(name: str, *words: str) -> Path:
        small_config(*WORDS, *words).save(root / name / "config.yaml")
        return root / name

    return make


def launched(exp: Path, frames: Path, plan: list, node: int = 1) -> subprocess.Popen:
    """A launcher whose ranks run a plan of rank_program; what it and they say goes to ``log.NODE``."""
    words = ["--node", node, exp, "rank_program", frames, frames.parent / "classes.txt", json.dumps(plan)]
    path = environment(SUPPORT) | {"OMP_NUM_THREADS": "1"}
    with (exp / f"log.{node}").open("w") as log:
        argv = [sys.executable, "-m", "dnf.training.launch", *map(str, words)]
        return subprocess.Popen(argv, env=path, stdout=log, stderr=log)


def ended(launcher: subprocess.Popen, exp: Path, node: int = 1, seconds: float = 60) -> tuple[int, str]:
    """Status of a launcher, and the last line it wrote."""
    try:
        status = launcher.wait(seconds)
    finally:
        launcher.kill()
    return status, (exp / f"log.{node}").read_text().rstrip().split("\n")[-1]


def alone(frames: Path, *plan) -> None:
    for exp, faults in plan:
        rank_program.attempt(str(frames), str(frames.parent / "classes.txt"), str(exp), faults)


@pytest.fixture(scope="module")
def both(frames, new_exp) -> dict[str, tuple[Path, Path]]:
    """Each experiment as one process and as two: kinds of model, steps that break on rank 1, a run begun as one."""
    pairs = {
        name: (new_exp(f"{name} 1", *words), new_exp(f"{name} 2", *words, "train.num_gpus=2"))
        for name, words in KINDS.items()
    }
    alone(frames, *((pair[0], {"nan": NAN} if name == "broken" else {}) for name, pair in pairs.items()))
    pairs["one, then two"] = pairs["plain"][0], new_exp("one, then two")
    with pytest.raises(ValueError, match="torn at byte 7"):
        alone(frames, (pairs["one, then two"][1], {"error": ["user", 30]}))
    new_exp("one, then two", "train.num_gpus=2")
    plan = [[str(pair[1]), {"nan": NAN} if name == "broken" else {}] for name, pair in pairs.items()]
    exp = pairs["plain"][1]
    assert ended(launched(exp, frames, plan), exp)[0] == 0, (exp / "log.1").read_text()
    return pairs


def assert_same_course(one: Path, other: Path, near: dict) -> None:
    rows, others = read_tsv(one / "history.tsv"), read_tsv(other / "history.tsv")
    assert len(rows) == len(others) > 20
    for a, b in zip(rows, others):
        for name in ("step", "epoch", "lr", "spikes", "restores"):
            assert a[name] == b[name], (a["step"], name)
        for name in ("nll", "logp", "logdet", "grad_norm", "dev_nll", "dev_logp", "dev_logdet"):
            assert bool(a[name]) == bool(b[name])
            if a[name]:
                assert float(a[name]) == pytest.approx(float(b[name]), **near), (a["step"], name)
        if a["dev_accuracy"]:
            assert float(a["dev_accuracy"]) == pytest.approx(float(b["dev_accuracy"]), abs=2 / 107)
    summaries = [json.loads((exp / "training.json").read_text()) for exp in (one, other)]
    assert summaries[0] == summaries[1]
    for file in ("last.pt", "best.pt"):
        first, second = (checkpoint.load(exp / file) for exp in (one, other))
        assert first.keys() == second.keys() and first["step"] == second["step"]
        for name, tensor in first["model"].items():
            torch.testing.assert_close(second["model"][name], tensor, rtol=near["rel"], atol=near["abs"], msg=name)
    for part in ("dev", "sample"):
        assert second[part]["nll"] == pytest.approx(first[part]["nll"], **near)


# ---- the same course -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*KINDS, "one, then two"])
def test_two_processes_learn_what_one_learns(both, name):
    assert_same_course(*both[name], SAME_BF16 if name == "bf16" else SAME)


def test_other_batches_would_be_told_apart(both):
    """The tolerance is far below what two runs on different batches differ by."""
    with pytest.raises(AssertionError):
        assert_same_course(both["plain"][0], both["micro-batches"][1], SAME)


def test_a_batch_that_breaks_on_one_rank_is_undone_on_both(both):
    summary = json.loads((both["broken"][1] / "training.json").read_text())
    assert summary["restores"] == len(NAN) and summary["steps"] == 40
    assert (both["plain"][0] / "history.tsv").read_text() != (both["broken"][0] / "history.tsv").read_text()


def test_a_run_goes_on_with_more_processes(both):
    rows = read_tsv(both["one, then two"][1] / "history.tsv")
    assert [int(row["step"]) for row in rows] == list(range(1, 41))


def test_only_rank_0_writes_and_speaks(both):
    folder = both["plain"][1]
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "env.json", "training.json", "history.tsv", "tb", "last.pt", "best.pt", "log.1",
    }  # fmt: skip
    assert len(list((folder / "tb").iterdir())) == 1
    assert json.loads((folder / "env.json").read_text())["device_name"].startswith("2 x ")
    log = (folder / "log.1").read_text()
    assert log.count("train: class en has") == len(both) and "arning" not in log.replace("WARNING", "")
    assert log.count("step 5: NLL nan") == 1


def test_a_run_that_fails_as_two_says_why_and_goes_on_as_one(both, frames, new_exp):
    exp = new_exp("two, then one", "train.num_gpus=2")
    status, line = ended(launched(exp, frames, [[str(exp), {"error": ["user", 30]}]]), exp)
    assert (status, line) == (1, "launch.py: rank 1 of 2: train.ark: torn at byte 7; copy it again")
    assert "Traceback" not in (exp / "log.1").read_text() and checkpoint.load(exp / "last.pt")["step"] == 26
    new_exp("two, then one")
    alone(frames, (exp, {}))
    assert_same_course(both["plain"][0], exp, SAME)


# ---- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", (1, 2, 3, 7))
def test_shares_of_all_ranks_are_the_whole(size):
    ranks = [Ranks(rank, size) for rank in range(size)]
    for total in (0, 1, 7, 50, 10**9 + 7):
        bounds = [of.bounds(total) for of in ranks]
        assert bounds[0][0] == 0 and bounds[-1][1] == total
        assert all(a[1] == b[0] for a, b in zip(bounds, bounds[1:]))
        assert max(b - a for a, b in bounds) - min(b - a for a, b in bounds) <= 1
    for balanced in (False, True):
        sampler = Sampler((30, 77), lambda k, nth: nth + 1000 * k, 23, 1, balanced=balanced)
        for step in (0, 3, 9):
            assert torch.equal(torch.cat([sampler.batch(step, of) for of in ranks]), sampler.batch(step))


@pytest.mark.parametrize("size", (2, 3))
def test_the_mean_over_unequal_shares_is_the_gradient_of_the_batch(frames, small_config, tmp_path, size):
    trainer = make_trainer(frames, tmp_path, small_config(), ["en", "zh"], ALONE)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))

    def gradients(rows, count=None):
        trainer.model.zero_grad()
        figures = backward(trainer.loss, trainer.train, rows, 1000, count)
        return [*figures.values(), *(p.grad.clone() for p in trainer.model.parameters())]

    whole = gradients(trainer.sampler.batch(0))
    shares = [gradients(trainer.sampler.batch(0, Ranks(rank, size)), 50 / size) for rank in range(size)]
    for wanted, *got in zip(whole, *shares):
        torch.testing.assert_close(sum(got) / size, wanted, rtol=1e-4, atol=1e-4)


def test_evaluation_adds_up_over_ranks(frames, small_config, tmp_path, monkeypatch):
    trainer = make_trainer(frames, tmp_path, small_config(), ["en", "zh"], ALONE)
    shares = []
    monkeypatch.setattr(Ranks, "sum", lambda self, values: shares.append(values) or values)
    for rank in range(3):
        evaluate(trainer.model, trainer.dev, ranks=Ranks(rank, 3))
    whole = evaluate(trainer.model, trainer.dev)
    assert [sum(values) / 107 for values in zip(*shares[:3])] == pytest.approx(
        [whole["logp"], whole["logdet"], whole["accuracy"]], rel=1e-6
    )


def test_more_processes_than_frames_in_a_batch_are_refused(frames, small_config, tmp_path):
    with pytest.raises(ValueError, match="a batch of 3 frames is too small for 4 processes; lower train.num"):
        make_trainer(frames, tmp_path, small_config("train.batch_size=3"), ["en", "zh"], Ranks(0, 4))


def test_ranks_that_find_different_last_checkpoints_are_refused(frames, small_config, tmp_path, monkeypatch):
    """One rank has a checkpoint and the other none: before either computes statistics of frames, which takes both."""
    trainer = make_trainer(frames, tmp_path, small_config("train.steps=2"), ["en", "zh"], ALONE)
    run(trainer)

    class WithAnother(Ranks):
        def mean(self, values):
            return [value / 2 for value in values]

    monkeypatch.setattr("dnf.training.trainer.start_model", None)
    with pytest.raises(ValueError, match=r"last.pt: last checkpoint differs between the nodes: 2 on rank 0"):
        make_trainer(frames, tmp_path, trainer.config, ["en", "zh"], WithAnother(0, 2), tmp_path / "last.pt")


def test_a_process_that_was_not_launched_has_no_process_group(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: pytest.fail("opened"))
    ranks = join_ranks(torch.device("cpu"))
    model = torch.nn.Linear(1, 1)
    assert ranks == ALONE and ranks.wrap(model) is model and ranks.sum([0.1, math.inf]) == [0.1, math.inf]
    leave()


@pytest.mark.parametrize(
    ("name", "count", "text"),
    [("cuda:1", 2, "one GPU, but train.num_gpus asks for 2"), ("cuda", 1, "is 2, but this node has 1 GPUs")],
)
def test_gpus_that_are_not_there_are_named(monkeypatch, name, count, text):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError, match=text):
        own_gpu(torch.device(name), 0, 2)


# ---- ranks that end before their time ------------------------------------------------------------


def ranks_of(exp: Path) -> dict[int, int]:
    """Process id of each rank that works on an experiment."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            words, variables = ((folder / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:
            continue
        if (
            b"rank_program" in words
            and b"dnf.training.launch" not in words
            and any(str(exp).encode() in word for word in words)
        ):
            found |= {int(v[5:]): int(folder.name) for v in variables if v.startswith(b"RANK=")}
    return found


def gone(exp: Path) -> bool:
    for _ in range(50):
        if not ranks_of(exp):
            return True
        time.sleep(0.1)
    return False


def trains(exp: Path, seconds: float = 60) -> None:
    """Wait for the first checkpoint."""
    until = time.monotonic() + seconds
    while not (exp / "last.pt").is_file():
        assert time.monotonic() < until, (exp / "log.1").read_text()
        time.sleep(0.05)


ENDLESS = ("train.steps=1000000", "train.eval_steps=20")


def test_a_killed_rank_ends_the_run_within_seconds(frames, new_exp):
    exp = new_exp("killed rank", "train.num_gpus=2", *ENDLESS)
    launcher = launched(exp, frames, [[str(exp), {}]])
    trains(exp)
    began = time.monotonic()
    os.kill(ranks_of(exp)[0], signal.SIGKILL)
    status, line = ended(launcher, exp, seconds=30)
    assert time.monotonic() - began < 10 and status == 1
    assert line.startswith(
        "launch.py: rank 0 of 2 was killed by signal 9 (SIGKILL), often because of too little memory"
    )
    assert gone(exp)


def test_a_killed_launcher_takes_its_ranks_with_it(frames, new_exp):
    exp = new_exp("killed launcher", "train.num_gpus=2", *ENDLESS)
    launcher = launched(exp, frames, [[str(exp), {}]])
    trains(exp)
    assert len(ranks_of(exp)) == 2
    launcher.kill()
    assert gone(exp)
    launcher.wait()


def test_a_bug_in_one_rank_is_named_and_its_traceback_kept(frames, new_exp):
    exp = new_exp("bug", "train.num_gpus=2")
    status, line = ended(launched(exp, frames, [[str(exp), {"error": ["bug", 5]}]]), exp)
    assert status == 1 and line.startswith("launch.py: rank 1 of 2: KeyError: 'no such thing'")
    assert (exp / "log.1").read_text().count("Traceback") == 1


def test_two_nodes_meet_train_as_one_and_fail_as_one(both, frames, new_exp):
    """Two launchers on one machine; the second experiment goes on until the rank of one node is killed."""
    exp, endless = new_exp("nodes", "train.num_nodes=2"), new_exp("endless", "train.num_nodes=2", *ENDLESS)
    (exp / rendezvous.FILE).write_text('{"run": "of last week", "addresses": ["127.0.0.1"], "port": 1, "machine": ""}')
    plan = [[str(exp), {}], [str(endless), {}]]
    second = launched(exp, frames, plan, node=2)
    time.sleep(1)
    first = launched(exp, frames, plan, node=1)
    trains(endless)
    assert_same_course(both["plain"][0], exp, SAME)
    began, victim = time.monotonic(), max(ranks_of(exp))
    os.kill(ranks_of(exp)[victim], signal.SIGKILL)
    for launcher, node in ((first, 1), (second, 2)):
        status, line = ended(launcher, exp, node, seconds=30)
        assert status == 1 and line.startswith(f"launch.py: rank {victim} of 2 was killed by signal 9"), line
    assert time.monotonic() - began < 15 and gone(exp) and not (exp / rendezvous.FILE).exists()


@pytest.mark.parametrize("victim", (1, 2))
def test_a_node_that_goes_without_a_word_ends_the_other(frames, new_exp, victim):
    exp = new_exp(f"killed node {victim}", "train.num_nodes=2", *ENDLESS)
    launchers = {node: launched(exp, frames, [[str(exp), {}]], node) for node in (1, 2)}
    trains(exp)
    launchers[victim].kill()
    status, line = ended(launchers[3 - victim], exp, 3 - victim, seconds=40)
    reason = "does not answer" if victim == 1 else "ended without a message"
    assert status == 1 and line == f"launch.py: node {victim} {reason}; see its log"
    assert gone(exp)
    launchers[victim].wait()


def test_node_1_is_missed_whoever_sees_it_first(monkeypatch):
    """torchrun's own error about the store is the same cause as the watch's; without a watch it stays an error."""

    def lost(settings, program):
        raise RendezvousConnectionError("the store is gone")

    monkeypatch.setattr(launch, "elastic_launch", lost)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # which launch adds to
    meeting = SimpleNamespace(nodes=2, address="127.0.0.1", run="r", host="127.0.0.1", port=1)
    (cause,) = launch.launch(["nothing"], 1, meeting, SimpleNamespace(trouble=None))
    assert cause.text == "node 1 does not answer; see its log"
    earlier = Cause(KILLED, 1, "node 2 has not answered for 20 s")
    assert launch.launch(["nothing"], 1, meeting, SimpleNamespace(trouble=earlier)) == [earlier]
    with pytest.raises(RendezvousConnectionError):
        launch.launch(["nothing"], 1, None, None)


def test_a_node_does_not_wait_for_ever(new_exp):
    exp = new_exp("lonely", "train.num_nodes=3")
    for node, text in (
        (1, "after 0 s: nodes 2 3 of 3 have not started; see their logs"),
        (2, "node 1 of 3 was not found"),
    ):
        with pytest.raises(ValueError, match=text):
            main(["--patience", "0.3", "--node", str(node), str(exp), "dnf.training.train"])
    assert not (exp / rendezvous.FILE).exists()


@pytest.mark.parametrize(
    "words", (["--node", "2", "EXP", "dnf.training.train"], ["EXP", "--node", "1", "dnf.training.train"], ["EXP"])
)
def test_a_launch_that_makes_no_sense_is_refused(new_exp, words):
    exp = new_exp("usage")
    with pytest.raises(SystemExit, match="2"):
        main([str(exp) if word == "EXP" else word for word in words])


# ---- the cause that is shown ---------------------------------------------------------------------


def failure(tmp_path: Path, exitcode: int, message: str = "", lost: bool = False) -> ProcessFailure:
    file = tmp_path / "error.json"
    file.unlink(missing_ok=True)
    if message:
        file.write_text(json.dumps({"message": {"message": message, "extraInfo": {"timestamp": "1", "lost": lost}}}))
    return ProcessFailure(0, 1, exitcode, str(file))


def test_a_rank_that_failed_by_itself_speaks_before_those_that_missed_it(tmp_path):
    causes = [
        cause_of(0, 5, failure(tmp_path, 1, "RuntimeError: gloo: Connection closed by peer", lost=True)),
        cause_of(1, 5, failure(tmp_path, -15)),
        cause_of(2, 5, failure(tmp_path, -6)),
        cause_of(3, 5, failure(tmp_path, -11)),
        cause_of(4, 5, failure(tmp_path, 1, "a.ark: torn")),
    ]
    assert [cause.order for cause in causes] == [LOST, ENDED, ABORTED, KILLED, OWN]
    assert [cause.rank for cause in sorted(causes)] == [4, 3, 2, 0, 1]
    assert min(causes).text == "rank 4 of 5: a.ark: torn" and "signal 11 (SIGSEGV)" in causes[3].text
    assert min(Cause(OWN, 3, ""), Cause(OWN, 1, "")).rank == 1


def test_errors_of_a_lost_rank_are_told_from_its_own():
    assert is_lost(RuntimeError("[/x/gloo/transport/tcp/pair.cc:1] Connection closed by peer"))
    assert is_lost(torch.distributed.DistBackendError("NCCL error"))
    assert not is_lost(RuntimeError("CUDA out of memory")) and not is_lost(ValueError("gloo"))


# ---- where nodes meet ----------------------------------------------------------------------------


def test_addresses_of_this_machine():
    found = rendezvous.interfaces()
    assert rendezvous.LOOPBACK in found.values() and rendezvous.interface_of(rendezvous.LOOPBACK) == "lo"
    assert rendezvous.interface_of("203.0.113.77") is None and rendezvous.address_towards("127.0.0.1") == "127.0.0.1"
    assert rendezvous.machine() == rendezvous.machine() != ""


def test_nodes_of_other_machines_use_the_address_that_answered(tmp_path, monkeypatch):
    """The second node says that it is on another machine: both then use the address it found the first by."""
    outside = sorted(set(rendezvous.interfaces().values()) - {rendezvous.LOOPBACK})
    if not outside:
        pytest.skip("no interface but the loopback one")
    monkeypatch.setattr(rendezvous, "machine", iter([f"m{n}" for n in range(100)]).__next__)

    def come(node: int) -> tuple[str, bool]:
        with rendezvous.meet(tmp_path, node, 2, 20) as meeting:
            store = meeting.connect()
            store.add("came", 1)
            while store.add("came", 0) < 2:
                time.sleep(0.05)
            if node == 2:
                store.add("left", 1)
            while node == 1 and store.add("left", 0) < 1:  # the store is its, and goes with it
                time.sleep(0.05)
            return meeting.address, meeting.run

    with ThreadPoolExecutor(2) as pool:
        (one, run), (two, again) = pool.map(come, (1, 2))
    assert one == two and one in outside and run == again


def test_a_node_that_falls_silent_is_noticed_and_one_that_is_done_is_not(tmp_path, monkeypatch):
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meetings = [rendezvous.Meeting("x", n, 3, "127.0.0.1", store.port, "127.0.0.1", store) for n in (1, 2, 3)]
    watches = [launch.Watch(meeting) for meeting in meetings]
    monkeypatch.setattr(launch, "SILENCE", 0.3)
    assert [watch.look() for watch in watches] == [None] * 3 and watches[0].look() is None
    store.set("done/3", "")
    for _ in range(4):
        time.sleep(0.1)
        assert watches[1].look() is None
        first = watches[0].look()
        assert first is None
    time.sleep(0.4)
    assert watches[0].look().text == "node 2 has not answered for 0 s"
    store.set("causes/2", json.dumps([Cause(LOST, 1, "lost"), Cause(OWN, 2, "torn")]))
    assert watches[2].look() == Cause(OWN, 2, "torn") == watches[0].tell([Cause(LOST, 0, "lost")])


# ---- the recipe ----------------------------------------------------------------------------------

COUNTS = recipe_runs.counts(2, 2, 2, 2, 3)


@pytest.mark.slow
def test_the_mini_recipe_whole_as_two_processes_and_as_two_nodes(tmp_path):
    said = recipe_runs.run(tmp_path, *COUNTS, "--set", "train.num_gpus=2")
    out = tmp_path / "exp/hybrid"
    assert "stage 8 (report)" in said and recipe_runs.results(tmp_path, "hybrid")
    assert "2 x " in (out / "results.txt").read_text()
    several = read_tsv(out / "history.tsv")
    assert "stage 3 (train): up to date" in recipe_runs.run(tmp_path, *COUNTS, "--stop-stage", "3")
    only = ("--stage", "3", "--stop-stage", "3", "--force")
    recipe_runs.run(tmp_path, *COUNTS, *only, "--set", "train.num_nodes=2")
    nodes = read_tsv(out / "history.tsv")
    assert {path.name for path in (out / "log").glob("train*.log")} == {"train.log", "train.1.log", "train.2.log"}
    recipe_runs.run(tmp_path, *COUNTS, *only)
    one = read_tsv(out / "history.tsv")
    for rows in (several, nodes):
        assert len(rows) == len(one)
        for a, b in zip(rows, one):
            assert float(a["nll"]) == pytest.approx(float(b["nll"]), **SAME)
    one_frame = (*only, "--set", "train.num_nodes=2", "--set", "train.batch_size=1")
    said = recipe_runs.run(tmp_path, *COUNTS, *one_frame, status=1)
    assert re.search("launch.py: rank 0 of 2: exp/hybrid: a batch of 1 frames is too small for 2 processes", said)
    assert "Traceback" not in said
