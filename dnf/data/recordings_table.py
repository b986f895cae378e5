"""The table of recordings: one utterance a line, CSV or TSV, under a header that names the columns.

Columns ``recording speaker class`` and, where they exist, ``set utt score gender text``. Paths of recordings that are not
absolute are taken from the folder of the table.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from dnf.data.manifests import Utterance, absolute, identifier, number
from dnf.data.write_set import check_class

SUFFIXES = (".tsv", ".csv")
NEEDED = ("recording", "speaker", "class")


def read_recordings_table(
    path: Path, needed: Sequence[str] = NEEDED, *, allow_pipes: bool = False, scores: tuple[float, float] | None = None
) -> dict[str, list[Utterance]]:
    """Utterances by set; without a column ``set`` they all stand under ``""``.

    Args:
        path: ends in .csv (comma, quotes allowed) or .tsv (tab, no quotes).
        needed: columns that must be there and filled.
        allow_pipes: whether a recording may be a command, ``cmd |``.
        scores: lowest and highest legal score.

    Raises:
        ValueError: a column is missing or empty, a name or score is not legal, an utterance stands there twice.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: not a table of recordings; its name must end in {' or '.join(SUFFIXES)}")
    columns, rows = read_rows(path)
    for name in needed:
        if name not in columns:
            between = "comma" if path.suffix == ".csv" else "tab"
            raise ValueError(
                f"{path}: no column {name!r} in its first line; it must name {', '.join(needed)}, {between} separated"
            )
    sets: dict[str, list[Utterance]] = {}
    seen: dict[str, int] = {}
    for line, row in rows:
        where = f"{path}: line {line}"
        utterance = read_row(row, needed, path.parent, where, scores, allow_pipes=allow_pipes)
        if utterance.id in seen:
            raise ValueError(
                f"{where}: utterance {utterance.id} stands in line {seen[utterance.id]} already; "
                f"give a column utt with names of their own"
            )
        seen[utterance.id] = line
        sets.setdefault(row.get("set") or "", []).append(utterance)
    if not sets:
        raise ValueError(f"{path}: has no line below its header")
    return sets


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict]]]:
    """Names of the columns, and the cells of each line with its number."""
    dialect = (
        {"delimiter": ",", "strict": True} if path.suffix == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    )
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), **dialect)
        return list(reader.fieldnames or ()), [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not text in UTF-8; save the table as such") from None
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.reader.line_num}: {error}; correct its quotes and line ends") from None


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
    check_class(row["class"], where)
    if row["recording"].rstrip().endswith("|") and not allow_pipes:
        raise ValueError(
            f"{where}: recording is a command, which would be run; name a file, or give --allow-pipes true"
        )
    speaker = identifier(row["speaker"])
    utt = identifier(row.get("utt") or "") or identifier(Path(row["recording"]).stem)
    utt = utt if utt.startswith(f"{speaker}-") else f"{speaker}-{utt}"
    score = number(row["score"], f"{where}: score") if row.get("score") else None
    if scores and score is not None and not scores[0] <= score <= scores[1]:
        raise ValueError(f"{where}: score {score:g} is not between {scores[0]:g} and {scores[1]:g}")
    return Utterance(
        utt, utt, absolute(row["recording"], folder), speaker, row["class"],
        score=score, gender=row.get("gender") or None, text=row.get("text") or None,
    )  # fmt: skip
