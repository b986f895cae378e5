"""utils/sge.py against a real Grid Engine with one host of two GPUs, and the failures of real clusters."""

import os
import re
import time

import pytest

pytest.register_assert_rewrite("queue_behaviour")
from queue_behaviour import QueueBehaviour, SchedulerStops, Site, alive  # noqa: E402
from queues import ANSWER, FOR_EVER, LOST, SOON, GridEngineCell, missing, wait_for  # noqa: E402

from utils.jobs import grid_engine  # noqa: E402

CONF = """
command qsub -V -r n -w e
option mem=* -l h_vmem=$0
option time=* -l h_rt=$0
option num_threads=* -pe smp $0
option num_threads=1
option gpu=* -l gpu=$0
option gpu=0
default gpu=0
"""
absent = missing(*GridEngineCell.needs)
reason = f"not installed: {', '.join(absent)} (Debian: gridengine-master gridengine-exec gridengine-client)"
needs_cell = pytest.mark.skipif(
    bool(absent) or os.geteuid() != 0, reason=reason if absent else "sge_execd must be started by root"
)


@pytest.fixture(scope="module")
def cluster():
    with GridEngineCell() as cluster:
        yield cluster


@pytest.fixture
def site(cluster, tmp_path):
    yield Site(cluster, "sge", grid_engine.GridEngine, CONF, tmp_path)
    cluster.cancel_all()


@needs_cell
class TestGridEngine(QueueBehaviour):
    refused = ["--gpu", "3"]

    def test_gpus_are_chosen_on_the_host(self, site):
        smi = site.folder / "nvidia-smi"
        smi.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'; echo 'GPU 1: A (UUID: GPU-2)'\n")
        smi.chmod(0o755)
        path = f"{site.folder}:{site.cluster.environment['PATH']}"
        task = ["echo", "$CUDA_VISIBLE_DEVICES;", "sleep", "1"]
        site.run("--gpu", "1", "JOB=1:4", "a.JOB.log", *task, PATH=path, CUDA_VISIBLE_DEVICES="7")
        assert sorted(site.output(f"a.{n}.log") for n in range(1, 5)) == ["0\n", "0\n", "1\n", "1\n"]
        site.run("--gpu", "2", "b.log", *task, PATH=path)
        assert site.output("b.log") == "0,1\n"
        site.run("c.log", "echo", "[$CUDA_VISIBLE_DEVICES]", PATH=path, CUDA_VISIBLE_DEVICES="7")
        assert site.output("c.log") == "[]\n"

    def test_host_without_the_gpu_it_was_said_to_have(self, site):
        assert "--gpu 1, but there are 0 GPUs on " in site.run("--gpu", "1", "a.log", "true", status=1)

    def test_memory_limit(self, site):
        eat = "print(len(bytearray(900 << 20)))"
        said = site.run("--mem", "500M", "a.log", "echo", "hungry;", "python3", "-c", eat, status=1)
        assert "out of memory, according to its logs (MemoryError): give more with --mem" in said

    def test_time_limit(self, site):
        begun = time.monotonic()
        said = site.run("--time", "0:0:3", "a.log", "echo", "there;", "sleep", FOR_EVER, status=1)
        assert "time" in said and "--time" in said and "  there" in said
        assert time.monotonic() - begun < ANSWER

    def test_error_state(self, site):
        site.cluster.call("qmod", "-d", "all.q")
        runner = site.start("--num-tries", "2", "a.log", "true")
        site.job("a")
        (out,) = (site.folder / "q/a").glob("*/out")
        out.rmdir()
        out.touch()
        site.cluster.call("qmod", "-e", "all.q")
        begun = time.monotonic()
        said = site.end(runner, 1)
        assert "(state Eqw)" in said and str(out) in said and "try 1" not in said
        assert time.monotonic() - begun < SOON and not site.cluster.listed()

    def test_deleted_by_someone(self, site):
        runner = site.start("a.log", "echo", "$$", ">pid;", "sleep", FOR_EVER)
        site.wait_for("pid")
        site.cluster.call("qdel", site.job("a"))
        assert "killed by signal" in site.end(runner, 1, seconds=SOON)

    def test_codes_that_mean_something_to_the_queue(self, site):
        # 99 is "start it again" and 100 "error state" to Grid Engine.
        for code in ("99", "100"):
            assert f"ended with code {code} on" in site.run(f"a{code}.log", "exit", code, status=1)


@needs_cell
@pytest.mark.slow
class TestGridEngineDies(SchedulerStops):
    refusal = "refused it"  # Grid Engine itself says of its master that the connection is refused

    @pytest.fixture
    def site(self, tmp_path):
        with GridEngineCell() as cell:
            yield Site(cell, "sge", grid_engine.GridEngine, CONF, tmp_path)

    def test_host_dies_with_its_tasks(self, site):
        runner = site.start("a.log", "echo", "there;", "echo", "$PPID", ">pid;", "sleep", FOR_EVER)
        site.wait_for("pid")
        site.cluster.end("sge_execd")
        for process in site.cluster.strays():
            os.kill(process, 9)
        unheard = ("qstat", "-f", "-u", "*")
        wait_for(
            lambda: re.search(r"^all\.q@.* \S*u\S*$", site.cluster.call(*unheard), re.M), LOST, "state u of the host"
        )
        said = site.end(runner, 1, seconds=SOON)
        assert "node failure: Grid Engine gets no answer from all.q@" in said and "  there" in said

    def test_host_daemon_dies_and_the_task_does_not(self, site):
        runner = site.start("a.log", "touch", "up;", "sleep", "25;", "echo", "end")
        wait_for((site.folder / "up").exists)
        site.cluster.end("sge_execd")
        assert site.end(runner, seconds=LOST) == "" and site.output("a.log") == "end\n"


def test_indices_of_qstat():
    assert grid_engine.indices("7") == [7] and grid_engine.indices("2-6:2,9") == [2, 4, 6, 9]


def test_accounts():
    failed = "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit"
    text = f"hostname     h1\nfailed       {failed}\nexit_status  137\nmaxvmem      1.2G\n"
    seen = grid_engine.read_account(text)
    assert (
        seen.kind == "failed" and "--time" in seen.reason and "on h1" in seen.reason and "maxvmem 1.2G" in seen.reason
    )
    assert "signal 9" in grid_engine.read_account("failed 100 : assumedly after job\nexit_status 137\n").reason
    assert not alive("999999999")
