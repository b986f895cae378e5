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


def of_size(size: Size, measured: Measured, rounds: int) -> str:
    """The rows of one size."""
    config, reference = size.config(), measured.seconds[REFERENCE]
    ceilings = {name: spread(values).median for name, values in measured.ceilings.items()}
    products = ", ".join(f"{2 * rate / 1e9:.0f} GFLOP/s {name}" for name, rate in ceilings.items())
    flow = f"{config.flow.blocks} blocks of {config.flow.layers} x {config.flow.hidden}"
    head = f"{config.dim} dims, {flow}, batch {size.batch}, rounds: {rounds}; torch.mm: {products}"
    lines = [["", "frames/s", "quartiles", "speed", "of mm", "parameters", "MAC forward", "MAC in all"]]
    if measured.memory:
        lines[0] += [f"{STEPS} steps, s", "peak MiB"]
    for name, row in measured.rows.items():
        taken = measured.seconds[name]
        line = [name, *numbers(spread([size.batch / value for value in taken]))]
        speed = spread([before / own for before, own in zip(reference, taken)]).median
        line += [f"{speed:.2f}" if name.startswith("train") else ""]
        if row.precision:
            ceiling = measured.ceilings.get(row.precision, measured.ceilings["float32"])
            share = spread([row.step * size.batch / own / rate for own, rate in zip(taken, ceiling)]).median
            line += [f"{share:.2f}", f"{row.parameters}", f"{row.forward:.0f}", f"{row.step:.0f}"]
        else:
            line += [""] * 4
        if measured.memory:
            whole = STEPS * spread(taken).median
            line += [f"{whole:.0f}" if name.startswith("train") else "", f"{measured.memory[name]:.0f}"]
        lines.append(line)
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
