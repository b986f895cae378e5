"""The picture of a timeline: what is drawn, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dnf.inference.timeline import Timeline
from dnf.inference.timeline_figure import draw


def test_the_timeline_shows_where_the_sound_lowers_the_score():
    """Two seconds: evidence for b, then for a; sound that raises the score, then a pause, then sound that lowers it."""
    timeline = Timeline(200, 4, ["a", "b"], 0.01)
    timeline.add_frames(0, np.random.default_rng(0).standard_normal((200, 4)))
    centres = np.concatenate([np.arange(80), np.arange(120, 200)])
    sign = np.where(centres < 100, 1.0, -1.0)
    timeline.add_scores(centres, np.stack([-sign, sign], 1), sound=3 * sign)
    timeline.sound_part, timeline.pauses = -0.5, [(0.8, 1.2)]
    upper, sound, lower, _ = draw(timeline, "title", 0.1, [100.0, 200.0, 400.0, 800.0], "b", {}).axes
    assert (sound.get_title("left"), sound.get_ylabel()) == ("sound in the score", "points,\nmean over 0.5 s")
    time, points = sound.lines[0].get_data()
    np.testing.assert_allclose(time, 0.005 + 0.01 * np.arange(200))
    np.testing.assert_allclose(points[[10, 190]], [2.5, -3.5])
    assert np.nanmean(points[centres]) == pytest.approx(-0.5, abs=0.05)
    labels = [text.get_text() for text in sound.get_legend().get_texts()]
    assert labels == ["raises the score", "lowers it", "pause"]
    (pause,) = sound.patches
    assert (pause.get_x(), pause.get_width()) == (0.8, pytest.approx(0.4))
    evidence = upper.lines[0].get_ydata()
    assert evidence[10] == pytest.approx(2) and evidence[190] == pytest.approx(-2) and np.isnan(evidence[100])
    assert lower.get_xlim() == sound.get_xlim() == upper.get_xlim() and lower.get_xlabel() == "time, seconds"
