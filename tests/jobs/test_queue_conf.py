"""What needs no cluster: the site's file, what submit commands are made of, and how a task is judged."""

import os

import pytest

from utils.jobs import account, devices, queue_conf, request, terminal
from utils.jobs.grid_engine import GridEngine
from utils.jobs.scheduler import LATE, Seen, judge
from utils.jobs.slurm import Slurm

KALDI = """
# Default configuration of a lab
command qsub -v PATH -cwd -S /bin/bash -j y -l arch=*64*
option mem=* -l mem_free=$0,ram_free=$0
option mem=0          # Do not add anything to qsub_opts
option num_threads=* -pe smp $0
option num_threads=1  # Do not add anything to qsub_opts
option max_jobs_run=* -tc $0
default gpu=0
option gpu=0
option gpu=* -l gpu=$0 -q '*.q'
"""


def test_file_as_kaldi_has_it():
    conf = queue_conf.parse(KALDI, "queue.conf")
    assert conf.command == ("qsub", "-v", "PATH", "-cwd", "-S", "/bin/bash", "-j", "y", "-l", "arch=*64*")
    assert conf.arguments({"mem": "4G"}) == ["-l", "mem_free=4G,ram_free=4G"]
    assert conf.arguments({"mem": "0", "num_threads": "1"}) == []
    assert conf.arguments({"num_threads": "4", "gpu": "2"}) == ["-l", "gpu=2", "-q", "*.q", "-pe", "smp", "4"]


def test_lines_may_stand_in_any_order():
    conf = queue_conf.parse("default gpu=1\noption gpu=* --gres=gpu:$0\noption gpu=0\ncommand sbatch\n", "slurm.conf")
    assert conf.arguments({}) == ["--gres=gpu:1"] and conf.arguments({"gpu": "0"}) == []
    after = queue_conf.parse("command sbatch\noption gpu=* --gres=gpu:$0\ndefault gpu=1", "slurm.conf")
    assert after.arguments({}) == ["--gres=gpu:1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("option mem=* -l $0", "no line 'command TEXT'"),
        ("command a\ncommand b", "x.conf, line 2: 'command b'"),
        ("command a\npartition cpu", "line 2: 'partition cpu': not 'command TEXT'"),
        ("command a\noption mem -l", "line 2"),
        ("command a\ndefault gpu=0 -l x", "line 2"),
        ("command a 'b", "No closing quotation"),
    ],
)
def test_lines_of_another_form_are_errors(text, message):
    with pytest.raises(request.UsageError) as error:
        queue_conf.parse(text, "x.conf")
    assert message in str(error.value) and str(error.value).startswith("x.conf")


def test_options_without_a_line_are_errors():
    conf = queue_conf.parse("command a\noption mem=4G -m", "x.conf")
    assert conf.arguments({"mem": "4G"}) == ["-m"]
    with pytest.raises(request.UsageError, match="x.conf does not describe --mem 2G: add a line 'option mem="):
        conf.arguments({"mem": "2G"})


@pytest.mark.parametrize(
    ("log", "folder"),
    [
        ("exp/x/log/a.JOB.log", "exp/x/q/a.JOB"),
        ("exp/x/a.log", "exp/x/q/a"),
        ("a.JOB.log", "q/a.JOB"),
        ("log/train", "q/train"),
    ],
)
def test_folder_of_a_log(log, folder):
    assert account.folder_of(request.parse(["JOB=1", log, "true"])) == folder


def record(code, reason=None):
    return {"code": code, "host": "n1", "reason": reason}


WAITS = None


@pytest.mark.parametrize(
    ("left", "seen", "quiet", "confirms", "expected"),
    [
        (record(0), Seen("ended"), 0, True, (0, "")),
        (record(0), None, 0, True, (0, "")),
        (record(0), Seen("running"), 99, True, WAITS),  # out of memory may still come
        (record(0), Seen("running"), 0, False, (0, "")),
        (
            record(0),
            Seen("failed", "out of memory"),
            0,
            True,
            (1, "out of memory (though the task itself ended with code 0)"),
        ),
        (record(5), Seen("running"), 1, True, WAITS),  # for the reason
        (record(5), Seen("running"), LATE, True, (5, "ended with code 5 on n1")),
        (record(5), Seen("waiting", "BeginTime"), 99, True, WAITS),  # it was requeued
        (record(137), Seen("failed", "out of memory"), 0, True, (137, "out of memory")),
        (record(5), Seen("failed", "ended with code 5", plain=True), 0, True, (5, "ended with code 5 on n1")),
        (record(126, "no log"), Seen("failed", "code 126", plain=True), 0, True, (126, "no log")),
        (None, Seen("waiting"), 99, True, WAITS),
        (None, Seen("running"), 99, True, WAITS),
        (None, Seen("stuck", "never"), 0, True, (1, "never")),
        (None, Seen("failed", "node failure"), 2, True, (1, "node failure")),
        (None, Seen("ended"), 2, True, WAITS),  # the record may come late
        (None, None, 2, True, WAITS),
    ],
)
def test_verdicts(left, seen, quiet, confirms, expected):
    verdict = judge(left, seen, quiet, confirms=confirms)
    assert (verdict and verdict[:2]) == expected


def test_no_record_is_no_success():
    assert "has no record" in judge(None, Seen("ended"), LATE, confirms=True).reason
    assert "does not know it any more" in judge(None, None, LATE, confirms=True).reason
    assert judge(None, Seen("stuck", "never"), 0, confirms=True).final


def test_superseded_submissions():
    jobs = [account.Submission(1, "a-1", [1, 2], "7"), account.Submission(2, "a-2", [2], "8")]
    call = account.Call("a", "/", [], "", [1, 2], submissions=jobs)
    assert call.is_current(1, 1) and not call.is_current(1, 2) and call.is_current(2, 2)
    jobs[1].lost = True
    assert not call.is_current(2, 2)
    call.status = "cancelled"
    assert not call.is_current(1, 1)


def test_enclosing_job_is_not_handed_down(monkeypatch):
    monkeypatch.setattr(os, "environ", {"SBATCH_ACCOUNT": "mine", "SLURM_CONF": "c", "CUDA_VISIBLE_DEVICES": "1"})
    assert Slurm().environment() == {"SBATCH_ACCOUNT": "mine", "SLURM_CONF": "c"}
    monkeypatch.setattr(
        os, "environ", {"SLURM_JOB_ID": "1", "SBATCH_X": "", "SLURM_CONF": "c", "SLURMISH": "x", "PATH": "p"}
    )
    assert Slurm().environment() == {"SLURM_CONF": "c", "SLURMISH": "x", "PATH": "p"}
    monkeypatch.setattr(
        os, "environ", {"JOB_ID": "1", "SGE_TASK_ID": "2", "NSLOTS": "2", "SGE_ROOT": "r", "SGE_CELL": "c"}
    )
    assert GridEngine().environment() == {"SGE_ROOT": "r", "SGE_CELL": "c"}


def test_programs_that_are_not_there(monkeypatch):
    monkeypatch.setattr(os, "environ", {"PATH": "/nonexistent"})
    with pytest.raises(request.UsageError, match="squeue is not on PATH"):
        Slurm().find("x")


def test_devices_are_held_once(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "LOCKS", str(tmp_path))
    names, held = devices.hold_devices(["0", "1", "2"], 2)
    assert names == ["0", "1"]
    assert devices.hold_devices(["0", "1", "2"], 1)[0] == ["2"]
    with pytest.raises(OSError, match="only 0 of 1 GPUs are free"):
        devices.hold_devices(["0", "1"], 1)
    os.close(held[0])
    assert devices.hold_devices(["0", "1"], 1)[0] == ["0"]
    with pytest.raises(OSError, match="--gpu 2, but there are 1 GPUs"):
        devices.hold_devices(["0"], 2)


def test_line_of_progress_where_there_is_no_terminal(monkeypatch, capsys):
    line = terminal.StatusLine()
    line.update(lambda: "done 1")
    line.last -= terminal.PERIOD
    line.update(lambda: "done 2")
    line.update(lambda: "done 3")
    assert capsys.readouterr().err.endswith("done 2\n") and line.pause == terminal.PERIOD
