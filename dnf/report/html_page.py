"""A self-contained HTML page: tables, pictures and sections, readable on a phone and a desktop, by day and by night.

The templates escape every text; only ``Markup`` is HTML already.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from dnf.experiment.layout import run_again

MOST_ROWS = 200  # of a table
LONG = 60  # letters of a cell beyond which its column wraps
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


class Section(NamedTuple):
    """Part of a page; one without content is left out."""

    title: str
    html: Markup

    @property
    def name(self) -> str:
        """The title without what stands in brackets."""
        return self.title.split(" (")[0]

    @property
    def anchor(self) -> str:
        return self.name.lower().replace(" ", "-")


def fill(template: str, **values) -> Markup:
    """A template with its values."""
    return Markup(TEMPLATES.get_template(template).render(values))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], keys: int, caption: str = "") -> Markup:
    """A table that scrolls sideways where the screen is narrow; nothing without rows.

    Args:
        heads: the column heads.
        rows: the cells; long texts wrap, others do not.
        keys: how many columns from the left name the row.
        caption: title of the table.
    """
    if not rows:
        return Markup()
    more = len(rows) - MOST_ROWS
    rows = rows[:MOST_ROWS]
    kinds = ["key" if i < keys else "words" if is_words(rows, i) else None for i in range(len(heads))]
    html = fill("table.html", heads=heads, rows=rows, kinds=[{"class": kind} for kind in kinds], caption=caption)
    return html + (paragraph(f"{more} more rows are in the tables (.tsv) of the experiment.") if more > 0 else "")


def is_words(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column holds sentences."""
    return any(len(row[column]) > LONG and not isinstance(row[column], Markup) for row in rows)


def paragraph(text: str) -> Markup:
    """A paragraph, for the head or foot of a table."""
    return Markup("<p>{}</p>").format(text)


def picture(name: str, png: bytes, caption: str) -> Markup:
    """A PNG inside the page, with its size, so that the page does not jump while it loads."""
    small = io.BytesIO()
    try:
        image = Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")
    except (OSError, SyntaxError):
        raise ValueError(f"plots/{name}.png: not a PNG file; {run_again('plots')}") from None
    width, height = image.size
    # 256 colours are enough for a plot, and a third of the size
    image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(small, "PNG")
    data = base64.b64encode(min(small.getvalue(), png, key=len)).decode("ascii")
    return fill("picture.html", name=name, data=data, width=width, height=height, caption=caption)


def document(title: str, facts: str, sections: Sequence[Section]) -> str:
    """The whole page; its policy forbids scripts and anything from a network."""
    return fill("page.html", title=title, facts=facts, sections=[section for section in sections if section.html])
