"""A self-contained HTML page: tables, pictures and sections that open, for a phone and a desktop, light and dark.

The templates escape every text; only ``Markup`` is HTML already. The page's policy allows its own script and nothing of
a network.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from dnf.experiment.layout import PLOTS, run_again

MOST_ROWS = 200  # of a table
SORTABLE = 7  # rows beyond which a table can be sorted
LONG = 24  # letters of a cell beyond which its column is one of words
LONG_WORD = 14  # letters beyond which the words of a column may be broken
FOLDER = Path(__file__).parent / "templates"
TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
SCRIPT = (FOLDER / "page.js").read_text(encoding="utf-8")


class Section(NamedTuple):
    """Part of a page, and how many warnings it has; one without content is left out."""

    title: str
    html: Markup
    warnings: int = 0


def fill(template: str, **values) -> Markup:
    """A template with its values."""
    return Markup(TEMPLATES.get_template(template).render(values))


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], keys: int, caption: str = "", most: int = MOST_ROWS
) -> Markup:
    """A table, each row of which becomes a block of lines where the screen is narrow; nothing without rows.

    Args:
        heads: the column heads; a click on one sorts a long table.
        rows: the cells.
        keys: how many columns from the left name the row.
        caption: title of the table.
        most: rows that are shown.
    """
    if not rows:
        return Markup()
    more = len(rows) - most
    rows = rows[:most]
    kinds = ["key" if i < keys else "words" if is_words(rows, i) else "" for i in range(len(heads))]
    long = ["long" if has_long_words([heads, *rows], i) else "" for i in range(len(heads))]
    kinds = [{"class": " ".join(filter(None, both)) or None} for both in zip(kinds, long)]
    is_sortable = any(heads) and len(rows) > SORTABLE
    values = {"heads": heads, "rows": rows, "keys": keys, "kinds": kinds, "long": long, "caption": caption}
    html = fill("table.html", **values, is_sortable=is_sortable)
    return html + (paragraph(f"{more} more rows are in the tables (.tsv) of the experiment.") if more > 0 else "")


def is_words(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column holds sentences."""
    return any(len(row[column]) > LONG and not isinstance(row[column], Markup) for row in rows)


def has_long_words(rows: Iterable[Sequence[str]], column: int) -> bool:
    """Whether words of a column may be broken, so that they do not make the table wider than the page."""
    cells = (row[column] for row in rows)
    texts = (cell for cell in cells if len(cell) > LONG_WORD and not isinstance(cell, Markup))
    return any(len(word) > LONG_WORD for text in texts for word in text.split())


def paragraph(text: str) -> Markup:
    """A paragraph, for the head or foot of a table."""
    return Markup("<p>{}</p>").format(text)


def picture(name: str, png: bytes, caption: str) -> Markup:
    """A PNG inside the page, with its size, so that the page does not jump while it loads."""
    try:
        width, height = Image.open(io.BytesIO(png), formats=["PNG"]).size
    except (OSError, SyntaxError):
        raise ValueError(f"{PLOTS}/{name}.png: not a PNG file; {run_again('plots')}") from None
    data = base64.b64encode(png).decode("ascii")
    return fill("picture.html", name=name, data=data, width=width, height=height, caption=caption)


def section(name: str, parts: Sequence[Section]) -> Markup:
    """A section that opens with a click; nothing where none of its parts has content."""
    parts = [part for part in parts if part.html]
    warnings = sum(part.warnings for part in parts)
    return fill("section.html", name=name, parts=parts, warnings=warnings) if parts else Markup()


def document(title: str, lines: Sequence[str], body: Markup) -> str:
    """The whole page.

    Args:
        title: its name.
        lines: what stands under it, in small print.
        body: everything below.
    """
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    script = {"script": Markup(SCRIPT), "script_hash": f"sha256-{digest}"}
    return fill("page.html", title=title, lines=lines, body=body, **script)
