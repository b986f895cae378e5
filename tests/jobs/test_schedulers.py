"""What every scheduler must have, whichever there are: a class, the site's file and a command. No cluster is needed."""

import importlib
import inspect
import os
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest
from recipe_runs import ROOT

from utils import jobs
from utils.jobs import queue_conf
from utils.jobs.scheduler import Scheduler

for module in pkgutil.iter_modules(jobs.__path__, "utils.jobs."):
    importlib.import_module(module.name)
SCHEDULERS = Scheduler.__subclasses__()
COMMANDS = [
    path for path in sorted((ROOT / "utils").glob("*.py")) if os.access(path, os.X_OK) and path.name != "run.py"
]
QUESTIONS = ("submit", "look", "find", "cancel", "longest_array")

of_each_scheduler = pytest.mark.parametrize("kind", SCHEDULERS, ids=lambda kind: kind.__name__)
of_each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.name)


def shown(*command: str | Path) -> str:
    """What a command prints in a folder, and with a PYTHONPATH, that have nothing to do with the project."""
    given = {"capture_output": True, "text": True, "timeout": 20, "cwd": "/", "env": os.environ | {"PYTHONPATH": "/"}}
    done = subprocess.run(command, **given)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def conf_of(command: Path) -> str:
    """The site's file, as the help of a command has it."""
    (name,) = re.findall(r"default: conf/(\S+),", shown(command, "--help"))
    return name


def test_each_scheduler_has_a_command_and_each_command_a_scheduler():
    assert sorted(map(conf_of, COMMANDS)) == sorted(kind.conf_name for kind in SCHEDULERS) != []


@of_each_scheduler
def test_questions_are_answered(kind):
    for name in QUESTIONS:
        assert name in vars(kind), f"{kind.__name__} does not answer {name}"
    for name, method in inspect.getmembers(Scheduler, inspect.isfunction):
        assert inspect.signature(getattr(kind, name)) == inspect.signature(method), name


@of_each_scheduler
def test_names(kind):
    assert kind.name and kind.cancel_command
    assert kind.variables.index and kind.variables.job
    assert all(re.fullmatch(r"[A-Z_]*", name) for name in kind.variables)


@of_each_scheduler
def test_file_of_the_project(kind):
    conf = queue_conf.parse((ROOT / "conf" / kind.conf_name).read_text(), kind.conf_name)
    assert conf.arguments({}) == [] == conf.arguments({"gpu": "0", "mem": "0"})
    assert len(conf.arguments({"gpu": "2", "mem": "4G", "time": "1:00:00", "num_threads": "3"})) >= 4
    assert not {"-p", "--partition", "-q", "-A"} & set(conf.command)  # no site's names


@of_each_scheduler
def test_environment_of_a_user_is_kept_and_that_of_an_enclosing_job_is_not(kind, monkeypatch):
    users = {"PATH": "/bin", "SITE": "x"}
    monkeypatch.setattr(os, "environ", users | {"CUDA_VISIBLE_DEVICES": "1"})
    assert kind().environment() == users
    monkeypatch.setattr(os, "environ", users | {kind.variables.job: "7", kind.variables.index: "3"})
    assert kind().environment() == users


@of_each_command
def test_options_are_in_the_help(command):
    text = shown(command, "--help")
    assert f"utils/{command.name} [options]" in text
    options = ("mem", "time", "num-threads", "gpu", "max-jobs-run", "num-tries", "pick", "config")
    assert [option for option in options if f"--{option} " not in text] == []


@of_each_command
def test_command_is_a_backend(command):
    script = f'set -euo pipefail; device=cpu cmd_backend={command.stem}; . {ROOT}/cmd.sh; echo "$train_cmd"'
    done = subprocess.run(["bash", "-c", script], env={"DNF_ROOT": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{command}\n", "")
