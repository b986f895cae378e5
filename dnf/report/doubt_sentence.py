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
    words = [f"{row['set']}: {said}" for row, said in zip(found, differences)]
    words[0] = words[0].replace(":", " is unlike training:", 1)
    words += [f"{len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    yield Sentence("Foreign", f"{'; '.join(words)}. {change(found)}.")


def change(rows: Sequence[dict]) -> str:
    """What doubt does to the log-likelihood ratios of foreign sets; those that only differ in what is normalized are kept."""
    factors = {row["set"]: f"{float(row['factor']):.2f}" for row in rows}
    shrunk = {name: factor for name, factor in factors.items() if factor != "1.00"}
    if not shrunk:
        return "Log-likelihood ratios there are kept, since normalization removes the difference"
    where = "there" if len(shrunk) == len(factors) else f"of {', '.join([*shrunk][:MOST_NAMED])}"
    by = " to ".join(dict.fromkeys((min(shrunk.values()), max(shrunk.values()))))
    classes = " or ".join(dict.fromkeys(row["towards"] for row in rows if row.get("towards")))
    bias = f"lose the bias of their channel (towards {classes}) and " if classes else ""
    return f"Log-likelihood ratios {where} {bias}are multiplied by {by}" + (
        "" if where == "there" else "; others are kept"
    )
