"""python3 -m dnf status: what runs where, what is done, and the last loss."""

import fcntl
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from recipe_runs import environment

from dnf.experiment import status
from dnf.experiment.config import resolve
from dnf.experiment.layout import CONFIG_YAML, STAGES, Layout
from dnf.experiment.lock import Holder
from dnf.experiment.markers import MARKER
from dnf.experiment.stage import begin, finish
from dnf.experiment.status import Progress, Seen, Task
from dnf.experiment.tables import aligned

COLUMNS = (
    *("step", "epoch", "seconds", "nll", "logp", "logdet", "grad_norm", "lr", "frames_per_s"),
    *("dev_nll", "dev_logp", "dev_logdet", "dev_accuracy", "spikes", "restores"),
)
FOOTER = "# Ended (code {}) at Fri Nov 20 22:33:10 UTC 2026, elapsed time 12 seconds\n"


def task(state="incomplete", host="", *pids, log="a.log"):
    return Task(log, state, host, pids)


@pytest.mark.parametrize(
    ("seen", "since", "state"),
    [
        (Seen(), None, "-"),
        (Seen(done=True), None, "done"),
        (Seen(done=True, current=False), 5.0, "old"),
        (Seen(started=7.0), 5.0, "running"),
        (Seen(started=3.0), 5.0, "stopped"),  # of an earlier run, and the one at work has not come to it
        (Seen(started=7.0), None, "stopped"),
        (Seen(started=7.0, tasks=(task("done"), task("failed"))), None, "failed"),
        (Seen(started=7.0, tasks=(task("failed"),)), 5.0, "running"),  # others may have tries left
        (Seen(started=7.0, jobs=("12",)), None, "running"),
    ],
)
def test_states(seen, since, state):
    assert status.state_of(seen, since) == state


def test_what_rests_on_a_stage_that_is_not_done_is_old():
    shared = {"data": "done", "features": "done", "frames": "done"}
    states = dict.fromkeys(list(STAGES)[3:], "done") | {"latents": "running", "decide": "-"}
    assert status.with_old(states, shared) == {
        "train": "done", "latents": "running", "plots": "old", "score": "old", "decide": "-", "report": "old"
    }  # fmt: skip
    assert set(status.with_old(states, shared | {"frames": "stopped"}).values()) == {"old", "running", "-"}


def history(*rows):
    return [dict.fromkeys(COLUMNS, "") | {k: str(v) for k, v in row.items()} for row in rows]


def settings(*words):
    return resolve([f"train.{word}" for word in words]).train


def test_progress_and_remaining_time():
    rows = history(
        {"step": 50, "epoch": 0.5, "seconds": 10, "nll": 300, "frames_per_s": 1000},
        {"step": 100, "epoch": 1, "seconds": 20, "nll": 250.5, "dev_nll": 260.25, "frames_per_s": 2000},
        {"step": 150, "epoch": 1.5, "seconds": 24, "nll": 240, "frames_per_s": 3000},
    )
    found = status.progress_of(rows, settings("epochs=4"))
    assert found == Progress(150, 400, 1.5, "240", "260.25", "3000", pytest.approx(250 * 14 / 100))
    assert status.progress_of(rows, settings("steps=150")).left == 0
    torn = [*rows, dict.fromkeys(COLUMNS) | {"step": "2"}]  # a row that is being written
    assert status.progress_of(torn, settings("epochs=4")) == found
    assert status.progress_of([], settings()) is None
    many = history(
        *({"step": n, "epoch": n / 10, "seconds": 100 if n < 50 else 100 + n - 50, "nll": 1} for n in range(1, 101))
    )
    assert status.progress_of(many, settings("steps=200")).left == pytest.approx(100)  # at the pace of the last rows


def test_lines_of_an_array_in_a_queue():
    tasks = [
        task("done", "n1"),
        task("incomplete", "n2"),
        task("incomplete", "n1", 71),
        task("failed", "n2", log="exp/f.4.log"),
    ]
    seen = Seen(100.0, tasks=tuple(tasks), total=10, jobs=("17", "18"))
    lines = status.details("data/ features", seen, "running", Holder("n0", 5, 90.0, "./run.sh"), 3765.4, None)
    assert lines[0] == (
        "data/ features: running for 1:01:05 on n2 n1, pid 71, job 17 18: done 1 / running 2 / failed 1 / waiting 6"
    )
    assert lines[1].startswith("  exp/f.4.log") and len(lines) == 2
    alone = status.details("nf train", seen, "running", None, 3765.4, Progress(3, 9, 0.1, "5.123", "", "12.7", 60.0))
    assert (
        "its run.sh has ended" in alone[0]
        and "step 3 of 9, epoch 0.1, NLL 5.12, dev NLL , 12 frames/s, 0:01:00 left" in alone[1]
    )


def test_table_is_aligned():
    assert aligned([("", "a", "bb"), ("xyz", "done", "")]) == ["     a     bb", "xyz  done"]


# ---- a folder --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """``exp/`` with stages 0 to 2 and an experiment ``nf`` that was trained; ``layout`` and ``config`` beside it."""
    (tmp_path / "exp").mkdir()
    config = resolve(["train.steps=200"])
    layout = Layout.make(tmp_path / "exp", "nf")
    for name in ("data", "features", "frames", "train"):
        assert begin(name, config, layout, "", [], force=False)
        finish(name, config, layout, "", [])
    text = "\t".join(COLUMNS) + "\n100\t1.000\t20.00\t250.5\t1\t1\t1\t1\t2000\t260.25\t1\t1\t1\t0\t0\n"
    (layout.exp / "history.tsv").write_text(text)
    return tmp_path / "exp", layout, config


@contextmanager
def at_work(exp, since):
    """A run.sh holds the folder."""
    with (exp / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(Holder("node7", 812, since, "./run.sh --exp all")._asdict()))
        file.flush()
        yield


def write_log(path, text, first="", words="--job 1 --jobs 5"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first}# python3 -m dnf.x {words}\n# Started at now\n#\n{text}")


def test_nothing_runs(folder):
    exp, layout, _ = folder
    lines = status.show(exp).splitlines()
    assert lines[0] == f"{exp}: no run.sh is at work"
    assert lines[3].split() == ["data/", "done", "done", "done"]
    assert lines[4].split() == ["nf", "done", "-", "-", "-", "-", "-", "250.50", "260.25"]
    assert len(lines) == 5


def test_training_runs(folder):
    exp, layout, config = folder
    since = time.time() - 1
    begin("train", config, layout, "", [], force=True)
    log = layout.exp / "log/train.log"
    write_log(log, "50%")
    writer = subprocess.Popen(["sleep", "60"], stdout=log.open("a"))
    try:
        with at_work(exp, since):
            text = status.show(exp)
    finally:
        writer.kill()
        writer.wait()
    lines = text.splitlines()
    assert lines[0].startswith(f"{exp}: './run.sh --exp all' (host node7, pid 812, since ")
    assert lines[4].split()[:2] == ["nf", "running"]
    assert lines[6].startswith("nf train: running for 0:00:0") and f"on node7, pid {writer.pid}" in lines[6]
    assert lines[7] == "  step 100 of 200, epoch 1.0, NLL 250.50, dev NLL 260.25, 2000 frames/s, 0:00:20 left"


def test_an_array_runs_on_nodes(folder):
    exp, layout, config = folder
    since = time.time() - 1
    old = layout.feats / "log/fbank.9.log"  # of a run with more tasks
    write_log(old, FOOTER.format(0))
    os.utime(old, (since - 100, since - 100))
    begin("features", config, layout, "", [], force=True)
    for n, text in enumerate(("x\n" + FOOTER.format(0), "x\n", "bad wav\n" + FOOTER.format(1)), 1):
        write_log(layout.feats / f"log/fbank.{n}.log", text, f"# Running on n{n}\n")
    call = {"status": "running", "submissions": [{"job": "41", "lost": True}, {"job": "42"}, {"job": None}]}
    (layout.feats / "q/fbank.JOB").mkdir(parents=True)
    (layout.feats / "q/fbank.JOB/job.json").write_text(json.dumps(call))
    with at_work(exp, since):
        text = status.show(exp)
    assert "data/ features: running for 0:00:00 on n2, job 42: done 1 / running 1 / failed 1 / waiting 2" in text
    assert f"  {layout.feats}/log/fbank.3.log: bad wav" in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("nf ")] == [["nf", "old"]]
    assert "features: running" in status.show(exp) and "its run.sh has ended" in status.show(exp)


@pytest.mark.parametrize(
    ("end", "state"), [("", "stopped"), ("1", "failed"), ("143; signal 15", "stopped"), ("137; signal 9", "failed")]
)
def test_a_stage_that_came_to_no_end(folder, end, state):
    exp, layout, config = folder
    begin("latents", config, layout, "", [], force=False)
    write_log(
        layout.exp / "log/latents.log", "best.pt: no checkpoint\n" + (FOOTER.format(end) if end else ""), words=""
    )
    text = status.show(exp)
    assert f"nf latents: {state}\n  {layout.exp}/log/latents.log: best.pt: no checkpoint" in text


def test_a_marker_that_is_not_of_the_settings_as_they_are(folder):
    exp, layout, config = folder
    resolve(["train.steps=300"]).save(layout.exp / "config.yaml")
    assert status.show(exp).splitlines()[4].split()[1] == "old"
    (layout.exp / "config.yaml").write_text("nosuch: 1\n")
    assert status.is_current("train", layout, "x") is False


def test_own_recordings_have_a_line_of_their_own(folder):
    exp, _, config = folder
    layout = Layout.make(exp, "nf", "my_corpus")
    for name in ("data", "features", "frames"):
        begin(name, config, layout, "", [], force=False)
        finish(name, config, layout, "", [])
    begin("train", config, layout, "", [], force=False)
    lines = status.show(exp).splitlines()
    assert [line.split()[0] for line in lines[3:7]] == ["data/", "nf", "data/own/my_corpus/", "my_corpus_nf"]
    assert lines[5].split()[1:] == ["done", "done", "done"] and lines[6].split()[1] == "stopped"


def test_a_stage_killed_while_it_was_begun(folder):
    exp, layout, config = folder
    begin("latents", config, layout, "", [], force=False)
    (layout.exp / ".started.latents").write_text("")
    assert "nf latents: stopped" in status.show(exp)


def test_command_line(folder):
    exp = folder[0]

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "dnf", "status", *words],
            capture_output=True,
            text=True,
            env=environment(),
            cwd=exp.parent,
        )

    done = run()
    assert (done.returncode, done.stderr) == (0, "") and "nf " in done.stdout
    done = run("nosuch")
    assert (
        done.returncode == 1 and done.stderr == "dnf status: nosuch: no such folder; give the folder exp/ of a recipe\n"
    )
    heavy = "import dnf.experiment.status, sys; print({'torch', 'lhotse', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, env=environment())
    assert done.stdout == "set()\n", done.stderr


def test_settings_of_an_experiment_are_read_once(tmp_path, monkeypatch):
    exp, reads = tmp_path / "exp", []
    for name in ("a", "b"):
        config, layout = resolve([]), Layout.make(exp, name)
        config.save(layout.exp / CONFIG_YAML)
        layout.save()
        for stage in status.ALONE:
            layout.marker(stage).write_text(json.dumps(dict.fromkeys(MARKER, "x")))
    load = status.Config.load
    monkeypatch.setattr(status.Config, "load", lambda path: (reads.append(path), load(path))[1])
    assert status.show(exp).count("old") == 2 * len(status.ALONE)
    assert status.show(exp) and sorted(reads) == [exp / name / CONFIG_YAML for name in ("a", "b")]
