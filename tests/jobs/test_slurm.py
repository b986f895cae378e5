"""utils/slurm.py against a real Slurm of two nodes with two GPUs each, and the failures of real clusters."""

import os
import re
import time

import pytest

pytest.register_assert_rewrite("queue_behaviour")
from queue_behaviour import QueueBehaviour, SchedulerStops, Site, alive  # noqa: E402
from queues import ANSWER, FOR_EVER, LOST, READY, SOON, SlurmCluster, missing, wait_for  # noqa: E402
from recipe_runs import ROOT, counts, run  # noqa: E402

from utils.jobs import log as job_log  # noqa: E402
from utils.jobs import slurm  # noqa: E402
from utils.jobs.scheduler import Seen  # noqa: E402

CONF = """
command sbatch --export=ALL --no-requeue
option mem=* --mem=$0
option time=* --time=$0
option num_threads=* --cpus-per-task=$0
option gpu=* --gres=gpu:$0
option gpu=0
default gpu=0
default mem=2000M
"""
absent = missing(*SlurmCluster.needs)
needs_slurm = pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)} (Debian: slurm-wlm)")


@pytest.fixture(scope="module")
def cluster():
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def site(cluster, tmp_path):
    yield Site(cluster, "slurm", slurm.Slurm, CONF, tmp_path)
    cluster.cancel_all()


@needs_slurm
class TestSlurm(QueueBehaviour):
    refused = ["--mem", "100G"]
    gpus_per_node = 2

    def test_gpus(self, site):
        task = ["echo", "$CUDA_VISIBLE_DEVICES;", "sleep", "1"]
        site.run("--gpu", "1", "JOB=1:4", "a.JOB.log", *task, CUDA_VISIBLE_DEVICES="7")
        assert sorted(site.output(f"a.{n}.log") for n in range(1, 5)) == ["0\n", "0\n", "1\n", "1\n"]

    def test_memory_limit(self, site):
        eat = f"import time; print('hungry', flush=True); x = bytearray(300 << 20); time.sleep({FOR_EVER})"
        begun = time.monotonic()
        said = site.run("--mem", "50M", "a.log", "python3", "-c", eat, status=1)
        assert "out of memory" in said and "--mem" in said and "last lines of a.log:\n  hungry\n" in said
        assert re.search(r"last lines of \S+/q/a/\S+/out/1.1.out:\n", said)
        assert time.monotonic() - begun < ANSWER

    def test_cancelled_by_someone(self, site):
        runner = site.start("a.log", "echo", "$$", ">pid;", "sleep", FOR_EVER)
        site.wait_for("pid")
        site.cluster.call("scancel", site.job("a"))
        assert "cancelled, but not by this runner (Slurm: CANCELLED)" in site.end(runner, 1, seconds=SOON)

    def test_dependency_never_satisfied(self, site):
        failed = site.cluster.call("sbatch", "-o", "/dev/null", "--wrap", "false").split()[-1]
        begun = time.monotonic()
        said = site.run("-d", f"afterok:{failed}", "--num-tries", "3", "a.log", "true", status=1)
        assert "DependencyNeverSatisfied" in said and "try 1" not in said
        assert time.monotonic() - begun < ANSWER and not site.cluster.listed()

    def test_output_file_that_slurm_cannot_write(self, site):
        blocker = site.cluster.call(
            "sbatch", "--exclusive", "-N2", "-o", "/dev/null", "--wrap", f"sleep {FOR_EVER}"
        ).split()[-1]
        runner = site.start("a.log", "true")
        site.job("a")
        (out,) = (site.folder / "q/a").glob("*/out")
        out.rmdir()
        out.touch()
        site.cluster.call("scancel", blocker)
        begun = time.monotonic()
        assert "Slurm could not open its output file" in site.end(runner, 1)
        assert time.monotonic() - begun < SOON

    def test_time_limit_is_named(self):
        # To see it happen takes Slurm more than a minute; test_time_limit does.
        assert "--time" in slurm.classify("TIMEOUT", 0, "TimeLimit").reason
        assert slurm.classify("OUT_OF_MEMORY", 0, "OutOfMemory").kind == "failed"

    @pytest.mark.slow
    def test_time_limit(self, site):
        said = site.run("--time", "1", "a.log", "sleep", FOR_EVER, status=1)
        assert "time limit: give more with --time (Slurm: TIMEOUT)" in said

    def test_requeued_task_leaves_one_result(self, site):
        site.conf.write_text(CONF.replace(" --no-requeue", ""))
        runner = site.start(
            "a.log", "echo", "x", ">>", "ran;", "sleep", f"$([ $(wc -l <ran) -eq 2 ] && echo 0 || echo {FOR_EVER})"
        )
        site.wait_for("ran")
        site.cluster.call("scontrol", "requeue", site.job("a"))
        assert site.end(runner) == ""
        assert (site.folder / "ran").read_text() == "x\nx\n"
        assert site.output("a.log") == "" and "# Started at" in (site.folder / "a.log.bak").read_text()

    def test_enclosing_job_is_not_handed_down(self, site):
        inherited = {
            "SLURM_JOB_ID": "99",
            "SLURM_CPUS_PER_TASK": "3",
            "SBATCH_PARTITION": "none",
            "SLURM_MEM_PER_CPU": "77",
        }
        site.run("a.log", "env", **inherited)
        found = site.output("a.log")
        assert (
            "SLURM_MEM_PER_CPU=77" not in found
            and "SLURM_CPUS_PER_TASK=3" not in found
            and "SLURM_JOB_ID=99" not in found
        )


@needs_slurm
@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/memory/tasks", os.W_OK), reason="no memory cgroups (version 1) to write to"
)
def test_success_that_slurm_contradicts(tmp_path):
    with SlurmCluster(nodes=1, cgroups=True) as cluster:
        site = Site(cluster, "slurm", slurm.Slurm, CONF, tmp_path)
        task = ["python3", "-c", "x = bytearray(300 << 20)", "||", "echo", "swallowed;", "exit", "0"]
        said = site.run("--mem", "50M", "a.log", *task, status=1)
        assert (
            "out of memory: give more with --mem (Slurm: OUT_OF_MEMORY) (though the task itself ended with code 0)"
            in said
        )
        assert "  swallowed" in said and job_log.read_state(tmp_path / "a.log") == "failed"


@needs_slurm
@pytest.mark.slow
class TestSlurmDies(SchedulerStops):
    @pytest.fixture
    def site(self, tmp_path):
        with SlurmCluster() as cluster:
            yield Site(cluster, "slurm", slurm.Slurm, CONF, tmp_path)

    def test_node_failure_and_second_try(self, site):
        # The first copy goes on running on the dead node: it must neither spoil the second one nor outlive it.
        task = f"echo $$ >>pids; [ $(wc -l <pids) = 2 ] || sleep {FOR_EVER}; echo end".split()
        runner = site.start("--num-tries", "2", "a.log", *task)
        first = site.wait_for("pids")
        node = site.cluster.call("squeue", "-h", "-o", "%N").strip()
        site.cluster.end(node)
        job = site.job("a")
        wait_for(lambda: "NODE_FAIL" in site.cluster.call("squeue", "-h", "-t", "all", "-j", job, "-o", "%T"), READY)
        wait_for(lambda: (site.folder / "pids").read_text().count("\n") == 2, SOON, "a second try")
        said = site.end(runner, seconds=LOST)
        assert "try 1 of 2 failed (node failure (Slurm: NODE_FAIL)" in said
        assert site.output("a.log") == "end\n" and (site.folder / "pids").read_text().count("\n") == 2
        wait_for(lambda: not alive(first), SOON, "end of the first copy")

    def test_scheduler_that_forgot_the_job(self, site):
        # Killed before it saved its state, the controller gives the id to the next job: that one is not ours.
        runner = site.start("a.log", "echo", "$$", ">pid;", "sleep", FOR_EVER)
        pid, job = site.wait_for("pid"), site.job("a")
        site.cluster.end("slurmctld")
        for file in (site.cluster.root / "state").glob("job_state*"):
            file.unlink()
        (site.cluster.root / "state/last_config_lite").unlink(missing_ok=True)
        site.cluster.start_scheduler()
        wait_for(lambda: site.cluster.call("sinfo", "-h", status=None), what="controller")
        said = site.end(runner, 1, seconds=LOST)
        assert "the scheduler does not know it any more" in said
        wait_for(lambda: not alive(pid), SOON, f"end of what was job {job}")


TABLE = """\
12                       1                        COMPLETED                0            a-1   None
12                       2                        FAILED                   1792         a-1   NonZeroExitCode
12                       3                        PENDING   0   a-1   Nodes required for job are DOWN, DRAINED
12                       4                        PENDING                  0            a-1   DependencyNeverSatisfied
13                       N/A                      RUNNING                  0            other None
"""


@pytest.mark.slow
@needs_slurm
def test_the_mini_recipe_on_vectors_runs_through_the_queue(cluster, tmp_path, monkeypatch):
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    settings = ("vectors.ubm_components=4", "vectors.project_to=4", "train.batch_size=8", "plots.enabled=false")
    words = [word for setting in settings for word in ("--set", setting)]
    runner = f"{ROOT}/utils/slurm.py --mem 2000M"
    said = run(tmp_path, *counts(2, 2, 2, 2, 3), "--exp", "vectors_ubm", "--cmd", runner, *words)
    assert "results: exp/vectors_ubm/results.txt" in said
    exp = tmp_path / "exp/vectors_ubm"
    assert "EM step 15 of 15" in (exp / "feats/log/fit.log").read_text()
    jobs = cluster.call("squeue", "-h", "-r", "-t", "all", "-o", "%Z %T %j")
    of_this_run = re.findall(rf"^{tmp_path} COMPLETED (\w+)-", jobs, re.MULTILINE)
    stages = ["prepare", "fit", *["features_JOB"] * 2, "frames", "train", "latents", "plots", "score", "decide"]
    assert sorted(of_this_run) == sorted(stages), jobs


def test_table_of_squeue():
    seen = slurm.read_table(TABLE, {"a-1"})
    assert sorted(seen) == [("12", 1), ("12", 2), ("12", 3), ("12", 4)]
    assert [one.kind for one in seen.values()] == ["ended", "failed", "waiting", "stuck"]
    assert slurm.read_table(TABLE, {"other"}) == {("13", 1): Seen("running")}
