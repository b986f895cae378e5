"""How every ``python3 -m dnf.<verb>`` starts and fails: arguments, logging with file and line, one line per error."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path


def add_device(parser: argparse.ArgumentParser) -> None:
    """Option ``--device``, which ``dnf.experiment.environment.choose_device`` takes."""
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: cuda if there is one (%(default)s)"
    )


def model_parser(module: str, doc: str) -> argparse.ArgumentParser:
    """Arguments of a module that makes or runs the model of an experiment.

    Args:
        module: its name.
        doc: its docstring, the first paragraph of which describes it.
    """
    parser = argparse.ArgumentParser(prog=f"python3 -m {module}", description=doc.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="folder of the frame stores")
    parser.add_argument("exp", type=Path, help="folder of the experiment; its config.yaml holds the settings")
    parser.add_argument("--classes", type=Path, required=True, help="the corpus's classes.txt")
    add_device(parser)
    return parser


def run(main: Callable[[], int]) -> None:
    """Run ``main`` and end the process with its status.

    ``ValueError`` and ``OSError`` are the user's to mend: they print as one line and end with status 1
    (``DNF_TRACEBACK=1`` shows where they came from). Anything else is a bug and keeps its traceback.
    """
    logging.basicConfig(
        level=os.environ.get("DNF_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(filename)s:%(lineno)d %(message)s",
        stream=sys.stderr,
    )
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        if os.environ.get("DNF_TRACEBACK"):
            raise
        sys.exit(f"{Path(sys.argv[0]).name}: {describe(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def describe(error: Exception) -> str:
    """The error on one line; an ``OSError`` with the file it happened on."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
