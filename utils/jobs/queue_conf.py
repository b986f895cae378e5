"""The file with the special options of a site's queue (Kaldi's queue.conf), and their translation.

    command sbatch --export=ALL     # how jobs are submitted; once
    option mem=* --mem=$0           # for --mem VALUE; $0 is the value
    option gpu=0                    # for exactly --gpu 0, which is stronger than gpu=*: nothing
    default gpu=0                   # the value if the option is not given

The order of lines does not matter. Standard library only.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from .request import UsageError

OPTION = re.compile(r"option\s+([A-Za-z_]\w*)=(\S+)(?:\s+(.*))?", re.ASCII)
DEFAULT = re.compile(r"default\s+([A-Za-z_]\w*)=(\S+)", re.ASCII)


class QueueConf(NamedTuple):
    """What a file says.

    Attributes:
        name: of the file, for messages.
        command: words of the submit command.
        options: arguments for each ``(name, value)``; the value ``*`` stands for any.
        defaults: values of options that are not given.
    """

    name: str
    command: tuple[str, ...]
    options: dict[tuple[str, str], tuple[str, ...]]
    defaults: dict[str, str]

    def arguments(self, given: dict[str, str]) -> list[str]:
        """The submit command's arguments for options given as ``{"num_threads": "4"}``.

        Raises:
            UsageError: the file has no line for one of them.
        """
        found: list[str] = []
        for name, value in (self.defaults | given).items():
            arguments = self.options.get((name, value), self.options.get((name, "*")))
            if arguments is None:
                shown = f"--{name.replace('_', '-')} {value}"
                raise UsageError(f"{self.name} does not describe {shown}: add a line 'option {name}=* ...' to it")
            found += [argument.replace("$0", value) for argument in arguments]
        return found


def parse(text: str, name: str) -> QueueConf:
    """Read the text of a file.

    Raises:
        UsageError: a line has another form than those above, or there is not just one command.
    """
    command, options, defaults = None, {}, {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        try:
            if not line:
                continue
            if line.split()[0] == "command" and len(line.split()) > 1 and command is None:
                command = tuple(shlex.split(line)[1:])
            elif found := OPTION.fullmatch(line):
                options[found[1], found[2]] = tuple(shlex.split(found[3] or ""))
            elif found := DEFAULT.fullmatch(line):
                defaults[found[1]] = found[2]
            else:
                raise ValueError("not 'command TEXT' (once), 'option NAME=VALUE [ARGUMENTS]' or 'default NAME=VALUE'")
        except ValueError as error:
            raise UsageError(f"{name}, line {number}: {line!r}: {error}") from None
    if command is None:
        raise UsageError(f"{name}: no line 'command TEXT': add one with the submit command")
    return QueueConf(name, command, options, defaults)
