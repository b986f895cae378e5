"""Settings of plain values, as YAML reads them, converted to the types of ``dnf.experiment.settings``."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from dnf.experiment.layout import DEFAULTS
from dnf.experiment.settings import View


def check_known(name: str, tree: Mapping[str, Any], source: str, prefix: str) -> None:
    """Raise ``ValueError``, which names the nearest one, unless ``tree`` has the section or key ``name``."""
    if name not in tree:
        plain = re.sub(r"\W", "", str(name), flags=re.ASCII)
        initials = "".join(word[:1] for word in plain.split("_"))
        near = initials if initials in tree else difflib.get_close_matches(plain, tree, n=1, cutoff=0.0)[0]
        shown = f"{prefix}{name}" if str(name).isprintable() and plain != near else ascii(f"{prefix}{name}")
        hidden = ", except for hidden characters" if plain == near else ""
        raise ValueError(f"{source}: unknown setting {shown}; the nearest known one is {prefix}{near}{hidden}")


hints_of = functools.cache(typing.get_type_hints)


def build(cls: type, tree: Mapping[str, Any], prefix: str):
    hints = hints_of(cls)
    missing = hints.keys() - tree.keys()
    if missing:
        raise ValueError(f"{DEFAULTS}: no default for {prefix}{sorted(missing)[0]}")
    return cls(**{key: convert(tree[key], hints[key], prefix + key) for key in hints})


def build_view(tree: Any, name: str) -> View:
    """A view; missing fields have their defaults."""
    hints = typing.get_type_hints(View)
    if not isinstance(tree, dict) or "sets" not in tree:
        raise ValueError(f"{name}: {tree!r} is not a view such as {{sets: [a, b]}}")
    for key in tree:
        check_known(key, hints, name, f"{name}.")
    values = {key: convert(value, hints[key], f"{name}.{key}") for key, value in tree.items()}
    try:
        return View(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def convert(value: Any, hint: Any, name: str) -> Any:
    """Convert ``value``, as YAML reads it, to the type of the field ``name``.

    Raises:
        ValueError: it is none.
    """
    if hint is View:
        return build_view(value, name)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, f"{name}.")
    make = {Literal: choice, types.UnionType: optional, list: list_of, dict: map_of}.get(typing.get_origin(hint))
    return make(value, typing.get_args(hint), name) if make else plain(value, hint, name)


def choice(value: Any, choices: tuple, name: str) -> Any:
    """One of the values of a ``Literal``."""
    if value not in choices:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(map(str, choices))}")
    return value


def optional(value: Any, hints: tuple, name: str) -> Any:
    """None, or a value of the first type."""
    return None if value is None else convert(value, hints[0], name)


def list_of(value: Any, hints: tuple, name: str) -> list:
    """A list of one type; a single text becomes a list."""
    (hint,) = hints
    items = [value] if hint is str and isinstance(value, str) else value
    if not isinstance(items, list) or not texts_if(hint, items):
        raise ValueError(f"{name}: {value!r} is not a list such as [a, b]")
    return [convert(item, hint, name) for item in items]


def map_of(value: Any, hints: tuple, name: str) -> dict:
    """A map from text to one type."""
    _, hint = hints
    if not isinstance(value, dict) or not texts_if(str, value) or not texts_if(hint, value.values()):
        raise ValueError(f"{name}: {value!r} is not a map such as {{a: b}}")
    return {key: convert(item, hint, f"{name}.{key}") for key, item in value.items()}


def texts_if(hint: Any, items: Iterable) -> bool:
    """Whether all items are text, if the type is text."""
    return hint is not str or all(isinstance(item, str) for item in items)


def plain(value: Any, hint: type, name: str) -> Any:
    """A number, truth value or text; YAML reads 1e-3 as text, so a float may come as text."""
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        number = as_float(value)
        if math.isfinite(number):
            return number
    if type(value) is not hint:
        raise ValueError(f"{name}: {value!r} is not {'text' if hint is str else hint.__name__}")
    return value


def as_float(value: int | float | str) -> float:
    """``value`` as a number, or NaN."""
    try:
        return float(value)
    except ValueError:
        return math.nan
