"""The command line that all job runners share (Kaldi's): parsing, the number of a task, and quoting for bash.

    RUNNER [options] [JOB=a:b | JOB=a] [options] LOGFILE COMMAND [ARGS...]

Standard library only; runs nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

JOB_RANGE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([0-9]+)(?::([0-9]+))?", re.ASCII)
VALUES_OF = {"-V": 0, "-pe": 2}  # how many values an option takes; one, if it is not here


class UsageError(Exception):
    """The command line is wrong."""


class Request(NamedTuple):
    """What a runner was asked to do.

    Attributes:
        options: every option in order with its values, as ``("--mem", ("4G",))``.
        job_name: the word that stands for the number of the task, mostly ``JOB``; ``None`` without a job range.
        first: number of the first task, from 1; 1 without a job range.
        last: number of the last task.
        log: name of the log file; may contain ``job_name``.
        words: the command and its arguments.
        warnings: one line each.
    """

    options: tuple[tuple[str, tuple[str, ...]], ...]
    job_name: str | None
    first: int
    last: int
    log: str
    words: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def tasks(self) -> range:
        return range(self.first, self.last + 1)

    def log_of(self, task: int) -> str:
        return self.numbered(self.log, task)

    def command_of(self, task: int) -> str:
        """The line of bash that task number ``task`` runs."""
        return self.numbered(join(self.words), task)

    def numbered(self, text: str, task: int | str) -> str:
        """``text`` with the number of the task in every place of the job's name, also inside longer words."""
        return text if self.job_name is None else text.replace(self.job_name, str(task))

    def values(self, *names: str) -> list[str]:
        """Values given to any of the one-value options ``names``, in order."""
        return [values[0] for name, values in self.options if name in names]

    def numbers(self, *names: str, least: int = 1) -> list[int]:
        """Like ``values``, as whole numbers of at least ``least``."""
        found = self.values(*names)
        for value in found:
            if not re.fullmatch("[0-9]+", value) or int(value) < least:
                raise UsageError(f"{names[0]} must be a whole number, {least} or more, not {value!r}")
        return [int(value) for value in found]


def parse(arguments: list[str]) -> Request:
    """Split a runner's arguments into options, job range, log and command.

    Raises:
        UsageError: the arguments do not have the form above, or several tasks would share one log.
    """
    words = list(arguments)
    options, warnings = [], []
    job_name, first, last = None, 1, 1
    while words:
        word = words[0]
        job_range = JOB_RANGE.fullmatch(word)
        if word.startswith("-") and len(word) > 1:
            count = VALUES_OF.get(word, 1)
            values = tuple(words[1 : 1 + count])
            if len(values) < count:
                raise UsageError(f"option {word} needs {'a value' if count == 1 else f'{count} values'}")
            warnings += [
                f"suspicious argument {v!r} to {word}: it starts with '--'" for v in values if v.startswith("--")
            ]
            options.append((word, values))
            del words[: 1 + count]
        elif job_range:
            if job_name is not None:
                raise UsageError(f"two job ranges, the second is {word}: give one")
            job_name, first = job_range[1], int(job_range[2])
            last = int(job_range[3] or first)
            if not 1 <= first <= last:
                raise UsageError(f"bad job range {word}: it must be {job_name}=a:b with 1 <= a <= b")
            del words[0]
        else:
            break
    if len(words) < 2:
        raise UsageError("no command" if words else "no log file and no command")
    if last > first and job_name not in words[0]:
        raise UsageError(f"the log file {words[0]} must contain {job_name}, or the tasks {first} to {last} share it")
    return Request(tuple(options), job_name, first, last, words[0], tuple(words[1:]), tuple(warnings))


def join(words: tuple[str, ...] | list[str]) -> str:
    """One line of bash from the words of a command.

    A word without white space is passed without change, so that ``|``, ``>``, ``;``, globs and ``$VAR`` act in the job's shell.
    A word with white space, or an empty one, stays one word: in double quotes, where variables still expand, or in
    single quotes if it has a double quote itself.
    """
    return " ".join(quote(word) for word in words)


def quote(word: str) -> str:
    if word and not re.search(r"\s", word, re.ASCII):
        return word
    if '"' in word:
        return "'" + word.replace("'", "'\\''") + "'"
    slashes = len(word) - len(word.rstrip("\\"))
    return '"' + word + "\\" * (slashes % 2) + '"'  # a last lone backslash must not escape the closing quote
