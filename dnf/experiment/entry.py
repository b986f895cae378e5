"""Start and failure of every command: arguments, logging with file and line, errors as one line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

# The program behind python3 -m dnf VERB
VERBS = Path(__file__).parents[1] / "__main__.py"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Option ``--device``, which ``dnf.experiment.environment.choose_device`` takes."""
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: cuda if there is one (%(default)s)"
    )


def add_pipes(parser: argparse.ArgumentParser) -> None:
    """Option ``--allow-pipes`` of modules that read recordings, ``true`` or ``false``."""
    parser.add_argument(
        "--allow-pipes",
        choices=("true", "false"),
        default="false",
        help="accept and run commands in place of recordings (%(default)s)",
    )


def command() -> str:
    """The command as the user typed it: ``dnf results`` for a verb of ``python3 -m dnf``, else the script or module."""
    program = Path(sys.argv[0])
    return f"dnf {sys.argv[1]}" if program == VERBS and len(sys.argv) > 1 else program.name


def parser(spec: ModuleSpec | None, doc: str | None, **options) -> argparse.ArgumentParser:
    """A parser of a module's arguments, with the name that the user typed.

    Args:
        spec: the module's ``__spec__``.
        doc: its docstring, which is missing with -OO; its first paragraph is the description unless ``options`` have a ``description``.
        options: of ``argparse.ArgumentParser``.
    """
    typed = command()
    name = typed if typed.startswith("dnf ") else spec.name if spec else typed
    options.setdefault("description", (doc or "").split("\n\n")[0])
    return argparse.ArgumentParser(prog=f"python3 -m {name}", **options)


def model_parser(spec: ModuleSpec | None, doc: str) -> argparse.ArgumentParser:
    """Arguments of a module that makes or runs the model of an experiment; see ``parser``."""
    made = parser(spec, doc)
    made.add_argument("frames", type=Path, help="folder of the frame stores")
    made.add_argument("exp", type=Path, help="folder of the experiment; its config.yaml has the settings")
    made.add_argument("--classes", type=Path, required=True, help="the corpus's classes.txt")
    add_device(made)
    return made


def run(main: Callable[[], int]) -> None:
    """Run ``main`` and end the process with its status.

    ``ValueError`` and ``OSError`` are the user's to correct: they print as one line and end with status 1
    (``DNF_TRACEBACK=1`` shows the traceback). All others are bugs and keep their traceback.
    """
    level = os.environ.get("DNF_LOG_LEVEL") or "INFO"
    if level.upper() not in LEVELS:
        sys.exit(f"{command()}: DNF_LOG_LEVEL={level}: it is one of {', '.join(LEVELS)}")
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(filename)s:%(lineno)d %(message)s",
        stream=sys.stderr,
    )
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        if os.environ.get("DNF_TRACEBACK"):
            raise
        sys.exit(f"{command()}: {describe(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def describe(error: Exception) -> str:
    """The error on one line; an ``OSError`` with the file it happened on."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
