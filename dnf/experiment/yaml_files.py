"""YAML for settings: values that YAML 1.1 reads differently from their look are refused, and so are repeated keys."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast, if PyYAML has it
ODD = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")  # octal, or to the base of 60


class Refused(yaml.YAMLError):
    """Legal YAML with a misleading meaning; ``line`` counts from 1."""

    def __init__(self, node: yaml.Node, reason: str):
        super().__init__(reason)
        self.line = node.start_mark.line + 1


class Loader(LOADER):
    """PyYAML's safe loader, which refuses such numbers and keys."""

    def number(self, node: yaml.ScalarNode) -> int | float:
        if ODD.fullmatch(node.value):
            read = yaml.safe_load(node.value)
            raise Refused(node, f"YAML reads {node.value} as {read:g}; write a decimal number, or quote the text")
        return self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)

    def map(self, node: yaml.MappingNode):
        first: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name = unicodedata.normalize("NFC", key.value)
                if name in first:
                    raise Refused(key, f"key {key.value!r} is also in line {first[name]}; remove one of the two")
                first[name] = key.start_mark.line + 1
        yield from self.construct_yaml_map(node)


for kind in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.number)
Loader.add_constructor("tag:yaml.org,2002:map", Loader.map)


def load_yaml(path: Path) -> Any:
    """The content of a YAML file; ``ValueError`` names the file and the line."""
    data = path.read_bytes()
    try:
        return yaml.load(data.decode("utf-8"), Loader)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line}: not UTF-8; convert the file with iconv") from None
    except Refused as error:
        raise ValueError(f"{path} line {error.line}: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def parse_value(text: str) -> Any:
    """The value of a word of the command line; ``ValueError`` gives the reason if it has none."""
    try:
        return yaml.load(text, Loader)
    except Refused as error:
        raise ValueError(str(error)) from None
    except yaml.YAMLError:
        raise ValueError(f"{text!r} is not a value") from None
