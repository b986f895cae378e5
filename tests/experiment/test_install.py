"""What path.sh installs on first use, with a Python that only writes down how it is called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from recipe_runs import ROOT, on_terminal

PYTHON = r"""#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python3" ;;
  *"+cpu") exit "${TORCH_STATUS:-0}" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path) -> tuple[Path, dict[str, str]]:
    """A folder with path.sh and what it reads, and an environment whose python3 is a recorder."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("path.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").write_text(PYTHON)
    (tmp_path / "bin/python3").chmod(0o755)
    left_out = ("DNF_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return folder, environment | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}


def source(checkout, **more: str) -> tuple[int, str, list[str]]:
    """Status of sourcing path.sh, what it says, and the arguments of each call of pip install."""
    folder, environment = checkout
    line = ["bash", "-c", "set -u; . ./path.sh"]
    done = subprocess.run(line, cwd=folder, env=environment | more, capture_output=True, text=True)
    assert not done.stdout
    return done.returncode, done.stderr, installs(environment)


def installs(environment: dict[str, str]) -> list[str]:
    prefix = "-m pip install "
    calls = Path(environment["CALLS"]).read_text().splitlines()
    return [call.removeprefix(prefix) for call in calls if call.startswith(prefix)]


def test_first_use_says_what_is_downloaded_and_installs_once(checkout):
    status, said, calls = source(checkout)
    assert status == 0 and said.count("\n") == 1
    assert "about 2.9 GB with PyTorch's CUDA build" in said and "0.4 GB" in said and "DNF_TORCH=cpu" in said
    assert len(calls) == 1 and calls[0].startswith("--quiet ") and calls[0].endswith("[test]")
    assert source(checkout) == (0, "", calls)


def test_pip_shows_its_progress_on_a_terminal_unless_quiet(checkout):
    folder, environment = checkout
    line = ["bash", "-c", ". ./path.sh"]
    assert on_terminal(line, folder, environment)[0] == 0
    assert "--quiet" not in installs(environment)[-1]
    (folder / ".venv/.installed").unlink()
    status, shown = on_terminal(line, folder, environment | {"DNF_QUIET": "1"})
    assert (status, shown) == (0, "") and installs(environment)[-1].startswith("--quiet ")


@pytest.mark.parametrize(
    ("more", "index"),
    [({}, "https://download.pytorch.org/whl/cpu"), ({"DNF_TORCH_INDEX": "https://mirror/cpu"}, "https://mirror/cpu")],
)
def test_the_build_for_processors_is_that_of_the_tests_and_comes_first(checkout, more, index):
    status, said, (torch, rest) = source(checkout, DNF_TORCH="cpu", **more)
    version = next(line for line in (ROOT / "constraints.txt").read_text().split() if line.startswith("torch=="))
    assert status == 0 and "about 0.4 GB" in said and "CUDA" not in said
    assert f"--extra-index-url {index} {version}+cpu" in torch and "--no-deps" in torch
    assert rest.endswith("[test]") and index not in rest


def test_an_index_without_that_build_is_one_line_and_nothing_else_is_installed(checkout):
    status, said, calls = source(checkout, DNF_TORCH="cpu", DNF_TORCH_INDEX="https://mirror/cpu", TORCH_STATUS="1")
    last = said.splitlines()[-1]
    assert status == 1 and len(calls) == 1 and last.startswith("path.sh: DNF_TORCH=cpu: torch ")
    assert "https://mirror/cpu; set DNF_TORCH_INDEX to an index that has it, or unset DNF_TORCH" in last
    assert source(checkout)[0] == 0  # started again without it


def test_another_build_is_refused(checkout):
    status, said, calls = source(checkout, DNF_TORCH="cu999")
    assert status == 1 and not calls
    assert said == "path.sh: DNF_TORCH=cu999: the only choice is cpu; unset it to leave the build to pip\n"
