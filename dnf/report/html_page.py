"""A self-contained HTML page: tables, pictures and sections, readable on a phone and a desktop, by day and by night."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from dnf.experiment.layout import run_again

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --back: #ffffff; --soft: #f2f4f7; --line: #d5dae1; --link: #0060a8;
  --quiet: #59606a; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7eb; --back: #15181c; --soft: #1f242a; --line: #3a424c; --link: #7ab8f0; --quiet: #a3acb8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 78rem; color: var(--text); background: var(--back);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 .6rem; padding-bottom: .2rem; font-size: 1.25rem; border-bottom: 2px solid var(--line); }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .8rem 0; padding: .6rem .8rem; background: var(--soft);
  border-radius: .4rem; }
.quiet, figcaption, caption { color: var(--quiet); }
.scroll { overflow-x: auto; margin: .4rem 0 1rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { padding: .3rem 0; text-align: left; font-weight: 600; }
th, td { padding: .28rem .7rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { vertical-align: bottom; background: var(--soft); }
.key { text-align: left; font-weight: 600; }
.words { text-align: left; white-space: normal; min-width: 16rem; max-width: 44rem; }
tbody tr:hover { background: var(--soft); }
.heat { display: block; padding: 0 .4rem; border-radius: .2rem; }
figure { margin: 1.2rem 0 2rem; }
figcaption { max-width: 60rem; }
figcaption b { color: var(--text); }
img { display: block; width: 100%; min-width: 46rem; max-width: 1200px; height: auto; background: #ffffff;
  border-radius: .3rem; }
@media (max-width: 40rem) { th, td { padding: .25rem .4rem; } table { font-size: .85rem; } }
pre { padding: .8rem; overflow-x: auto; background: var(--soft); border-radius: .4rem; font-size: .85rem; }
"""


class Html(str):
    """Text that is HTML already; any other text is escaped before it gets into a page."""

    def __add__(self, other: str) -> Html:
        return Html(str(self) + str(markup(other)))


class Section(NamedTuple):
    """Part of a page; one without content is left out."""

    title: str
    html: Html


def markup(text: str) -> Html:
    """The text as HTML."""
    return text if isinstance(text, Html) else Html(escape(text))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], keys: int, caption: str = "") -> Html:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        heads: the column heads.
        rows: the cells; long texts wrap, others do not.
        keys: how many columns from the left name the row.
        caption: title of the table.
    """
    kinds = ["key" if i < keys else "words" if is_words(rows, i) else "" for i in range(len(heads))]
    attributes = [f' class="{kind}"' if kind else "" for kind in kinds]
    head = "".join(f'<th scope="col"{a}>{markup(text)}</th>' for a, text in zip(attributes, heads))
    lines = []
    for row in rows:
        cells = "".join(f"<td{a}>{markup(text)}</td>" for a, text in zip(attributes, row))
        lines.append(f"<tr>{cells}</tr>")
    title = f"<caption>{markup(caption)}</caption>" if caption else ""
    top = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    return Html(f'<div class="scroll"><table>{title}{top}<tbody>{"".join(lines)}</tbody></table></div>\n')


def is_words(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column holds sentences."""
    return any(len(row[column]) > 60 and not row[column].startswith("<") for row in rows)


def picture(name: str, png: bytes, caption: str) -> Html:
    """A PNG inside the page, with its size, so that the page does not jump while it loads."""
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 24:
        raise ValueError(f"plots/{name}.png: not a PNG file; {run_again('plots')}")
    width, height = struct.unpack(">II", png[16:24])
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    image = f'<img src="{source}" alt="{escape(name)}" width="{width}" height="{height}">'
    text = f"<b>{escape(name)}.</b> {escape(caption)}"
    return Html(f'<figure><div class="scroll">{image}</div><figcaption>{text}</figcaption></figure>\n')


def document(title: str, facts: str, sections: Sequence[Section]) -> str:
    """The whole page; its policy forbids scripts and anything from a network."""
    names = [section.title.split(" (")[0] for section in sections]
    anchors = [name.lower().replace(" ", "-") for name in names]
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name in zip(anchors, names))
    body = "".join(
        f'<section id="{anchor}"><h2>{escape(section.title)}</h2>\n{section.html}</section>\n'
        for anchor, section in zip(anchors, sections)
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><p class="quiet">{escape(facts)}</p></header>\n<nav>{links}</nav>\n'
        f"<main>\n{body}</main>\n</body>\n</html>\n"
    )
