"""How every ``python3 -m dnf.<verb>`` starts and fails: logging with file and line, one line per error."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path


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
