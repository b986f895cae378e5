"""The text of the benchmark's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.ours import STEPS
from benchmarks.parts import Part
from benchmarks.rows import REFERENCE, Measured, Size
from benchmarks.timing import Spread, spread


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words in columns, the first left-aligned and the others right-aligned."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.rjust(width) if k else word.ljust(width) for k, (word, width) in enumerate(zip(row, widths)))
        for row in rows
    )


def numbers(of: Spread, digits: int = 0) -> list[str]:
    """The median, and the quartiles in brackets."""
    return [f"{of.median:.{digits}f}", f"[{of.low:.{digits}f} {of.high:.{digits}f}]"]


def figures(size: Size, measured: Measured) -> dict[str, dict[str, float | Spread]]:
    """Figures of each row by name, medians over the rounds; frames per second with their quartiles."""
    reference, found = measured.seconds[REFERENCE], {}
    for name, row in measured.rows.items():
        taken = measured.seconds[name]
        of_row: dict[str, float | Spread] = {"frames/s": spread([size.batch / value for value in taken])}
        if name.startswith("train"):
            of_row["speed"] = spread([before / own for before, own in zip(reference, taken)]).median
        if row.precision:
            ceiling = measured.ceilings.get(row.precision, measured.ceilings["float32"])
            share = [row.step * size.batch / own / rate for own, rate in zip(taken, ceiling)]
            of_row |= {"of mm": spread(share).median, "parameters": row.parameters}
            of_row |= {"MAC forward": row.forward, "MAC in all": row.step}
        if measured.memory:
            if name.startswith("train"):
                of_row[f"{STEPS} steps, s"] = STEPS * spread(taken).median
            of_row["peak MiB"] = measured.memory[name]
        found[name] = of_row
    return found


def of_size(size: Size, measured: Measured, rounds: int) -> str:
    """The rows of one size."""
    config = size.config()
    ceilings = {name: spread(values).median for name, values in measured.ceilings.items()}
    products = ", ".join(f"{2 * rate / 1e9:.0f} GFLOP/s {name}" for name, rate in ceilings.items())
    flow = f"{config.flow.blocks} blocks of {config.flow.layers} x {config.flow.hidden}"
    head = f"{config.dim} dims, {flow}, batch {size.batch}, rounds: {rounds}; torch.mm: {products}"
    columns = ["speed", "of mm", "parameters", "MAC forward", "MAC in all"]
    columns += [f"{STEPS} steps, s", "peak MiB"] if measured.memory else []
    lines = [["", "frames/s", "quartiles", *columns]]
    for name, of_row in figures(size, measured).items():
        shown = {key: f"{of_row[key]:.{2 if key in ('speed', 'of mm') else 0}f}" for key in columns if key in of_row}
        lines.append([name, *numbers(of_row["frames/s"]), *(shown.get(key, "") for key in columns)])
    return f"{head}\n{aligned(lines)}"


def of_parts(title: str, parts: Mapping[str, Part], taken: Mapping[str, Sequence[float]]) -> str:
    """Rows of the timed parts, with the real-time factor of those with sound."""
    lines = [["", "seconds", "quartiles", "times real time"]]
    for name, part in parts.items():
        rate = f"{part.sound / spread(taken[name]).median:.0f}" if part.sound else ""
        lines.append([name, *numbers(spread(taken[name]), 2), rate])
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    return f"{title}\n{aligned(lines)}"
