"""utils/run.py: Kaldi's command line and logs, less its surprises."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recipe_runs import ROOT, on_terminal, until_it_ends

from utils.jobs import devices, local, log, request

RUN = str(ROOT / "utils/run.py")

DATE = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"


def environment(**more):
    kept = {
        name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    }
    return kept | more


@pytest.fixture
def run(tmp_path):
    """Runs the runner in a folder of its own; what subprocess.run returns."""

    def call(*arguments, **more):
        given = {"input": "typed\n", "capture_output": True, "text": True, "timeout": 20}
        return subprocess.run([RUN, *arguments], cwd=tmp_path, env=environment(**more), **given)

    call.folder = tmp_path
    return call


def output(path):
    """What the task itself wrote."""
    text = path.read_text()
    return text[text.index("\n#\n") + 3 : text.rindex("# Accounting:")]


def wait_for(condition, seconds=10):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.02)


def test_log_of_one_job(run):
    done = run("--mem", "4G", "--time", "1:00:00", "log/a.log", "echo", "hello", "world")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = (run.folder / "log/a.log").read_text().split("\n")
    assert lines[0] == "# echo hello world"
    assert re.fullmatch(f"# Started at {DATE}", lines[1])
    assert lines[2:4] == ["#", "hello world"]
    assert re.fullmatch(r"# Accounting: time=\d+ threads=1", lines[4])
    assert re.fullmatch(f"# Finished at {DATE} with status 0", lines[5])
    assert re.fullmatch(rf"# Ended \(code 0\) at {DATE}, elapsed time \d+ seconds", lines[6])
    assert lines[7:] == [""]


def test_job_number_everywhere(run):
    assert run("JOB=3:5", "log.JOB/xJOBy.JOB.log", "echo", "aJOBb", "'<JOB>'", "two JOB").returncode == 0
    assert sorted(p.name for p in run.folder.glob("log.*/*")) == ["x3y.3.log", "x4y.4.log", "x5y.5.log"]
    assert run("LMWT=9", "y.log", "echo", "LMWT").returncode == 0
    assert output(run.folder / "y.log") == "9\n"
    assert run("--mem", "1G", "n_1=2:2", "-tc", "3", "z.log", "echo", "n_1").returncode == 0
    assert output(run.folder / "z.log") == "2\n"


@pytest.mark.parametrize(
    "words, expected",
    [
        (["echo", "a", "b"], "a b\n"),
        (["echo", "a  b"], "a  b\n"),
        (["printf", "[%s]", "a", "", "b c", "\\;", "echo"], "[a][][b c][;][echo]"),
        (["echo", "a\\\\b"], "a\\b\n"),
        (["echo", "$WORD"], "x\n"),
        (["echo", "the $WORD"], "the x\n"),
        (["echo", 'say "$WORD" now'], 'say "$WORD" now\n'),
        (["echo", """it's "so" now"""], """it's "so" now\n"""),
        (["echo", "it's so"], "it's so\n"),
        (["echo", "ends with \\"], "ends with \\\n"),
        (["echo", "one", "|", "tr", "o", "0"], "0ne\n"),
        (["echo", "one", ">", "file", ";", "cat", "file"], "one\n"),
        (["echo", "two\nlines"], "two\nlines\n"),
        (["true", "&&", "echo", "yes", "||", "echo", "no"], "yes\n"),
        (["cat"], ""),
        (["[[", "a", "==", "a", "]]", "&&", "echo", "bash"], "bash\n"),
        (["echo", "out", ";", "echo", "err", ">&2"], "out\nerr\n"),
    ],
)
def test_words_become_one_line_of_bash(tmp_path, words, expected):
    command = ["bash", "-c", request.join(words)]
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=tmp_path, env=environment(WORD="x"), timeout=10, **given)
    assert (done.returncode, done.stdout) == (0, expected)


def test_words_get_through_the_runner(run):
    words = ["echo", "$WORD", """it's "so" now""", "a $WORD", "|", "sed", "s/x/y/", ";", "echo", "err", ">&2;", "cat"]
    assert run("a.log", *words, WORD="x").returncode == 0
    assert output(run.folder / "a.log") == """y it's "so" now a x\nerr\n"""


def test_header_does_not_run_the_command(run):
    assert run("a.log", "echo", "$(echo x >>count; echo done)", "`echo y>>count`").returncode == 0
    assert (run.folder / "count").read_text() == "y\nx\n" or (run.folder / "count").read_text() == "x\ny\n"
    assert '# echo "$(echo x >>count; echo done)" "`echo y>>count`"\n' in (run.folder / "a.log").read_text()


def test_lines_of_a_command_stay_in_the_header(run):
    run("a.log", "echo", "x\n# Ended (code 0) at now, elapsed time 0 seconds\n", ";", "false")
    assert log.read_state(run.folder / "a.log") == "failed"
    assert all(line.startswith("#") for line in (run.folder / "a.log").read_text().split("\n#\n")[0].splitlines())


def test_failure_of_one_job(run):
    done = run("log/a.log", "echo", "first", ";", "echo", "b.txt:", "not", "there", ";", "exit", "5")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "run.py: job failed, log is in log/a.log"
    assert done.stderr.splitlines()[-1] == "  b.txt: not there"
    assert " with status 5\n# Ended (code 5) at " in (run.folder / "log/a.log").read_text()


def test_program_that_claims_success(run):
    done = run(
        "a.log",
        "echo",
        "job exited with status 0",
        ";",
        "echo",
        "# Ended (code 0) at x, elapsed time 1 seconds",
        ";",
        "exit",
        "5",
    )
    assert done.returncode == 1
    assert log.read_state(run.folder / "a.log") == "failed"


def test_every_task_runs_and_failures_are_counted(run):
    done = run(
        "--max-jobs-run", "1", "JOB=1:4", "log/a.JOB.log", "echo", "was", "JOB", ";", "[", "JOB", "-gt", "2", "]"
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "run.py: 2 / 4 failed, log is in log/a.*.log"
    assert lines[1:] == ["run.py: last lines of log/a.1.log:", "  was 1"]
    states = [log.read_state(run.folder / f"log/a.{n}.log") for n in range(1, 5)]
    assert states == ["failed", "failed", "done", "done"]


def test_warnings_in_the_logs_of_good_jobs_are_counted(run):
    warning = "2 of 3 left\\r2026-01-02 03:04:05,678 WARNING a.py:7 no speech in $1\\n"
    (run.folder / "warn.sh").write_text(f'printf "{warning}"; printf "{warning}"')
    done = run("JOB=1:2", "a.JOB.log", "bash", "warn.sh", "JOB")
    assert (done.returncode, done.stderr) == (0, "run.py: 4 warnings, the first in a.*.log: no speech in 1\n")
    assert run("b.log", "bash", "warn.sh", "x", DNF_QUIET="1").stderr == ""
    (run.folder / "warn.sh").write_text(f'printf "{warning}"')
    assert run("b.log", "bash", "warn.sh", "x").stderr == "run.py: a warning in b.log: no speech in x\n"
    assert run("b.log", "echo", "a WARNING of another program").stderr == ""


def test_forgotten_job_range(run):
    done = run("a.JOB.log", "false")
    assert done.returncode == 1 and "JOB=1:N is missing" in done.stderr


def test_killed_by_a_signal(run):
    done = run("a.log", "kill", "-9", "$$")
    assert done.returncode == 1 and "signal 9" in done.stderr
    text = (run.folder / "a.log").read_text()
    assert " with status 137\n# Ended (code 137; signal 9) at " in text
    assert log.read_state(run.folder / "a.log") == "failed"


def test_end_of_log_begins_a_line(run):
    assert run("a.log", "printf", "no_newline").returncode == 0
    assert "\nno_newline\n# Accounting" in (run.folder / "a.log").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no log file and no command"),
        (["a.log"], "no command"),
        (["--mem"], "option --mem needs a value"),
        (["-pe", "smp"], "option -pe needs 2 values"),
        (["JOB=1:3", "a.log", "true"], "must contain JOB"),
        (["JOB=3:1", "a.JOB.log", "true"], "bad job range JOB=3:1"),
        (["JOB=0:3", "a.JOB.log", "true"], "bad job range JOB=0:3"),
        (["JOB=1:2", "N=1:2", "a.JOB.N.log", "true"], "two job ranges"),
        (["--max-jobs-run", "0", "a.log", "true"], "--max-jobs-run must be a whole number, 1 or more"),
        (["-tc", "x", "a.log", "true"], "must be a whole number, 1 or more"),
        (["--num-threads", "0", "a.log", "true"], "--num-threads must be a whole number, 1 or more"),
        (["--num-tries", "0", "a.log", "true"], "--num-tries must be a whole number, 1 or more"),
        (["--gpu", "-1", "a.log", "true"], "--gpu must be a whole number, 0 or more"),
        (["--pick", "some", "a.log", "true"], "--pick must be one of all, failed, incomplete"),
        (["file/a.log", "true"], "file: File exists"),
        (["folder", "true"], "the log folder is a directory"),
    ],
)
def test_bad_command_lines(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [RUN])
    assert local.main(arguments, "usage") == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("run.py: ") and message in stderr and stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_bad_command_line_of_a_process(run):
    done = run("JOB=1:3", "a.log", "touch", "ran")
    assert done.returncode == 2 and done.stderr.startswith("run.py: the log file a.log must contain JOB")
    assert not list(run.folder.iterdir())


def test_options_of_other_runners(run):
    done = run(
        "-V",
        "-pe",
        "smp",
        "4",
        "-l",
        "gpu=1",
        "--config",
        "conf/queue.conf",
        "JOB=1:2",
        "--mem",
        "2G",
        "a.JOB.log",
        "true",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_suspicious_argument(run):
    done = run("--mem", "--gpu", "a.log", "true")
    assert done.returncode == 0 and "suspicious argument '--gpu' to --mem" in done.stderr


def test_help(run):
    done = run("--help")
    assert done.returncode == 0 and done.stdout.startswith("Run a command") and "--max-jobs-run" in done.stdout


def test_smallest_limit_wins(run):
    # Each task notes how many are running; with a limit of 2 there are never three.
    task = [
        "mkdir",
        "run.JOB",
        ";",
        "ls",
        "-d",
        "run.*",
        "2>/dev/null",  # a folder may go while it looks
        "|",
        "wc",
        "-l",
        ";",
        "sleep",
        "0.15",
        ";",
        "rmdir",
        "run.JOB",
    ]
    assert run("--max-jobs-run", "5", "-tc", "2", "JOB=1:6", "a.JOB.log", *task).returncode == 0
    counts = [int(output(run.folder / f"a.{n}.log")) for n in range(1, 7)]
    assert max(counts) == 2


def test_threads(run):
    assert run("--num-threads", "3", "a.log", "echo", "$OMP_NUM_THREADS").returncode == 0
    assert output(run.folder / "a.log") == "3\n"
    assert "# Accounting: time=0 threads=3\n" in (run.folder / "a.log").read_text()


def test_default_slots(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(10)), raising=False)
    assert [devices.cpu_slots(tasks, 1) for tasks in (1, 10, 13, 14, 100)] == [1, 10, 13, 10, 10]
    assert devices.cpu_slots(100, 4) == 2 and devices.cpu_slots(100, 64) == 1


def test_gpu_slots(run):
    task = ["echo", "$CUDA_VISIBLE_DEVICES", ";", "sleep", "0.2"]
    assert run("--gpu", "2", "JOB=1:3", "a.JOB.log", *task, CUDA_VISIBLE_DEVICES="4,5,GPU-6,7,9").returncode == 0
    assert [output(run.folder / f"a.{n}.log") for n in (1, 2)] == ["4,5\n", "GPU-6,7\n"]
    assert output(run.folder / "a.3.log") in ("4,5\n", "GPU-6,7\n")


def test_gpus_are_counted_by_nvidia_smi(run):
    (run.folder / "nvidia-smi").write_text(
        "#!/bin/sh\n[ $1 = -L ] && echo 'GPU 0: A (UUID: GPU-1)' && echo 'GPU 1: A (UUID: GPU-2)'\n"
    )
    (run.folder / "nvidia-smi").chmod(0o755)
    path = f"{run.folder}:{os.environ['PATH']}"
    task = ["echo", "$CUDA_VISIBLE_DEVICES", ";", "sleep", "0.1"]
    assert run("--gpu", "1", "--max-jobs-run", "4", "JOB=1:4", "a.JOB.log", *task, PATH=path).returncode == 0
    assert [output(run.folder / f"a.{n}.log") for n in (1, 2)] == ["0\n", "1\n"]
    assert {output(run.folder / f"a.{n}.log") for n in (3, 4)} <= {"0\n", "1\n"}
    done = run("--gpu", "3", "b.log", *task, PATH=path)
    assert "only 2" in done.stderr and output(run.folder / "b.log") == "0,1\n"


def test_gpu_without_gpu(run):
    done = run("--gpu", "1", "a.log", "echo", "on", "cpu", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stderr) == (0, "run.py: no GPU found: the job runs without a GPU\n")


def test_mig_slices_are_devices():
    listing = (
        "GPU 0: NVIDIA A100 (UUID: GPU-a)\n"
        "  MIG 3g.20gb Device 0: (UUID: MIG-b)\n"
        "  MIG 3g.20gb Device 1: (UUID: MIG-c)\n"
        "GPU 1: NVIDIA A100 (UUID: GPU-d)\n"
    )
    assert devices.listed_devices(listing) == ["MIG-b", "MIG-c", "1"]
    assert devices.uuids(listing) == {"0": "GPU-a", "1": "GPU-d"}


def test_failed_tasks_are_tried_again(run):
    task = [
        "echo",
        "x",
        ">>",
        "tries.JOB",
        ";",
        "wc",
        "-l",
        "<",
        "tries.JOB",
        ";",
        "[",
        "$(wc -l <tries.JOB)",
        "-ge",
        "JOB",
        "]",
    ]
    done = run("--num-tries", "3", "JOB=1:4", "a.JOB.log", *task)
    assert done.returncode == 1 and "1 / 4 failed" in done.stderr
    assert [len((run.folder / f"tries.{n}").read_text().split()) for n in (1, 2, 3, 4)] == [1, 2, 3, 3]
    assert output(run.folder / "a.4.log") == "3\n"
    earlier = (run.folder / "a.4.log.bak").read_text()
    assert earlier.count("# Started at") == 2 and "\n1\n" in earlier and "\n2\n" in earlier
    assert not (run.folder / "a.1.log.bak").exists()


@pytest.mark.parametrize(
    "pick, rerun, status",
    [("all", [1, 2, 3, 4], 0), ("failed", [2, 3, 4], 0), ("incomplete", [3, 4], 1)],
)
def test_pick(run, pick, rerun, status):
    footer = (
        "# Accounting: time=1 threads=1\n# Ended (code {}) at Thu Nov 20 18:09:12 UTC 2025, elapsed time 1 seconds\n"
    )
    (run.folder / "a.1.log").write_text("# x\nwith status 1\n" + footer.format(1) + "later try\n" + footer.format(0))
    (run.folder / "a.2.log").write_text("# x\n" + footer.format(0) + "again\n" + footer.format("3"))
    (run.folder / "a.3.log").write_text("# x\n#\n" + footer.format(0).replace("\n", "\nmore\n"))
    done = run("--pick", pick, "JOB=1:4", "a.JOB.log", "touch", "ran.JOB")
    assert done.returncode == status
    assert sorted(int(p.suffix[1:]) for p in run.folder.glob("ran.*")) == rerun
    assert done.stderr.startswith("run.py: 1 / 4 failed, log is in a.*.log\n") == (status == 1)


def test_old_logs_go_before_the_first_task(run):
    (run.folder / "a.2.log").write_text("# Ended (code 0) at x, elapsed time 1 seconds\n")
    assert (
        run("-tc", "1", "JOB=1:2", "a.JOB.log", "[", "JOB", "=", "2", "-o", "!", "-e", "a.2.log", "]").returncode == 0
    )


def test_log_that_cannot_be_written_to_its_end(run):
    done = run("deep/a.log", "rm", "-r", "deep")
    assert done.returncode == 0 and "cannot write the end of the log deep/a.log" in done.stderr


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupted_array(run, signum):
    task = ["echo", "$$", ">pid.JOB;", "sleep", "60", ";", "echo", "survived"]
    command = [RUN, "--max-jobs-run", "2", "JOB=1:3", "log/a.JOB.log", *task]
    runner = subprocess.Popen(
        command, cwd=run.folder, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signum, signal.SIG_DFL),  # the tests themselves may run under nohup
    )  # fmt: skip
    wait_for(lambda: all((run.folder / f"pid.{n}").exists() and (run.folder / f"pid.{n}").read_text() for n in (1, 2)))
    time.sleep(0.2)
    started = time.time()
    os.killpg(runner.pid, signum)  # as Ctrl-C does: to the runner's group, in which the tasks are not
    _, errors = runner.communicate(timeout=10)
    assert runner.returncode == 2 and time.time() - started < 5
    name = signal.Signals(signum).name
    assert errors == f"run.py: interrupted by {name}: 2 stopped, 1 not started, log is in log/a.*.log\n"
    for n in (1, 2):
        text = (run.folder / f"log/a.{n}.log").read_text()
        assert re.search(rf"# Ended \(code {128 + signum}; signal {int(signum)}\) at .*seconds\n\Z", text), text
        assert output(run.folder / f"log/a.{n}.log") in ("", "Terminated\n", "Hangup\n")
        assert not alive(int((run.folder / f"pid.{n}").read_text()))
    assert not (run.folder / "log/a.3.log").exists()


def test_control_c_on_a_terminal(tmp_path):
    runner, terminal = pty.fork()
    if runner == 0:
        os.chdir(tmp_path)
        os.execv(RUN, [RUN, "JOB=1:2", "a.JOB.log", "touch", "up.JOB;", "sleep", "60"])
    wait_for(lambda: (tmp_path / "up.1").exists() and (tmp_path / "up.2").exists())
    os.write(terminal, b"\x03")
    shown = until_it_ends(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(runner, 0)[1]) == 2
    assert b"interrupted by SIGINT: 2 stopped" in shown
    assert [log.read_state(tmp_path / f"a.{n}.log") for n in (1, 2)] == ["failed", "failed"]


def test_runner_in_the_background_of_a_script(run):
    # bash starts it with SIGINT ignored, and so would its tasks be.
    script = f"{RUN} a.log touch up ';' sleep 60 & echo $! >pid; wait $!"
    shell = subprocess.Popen(["bash", "-c", script], cwd=run.folder, stderr=subprocess.DEVNULL)
    wait_for((run.folder / "up").exists)
    os.kill(int((run.folder / "pid").read_text()), signal.SIGINT)
    assert shell.wait(timeout=5) == 2


def test_whole_process_group_ends_before_the_log_does(run):
    # The shell dies of the signal at once; its child saves something first.
    child = "trap 'sleep 0.5; echo saved; exit 0' TERM; echo $$ >pid; while :; do sleep 0.05; done"
    (run.folder / "child.sh").write_text(child)
    runner = subprocess.Popen(
        [RUN, "a.log", "bash", "child.sh", ";", "true"], cwd=run.folder, stderr=subprocess.DEVNULL
    )
    wait_for((run.folder / "pid").exists)
    runner.terminate()
    assert runner.wait(timeout=10) == 2
    assert output(run.folder / "a.log").endswith("saved\n")


def test_second_signal_kills(run):
    (run.folder / "child.sh").write_text("trap '' INT TERM; echo $$ >pid; while :; do sleep 0.05; done")
    runner = subprocess.Popen([RUN, "a.log", "bash", "child.sh"], cwd=run.folder, stderr=subprocess.DEVNULL)
    wait_for(lambda: (run.folder / "pid").exists() and (run.folder / "pid").read_text())
    runner.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert runner.poll() is None
    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=5) == 2
    assert not alive(int((run.folder / "pid").read_text()))
    assert "(code 137; signal 9)" in (run.folder / "a.log").read_text()


def test_status_line_of_an_array(tmp_path):
    status, shown = on_terminal([RUN, "-tc", "1", "JOB=1:3", "a.JOB.log", "sleep", "0.3"], tmp_path, environment())
    assert status == 0
    assert "\rdone 0 / running 1 / failed 0 / waiting 2\r" in shown
    assert re.search(r"\rdone 1 / running 1 / failed 0 / waiting 1, [0-9.]+ tasks/min, 0:0[0-9] left", shown)
    assert "\n" not in shown and shown.endswith("\r")


def test_status_line_of_one_job(tmp_path):
    (tmp_path / "bar.sh").write_text("printf '10%%|# |'; sleep 1; printf '\\r50%%|## |'; sleep 1; exit 4")
    status, shown = on_terminal([RUN, "a.log", "bash", "bar.sh"], tmp_path, environment())
    assert status == 1
    assert "\r10%|# |" in shown and "\r50%|## |" in shown
    assert shown.endswith("\r        \rrun.py: job failed, log is in a.log\r\n  50%|## |\r\n")


@pytest.mark.parametrize(
    "text, shown",
    [
        ("", ""),
        ("# train\n# Started at x\n#\n", ""),
        ("# train\n# Started at x\n#\nepoch 1\nepoch 2\n", "epoch 2"),
        ("# train\n# Started at x\n#\n 10%|#\r 20%|##\r 30%|###", "30%|###"),
        ("# train\n# Started at x\n#\n 10%|#\r 20%|##\r\x1b[A\n\r   \r", "20%|##"),
        ("# train\n# Started at x\n#\n# comment\n", "# comment"),
    ],
)
def test_progress_in_a_log(tmp_path, text, shown):
    (tmp_path / "a.log").write_text(text)
    assert log.progress(tmp_path / "a.log") == shown


def test_parsed_request():
    asked = request.parse(["-pe", "smp", "2", "--mem", "1G", "JOB=2:4", "--mem", "2G", "x.JOB", "run", "a JOB"])
    assert asked.options == (("-pe", ("smp", "2")), ("--mem", ("1G",)), ("--mem", ("2G",)))
    assert (asked.job_name, list(asked.tasks), asked.values("--mem")) == ("JOB", [2, 3, 4], ["1G", "2G"])
    assert (asked.log_of(3), asked.command_of(3)) == ("x.3", 'run "a 3"')


def test_nothing_heavy_is_loaded():
    script = "import sys; sys.path.insert(0, ''); import run; print({'dnf', 'numpy', 'asyncio', 'argparse'} & set(sys.modules))"
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(command, cwd=ROOT / "utils", capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize(
    "setting, status, expected",
    [
        ("nvidia-smi() { :; }", 0, f"[{ROOT}/utils/run.py] [{ROOT}/utils/run.py --gpu 1]\n"),
        ("nvidia-smi() { :; }; device=cpu cmd_backend=local", 0, f"[{ROOT}/utils/run.py] [{ROOT}/utils/run.py]\n"),
        ("PATH=/nonexistent", 0, f"[{ROOT}/utils/run.py] [{ROOT}/utils/run.py]\n"),
        ("cmd='queue.pl -V' device=cpu", 0, "[queue.pl -V] [queue.pl -V]\n"),
        ("cmd='queue.pl -V' cmd_backend=ours", 0, "[queue.pl -V] [queue.pl -V --gpu 1]\n"),
        ("PATH=/nonexistent cmd_backend=slurm", 0, f"[{ROOT}/utils/slurm.py] [{ROOT}/utils/slurm.py --gpu 1]\n"),
        ("device=cpu cmd_backend=sge", 0, f"[{ROOT}/utils/sge.py] [{ROOT}/utils/sge.py]\n"),
        ("cmd= cmd_backend=ours", 1, "cmd.sh: unknown cmd_backend 'ours': use one of local, sge, slurm, or give"),
        ("cmd_backend=queue_task", 1, "cmd.sh: unknown cmd_backend 'queue_task'"),
        ("DNF_ROOT='/tmp/a b'", 1, "cmd.sh: the name of the folder '/tmp/a b' contains a blank"),
        ("unset DNF_ROOT", 1, "DNF_ROOT: cmd.sh: not set: source path.sh first"),
    ],
)
def test_cmd_sh(setting, status, expected):
    script = f'set -euo pipefail; {setting}\n. {ROOT}/cmd.sh\necho "[$train_cmd] [$cuda_cmd]"'
    command = ["bash", "-c", script]
    done = subprocess.run(command, env=environment(DNF_ROOT=str(ROOT)), capture_output=True, text=True, timeout=10)
    assert (done.returncode != 0) == (status != 0)
    assert expected in done.stdout + done.stderr and (done.stdout + done.stderr).count("\n") == 1
