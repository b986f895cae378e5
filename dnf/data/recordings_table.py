"""The table of recordings: CSV or TSV with one utterance per line, and a header that names the columns.

Columns ``recording speaker class`` and, where they exist, ``set utt score gender text corpus`` and more scores, ``score_<name>``. Without a class, an utterance is
``unlabelled``, where the reader does not need one. Paths of recordings that are not
absolute start from the folder of the table.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from dnf.data.kaldi_files import Genders, Spellings, normal
from dnf.data.manifests import Utterance, absolute, identifier, number
from dnf.data.write_set import check_class
from dnf.experiment.classes import UNLABELLED
from dnf.experiment.layout import UTT2SCORE

SUFFIXES = (".tsv", ".csv")
NEEDED = ("recording", "speaker", "class")
COLUMNS = (*NEEDED, "set", "utt", "score", "gender", "text", "corpus")
SCORE_COLUMN = re.compile(r"score_([a-z0-9_]+)")  # a score besides the main one
GENDERS = {"m": "m", "f": "f", "male": "m", "female": "f"}


def read_recordings_table(
    path: Path, needed: Sequence[str] = NEEDED, *, allow_pipes: bool = False, scores: tuple[float, float] | None = None
) -> dict[str, list[Utterance]]:
    """Utterances by set; without a column ``set`` they all have the key ``""``.

    Args:
        path: ends in .csv (comma, quotes allowed) or .tsv (tab, no quotes).
        needed: columns that must exist and be filled.
        allow_pipes: whether a recording may be a command, ``cmd |``.
        scores: lowest and highest legal score.

    Raises:
        ValueError: a column is missing or empty, a name or score is not legal, or an utterance appears twice.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: not a table of recordings; give it a name that ends in {' or '.join(SUFFIXES)}")
    columns, rows = read_rows(path)
    for name in needed:
        if name not in columns:
            between = "comma" if path.suffix == ".csv" else "tab"
            raise ValueError(
                f"{path}: no column {name!r} in its first line; it must name {', '.join(needed)}, {between} separated; "
                f"it has {', '.join(map(repr, columns)) or 'nothing'}"
            )
    for name in columns:
        meant = "".join(filter(str.isprintable, name)).strip().lower()
        if name != meant and (meant in COLUMNS or SCORE_COLUMN.fullmatch(meant)):
            raise ValueError(f"{path}: column {name!r} is not known; call it {meant!r}, or give it another name")
    sets: dict[str, list[Utterance]] = {}
    seen: dict[str, int] = {}
    names, genders = Spellings(f"{path}: "), Genders(f"{path}: ")
    for line, row in rows:
        where = f"{path}: line {line}"
        utterance = read_row(row, needed, path.parent, where, scores, allow_pipes=allow_pipes)
        if utterance.id in seen:
            raise ValueError(
                f"{where}: utterance {utterance.id} is in line {seen[utterance.id]}, too; "
                f"add a column utt with unique ids"
            )
        seen[utterance.id] = line
        names.check("utterance", utterance.id, f"line {line}")
        names.check("speaker", utterance.speaker, f"line {line}")
        if utterance.gender:
            genders.check(utterance.speaker, utterance.gender, f"line {line}")
        sets.setdefault(row.get("set") or "", []).append(utterance)
    if not sets:
        raise ValueError(f"{path}: has no recordings; add lines below its header")
    for name, utterances in sets.items():
        sets[name] = [u._replace(gender=genders.of.get(u.speaker)) for u in utterances]
    return sets


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict]]]:
    """Names of the columns, and the cells of each line with its number."""
    is_csv = path.suffix == ".csv"
    dialect = {"delimiter": ",", "strict": True} if is_csv else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    rows, last = [], 0
    try:
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), **dialect)
        for cells in reader:
            if cells:
                rows.append((last + 1, cells))
            last = reader.line_num
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text; save the table as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}; correct its quotes and line ends") from None
    if not rows:
        return [], []
    columns = rows[0][1] if is_csv else [unquoted(cell) for cell in rows[0][1]]
    check_columns(path, columns)
    if not is_csv:
        kept = [name == "text" for name in columns]
        rows[1:] = [
            (
                line,
                [cell if keep else unquoted(cell) for cell, keep in itertools.zip_longest(cells, kept[: len(cells)])],
            )
            for line, cells in rows[1:]
        ]
    return columns, [(line, row_of(path, line, columns, cells)) for line, cells in rows[1:]]


def row_of(path: Path, line: int, columns: Sequence[str], cells: Sequence[str]) -> dict:
    """Cells by column; None is the key of those that have no column."""
    for name, cell in zip(columns, cells):
        if "".join(cell.splitlines()) != cell:
            raise ValueError(f"{path}: line {line}: column {name} has a line break in it: {cell!r}; remove it")
    row = dict(itertools.zip_longest(columns, cells[: len(columns)]))
    return row | ({None: cells[len(columns) :]} if len(cells) > len(columns) else {})


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise ``ValueError`` if the first line names a column twice."""
    first: dict[str, int] = {}
    for at, name in enumerate(columns, 1):
        before = first.setdefault(normal(name.strip()), at)
        if before != at and name.strip():
            raise ValueError(f"{path}: columns {before} and {at} are both called {name.strip()!r}; keep one of them")


def unquoted(cell: str) -> str:
    """A cell of a .tsv without the quotes that spreadsheets put around one with a comma or quote in it."""
    inner = re.fullmatch(r'"((?:[^"]|"")*)"', cell)
    return inner[1].replace('""', '"') if inner else cell


def read_row(
    row: dict, needed: Sequence[str], folder: Path, where: str, scores: tuple[float, float] | None, *, allow_pipes: bool
) -> Utterance:
    """One line of the table."""
    empty = [name for name in needed if not (row[name] or "").strip()]
    if empty or None in row:
        reason = f"column {empty[0]} is empty" if empty else "more columns than the first line names"
        raise ValueError(f"{where}: {reason}")
    if row.get("set") and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", row["set"]):
        raise ValueError(f"{where}: set {row['set']!r} cannot be the name of a folder; use letters, digits, _ . -")
    name = row.get("class") or UNLABELLED
    check_class(name, where)
    if row["recording"].rstrip().endswith("|") and not allow_pipes:
        raise ValueError(f"{where}: recording is a command; name a file, or give --allow-pipes true")
    speaker = identifier(row["speaker"])
    utt = identifier(row.get("utt") or "")
    check_visible(speaker, "speaker", where)
    check_visible(utt or Path(row["recording"]).stem, "utt" if utt else "recording", where)
    utt = utt or identifier(Path(row["recording"]).stem)
    utt = utt if utt.startswith(f"{speaker}-") else f"{speaker}-{utt}"
    given = {column: read_score(row, column, where, scores) for column in row if is_score(column) and row[column]}
    return Utterance(
        utt, utt, absolute(row["recording"], folder), speaker, name,
        score=given.pop("score", None), gender=gender_of(row.get("gender") or "", where), text=row.get("text") or None,
        corpus=identifier(row.get("corpus") or "") or None,
        tables={f"{UTT2SCORE}{column.removeprefix('score')}": str(score) for column, score in given.items()},
    )  # fmt: skip


def is_score(column: str | None) -> bool:
    """Whether a column has scores: the main one, or another."""
    return column == "score" or bool(column and SCORE_COLUMN.fullmatch(column))


def read_score(row: dict, column: str, where: str, scores: tuple[float, float] | None) -> float:
    """The score in a column; ``ValueError`` if it is no number, or not between ``scores``."""
    score = number(row[column], f"{where}: {column}")
    if scores and not scores[0] <= score <= scores[1]:
        raise ValueError(f"{where}: {column} {score:g} is not between {scores[0]:g} and {scores[1]:g}")
    return score


def check_visible(name: str, column: str, where: str) -> None:
    """Raise ``ValueError`` for an invisible character, such as a zero-width space, in a part of an id."""
    hidden = next((character for character in name if not character.isprintable()), None)
    if hidden:
        called = unicodedata.name(hidden, "a control character")
        raise ValueError(f"{where}: column {column} has U+{ord(hidden):04X} ({called}) in it: {name!r}; remove it")


def gender_of(text: str, where: str) -> str | None:
    """``m`` or ``f``; None if it is empty."""
    if not text.strip():
        return None
    gender = GENDERS.get(text.strip().lower())
    if gender is None:
        raise ValueError(f"{where}: gender {text!r} is not one of {', '.join(GENDERS)}")
    return gender
