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
    yield Sentence("Foreign", f"{'; '.join(words)}. {shrinkage(found)}{biases(found)}.")


def shrinkage(rows: Sequence[dict]) -> str:
    """What doubt does to the log-likelihood ratios of foreign sets; those that only differ in what is normalized are kept."""
    factors = {row["set"]: f"{float(row['factor']):.2f}" for row in rows}
    shrunk = {name: factor for name, factor in factors.items() if factor != "1.00"}
    if not shrunk:
        return "Log-likelihood ratios there are kept, since normalization removes the difference"
    where = "there" if len(shrunk) == len(factors) else f"of {', '.join([*shrunk][:MOST_NAMED])}"
    by = " to ".join(dict.fromkeys((min(shrunk.values()), max(shrunk.values()))))
    return f"Log-likelihood ratios {where} are multiplied by {by}" + ("" if where == "there" else "; others are kept")


def biases(rows: Sequence[dict]) -> str:
    """The classes towards which the channels of foreign sets move ratios; nothing if that is unknown."""
    classes = dict.fromkeys(row["towards"] for row in rows if row.get("towards"))
    return (
        f". Before that, the bias of their channels, towards {' or '.join(classes)}, is subtracted" if classes else ""
    )
