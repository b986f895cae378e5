"""A sentence about the test sets that are unlike training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dnf.report.wording import Sentence

MOST_NAMED = 2  # sets, and differences of each: the largest; the details have all


def foreign(rows: Sequence[dict]) -> Iterator[Sentence]:
    """Which test sets are unlike training as sets, and how, from rows of doubt.tsv; nothing if none is."""
    found = [row for row in rows if row["verdict"] == "foreign"]
    if not found:
        return
    differences = (", ".join(row["unlike"].split(", ")[:MOST_NAMED]) for row in found[:MOST_NAMED])
    words = [f"{row['set']} is unlike training: {said}" for row, said in zip(found, differences)]
    words += [f"{len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    factors = sorted({f"{float(row['factor']):.2f}" for row in found})
    said = " to ".join(dict.fromkeys((factors[0], factors[-1])))
    yield Sentence("Foreign", f"{'; '.join(words)}. Log-likelihood ratios there are multiplied by {said}.")
