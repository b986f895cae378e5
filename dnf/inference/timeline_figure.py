"""The picture of a recording's timeline: class evidence and, with a predicted score, its sound, above the spectrogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dnf.inference.timeline import Timeline
from dnf.plots.style import BLACK, BLUE, ORANGE, REFERENCE, STYLE, colours_of, new_figure

SOUND_WINDOW = 0.5  # seconds; longer than phones, which the score does not rate
MINUTES = 300.0  # seconds from which the axis is in minutes


def draw(
    timeline: Timeline,
    title: str,
    window: float | None,
    frequencies: Sequence[float],
    reference: str,
    colours: Mapping[str, str],
) -> Figure:
    """The figure of a timeline.

    Args:
        title: name of the recording and its decision.
        window: seconds of the moving average; None: depends on the recording.
        frequencies: ``(F,)`` centres of the mel bins, Hz.
        reference: of two classes, the one with positive evidence.
        colours: colours of some classes.
    """
    scale, unit = (60.0, "minutes") if timeline.seconds > MINUTES else (1.0, "seconds")
    time = (np.arange(len(timeline.count)) + 0.5) * timeline.step / scale
    window = timeline.window(window)
    chosen, evidence = colours_of(timeline.classes, colours), timeline.evidence(window)
    with matplotlib.rc_context(STYLE):
        scored = timeline.sound_part is not None
        figure = new_figure(title, 4.2 + 1.4 * scored)
        panels = figure.subplots(2 + scored, 1, sharex=True, height_ratios=(1.0,) * (1 + scored) + (1.1,))
        upper, lower = panels[0], panels[-1]
        if scored:
            draw_sound(panels[1], timeline, time, scale)
        if len(timeline.classes) == 2:
            (other,) = (name for name in timeline.classes if name != reference)
            line = evidence[:, timeline.classes.index(reference)]
            for name, part in ((reference, line > 0), (other, line < 0)):
                held = np.where(part, line, 0)
                upper.fill_between(
                    time, 0, held, where=~np.isnan(line), color=chosen[name], alpha=0.6, lw=0, label=name
                )
            upper.plot(time, line, color=BLACK, lw=0.8)
            upper.set_ylabel(f"log-likelihood ratio\n{reference} : {other}, nats/frame")
        else:
            for name, line in zip(timeline.classes, evidence.T):
                upper.plot(time, line, color=chosen[name], lw=1.5, label=name)
            upper.set_ylabel("log-likelihood ratio\nto the others, nats/frame")
        upper.axhline(0, color=REFERENCE, lw=1)
        upper.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(timeline.classes))
        upper.set_title(f"class evidence, mean over {window:.3g} s; gaps: no speech", loc="left")
        spectrum = timeline.spectrum / timeline.count[:, None]
        draw_spectrum(lower, spectrum, timeline.seconds / scale, frequencies)
        lower.set_xlabel(f"time, {unit}")
    return figure


def draw_sound(axes: Axes, timeline: Timeline, time: np.ndarray, scale: float) -> None:
    """Draw where the sound lowers or raises the predicted score, over ``time`` in units of ``scale`` seconds, and pauses."""
    window = max(SOUND_WINDOW, timeline.step)
    line = timeline.sound_evidence(window)
    for part, colour, label in ((line > 0, BLUE, "raises the score"), (line < 0, ORANGE, "lowers it")):
        held = np.where(part, line, 0)
        axes.fill_between(time, 0, held, where=~np.isnan(line), color=colour, alpha=0.6, lw=0, label=label)
    axes.plot(time, line, color=BLACK, lw=0.8)
    axes.axhline(0, color=REFERENCE, lw=1)
    for n, (start, end) in enumerate(timeline.pauses):
        axes.axvspan(start / scale, end / scale, color=REFERENCE, alpha=0.3, lw=0, label="" if n else "pause")
    axes.set_ylabel(f"points,\nmean over {window:.2g} s")
    axes.set_title("sound in the score", loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)


def draw_spectrum(
    axes: Axes,
    spectrum: np.ndarray,
    end: float,
    frequencies: Sequence[float],
    limits: tuple[float, float] | None = None,
    label: str = "log power",
    colours: str = "magma",
) -> None:
    """Draw log-mel frames ``(N, F)`` from 0 to ``end`` with a colour bar; ``limits`` of the colours default to the frames'."""
    low, high = limits or np.quantile(spectrum, (0.01, 0.995))
    image = axes.imshow(
        spectrum.T, origin="lower", aspect="auto", cmap=colours, vmin=low, vmax=high, interpolation="nearest",
        extent=(0, end, -0.5, len(frequencies) - 0.5),
    )  # fmt: skip
    ticks = np.unique(np.linspace(0, len(frequencies) - 1, 6).round().astype(int))
    axes.set_yticks(ticks, [f"{frequencies[i] / 1000:.1f}" for i in ticks])
    axes.set_ylabel("mel bin, kHz")
    axes.grid(False)
    axes.figure.colorbar(image, ax=axes, label=label, pad=0.01)
