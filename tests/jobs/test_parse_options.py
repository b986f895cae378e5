"""utils/parse_options.sh: what Kaldi's does, less its holes."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """#!/usr/bin/env bash
set -euo pipefail
stage=0
num_jobs=4
use_vad=true
name=x
cmd=run
extra=()
help_message="Usage: recipe.sh [options]"
. "$PARSE_OPTIONS"
for variable in stage num_jobs use_vad name cmd; do printf '%s=[%s]\\n' "$variable" "${!variable}"; done
printf 'extra='; printf '[%s]' "${extra[@]}"; echo
printf 'rest='; printf '[%s]' "$@"; echo
"""


@pytest.fixture
def call(tmp_path):
    """Runs a script that has options; the lines it prints by name, or its status and stderr."""

    def run(*arguments, script=SCRIPT):
        (tmp_path / "recipe.sh").write_text(script)
        return subprocess.run(
            ["bash", "recipe.sh", *arguments],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PARSE_OPTIONS": str(ROOT / "utils/parse_options.sh"), "http_proxy": "x"},
            capture_output=True,
            text=True,
            timeout=10,
        )

    run.folder = tmp_path
    return run


def printed(done):
    assert (done.returncode, done.stderr) == (0, "")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    "arguments, name, value",
    [
        ([], "stage", "[0]"),
        (["--stage", "3"], "stage", "[3]"),
        (["--stage", "3", "--stage", "5"], "stage", "[5]"),
        (["--stage", "-1"], "stage", "[-1]"),
        (["--num-jobs", "8"], "num_jobs", "[8]"),
        (["--num_jobs", "8"], "num_jobs", "[8]"),
        (["--name", "two words"], "name", "[two words]"),
        (["--name", ""], "name", "[]"),
        (["--name", "--opt=1 --b"], "name", "[--opt=1 --b]"),
        (["--name", "a\"b'c$HOME`id`\\"], "name", "[a\"b'c$HOME`id`\\]"),
        (["--use-vad", "false"], "use_vad", "[false]"),
        (["--use-vad", "false", "--use-vad"], "use_vad", "[true]"),
        (["--use-vad", "false", "--use-vad", "--stage", "2"], "use_vad", "[true]"),
        (["--use-vad", "--stage", "2"], "stage", "[2]"),
        (["--cmd", "queue.pl --mem 4G"], "cmd", "[queue.pl --mem 4G]"),
        (["--extra", "a", "--stage", "2", "--extra", "b c"], "extra", "[a][b c]"),
        ([], "extra", "[]"),
    ],
)
def test_values(call, arguments, name, value):
    assert printed(call(*arguments))[name] == value


@pytest.mark.parametrize(
    "arguments, stage, rest",
    [
        (["--stage", "1", "data", "exp"], "[1]", "[data][exp]"),
        (["data", "--stage", "1"], "[0]", "[data][--stage][1]"),
        (["--", "--stage", "1"], "[0]", "[--stage][1]"),
        (["--stage", "1", "--", "--name"], "[1]", "[--name]"),
        (["", "--stage", "1"], "[0]", "[][--stage][1]"),
        (["-x", "--stage", "1"], "[0]", "[-x][--stage][1]"),
        (["-", "b"], "[0]", "[-][b]"),
    ],
)
def test_what_is_left(call, arguments, stage, rest):
    lines = printed(call(*arguments))
    assert (lines["stage"], lines["rest"]) == (stage, rest)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stage"], "option --stage needs a value"),
        (["--name", "a", "--stage"], "option --stage needs a value"),
        (["--stage", "--name", "a"], "option --stage needs a value"),
        (["--config"], "--config needs a value"),
        (["--stage=3"], "must be of the form --name value: write '--stage 3'"),
        (["--stge", "3"], "invalid option --stge (did you mean --stage?)"),
        (["--num-job", "3"], "invalid option --num-job (did you mean --num-jobs?)"),
        (["--something-else", "3"], "invalid option --something-else\n"),
        (["--PATH", "/tmp"], "invalid option --PATH"),
        (["--Stage", "3"], "invalid option --Stage (did you mean --stage?)"),
        (["--a[$(touch pwned)]", "3"], "invalid option"),
        (["--help-message", "3"], "invalid option --help-message"),
        (["--use-vad", "yes"], '--use-vad must be "true" or "false", not "yes"'),
        (["--use-vad", ""], '--use-vad must be "true" or "false", not ""'),
        (["--cmd", ""], "empty argument to --cmd"),
        (["--config", "nowhere.conf"], "cannot read the config file 'nowhere.conf'"),
        (["--config", "."], "cannot read the config file '.'"),
        (["data", "--config", "nowhere.conf"], "cannot read the config file 'nowhere.conf'"),
    ],
)
def test_errors(call, arguments, message):
    done = call(*arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("recipe.sh: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (call.folder / "pwned").exists()


def test_values_are_not_evaluated(call):
    lines = printed(call("--name", "$(touch pwned)", "--extra", "`touch pwned`"))
    assert lines["name"] == "[$(touch pwned)]" and lines["extra"] == "[`touch pwned`]"
    assert not (call.folder / "pwned").exists()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(call, option):
    done = call("--stage", "3", option, "--nonsense")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Usage: recipe.sh [options]\n")


def test_no_help(call):
    done = call("--help", script=SCRIPT.replace("help_message=", "other="))
    assert (done.returncode, done.stderr) == (0, "No help found.\n")


def test_config_is_weaker_than_options_wherever_it_stands(call):
    (call.folder / "a.conf").write_text("stage=7\nnum_jobs=9  # comment\nextra+=(a)\n")
    (call.folder / "b.conf").write_text("num_jobs=11\n")
    lines = printed(call("--stage", "2", "--config", "a.conf", "--extra", "z", "--config", "b.conf"))
    assert (lines["stage"], lines["num_jobs"], lines["extra"]) == ("[2]", "[11]", "[a][z]")
    assert printed(call("data", "--config", "a.conf"))["stage"] == "[7]"
    assert printed(call("--", "--config", "a.conf"))["stage"] == "[0]"


@pytest.mark.parametrize(
    "text, message",
    [
        ("sage=7\n", "config file './x.conf' sets 'sage', which is not an option (did you mean --stage?)"),
        ("use_vad=7\n", '--use-vad must be "true" or "false", not "7"'),
        ("if then\n", "ended with status"),
        ("false\n", "ended with status 1"),
    ],
)
def test_config_errors(call, text, message):
    (call.folder / "x.conf").write_text(text)
    done = call("--config", "x.conf")
    assert done.returncode == 1 and message in done.stderr.splitlines()[-1]


def test_option_may_have_the_name_of_a_word_the_parser_uses(call):
    script = "set -euo pipefail\n" + "".join(f"{n}=0\n" for n in ("i", "value", "file", "row", "before", "config"))
    done = call("--row", "1", "--file", "2", script=script + '. "$PARSE_OPTIONS"\necho "$i$row$file"\n')
    assert done.stdout == "012\n"


def test_nothing_is_left_behind(call):
    done = call("--stage", "1", "--extra", "a", script=SCRIPT + "compgen -v _po || :\ncompgen -A function _po || :\n")
    assert done.returncode == 0 and "_po" not in done.stdout


def test_variable_of_a_function(call):
    script = 'set -eu\nf() { local inner=1; . "$PARSE_OPTIONS"; echo "$inner"; }\nf --inner 5\necho "${inner-none}"\n'
    assert call(script=script).stdout == "5\nnone\n"
