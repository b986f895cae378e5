"""What both queue runners must do: mixed into the test classes of test_slurm.py and test_sge.py."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import recipe_runs
from queues import FOR_EVER, LOST, READY, SOON, Cluster, wait_for
from recipe_runs import ROOT

from dnf.experiment.tables import read_tsv
from utils.jobs import log as job_log
from utils.jobs.scheduler import Scheduler

UNTIL_GO = ("until", "[", "-e", "go", "];", "do", "sleep", "0.1;", "done")


class Site:
    """A folder in which jobs are run by the runner ``utils/<backend>.py`` on one cluster."""

    def __init__(self, cluster: Cluster, backend: str, scheduler: type[Scheduler], conf: str, folder: Path):
        self.cluster, self.folder, self.backend, self.scheduler = cluster, folder, backend, scheduler.name
        self.runner = str(ROOT / "utils" / f"{backend}.py")
        self.conf = folder / "conf" / scheduler.conf_name
        self.conf.parent.mkdir()
        self.conf.write_text(conf)

    def start(self, *arguments, **more) -> subprocess.Popen:
        said = tempfile.TemporaryFile("a+")
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": said, "text": True}
        runner = subprocess.Popen(
            [self.runner, *arguments], cwd=self.folder, env=self.cluster.environment | more, **given
        )
        runner.stderr = said
        return runner

    def run(self, *arguments, status: int = 0, **more) -> str:
        """What the runner says; its status must be the one expected."""
        return self.end(self.start(*arguments, **more), status)

    def end(self, runner: subprocess.Popen, status: int = 0, seconds: float = LOST) -> str:
        runner.wait(seconds)
        out, errors = runner.stdout.read(), self.said(runner)
        assert (runner.returncode, out) == (status, ""), f"status {runner.returncode}: {out}{errors}"
        return errors

    def let_go(self, runner: subprocess.Popen, log: str) -> str:
        """End tasks that are ``UNTIL_GO``, once a runner waits for them; what it says."""
        lock = self.folder / "q" / log / "lock"
        wait_for(lambda: lock.read_text().startswith(f"process {runner.pid} on"), what="the runner")
        (self.folder / "go").touch()
        return self.end(runner)

    def end_tasks(self, log: str, count: int) -> None:
        """End an array of tasks that are ``UNTIL_GO``, and wait until each has left its record."""
        (self.folder / "go").touch()
        wait_for(lambda: len(list((self.folder / "q" / log).glob("*/tasks/*.end"))) == count, what="records")

    def wait_until_silent(self, runner: subprocess.Popen) -> None:
        """Until a runner has said that its scheduler does not answer."""
        wait_for(lambda: " does not answer (" in self.said(runner), READY, "the runner's notice")

    def said(self, runner: subprocess.Popen) -> str:
        """What a runner has said so far."""
        runner.stderr.seek(0)
        return runner.stderr.read()

    def output(self, log: str) -> str:
        """What the task itself wrote."""
        text = (self.folder / log).read_text()
        return text[text.index("\n#\n") + 3 : text.rindex("# Accounting:")]

    def job(self, log: str) -> str:
        """Id of the job that writes a log, as it is on the disk."""
        path = self.folder / "q" / log / "job.json"
        wait_for(lambda: path.exists() and json.loads(path.read_text())["submissions"], what="a submission")
        wait_for(lambda: json.loads(path.read_text())["submissions"][-1]["job"], what="its id")
        return json.loads(path.read_text())["submissions"][-1]["job"]

    def wait_for(self, name: str) -> str:
        """Until a file has something in it."""
        path = self.folder / name
        wait_for(lambda: path.exists() and path.read_text().strip(), what=name)
        return path.read_text().strip()


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


class SchedulerStops:
    """Tests with a fixture ``site`` that has a cluster of its own for each test, since it is not whole afterwards."""

    refusal = "refused"  # in what the runner says of a job that the scheduler turns down

    def test_scheduler_stopped_while_waiting(self, site):
        runner = site.start("JOB=1:2", "a.JOB.log", "echo", "x", ">>ran.JOB;", *UNTIL_GO, ";", "echo", "end")
        site.wait_for("ran.1"), site.wait_for("ran.2")
        site.cluster.wait_until_saved()
        site.cluster.end(site.cluster.scheduler)
        site.end_tasks("a.JOB", 2)
        site.wait_until_silent(runner)
        assert runner.poll() is None
        site.cluster.start_scheduler()
        said = site.end(runner)
        assert f"{site.scheduler} does not answer" in said and f"{site.scheduler} answers again" in said
        assert [(site.folder / f"ran.{n}").read_text() for n in (1, 2)] == ["x\n"] * 2

    def test_scheduler_away_at_submission(self, site):
        site.cluster.end(site.cluster.scheduler)
        runner = site.start("a.log", "echo", "x", ">>ran")
        site.wait_until_silent(runner)
        site.cluster.start_scheduler()
        said = site.end(runner)
        assert f"{site.scheduler} does not answer" in said and self.refusal not in said
        assert (site.folder / "ran").read_text() == "x\n"


class QueueBehaviour:
    """Tests with a fixture ``site``."""

    gpus_per_node = 1

    def test_log_of_one_job(self, site):
        assert site.run("log/a.log", "echo", "hello", "world", "$WORD", WORD="x") == ""
        lines = (site.folder / "log/a.log").read_text().splitlines()
        assert re.fullmatch(r"# Running on \S+", lines[0]) and lines[1] == "# echo hello world $WORD"
        assert site.output("log/a.log") == "hello world x\n"
        assert re.fullmatch(r"# Accounting: time=\d+ threads=1", lines[-3]) and lines[-1].startswith(
            "# Ended (code 0) at "
        )
        assert job_log.read_state(site.folder / "log/a.log") == "done"
        assert [path.name for path in site.folder.rglob("q/a/*")] == ["lock"]  # and nothing else is left behind

    def test_array_with_failures(self, site):
        said = site.run("JOB=1:5", "log/a.JOB.log", "echo", "was", "JOB", ";", "[", "JOB", "-lt", "4", "]", status=1)
        lines = said.splitlines()
        assert lines[0].endswith("2 / 5 failed, log is in log/a.*.log")
        assert "tasks 4, 5: ended with code 1 on " in lines[1]
        assert lines[2].endswith("last lines of log/a.4.log:") and lines[3] == "  was 4"
        states = [job_log.read_state(site.folder / f"log/a.{n}.log") for n in range(1, 6)]
        assert states == ["done", "done", "done", "failed", "failed"]
        said = site.run("--pick", "failed", "JOB=1:5", "log/a.JOB.log", "touch", "again.JOB")
        assert said == "" and sorted(path.name for path in site.folder.glob("again.*")) == ["again.4", "again.5"]

    def test_only_failed_tasks_are_tried_again(self, site):
        task = ["echo", "x", ">>", "tries.JOB", ";", "[", "$(wc -l <tries.JOB)", "-ge", "JOB", "]"]
        said = site.run("--num-tries", "2", "JOB=1:3", "a.JOB.log", *task, status=1)
        assert "1 / 3 failed" in said and "task 2: try 1 of 2 failed" in said
        assert [len((site.folder / f"tries.{n}").read_text().split()) for n in (1, 2, 3)] == [1, 2, 2]
        assert (site.folder / "a.3.log.bak").read_text().count("# Started at") == 1

    def test_arrays_are_split_at_the_limit_of_the_site(self, site):
        # The fixtures allow 40 tasks an array; numbers beyond that must do, too.
        assert site.run("JOB=31:75", "a.JOB.log", "echo", "JOB") == ""
        assert all(site.output(f"a.{n}.log") == f"{n}\n" for n in range(31, 76))

    def test_smallest_limit_wins(self, site):
        task = ["mkdir", "run.JOB;", "ls", "-d", "run.*", "|", "wc", "-l;", "sleep", "0.3;", "rmdir", "run.JOB"]
        assert site.run("--max-jobs-run", "5", "-tc", "2", "JOB=1:5", "a.JOB.log", *task) == ""
        assert max(int(site.output(f"a.{n}.log")) for n in range(1, 6)) == 2

    def test_call_as_from_a_kaldi_script(self, site):
        (site.folder / "path.sh").write_text("export FROM_PATH_SH=yes\n")
        line = f"{site.runner} --mem 100M --num-threads 2 --max-jobs-run 3 JOB=1:2 exp/x/log/acc.JOB.log"
        line += r" echo \$FROM_PATH_SH \$OMP_NUM_THREADS \| sed s/y/Y/ '>' out.JOB || exit 1;"
        words = ["bash", "-c", line]
        environment = {name: value for name, value in site.cluster.environment.items() if name != "DNF_ROOT"}
        done = subprocess.run(words, cwd=site.folder, env=environment, capture_output=True, text=True, timeout=READY)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert [(site.folder / f"out.{n}").read_text() for n in (1, 2)] == ["Yes 2\n", "Yes 2\n"]
        assert "threads=2" in (site.folder / "exp/x/log/acc.1.log").read_text()

    def test_program_that_claims_success(self, site):
        claim = ["echo", "# Ended (code 0) at x, elapsed time 1 seconds", ";", "exit", "5"]
        assert "ended with code 5" in site.run("a.log", *claim, status=1)

    def test_killed_task(self, site):
        said = site.run("a.log", "echo", "here;", "kill", "-9", "$$", status=1)
        assert "code 137" in said or "signal 9" in said
        assert "  here" in said and "(code 137; signal 9)" in (site.folder / "a.log").read_text()

    def test_everything_of_a_task_killed(self, site):
        runner = site.start("a.log", "echo", "there;", "echo", "$PPID", ">pid;", "sleep", FOR_EVER)
        os.kill(int(site.wait_for("pid")), signal.SIGKILL)
        begun = time.monotonic()
        said = site.end(runner, 1)
        assert "killed by signal 9" in said and "  there" in said
        assert time.monotonic() - begun < SOON

    def test_log_that_cannot_be_written(self, site):
        # The folder of the log is a file by the time the second try begins.
        task = ["rm", "-r", "log;", "touch", "log;", "false"]
        said = site.run("--num-tries", "2", "log/a.log", *task, status=1)
        assert "the log cannot be written (Not a directory): log/a.log" in said

    def test_term_cancels(self, site):
        runner = site.start("JOB=1:3", "a.JOB.log", "echo", "$$", ">pid.JOB;", "sleep", FOR_EVER)
        pids = [site.wait_for(f"pid.{n}") for n in (1, 2, 3)]
        job = site.job("a.JOB")
        runner.send_signal(signal.SIGTERM)
        said = site.end(runner, 2)
        assert f"interrupted by SIGTERM: cancelled job {job}, log is in a.*.log" in said
        assert not site.cluster.listed()
        wait_for(lambda: not any(map(alive, pids)), SOON, "end of the tasks")

    def test_restarted_runner_finds_the_running_job(self, site):
        command = ["JOB=1:3", "a.JOB.log", "echo", "x", ">>", "ran.JOB;", *UNTIL_GO]
        runner = site.start(*command)
        site.wait_for("ran.1"), site.wait_for("ran.3")
        job = site.job("a.JOB")
        runner.kill()
        runner.wait()
        for other in (["JOB=1:3", "a.JOB.log", "touch", "other"], command):
            said = site.run(*other, status=2, DNF_WORK="other settings")
            refusal = f"job {job} of another command, or with other settings, still writes a.JOB.log: cancel it"
            assert refusal in said
        said = site.let_go(site.start(*command), "a.JOB")
        assert f"waiting for the job of an earlier call (job {job})" in said
        assert [(site.folder / f"ran.{n}").read_text() for n in (1, 2, 3)] == ["x\n"] * 3
        assert site.run(*command) == ""  # and what has been waited for is run anew
        assert (site.folder / "ran.1").read_text() == "x\nx\n"

    def test_killed_run_leaves_its_job_to_the_next(self, site):
        command = ["a.log", "echo", "x", ">>", "ran;", *UNTIL_GO]
        run = f"export DNF_RUN=$$; {shlex.join([site.runner, *command])}; exit"
        shell = subprocess.Popen(["bash", "-c", run], cwd=site.folder, env=site.cluster.environment)
        site.wait_for("ran")
        job = site.job("a")
        shell.kill()
        shell.wait()
        said = site.let_go(site.start(*command), "a")
        assert f"waiting for the job of an earlier call (job {job})" in said
        assert (site.folder / "ran").read_text() == "x\n"

    def test_runner_killed_between_submission_and_id(self, site):
        # The scheduler has the job, the disk does not have its id.
        command = ["a.log", "echo", "x", ">>", "ran;", *UNTIL_GO]
        runner = site.start(*command)
        site.wait_for("ran")
        runner.kill()
        runner.wait()
        path = site.folder / "q/a/job.json"
        state = json.loads(path.read_text())
        state["submissions"][0]["job"] = None
        path.write_text(json.dumps(state))
        site.let_go(site.start(*command), "a")
        assert (site.folder / "ran").read_text() == "x\n"

    def test_two_runners_of_one_log(self, site):
        runner = site.start("a.log", "touch", "up;", *UNTIL_GO, ";", "echo", "done")
        wait_for((site.folder / "up").exists)
        assert f"process {runner.pid} on " in site.run("a.log", "true", status=2)
        site.let_go(runner, "a")
        assert site.output("a.log") == "done\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["JOB=1:3", "a.log", "true"], "must contain JOB"),
            (["--wall", "3", "a.log", "true"], "does not describe --wall 3: add a line 'option wall=* ...' to it"),
            (["--config", "none.conf", "a.log", "true"], "none.conf: no such file"),
            (["--num-tries", "0", "a.log", "true"], "--num-tries must be a whole number, 1 or more"),
        ],
    )
    def test_bad_command_lines(self, site, arguments, message):
        said = site.run(*arguments, status=2)
        assert message in said and said.count("\n") == 1
        assert sorted(path.name for path in site.folder.iterdir()) == ["conf"]

    def test_refused_job(self, site):
        said = site.run(*self.refused, "a.log", "true", status=1)
        assert " refused it: " in said and not (site.folder / "a.log").exists()

    def test_progress_on_a_terminal(self, site):
        command = [site.runner, "JOB=1:2", "a.JOB.log", "sleep", "2"]
        status, shown = recipe_runs.on_terminal(command, site.folder, site.cluster.environment)
        assert status == 0
        assert "\rdone 0 / running 0 / failed 0 / waiting 2" in shown and "done 0 / running 2 / failed 0" in shown
        assert "\n" not in shown

    @pytest.mark.slow
    def test_recipe_has_the_same_results_as_on_one_machine(self, site, tmp_path_factory):
        counts = recipe_runs.counts(3, 2, 2, 2, 4)
        alone = tmp_path_factory.getbasetemp() / "alone"  # made once for both
        if not alone.exists():
            recipe_runs.run(alone, *counts)
        shutil.copytree(site.conf.parent, site.folder / "recipe/conf")
        done = subprocess.run(
            recipe_runs.command(*counts), cwd=site.folder / "recipe",
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env=site.cluster.environment | {"cmd_backend": site.backend},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "# Running on " in (site.folder / "recipe/exp/hybrid/log/train.log").read_text()
        results = [folder / "exp/hybrid/results.tsv" for folder in (alone, site.folder / "recipe")]
        assert results[0].read_bytes() == results[1].read_bytes()
        self.train_on_two_nodes(site, alone, *counts)

    def train_on_two_nodes(self, site, alone, *counts):
        """Stage 3 of the recipe again, as two jobs that meet: the same course as one process on one machine."""
        once_more = (*counts, "--stage", "3", "--stop-stage", "3", "--set", "train.num_nodes=2", "--force")
        done = subprocess.run(
            recipe_runs.command(*once_more, "--set", f"train.num_gpus={self.gpus_per_node}"), cwd=site.folder / "recipe",
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env=site.cluster.environment | {"cmd_backend": site.backend},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        logs = [(site.folder / f"recipe/exp/hybrid/log/train.{node}.log").read_text() for node in (1, 2)]
        assert all(f"node {node} of 2 is" in log for node, log in enumerate(logs, 1))
        histories = [read_tsv(folder / "exp/hybrid/history.tsv") for folder in (alone, site.folder / "recipe")]
        assert len(histories[0]) == len(histories[1]) > 10
        for one, two in zip(*histories):
            assert float(two["nll"]) == pytest.approx(float(one["nll"]), rel=1e-4, abs=2e-3)
