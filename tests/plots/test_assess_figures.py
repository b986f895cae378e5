"""Pictures of expert scores: what is drawn, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dnf.plots.assess_figures import BINS, assess_figure, likelihood_figure


def made(utterances: int = 90) -> list[dict]:
    """Rows of assess/<set>.tsv; the log-likelihood of the best third is higher by 20 nats, and scores are not in order."""
    rng = np.random.default_rng(0)
    scores = rng.permutation(utterances) / 10
    loglik = rng.normal(-100, 3, utterances) + 20 * (scores >= 6)
    cells = zip(scores, loglik, scores + rng.normal(0, 0.5, utterances), rng.uniform(1, 9, utterances))
    return [
        {"speaker": f"s{n % 6}", "score": f"{s}", "loglik": f"{ll}", "fused": f"{f}", "seconds": f"{t}"}
        for n, (s, ll, f, t) in enumerate(cells)
    ]


def test_histograms_of_the_likelihood_are_those_of_thirds_by_expert_score():
    rows = made()
    (axes,) = likelihood_figure(rows, "title").axes
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["lowest third: 0 to 2.9", "middle third: 3 to 5.9", "highest third: 6 to 8.9"]
    scores, loglik = (np.array([float(row[name]) for row in rows]) for name in ("score", "loglik"))
    edges = np.linspace(loglik.min(), loglik.max() + 1e-6, BINS + 1)
    outlines = axes.patches[1::2]  # after the filled area of each third
    assert len(outlines) == 3
    for third, outline in enumerate(outlines):
        wanted, _ = np.histogram(loglik[(scores >= 3 * third) & (scores < 3 * third + 3)], edges)
        corners = outline.get_xy()[1 : 2 * BINS + 1]  # left and right upper corner of each bin
        assert corners[::2, 1].tolist() == corners[1::2, 1].tolist() == wanted.tolist() and wanted.sum() == 30
        np.testing.assert_allclose(corners[::2, 0], edges[:-1])


def test_one_score_and_one_likelihood_are_drawn():
    rows = [row | {"score": "3", "loglik": "-90.5"} for row in made(2)]
    (axes,) = likelihood_figure(rows, "title").axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["lowest third: 3 to 3", "middle third: 3 to 3", "highest third"]


@pytest.mark.parametrize("has_seconds", [True, False])
def test_utterances_speakers_and_errors_are_at_their_places(has_seconds):
    rows = made(12) if has_seconds else [row | {"seconds": ""} for row in made(12)]
    axes, *more = assess_figure(rows, "title").axes
    utterances, speakers, *_ = axes.lines
    points = np.array([[float(row["fused"]), float(row["score"])] for row in rows])
    np.testing.assert_allclose(utterances.get_xydata(), points)
    np.testing.assert_allclose(speakers.get_xydata(), [points[k::6].mean(0) for k in range(6)])
    assert len(more) == has_seconds
    for panel in more:
        errors = [[float(row["seconds"]), float(row["fused"]) - float(row["score"])] for row in rows]
        np.testing.assert_allclose(panel.lines[0].get_xydata(), errors)
