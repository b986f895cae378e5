"""The documentation: README is short, and what pages tell the reader to type and to open exists."""

import importlib.util
import re
import shlex
import subprocess

import pytest
from recipe_runs import ROOT

from dnf.__main__ import VERBS
from dnf.experiment.config import resolve

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "egs").glob("*/README.md"))]
FOLDERS = "benchmarks|conf|dnf|docs|egs|local|tests|utils"
OPERATORS = ("|", "&&", ";", ")")


def code(page) -> list[str]:
    """Indented lines and inline code of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ {4,}(.*)$", text, re.MULTILINE)
    return blocks + [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text)]


def run_commands(page) -> list[list[str]]:
    """The words of every command line of run.sh on a page, the recipe first."""
    found = []
    for line in code(page):
        if not re.search(r"(^| )(\./|\.\./\.\./)?run\.sh( |$)", line):
            continue
        words = shlex.split(line, comments=True)
        start = next((i for i, word in enumerate(words) if re.fullmatch(r"(\./|\.\./\.\./)?run\.sh", word)), None)
        if start is not None:
            recipe = page.parent.name if page.parent.parent.name == "egs" else "mini"
            moved = re.search(r"cd egs/(\w+)", line)
            rest = words[start + 1 :]
            end = next((i for i, word in enumerate(rest) if word in OPERATORS), len(rest))
            found.append([moved[1] if moved else recipe, *rest[:end]])
    return found


COMMANDS = sorted({tuple(command) for page in PAGES for command in run_commands(page)})


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of run.sh for each recipe."""
    helps = {
        recipe: subprocess.run([ROOT / "run.sh", "--recipe", recipe, "--help"], capture_output=True, text=True).stderr
        for recipe in {recipe for recipe, *_ in COMMANDS}
    }
    return {recipe: {"--help", *re.findall(r"--[a-z][a-z0-9-]*", text)} for recipe, text in helps.items()}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 30 and len({recipe for recipe, *_ in COMMANDS}) == 6


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_run_sh_has_known_options_settings_and_experiments(command, options):
    recipe, *words = command
    assert {word for word in words if word.startswith("--")} <= options[recipe]
    values = list(zip(words, words[1:]))
    resolve([value for word, value in values if word == "--set" and "=" in value])
    resolve([value.split(",")[0] for word, value in values if word == "--sweep" and "=" in value])
    recipes = (
        "*" if recipe == "mini" else recipe
    )  # pages outside egs/ also have commands for the folders of other recipes
    experiments = {path.stem for path in (ROOT / "egs").glob(f"{recipes}/conf/*.yaml")} | {"all", "NAME"}
    assert {value for word, value in values if word == "--exp"} <= experiments


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_verbs_and_files_that_a_page_names_exist(page):
    lines = code(page)
    verbs = {verb for line in lines for verb in re.findall(r"python3 -m dnf (\w+)", line)}
    assert verbs <= VERBS.keys()
    names = {
        name for line in lines for name in re.findall(rf"^(?:\./)?((?:{FOLDERS})/[\w./-]+\.(?:py|sh|yaml|md))", line)
    }
    places = (ROOT, page.parent, ROOT / "egs" / "mini")
    assert {name for name in names if not any((place / name).exists() for place in places)} == set()


def test_the_terminal_picture_has_a_row_for_each_line_of_a_session():
    spec = importlib.util.spec_from_file_location("terminal", ROOT / "docs" / "terminal.py")
    terminal = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(terminal)
    short, wrapped, long = (terminal.session([command]) for command in ("echo one", "printf '%0120d' 1", "seq 10"))
    assert [text for text, _ in short] == ["$ echo one", "one"] and len(wrapped) == 3 and len(long) == 11
    heights = [terminal.draw(lines).height for lines in (short, wrapped, long)]
    assert heights[1] - heights[0] > 10 and heights[2] - heights[0] == 9 * (heights[1] - heights[0])
    with pytest.raises(subprocess.CalledProcessError):
        terminal.session(["false"])
