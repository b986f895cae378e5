"""One run at a time in a folder, one job at a time on a GPU, and no job that outlives its run unseen."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recipe_runs import ROOT, command, environment

from dnf.experiment import lock
from utils.jobs import devices

RUN = str(ROOT / "utils/run.py")
HOST = os.uname().nodename
SHELL = f"""set -euo pipefail
COMMAND_LINE="./run.sh $*" model=
. {ROOT}/local/stages.sh
take_lock
"""


def wait_for(condition, seconds=20):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.02)


@pytest.fixture
def shell(tmp_path):
    """Starts a shell that takes the lock as run.sh does, and then runs a line; all are killed in the end."""
    started = []

    def start(line: str, folder: Path = tmp_path) -> subprocess.Popen:
        given = {"stderr": subprocess.PIPE, "text": True, "env": environment(), "start_new_session": True}
        process = subprocess.Popen(["bash", "-c", SHELL + line, "run.sh", "--exp", "nf"], cwd=folder, **given)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
        for pid in lock.processes(tmp_path / "exp/.lock"):
            os.kill(pid, signal.SIGKILL)


def test_the_second_run_says_who_holds_the_folder(shell, tmp_path):
    first = shell("touch up; sleep 60")
    wait_for((tmp_path / "up").exists)
    began = time.time()
    second = shell("touch second")
    said = second.communicate(timeout=20)[1]
    assert second.returncode == 1 and not (tmp_path / "second").exists() and time.time() - began < 10
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"lock.py: exp: in use by './run.sh --exp nf' \(host {HOST}, pid {first.pid}, since {since}\); "
        rf"wait for it to end, or stop it there with 'kill {first.pid}'\n", said
    ), said  # fmt: skip


def test_two_recipes_do_not_meet(shell, tmp_path):
    shell("touch up; sleep 60")
    wait_for((tmp_path / "up").exists)
    (tmp_path / "other").mkdir()
    assert shell("true", tmp_path / "other").wait(timeout=20) == 0


@pytest.mark.parametrize("how", ["it ends", "SIGKILL", "an old machine's", "not ours to read"])
def test_a_lock_that_nobody_holds_does_not_block(shell, tmp_path, how):
    if how in ("it ends", "SIGKILL"):
        first = shell("touch up; [[ $2 == nf ]]" + ("; exec sleep 60" if how == "SIGKILL" else ""))
        wait_for((tmp_path / "up").exists)
        first.kill()
        first.wait()
    else:
        (tmp_path / "exp").mkdir()
        text = (
            '{"host": "gone", "pid": 1, "since": 1.5, "command": "./run.sh"}' if how == "an old machine's" else "\0\0"
        )
        (tmp_path / "exp/.lock").write_text(text)
    assert shell("true").wait(timeout=20) == 0
    holder = lock.read_holder(tmp_path / "exp/.lock")
    assert holder.command == "./run.sh --exp nf" and holder.host == HOST
    assert lock.holder_of(tmp_path / "exp") is None


def test_a_job_that_outlives_its_run_keeps_the_next_one_out(shell, tmp_path, monkeypatch):
    first = shell("setsid sleep 61 & touch up; wait")
    wait_for((tmp_path / "up").exists)
    first.kill()
    first.wait()
    left = lock.processes(tmp_path / "exp/.lock")
    assert len(left) == 1 and list(left.values()) == ["sleep 61"]
    monkeypatch.setattr(lock, "GRACE", 1.0)
    me = lock.Holder(HOST, os.getpid(), time.time(), "./run.sh")
    with (tmp_path / "exp/.lock").open("r+b") as file, pytest.raises(ValueError) as refused:
        lock.take(tmp_path / "exp/.lock", file.fileno(), me)
    pid = next(iter(left))
    assert f"pid {first.pid}, " in str(refused.value) and "has ended, but its jobs are still running: " in str(
        refused.value
    )
    assert str(refused.value).endswith(f"pid {pid} (sleep 61); wait for them to end, or 'kill {pid}'")
    second = shell("echo in >&2")
    assert "waiting for the jobs of a killed run to end" in second.stderr.readline()
    os.kill(pid, signal.SIGKILL)
    assert second.communicate(timeout=20)[1] == "in\n" and second.returncode == 0


def test_what_is_said_of_a_run_elsewhere_or_hidden():
    there = lock.Holder("node3", 17, 0.0, "./run.sh " + "--set a=b " * 50)
    patience, said = lock.refusal(Path("exp"), there, "node1", {4: "tail -f exp/.lock"})
    assert patience == lock.GLANCE and "(host node3, pid 17, since " in said and len(said) < 300
    assert lock.refusal(Path("exp"), there, "node3", {})[0] == lock.GLANCE  # of another user, or in another container
    assert lock.refusal(Path("exp"), there, "node3", {5: "x"})[0] == lock.GRACE
    assert "which cannot be identified" in lock.refusal(Path("exp"), None, "node1", {})[1]


def test_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def flock(handle, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / ".lock").touch()
    me = lock.Holder("node1", 1, 0.0, "./run.sh")
    with (tmp_path / ".lock").open("r+b") as file:
        lock.take(tmp_path / ".lock", file.fileno(), me)
    assert "this file system has no locks" in caplog.text and lock.read_holder(tmp_path / ".lock") == me
    assert lock.holder_of(tmp_path) is None


def test_a_dry_run_needs_no_lock_and_leaves_nothing(shell, tmp_path):
    done = subprocess.run(command("--dry-run", tiny=False), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    shell("touch up; sleep 60")
    wait_for((tmp_path / "up").exists)
    done = subprocess.run(command("--dry-run", tiny=False), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "would run" in done.stdout, done.stderr
    done = subprocess.run(command(tiny=False), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("lock.py: exp: in use by './run.sh --exp nf'"), done.stderr
    assert not (tmp_path / "data").exists()


# ---- what runs ends with what started it -----------------------------------------------------------------


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def pid_in(path):
    wait_for(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


@pytest.mark.parametrize("victim", ["run.sh", "runner"])
def test_a_task_ends_with_its_runner_and_the_runner_with_its_run(shell, tmp_path, victim):
    first = shell(f"{RUN} a.log echo '$$' '>' task ';' exec sleep 62 & echo $! >runner; wait $!")
    runner, task = pid_in(tmp_path / "runner"), pid_in(tmp_path / "task")
    assert {first.pid, runner, task} <= lock.processes(tmp_path / "exp/.lock").keys()
    os.kill(first.pid if victim == "run.sh" else runner, signal.SIGKILL)
    first.wait()
    wait_for(lambda: not alive(runner) and not alive(task), 5)
    assert shell("true").wait(timeout=20) == 0


def test_a_runner_started_by_hand_goes_on_without_its_shell(tmp_path):
    # as with nohup, or in a script of Kaldi's
    line = f"{RUN} a.log sleep 1 & echo $! >pid; exit"
    subprocess.run(["bash", "-c", line], cwd=tmp_path, timeout=10, stderr=subprocess.DEVNULL)
    runner = pid_in(tmp_path / "pid")
    assert alive(runner)
    wait_for(lambda: not alive(runner))
    assert "# Ended (code 0) at" in (tmp_path / "a.log").read_text()


def test_what_a_failed_task_leaves_behind_is_gone_before_the_next_try(tmp_path):
    (tmp_path / "task.sh").write_text(
        "for pid in $(cat pids); do grep -s ') [^ZX] ' /proc/$pid/stat >>seen; done\n"
        "sleep 63 & echo $! >>pids\n"
        "kill -9 $PPID $$\n"
    )
    (tmp_path / "pids").touch()
    done = subprocess.run(
        [RUN, "--num-tries", "2", "a.log", "bash", "task.sh", ";", "true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1 and len((tmp_path / "pids").read_text().split()) == 2
    assert not (tmp_path / "seen").exists() or not (tmp_path / "seen").read_text()
    wait_for(lambda: not any(alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()), 2)


# ---- GPU devices -----------------------------------------------------------------------------------------


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """Runs jobs on devices of names that no other test has; the locks are in a folder of their own."""
    monkeypatch.setattr(devices, "LOCKS", str(tmp_path / "locks"))
    names = [f"GPU-{tmp_path.name}-{n}" for n in range(3)]

    def start(*arguments: str, count: int = 2) -> subprocess.Popen:
        script = "import sys; from utils.jobs import devices, local; "
        script += f"devices.LOCKS = {devices.LOCKS!r}; sys.exit(local.main(sys.argv[1:], ''))"
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(names[:count])}
        given = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True, "env": environment() | visible}
        return subprocess.Popen([sys.executable, "-c", script, *arguments], **given)

    start.names, start.folder = names, tmp_path
    return start


def device_in(path):
    wait_for(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text().strip()


def test_two_runs_share_the_devices(gpu):
    task = ["echo", "$CUDA_VISIBLE_DEVICES", ">", "{}.JOB;", "sleep", "30"]
    first = gpu("--gpu", "1", "JOB=1:1", "a.JOB.log", *[w.format("first") for w in task])
    assert device_in(gpu.folder / "first.1") == gpu.names[0]
    second = gpu("--gpu", "1", "JOB=1:2", "b.JOB.log", *[w.format("second") for w in task])
    assert device_in(gpu.folder / "second.1") == gpu.names[1]
    third = gpu("--gpu", "1", "c.log", *[w.format("third") for w in task])
    assert third.stderr.readline() == f"-c: waiting for a GPU: other runs use {', '.join(gpu.names[:2])}\n"
    assert not (gpu.folder / "second.2").exists() and not (gpu.folder / "third.JOB").exists()
    first.kill()  # SIGKILL: its task ends with it, and so the device is free
    got = [gpu.folder / "second.2", gpu.folder / "third.JOB"]
    wait_for(lambda: any(path.exists() for path in got))
    time.sleep(0.3)
    assert sum(path.exists() for path in got) == 1
    assert device_in(next(path for path in got if path.exists())) == gpu.names[0]
    for process in (second, third):
        process.terminate()
        assert process.wait(timeout=10) == 2
    first.communicate()


@pytest.mark.parametrize(
    ("visible", "device", "expected"),
    [
        (None, "cuda:3", "cuda 3"),
        ("4,GPU-5", "cuda:1", "cuda GPU-5"),
        ("4,5", "auto", "auto 4,5"),
        ("4,5", "cuda:2", "run.sh: --device cuda:2: CUDA_VISIBLE_DEVICES=4,5 has no such device"),
        ("", "cuda:0", "run.sh: --device cuda:0: CUDA_VISIBLE_DEVICES= has no such device"),
    ],
)
def test_device_with_a_number(visible, device, expected):
    script = f". {ROOT}/local/stages.sh; device={device}; choose_device; echo $device $CUDA_VISIBLE_DEVICES"
    given = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    given |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, env=given)
    assert (done.stdout + done.stderr).strip() == expected and done.returncode == (2 if "run.sh" in expected else 0)


def test_a_job_of_two_devices_takes_both_or_none(gpu):
    held = devices.hold_devices(gpu.names, 1)
    assert held[0] == gpu.names[:1]
    with pytest.raises(BlockingIOError, match="only 2 of 3 GPUs are free"):
        devices.hold_devices(gpu.names, 3)
    names, locks = devices.hold_devices(gpu.names, 2)
    assert names == gpu.names[1:]
    for handle in held[1] + locks:
        os.close(handle)
    names, locks = devices.hold_devices(gpu.names, 3)
    assert names == gpu.names
    for handle in locks:
        os.close(handle)
    with pytest.raises(OSError, match="--gpu 4, but there are 3 GPUs"):
        devices.hold_devices(gpu.names, 4)


def test_a_device_is_known_by_its_uuid(monkeypatch):
    # in a container or a job of Slurm's, device 0 may be any GPU of the machine
    monkeypatch.setattr(devices, "listing", lambda: "GPU 0: NVIDIA H100 (UUID: GPU-77)\n")
    assert devices.identity("0") == "GPU-77" and devices.identity("MIG-1") == "MIG-1"
    assert devices.identity("3") == "3"


def test_the_lock_of_a_device_is_in_the_file_of_another_user_too(gpu):
    os.makedirs(devices.LOCKS)
    path = Path(devices.LOCKS) / gpu.names[0]
    path.touch(mode=0o444)
    names, locks = devices.hold_devices(gpu.names[:1], 1)
    assert names == gpu.names[:1] and devices.lock(gpu.names[0]) is None
    os.close(locks[0])
