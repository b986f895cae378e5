"""Checks of values that several sections of the settings make; each raises ``ValueError`` with the name of the setting."""

from __future__ import annotations

import re

# Colours that need no check by matplotlib
PLAIN_COLOUR = re.compile(r"tab:(blue|orange|green|red|purple|brown|pink|gray|olive|cyan)|#[0-9a-fA-F]{6}")


def section_name(section) -> str:
    """The name of a section in YAML: ``open_set`` of ``OpenSetSettings``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(section).__name__.removesuffix("Settings")).lower()


def positive(section, *names: str) -> None:
    for name in names:
        if not getattr(section, name) > 0:
            raise ValueError(f"{section_name(section)}.{name} must be above 0, not {getattr(section, name)}")


def not_negative(section, *names: str) -> None:
    for name in names:
        if getattr(section, name) < 0:
            raise ValueError(f"{section_name(section)}.{name} must not be negative, but is {getattr(section, name)}")


def below_one(section, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(section, name) < 1:
            raise ValueError(f"{section_name(section)}.{name} must be from 0 to below 1, not {getattr(section, name)}")


def between_0_and_1(section, *names: str) -> None:
    for name in names:
        if not 0 < getattr(section, name) < 1:
            raise ValueError(f"{section_name(section)}.{name} must be between 0 and 1, not {getattr(section, name)}")


def different(section, name: str, what: str) -> None:
    values = getattr(section, name)
    if len(set(values)) < len(values):
        raise ValueError(f"{section_name(section)}.{name} must be different {what}, not {values}")


def is_colour(text: str) -> bool:
    if PLAIN_COLOUR.fullmatch(text):
        return True
    from matplotlib import colors  # slow, and rarely needed

    return colors.is_color_like(text)
