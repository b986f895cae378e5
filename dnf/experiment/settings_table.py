"""The page of all settings, ``docs/settings.md``: meaning from ``conf/default.yaml``, type and range from the dataclasses.

``python3 -m dnf.experiment.settings_table >docs/settings.md`` writes the page again.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from typing import Any, Literal

import yaml

from dnf.experiment.config import Config, read_yaml, resolve
from dnf.experiment.layout import DEFAULTS, STAGES

HEAD = """# Settings

This page lists every setting. It is made from `conf/default.yaml` and `dnf/experiment/settings.py`; do not edit it here.

- `conf/default.yaml` gives the default. A recipe's `recipe.conf` overrides it, an experiment's YAML overrides the recipe,
  and `--set section.key=value` overrides all: `./run.sh --set train.lr=0.0005 --set train.epochs=10`.
- The column *stages* names the stages that read the setting. A change runs these stages and the later ones again.
- An unknown setting or a value of the wrong type is an error, and the message names the nearest known setting.
- YAML reads `1e-3` as text, so write `1.0e-3` in a YAML file.
"""
TYPES = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text"}
LINE = re.compile(r"(?P<indent> *)(?:(?P<key>\w+):.*?)?(?:# (?P<comment>.*))?")


def meanings() -> dict[str, str]:
    """The comment of every section (``train``) and setting (``train.lr``) of ``conf/default.yaml``, on one line each."""
    found: dict[str, str] = {}
    section = name = ""
    for line in DEFAULTS.read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{DEFAULTS}: {line!r} is neither a setting nor a comment")
        if match["key"]:
            section = section if match["indent"] else match["key"]
            name = f"{section}.{match['key']}" if match["indent"] else section
            found[name] = match["comment"] or ""
        elif match["comment"] and name:
            found[name] += f" {match['comment']}"
    return found


def type_words(hint: Any) -> str:
    """A type in the words of the table."""
    arguments = typing.get_args(hint)
    match typing.get_origin(hint):
        case None:
            return TYPES.get(hint, hint.__name__.lower())
        case origin if origin is Literal:
            return ", ".join(f"`{choice}`" for choice in arguments)
        case types.UnionType:
            return f"{type_words(arguments[0])} or `null`"
        case origin if origin is list:
            return f"list ({type_words(arguments[0])})"
        case _:
            return f"map to {type_words(arguments[1])}"


def lower_bound(owner: Any, key: str) -> str:
    """The least value that a section accepts, found by trying 0 and -1."""
    accepted = []
    for value in (0, -1):
        try:
            dataclasses.replace(owner, **{key: value})
            accepted.append(value)
        except ValueError:
            pass
    return {(): ", above 0", (0,): ", 0 or more"}.get(tuple(accepted), "")


def stages(section: str, name: str) -> str:
    """Numbers of the stages that read a setting."""
    return ", ".join(
        str(stage.number) for stage in STAGES.values() if {section, name} & {*stage.settings, *stage.of_vectors}
    )


def row(owner: Any, key: str, name: str, default: Any, meaning: str) -> str:
    """The line of one setting in its section's table."""
    hint = typing.get_type_hints(type(owner))[key]
    kind = type_words(hint) + (lower_bound(owner, key) if hint in (int, float, int | None) else "")
    value = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    cells = (f"`{name}`", f"`{value}`", kind, stages(name.partition(".")[0], name), meaning)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def markdown() -> str:
    """The whole page."""
    config, defaults, said = resolve([]), read_yaml(DEFAULTS), meanings()
    lines = [HEAD]
    for field in dataclasses.fields(Config):
        section = field.name
        lines += [f"## {section}", ""]
        keys = defaults[section] if isinstance(defaults[section], dict) else {}
        if keys and said[section]:
            lines += [said[section], ""]
        lines += ["| setting | default | type | stages | meaning |", "|---|---|---|---|---|"]
        if not keys:
            lines.append(row(config, section, section, defaults[section], said[section]))
        owner = getattr(config, section)
        lines += [row(owner, key, f"{section}.{key}", value, said[f"{section}.{key}"]) for key, value in keys.items()]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(), end="")
