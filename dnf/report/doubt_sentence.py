"""A sentence about the test sets that are unlike training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dnf.report.wording import Sentence

MOST_NAMED = 2  # sets


def foreign(rows: Sequence[dict]) -> Iterator[Sentence]:
    """Which test sets are unlike training as sets, and how, from rows of doubt.tsv; nothing if none is."""
    found = [row for row in rows if row["verdict"] == "foreign"]
    if not found:
        return
    words = [f"{row['set']} is unlike training ({row['unlike']})" for row in found[:MOST_NAMED]]
    words += [f"{len(found) - MOST_NAMED} more sets"] if len(found) > MOST_NAMED else []
    yield Sentence(
        "Foreign", f"{'; '.join(words)}. Log-likelihood ratios there are shrunk, so that posteriors are modest."
    )
