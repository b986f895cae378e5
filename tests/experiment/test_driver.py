"""What run.sh makes of its options, of what the environment exports, and of output that nobody takes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_runs import ROOT, command, environment

from dnf.experiment.config import resolve

OLD_PYTHON = shutil.which("python3.10")

SOURCED = f"""set -euo pipefail
    ROOT={ROOT} RECIPE_DIR={ROOT}/egs/mini recipe=mini stage=0 stop_stage=8 nj=1 device=cpu seed= data= model= out= sweep= max_rejected=
    RECIPE_OPTIONS=(wsj hours) wsj= hours=50 stage_options=() up_to_date='' ended=
    . {ROOT}/local/stages.sh
    note_numbers
"""


def in_bash(script: str, folder: Path | None = None, **more) -> subprocess.CompletedProcess:
    """What bash does with a script that has the functions of run.sh."""
    given = {"capture_output": True, "text": True, "cwd": folder} | more
    return subprocess.run(["bash", "-c", SOURCED + script], **given)


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("stage", "08", "8"),
        ("stage", "00", "0"),
        ("stage", "-1", "0"),
        ("stop_stage", "007", "7"),
        ("stop_stage", "010", "8"),
        ("nj", "010", "10"),
        ("seed", "0012", "12"),
        ("device", "cuda:08", "cuda:8"),
        ("hours", "010", "10"),
        ("hours", "2.5", "2.5"),
        ("max_rejected", "1%", "0.01"),
        ("max_rejected", "0.5%", "0.005"),
        ("max_rejected", ".05", "0.05"),
        ("max_rejected", "100%", "1"),
        ("max_rejected", "2e-2", "0.02"),
    ],
)
def test_a_number_is_read_as_one(option, text, value):
    done = in_bash(f'{option}={text}; check_options; echo "${option}"')
    assert (done.stdout, done.stderr) == (f"{value}\n", "")


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("stage", text) for text in ("1:30", "0x1", "3a", "1e0", "9", "' 1'", "''", "1.0", "9" * 20)),
        *(("nj", text) for text in ("0", "00", "-1", "1e3", "2x", "'1 2'", "9" * 20)),
        *(("seed", text) for text in ("-1", "1.5", "9" * 20, "'a[0]'", "0x10")),
        *(("hours", text) for text in ("nan", "1,5", "2x", "-3", "''", "1e3")),
        *(("device", text) for text in ("cuda:", "cuda:x", "cuda:1x", "cuda:-1")),
        *(
            ("max_rejected", text)
            for text in ("5", "500%", "1,5%", "abc%", "%", "1%%", "-1%", "0,5", "nan", "1e9", "5pc")
        ),
    ],
)
def test_what_only_begins_like_a_number_is_refused(option, text):
    done = in_bash(f"{option}={text}; check_options; echo went on")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert f"--{option.replace('_', '-')} " in done.stderr


@pytest.mark.parametrize("stderr", ("2>&-", "2>/dev/full"))
def test_a_stage_is_begun_where_nothing_can_be_said(stderr):
    words = "python3() { echo work; }; if begin 3 train; then echo begun $DNF_WORK; else echo skipped; fi"
    assert in_bash(f"{{ {words}; }} {stderr}").stdout == "begun work\n"


@pytest.mark.parametrize(("said", "status"), [("", 3), ("data", 3), ("", 1), ("", 120)])
def test_a_stage_is_skipped_only_if_its_marker_says_so(said, status):
    done = in_bash(
        f"python3() {{ echo {said}; return {status}; }}; if begin 3 train; then echo begun; else echo skipped; fi"
    )
    assert done.returncode not in (0, 2) and done.stdout == ""


def test_results_are_said_to_be_there_only_if_they_are(tmp_path):
    script = "exp_dir=exp; check_results; echo good"
    (tmp_path / "exp").mkdir()
    names = ("results.txt", "results.tsv", "report.html")
    for name in names:
        assert f"exp/{name}: stage 8 (report) did not write it" in in_bash(script, tmp_path).stderr
        (tmp_path / "exp" / name).write_text("figures\n")
    assert in_bash(script, tmp_path).stdout == "good\n"
    (tmp_path / "exp/.started.report").touch()
    os.utime(tmp_path / "exp/.started.report", (2, 2))
    os.utime(tmp_path / "exp/results.tsv", (1, 1))
    assert "exp/results.tsv: stage 8 (report) did not write it" in in_bash(script, tmp_path).stderr
    (tmp_path / "exp/report.html").write_text("")
    assert in_bash("python3() { echo finished; }; exp_dir=exp; finish report", tmp_path).returncode == 1


def test_paths_are_those_of_the_folder_that_a_recipe_was_called_in(tmp_path):
    for name in ("corpus", "mini", "wsj0", "recipe", "50"):
        (tmp_path / name).mkdir()
    for name in ("e.yaml", "c.conf", "python"):
        (tmp_path / name).touch(mode=0o700)
    words = (
        "--data corpus --exp mini --wsj wsj0 --config c.conf --stage 50 --exp e.yaml --data /abs --data none --out new"
    )
    script = f'find_paths {words}; echo "$DNF_PYTHON" "${{words[@]}}"'
    given = {"DNF_CALLER": str(tmp_path), "DNF_PYTHON": "./python"}
    done = in_bash(script, tmp_path / "recipe", env=os.environ | given)
    at = str(tmp_path)
    assert done.stdout == (
        f"{at}/./python --data {at}/corpus --exp mini --wsj {at}/wsj0 --config {at}/c.conf --stage 50 "
        f"--exp {at}/e.yaml --data /abs --data none --out {at}/new\n"
    )
    assert in_bash(script, tmp_path, env=os.environ | given).stdout == f"./python {words}\n"


HOSTILE = {
    "CDPATH": "/:/usr",
    "SHELLOPTS": "noclobber:noglob:nounset",
    "BASHOPTS": "nocasematch:failglob:dotglob:xpg_echo",
    "POSIXLY_CORRECT": "1",
    "GLOBIGNORE": "*",
    "BASH_ENV": "bad.sh",
    "ENV": "bad.sh",
    "QUOTING_STYLE": "shell-always",
    "LC_ALL": "xx_XX.UTF-8",
    "OMP_NUM_THREADS": "7",
    "PYTHONHOME": "/nonexistent",
    "PYTHONSTARTUP": "bad.py",
    "PYTHONINSPECT": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONSAFEPATH": "1",
    "PYTHONPATH": ":.:relative:",
    "MPLBACKEND": "module://nowhere",
    "LHOTSE_AUDIO_BACKEND": "nosuch",
    "DNF_LOG_LEVEL": "info",
    **{f"BASH_FUNC_{name}%%": "() { echo mine; return 1; }" for name in ("cd", "python3", "ls", "dirname", "log")},
}


@pytest.mark.skipif(not OLD_PYTHON or subprocess.call([OLD_PYTHON, "-c", ""]), reason="no Python 3.10 here")
def test_modules_of_the_working_folder_are_named_where_python_would_take_them(tmp_path):
    (tmp_path / "types.py").touch()
    (tmp_path / "mine.py").touch()
    old = tmp_path / "bin/python3"
    old.parent.mkdir()
    old.write_text(f'#!/bin/sh\nexec {OLD_PYTHON} "$@"\n')
    old.chmod(0o755)
    line = ["bash", "-c", f". {ROOT}/path.sh"]
    done = subprocess.run(
        line, cwd=tmp_path, env=environment() | {"DNF_PYTHON": str(old)}, capture_output=True, text=True
    )
    assert "Python 3.10 would import types.py of this folder in place of its own" in done.stderr
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def hostile(folder: Path) -> dict[str, str]:
    """An environment, and files in ``folder``, that stand in the way of a script that takes them for its own."""
    for name in ("queue", "yaml", "numpy", "json", "types", "random", "collections"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not the library')\n")
    (folder / "bad.sh").write_text("shopt -s failglob; python3() { return 1; }; cd /\n")
    return os.environ | HOSTILE


def test_nothing_that_is_exported_or_lies_in_the_working_folder_matters(tmp_path):
    (tmp_path / "clone").symlink_to(ROOT)
    words = command("--exp", "all", "--dry-run", tiny=False)[1:]
    exported = hostile(tmp_path)
    for line in (["clone/run.sh", *words], ["bash", "clone/run.sh", *words]):
        done = subprocess.run(line, cwd=tmp_path, env=exported, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("would run") == 9 * len(list((ROOT / "egs/mini/conf").glob("*.yaml")))
        assert not [said for said in done.stderr.splitlines() if "setlocale" not in said]


def test_jobs_and_commands_see_nothing_of_it_either(tmp_path):
    """Jobs of the local runner, and what is typed after path.sh is sourced."""
    exported = hostile(tmp_path)
    words = f". {ROOT}/path.sh; cd {tmp_path}; {ROOT}/utils/run.py a.log python3 -m dnf status --help; cat a.log"
    done = subprocess.run(["bash", "-p", "-c", words], cwd=tmp_path, env=exported, capture_output=True, text=True)
    assert "which stages" not in done.stderr and "usage: python3 -m dnf status" in done.stdout, (
        done.stdout + done.stderr
    )
    assert f"{ROOT}\n" in subprocess.run(
        ["bash", "-c", f"set -o noclobber; CDPATH=/; . {ROOT}/path.sh; echo $DNF_ROOT; echo $PYTHONPATH"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": ":.:relative:"}, capture_output=True, text=True,
    ).stdout  # fmt: skip


def test_a_module_of_the_working_folder_is_not_taken_for_the_librarys(tmp_path):
    """Where path.sh was not sourced, too."""
    (tmp_path / "work").mkdir()
    for name in ("yaml", "json", "argparse", "logging", "queue"):
        (tmp_path / "work" / f"{name}.py").write_text("raise RuntimeError('not the library')\n")
    shown = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "dnf.experiment.status", "--help"]
    done = subprocess.run(words, cwd=tmp_path / "work", env=shown, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python3 -m dnf.experiment.status"), done.stderr


def test_a_verb_runs_in_the_checkout_where_path_sh_was_not_sourced():
    words, environment = [sys.executable, "-m", "dnf", "status", "--help"], {"PATH": os.environ["PATH"]}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", (["-m", "dnf"], ["-m", "dnf", "compare"], [f"{ROOT}/utils/run.py"]))
def test_help_without_docstrings(words):
    done = subprocess.run([sys.executable, "-OO", *words, "--help"], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout) > 20


def test_a_level_of_the_log_may_be_written_small(tmp_path):
    words = [sys.executable, "-m", "dnf", "status", str(tmp_path)]
    for level, status, said in (
        ("warning", 0, ""),
        ("", 0, ""),
        ("loud", 1, "DNF_LOG_LEVEL=loud: it is one of DEBUG,"),
    ):
        given = environment() | {"DNF_LOG_LEVEL": level}
        done = subprocess.run(words, env=given, capture_output=True, text=True)
        assert done.returncode == status and said in done.stderr and done.stderr.count("\n") <= 1


def test_one_job_takes_no_more_processes_than_there_are_processors(tmp_path):
    """And an array of stage features is left to the runner: the local one has so many at a time, a cluster all of them."""
    script = (
        "processors() { echo 2; }; nj=64 data_seed=1 data_dir=d allow_pipes=false leave_corpora_out=false; "
        "prepare_options=(); python3() { :; }"
    )
    done = in_bash(f"{script}; train_cmd=echo; make_data", tmp_path)
    assert done.stdout.rstrip().endswith("prepare_data.py d --seed 1 --nj 2"), done.stderr
    (features,) = [line for line in (ROOT / "run.sh").read_text().splitlines() if "features.JOB.log" in line]
    assert features.split()[:2] == ["$train_cmd", '"JOB=1:$nj"']


def test_processors_are_counted_whatever_openmp_is_told():
    script = f"eval \"$(grep '^processors()' {ROOT}/run.sh)\"; processors"
    counts = {in_bash(script, env=os.environ | {"OMP_NUM_THREADS": n}).stdout for n in ("", "1", "64")}
    assert len(counts) == 1 and int(counts.pop()) == len(os.sched_getaffinity(0))


OWN = f"""set=() leave_corpora_out=false exp=nf data=corpus recipe=wsj RECIPE_DIR={ROOT}/egs/wsj source_options=()
    RECIPE_SETTINGS=('data.train=[x]' 'data.classes=[x]' cmvn.scope=utterance)"""


def test_the_sets_of_a_recipe_are_not_those_of_own_recordings(tmp_path):
    """Neither those of recipe.conf nor those of the YAML; a YAML of one's own says what it says."""
    (tmp_path / "my.yaml").write_text("data: {train: [mine]}\n")
    script = f'{OWN}; . {ROOT}/path.sh; line=$(plan); eval "$line"; printf \'%s\\n\' "${{config[@]}}"; exp=my.yaml; line=$(plan); eval "$line"; echo then "${{config[@]}}"'
    named, own = in_bash(script, tmp_path).stdout.split("then ")
    words = [word for word in named.split("\n") if word and not word.startswith("--")]
    assert words[0] == "cmvn.scope=utterance" and words[1].endswith("egs/wsj/conf/nf.yaml")
    data = resolve([words[0], Path(words[1]), *words[2:]]).data
    assert (data.train, data.dev, data.test, data.views, data.controls) == (["train"], ["dev"], [], {}, {})
    assert own == "--set cmvn.scope=utterance --config my.yaml\n"


def test_one_interpreter_finishes_a_stage_and_begins_the_next():
    script = """
        python3() { echo "${*:3:4}" >&3; echo work; }
        log() { :; }
        for name in features frames; do ! begin 1 $name || finish $name; done
        stop_stage=2; ! begin 3 train || finish train
        write_marker
        write_marker"""
    done = in_bash(f"{{ {script}\n}} 3>&1")
    calls = [line.split(" --first")[0] for line in done.stdout.splitlines() if line != "work"]
    assert calls == ["begin features", "begin frames --finish features", "finish frames"] and not done.stderr
