"""Tables of utterances have a column a class for few classes, and none for many; what is counted is the same."""

import numpy as np
import pytest

from dnf.decisions import many_classes
from dnf.decisions.accuracy_rows import Tally
from dnf.decisions.calibration import Calibration
from dnf.decisions.decision_rows import decide, without_class_columns
from dnf.decisions.evidence import evidence
from dnf.decisions.many_classes import blocks, for_fit
from dnf.decisions.utterance_summary import best_two
from dnf.experiment.config import resolve
from dnf.metrics.figures import MOST_CLASSES
from dnf.scoring import score
from dnf.scoring.latent_store import Latents


def latents(classes: int) -> Latents:
    """Thirty utterances of two frames each; those of even number are decided rightly."""
    names = [f"c{k:04}" for k in range(classes)]
    logp = np.random.default_rng(1).normal(size=(60, classes)).astype(np.float32)
    utts = []
    for u in range(30):
        logp[2 * u : 2 * u + 2, u + u % 2] += 50
        row = {"utt": f"u{u:02}", "speaker": f"s{u}", "class": names[u], "set": "test", "score": ""}
        utts.append(row | {"first": 2 * u, "rows": 2})
    return Latents(names, 4, utts, logp, np.zeros(60, np.float32))


@pytest.mark.parametrize("classes", (40, MOST_CLASSES, MOST_CLASSES + 1, 1000))
def test_decisions_have_few_columns_and_the_same_counts(classes):
    made, tally = latents(classes), Tally([f"c{k:04}" for k in range(classes)])
    rows = [without_class_columns(tally.add(row), made.classes) for row in decide(made, "c0000", 1.0, 2.0)]
    assert [row["decision"] for row in rows] == [f"c{u + u % 2:04}" for u in range(30)]
    assert len(rows[0]) == (10 + 2 * classes if classes <= MOST_CLASSES else 10)
    assert all(row.keys() == rows[0].keys() for row in rows)
    counts = tally.counts["c0003", "s3"]
    assert (counts["frames"], counts["right_frames"], counts["frames", "c0004"]) == (2, 0, 2)
    assert tally.counts["c0004", "s4"]["right_frames"] == 2


@pytest.mark.parametrize("classes", (40, 1000))
def test_scores_have_few_columns(classes):
    made = latents(classes)
    rows = list(score.score_rows(made))
    sums = made.logp[6:8].astype(float).sum(0)
    if classes > MOST_CLASSES:
        assert len(rows[0]) == 7 and rows[3]["best"] == "c0004" and rows[3]["sum_best"] == f"{sums.max():.4f}"
    else:
        assert len(rows[0]) == 4 + 2 * classes and rows[3]["sum_c0004"] == f"{sums[4]:.4f}"


def test_densities_are_those_of_the_true_class_and_of_the_mixture_of_others():
    made = latents(40)
    made.utts[5]["class"] = "other"
    rows = {row["class"]: row for row in score.mean_densities(made)}
    assert rows["c0002"]["logp"] == f"{made.logp[4:6, 2].astype(float).mean():.6f}"
    mixture = np.logaddexp.reduce(made.logp[10:12].astype(float), axis=1) - np.log(40)
    assert rows["other"]["logp"] == f"{mixture.mean():.6f}" and rows["all"]["frames"] == 60


def test_blocks_and_what_a_calibration_is_fitted_on_have_bounded_sizes(monkeypatch):
    monkeypatch.setattr(many_classes, "CELLS", 1500)
    monkeypatch.setattr(many_classes, "BLOCK", 1500)
    few, many = latents(40), latents(150)
    assert list(blocks(few)) == [few] and for_fit(few) is few
    assert [len(block.utts) for block in blocks(many)] == [10, 10, 10]
    assert [utt["utt"] for block in blocks(many) for utt in block.utts] == [utt["utt"] for utt in many.utts]
    chosen = [utt["utt"] for utt in for_fit(many).utts]
    assert len(chosen) == 10 and chosen[0] == "u00" and chosen[-1] == "u29"


def test_many_classes_share_one_slope_which_is_found(monkeypatch):
    rng, count = np.random.default_rng(2), MOST_CLASSES + 20
    true = rng.integers(0, count, 3000)
    loglik = rng.normal(size=(3000, count)) + 1.5 * (np.arange(count) == true[:, None])
    utts = [
        {"utt": f"u{u}", "speaker": f"s{u}", "class": f"c{k:04}", "set": "dev", "score": "", "first": u, "rows": 1}
        for u, k in enumerate(true)
    ]
    names = [f"c{k:04}" for k in range(count)]
    dev = evidence(Latents(names, 4, utts, (loglik * 5).astype(np.float32), np.zeros(3000, np.float32)))
    fitted = Calibration.fit(dev, resolve(["calibrate.duration=false"]).calibrate)
    # the log-likelihood ratio of two N(0, 1) scores, one of them about 1.5, is 1.5 times their difference
    assert fitted.slope == pytest.approx(1.5 / 5, rel=0.05) and fitted.offsets == [0] * count
    np.testing.assert_array_equal(fitted.loglik(dev).argmax(1), dev.mean.argmax(1))


def test_the_best_two_are_the_highest_in_order():
    values = np.random.default_rng(1).normal(size=(50, 7))
    np.testing.assert_array_equal(best_two(values), np.sort(values, axis=1)[:, :-3:-1])
    np.testing.assert_array_equal(best_two(values[:, :2]), np.sort(values[:, :2], axis=1)[:, ::-1])
    np.testing.assert_array_equal(best_two(values[:, :1]), values[:, :1])
