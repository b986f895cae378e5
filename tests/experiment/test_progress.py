"""What a run says of its progress: lines of a command, the place of a stage and the time left, colours, and --quiet."""

import io
import json
import os
import re
import subprocess
import time

import pytest
from recipe_runs import ROOT, command, environment, on_terminal

from dnf.experiment.forecast import SHARES, coming, seconds_left
from dnf.experiment.layout import STAGES, Layout
from dnf.experiment.markers import MARKER
from dnf.experiment.progress import progress


def finish(layout: Layout, name: str, seconds: float) -> None:
    """The marker of a stage that took so long."""
    layout.folder(name).mkdir(parents=True, exist_ok=True)
    (layout.exp / "config.yaml").parent.mkdir(parents=True, exist_ok=True)
    (layout.exp / "config.yaml").write_text("")
    layout.marker(name).write_text(json.dumps(dict.fromkeys(MARKER, "") | {"seconds": seconds}))


def test_a_line_has_done_total_rate_and_time_left():
    said = io.StringIO()
    bar = progress(what="train", unit="steps", total=400, file=said)
    bar.start_t -= 10  # as if it had begun ten seconds ago
    bar.update(100)
    bar.refresh()
    line = said.getvalue().split("\r")[-1].strip()
    assert re.fullmatch(r"train: 100 of 400 steps, +\d+\.\d+ steps/s, \d\d:\d\d left", line), line
    assert list(progress(range(3), what="x", unit="sets", file=io.StringIO())) == [0, 1, 2]


def test_shares_are_those_of_all_stages():
    assert list(SHARES) == list(STAGES) and min(SHARES.values()) > 0


def test_nothing_is_forecast_without_an_earlier_stage(tmp_path):
    layout = Layout.make(tmp_path / "exp", "one")
    assert seconds_left("data", layout, 8) is None
    assert coming("data", layout, 0, 8) == "1 of 9 stages"
    assert coming("plots", layout, 3, 5) == "3 of 3 stages"


def test_time_left_follows_from_the_stages_of_this_run_and_of_other_experiments(tmp_path):
    layout, other = (Layout.make(tmp_path / "exp", name) for name in ("one", "other"))
    rest = sum(SHARES[name] for name in STAGES if STAGES[name].number >= 3)
    finish(layout, "data", 2 * SHARES["data"])
    assert seconds_left("train", layout, 8) == pytest.approx(2 * rest)
    finish(other, "train", 7.0)  # of an experiment beside it
    scale = (2 * SHARES["data"] + 7) / (SHARES["data"] + SHARES["train"])
    assert seconds_left("train", layout, 8) == pytest.approx(7 + scale * (rest - SHARES["train"]))
    assert seconds_left("train", layout, 3) == pytest.approx(7)
    finish(layout, "train", 100.0)  # its own, of an earlier run
    assert seconds_left("train", layout, 3) == pytest.approx(100)
    assert coming("train", layout, 0, 3) == "4 of 4 stages, about 01:40 left"
    other.marker("plots").write_text("torn")
    assert seconds_left("train", layout, 3) == pytest.approx(100)


STAGE = f"""set -euo pipefail; . {ROOT}/local/stages.sh; stage=0 stop_stage=8 stage_options=() up_to_date='' ended=
    python3() {{ echo "f3a1 4 of 9 stages, about 01:40 left"; }}; begin 3 train; echo $DNF_WORK"""


def stage_on_terminal(tmp_path, **more: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "DNF_QUIET")}
    status, shown = on_terminal(["bash", "-c", STAGE], tmp_path, kept | {"TERM": "xterm"} | more)
    assert status == 0
    return shown


def test_a_stage_says_what_is_to_come_and_is_bold_on_a_terminal_alone(tmp_path):
    said = r"stage 3 \(train\): 4 of 9 stages, about 01:40 left"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d \x1b\[1m{said}\x1b\[0m\r\n", stage_on_terminal(tmp_path))
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert re.fullmatch(rf"\d\d:\d\d:\d\d {said}\r\n", stage_on_terminal(tmp_path, **plain))
    done = subprocess.run(["bash", "-c", STAGE], capture_output=True, text=True)
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {said}\n", done.stderr) and done.stdout == "f3a1\n"
    assert stage_on_terminal(tmp_path, DNF_QUIET="1") == ""


def test_a_quiet_runner_shows_no_progress_but_errors(tmp_path):
    line = [str(ROOT / "utils/run.py"), "a.log", "sleep", "1", ";", "exit", "3"]
    status, shown = on_terminal(line, tmp_path, environment() | {"DNF_QUIET": "1"})
    assert status == 1 and shown == "run.py: job failed, log is in a.log\r\n"


def test_a_quiet_run_says_nothing_when_all_is_well_and_what_is_wrong_otherwise(tmp_path):
    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(command(*words), cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr

    small = ("--train-speakers", "1", "--dev-speakers", "1", "--test-speakers", "1", "--other-speakers", "1")
    words = (*small, "--utterances", "2", "--stop-stage", "2")
    assert run(*words, "--quiet") == (0, "")
    status, said = run(*words)
    assert status == 0 and said.count("up to date") == 3
    assert run("--stgae", "3", "--quiet") == (1, "run.sh: invalid option --stgae (did you mean --stage?)\n")


def test_an_array_shows_what_its_first_task_does_until_one_has_ended(tmp_path):
    start = time.monotonic()
    task = ("echo", "train: 3 of 9 utterances", ";", "sleep", "1.5")
    line = [str(ROOT / "utils/run.py"), "-tc", "1", "JOB=1:2", "a.JOB.log", *task]
    status, shown = on_terminal(line, tmp_path, environment())
    assert status == 0 and time.monotonic() - start > 3
    assert "done 0 / running 1 / failed 0 / waiting 1; train: 3 of 9 utterances" in shown
    assert re.search(r"done 1 / running 1 / failed 0 / waiting 0, [0-9.]+ tasks/min, 0:0\d left", shown)
