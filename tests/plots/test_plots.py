"""Figures from a small made-up experiment: which are there, their size, their bytes, and the numbers behind them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import matplotlib.style
import numpy as np
import pytest
import torch
from drawn_experiment import write_experiment, write_set
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from dnf.experiment import entry
from dnf.experiment.config import resolve
from dnf.plots import draw, gaussianity_figure, latent_figures, training_curves
from dnf.plots.drawing import read_drawing
from dnf.plots.drawn_sets import drawn_sets
from dnf.plots.latent_set import read_latents
from dnf.plots.projections import separating_plane, spread, tsne_map
from dnf.plots.style import STYLE, colours_of, plain_log_ticks


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """An experiment of two classes with c and r, a test set with a class unseen and a control, and its figures."""
    sets = {
        "train": {"ce": 6, "en": 6},
        "dev": {"ce": 2, "en": 2},
        "test": {"ce": 3, "en": 3, "je": 3},
        "other": {"en": 4},
    }
    exp = write_experiment(tmp_path_factory.mktemp("plots") / "exp_a", ["ce", "en"], 3, sets)
    resolve([exp / "config.yaml", "data.controls={test: other}"]).save(exp / "config.yaml")
    (exp / "plots").mkdir()
    (exp / "plots" / "tsne_gone.png").write_bytes(b"of a set that is no more")
    draw.make_plots(exp)
    return exp, {path.name: path.read_bytes() for path in (exp / "plots").iterdir()}


def test_every_figure_is_there_and_nothing_else(experiment):
    kinds = ("scatter", "scatter_r", "tsne", "llr_hist")
    assert set(experiment[1]) == {"curves.png", "gaussianity.png"} | {f"{kind}_test.png" for kind in kinds}


@pytest.mark.parametrize(
    "names, settings, drawn",
    [
        (("dev", "other", "test", "train", "wild"), (), ["test", "wild"]),
        (("dev", "other", "test", "train"), ("plots.sets=[train, other]",), ["other", "train"]),
        (("dev", "other", "train"), (), ["other"]),
        (("dev", "train"), (), ["dev"]),
        (("train",), (), ["train"]),
        (("a+b", "c", "other", "test"), ("data.train=[a, b]", "data.dev=[c]"), ["a+b", "test"]),
        (tuple(f"t{i:02d}" for i in range(20)), (), [f"t{i:02d}" for i in range(16)]),
    ],
)
def test_test_sets_are_drawn_and_others_where_they_are_named(names, settings, drawn):
    assert drawn_sets(names, resolve(["data.controls={test: other}", *settings])) == drawn


def test_a_set_and_its_control_are_drawn_together(experiment):
    drawing = read_drawing(experiment[0], ["test"])
    (both,) = drawing.with_controls()
    assert both.groups == [("ce", "test"), ("en", "test"), ("en", "control other"), ("je", "test")]
    control = both.of_group(("en", "control other"))
    assert control.tolist() == [False] * 9 + [True] * 4
    other = drawing.controls["test"]
    torch.testing.assert_close(both.z_mean[control], other.z_mean)
    torch.testing.assert_close(both.loglik[control], other.loglik)
    torch.testing.assert_close(both.z[both.group == 2], other.z[:])
    assert both.labels.tolist() == [*drawing.shown[0].labels.tolist(), *[1] * len(other.z)]
    (_, histogram), (_, scatter) = (
        next(draw(drawing)) for draw in (latent_figures.draw_histograms, latent_figures.draw_scatter)
    )
    for said in (texts(histogram), texts(scatter)):
        assert "en, test: 3 utterances" in said and "en, control other: 4 utterances" in said
    assert read_drawing(experiment[0], ["other"]).controls == {}


def test_titles_of_scatter_plots_lie_inside_the_picture(experiment):
    drawing = read_drawing(experiment[0], ["test"])
    shown = drawing.shown[0]
    utterances = [utt for utt in shown.utterances for _ in range(160)]
    z_mean = shown.z_mean[:].repeat_interleave(160, 0)
    z_mean[7] = 1e3
    many = shown.of(
        utterances,
        **{name: getattr(shown, name) for name in ("name", "model_classes", "cond_dim", "z", "utterance")},
        z_mean=z_mean,
        loglik=shown.loglik.repeat_interleave(160, 0),
    )
    with matplotlib.style.context(["default", STYLE]):
        _, figure = next(latent_figures.scatter(many, drawing.fit, drawing.colours, "exp", 4000))
        figure.draw_without_rendering()
    assert figure.axes[1].get_title() == "means of 1,440 utterances (1 outside)"
    for axes in figure.axes:
        title = axes.title.get_window_extent()
        assert 0 <= title.x0 and title.x1 <= figure.bbox.width


def test_tsne_of_one_class_alone_is_not_drawn(tmp_path):
    exp = write_experiment(tmp_path / "exp", ["ce", "en"], 3, {"train": {"ce": 4, "en": 4}, "test": {"en": 8}})
    assert {path.name for path in draw.make_plots(exp)} >= {"scatter_test.png", "llr_hist_test.png"}
    assert not (exp / "plots/tsne_test.png").exists()


def test_a_class_has_one_colour_whatever_is_drawn(experiment):
    first = read_drawing(experiment[0], ["test"]).colours
    assert first == read_drawing(experiment[0], ["train", "test"]).colours
    known = colours_of(["ce", "zz"], {})  # as in the picture of a recording
    assert known.items() <= colours_of(["zz", "ce"], {}, ["aa", "ce"]).items()


def test_figures_are_1200_pixels_wide_and_not_empty(experiment):
    for path in (experiment[0] / "plots").iterdir():
        image = Image.open(path)
        assert image.width == 1200 and image.height >= 400
        assert np.asarray(image.convert("L")).std() > 5
        assert "Software" not in image.info


def test_the_same_input_gives_the_same_bytes_and_sets_limits_it_to_them(experiment):
    exp, before = experiment
    (exp / "plots" / "mine.png").write_bytes(b"kept when only some sets are asked for")
    assert draw.main([str(exp), "--sets", "test"]) == 0
    after = {path.name: path.read_bytes() for path in (exp / "plots").iterdir()}
    assert after.pop("mine.png") and after == before
    written = draw.make_plots(exp, ["train"])
    assert {path.name for path in written} == {
        "curves.png",
        "gaussianity.png",
        *(n.replace("_test", "_train") for n in before if n.endswith("_test.png")),
    }
    assert draw.main([str(exp)]) == 0
    assert {path.name for path in (exp / "plots").iterdir()} == set(before)


def test_a_plain_flow_has_log_likelihoods_and_no_decisions(tmp_path):
    sets = {"train": {"en": 4}, "test": {"ce": 2, "en": 2, "je": 2}}
    exp = write_experiment(tmp_path / "nf", ["en"], 0, sets)
    names = {path.name for path in draw.make_plots(exp)}
    assert {"loglik_hist_test.png", "scatter_test.png", "tsne_test.png"} < names
    assert not {n for n in names if n.startswith(("llr", "scatter_r"))}


def texts(figure) -> str:
    """All that a figure says."""
    axes = [t for a in figure.axes for t in (a.get_title(), a.get_title("left"), a.get_xlabel(), a.get_ylabel())]
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    axes += [t.get_text() for a in figure.axes for t in a.texts]
    return "\n".join([*axes, *(t.get_text() for legend in legends for t in legend.get_texts())])


def test_legends_count_and_histograms_show_the_ratio_of_each_pair(tmp_path):
    write_set(tmp_path / "test", ["ce", "en", "je"], 3, {"ce": 4, "en": 3, "xx": 2})
    latents = read_latents(tmp_path / "test")
    _, figure = next(latent_figures.histograms(latents, colours_of(latents.classes, {}), "exp"))
    said = texts(figure)
    assert len(figure.axes) == 3
    for pair in ("log p(x|en) - log p(x|ce)", "log p(x|je) - log p(x|ce)", "log p(x|je) - log p(x|en)"):
        assert f"{pair}, mean over frames (nats/frame)" in said
    assert "ce: 4 utterances, 0.0 % above 0" in said and "en: 3 utterances, 100.0 % above 0" in said
    assert "xx (unseen by the model): 2 utterances" in said
    for axes in figure.axes:
        shares = [patch.get_data().values.sum() for patch in axes.patches]
        assert shares == pytest.approx([1.0] * 3)
    panel = latent_figures.Panel(latents.z[:, :2], latents.group, ("one", "two"), "first")
    colours = dict.fromkeys(latents.classes, "k")
    assert "en: 3 utterances, 36 frames" in texts(latent_figures.scatter_figure(latents, colours, "t", [panel]))


def test_utterance_scores_and_labels_belong_to_their_utterance(tmp_path):
    write_set(tmp_path / "test", ["ce", "en"], 3, {"ce": 2, "en": 1})
    latents = read_latents(tmp_path / "test")
    logp = torch.from_numpy(np.load(tmp_path / "test" / "logp.npy")).double() + 3.0
    torch.testing.assert_close(latents.loglik, logp.reshape(3, 12, 2).mean(1))
    assert latents.labels.tolist() == [0] * 12 + [1] * 6
    assert latents.counts("ce") == (24, 2)


def test_a_class_from_several_sets_is_shown_by_set(tmp_path):
    made_of = {"ce": ("one", "two"), "je": ("two",)}
    write_set(tmp_path / "both", ["ce", "en"], 3, {"ce": 5, "en": 2, "je": 1}, made_of=made_of)
    latents = read_latents(tmp_path / "both")
    assert latents.groups == [("ce", "one"), ("ce", "two"), ("en", "both"), ("je", "two")]
    assert latents.group.tolist() == ([0] * 6 + [1] * 6) * 2 + [0] * 6 + [2] * 12 + [3] * 6
    assert latents.of_group(("ce", "two")).tolist() == [False, True, False, True, False, False, False, False]
    colours = colours_of(latents.classes, {"ce": "tab:red", "en": "tab:blue"})
    shades = latents.group_colours(colours)
    assert len(set(shades.values())) == 4 and shades["ce", "one"] == to_rgb("tab:red")
    assert shades["en", "both"] == to_rgb("tab:blue")
    _, histogram = next(latent_figures.histograms(latents, colours, "exp"))
    panel = latent_figures.Panel(latents.z[:, :2], latents.group, ("one", "two"), "first")
    for said in (texts(histogram), texts(latent_figures.scatter_figure(latents, colours, "t", [panel]))):
        found = dict(
            re.findall(r"^(ce, one|ce, two|en|je \(unseen by the model\)): (\d+) utterances", said, re.MULTILINE)
        )
        assert found == {"ce, one": "3", "ce, two": "2", "en": "2", "je (unseen by the model)": "1"}


def test_several_training_sets_fit_the_plane_as_one(tmp_path):
    """Stage 4 scores them together, as train; the figures of the other sets show that set's means."""
    sets = {"train": {"ce": 4, "en": 4}, "test": {"ce": 2, "en": 2}}
    exp = write_experiment(tmp_path / "exp", ["ce", "en"], 3, sets)
    resolve([exp / "config.yaml", "data.train=[a, b]"]).save(exp / "config.yaml")
    assert {path.name for path in draw.make_plots(exp, ["train", "test"])} > {"scatter_train.png", "scatter_test.png"}
    resolve([exp / "config.yaml", "data.train=[a]"]).save(exp / "config.yaml")
    with pytest.raises(ValueError, match=r"latents/a: no latents; run stage latents \(--stage 4\)"):
        draw.make_plots(exp)


def test_curves_mark_spikes_and_restores_and_hide_no_value_in_silence(experiment):
    history = training_curves.read_history(experiment[0] / "history.tsv")
    history["logp"][19] = -900
    figure = training_curves.curves(history, "exp", accuracy=True)
    by_title = {axes.get_title().split(" (")[0]: axes for axes in figure.axes if axes.get_visible()}
    assert {"LogDet", "LogP", "LogLL = LogP + LogDet", "gradient norm", "learning rate"} < set(by_title)
    marks = [
        line.get_xdata()[0]
        for line in by_title["gradient norm"].lines
        if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1
    ]
    assert marks == [200.0, 300.0]
    loglik = by_title["LogLL = LogP + LogDet"]
    assert loglik.get_title().endswith(" (1 outside)") and loglik.get_ylim()[0] > -900
    assert by_title["LogP"].lines[1].get_xdata().tolist() == [100, 200, 300, 400]
    np.testing.assert_allclose(np.delete(loglik.lines[0].get_ydata(), 19), np.delete(np.arange(1, 41) + 1, 19))
    assert "spike (1 in all)" in texts(figure) and "restore (1 in all)" in texts(figure)
    assert "frame accuracy" not in texts(training_curves.curves(history, "exp", accuracy=False))


def test_curves_mark_the_step_that_was_kept_and_name_no_event_that_did_not_occur(experiment):
    history = training_curves.read_history(experiment[0] / "history.tsv")
    for name in ("spikes", "restores"):
        history[name][:] = 0
    figure = training_curves.curves(history, "exp", accuracy=True, kept=280)
    legend = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert legend == ["train", "dev", "step kept: 280"]
    assert all([280, 280] in [list(line.get_xdata()) for line in axes.lines] for axes in figure.axes[:7])
    figure = training_curves.curves({**history, "ce": history["lr"], "dev_ce": history["lr"]}, "exp", accuracy=True)
    assert all(axes.axison for axes in figure.axes) and len(figure.axes) == 8 and len(figure.legends) == 1


def test_ticks_of_a_logarithmic_axis_have_no_powers_of_ten():
    axes = Figure().subplots()
    axes.plot([1, 2], [19, 120])
    axes.set_yscale("log")
    plain_log_ticks(axes.yaxis)
    assert {"20", "50", "100"} <= (major := {tick.get_text() for tick in axes.get_yticklabels()})
    assert all(text.isdigit() for text in major)
    assert not any(tick.get_text() for tick in axes.get_yticklabels(minor=True))


def test_the_step_that_was_kept_is_read_from_the_training(experiment, tmp_path):
    exp = shutil.copytree(experiment[0], tmp_path / "exp")
    (exp / "training.json").write_text('{"best_step": 280}')
    assert "step kept: 280" in texts(dict(training_curves.draw(read_drawing(exp, None)))["curves"])


def test_many_points_have_an_outline_of_half_of_them():
    points = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 3.0])
    axes = Figure().subplots()
    latent_figures.outline(axes, points.numpy(), (0.0, 0.0, 0.0), "-")
    (path,) = axes.collections[0].get_paths()
    assert path.contains_points(points.numpy()).mean() == pytest.approx(0.5, abs=0.04)


def test_speed_is_a_moving_average_that_leaves_gaps_out(experiment):
    values = torch.tensor([4.0, 2.0, torch.nan, 6.0, 8.0], dtype=torch.float64)
    assert training_curves.moving_average(values, 2).tolist() == [4, 3, 2, 6, 7]
    history = training_curves.read_history(experiment[0] / "history.tsv")
    history["frames_per_s"][:] = torch.arange(40) * 10.0
    (speed,) = (
        axes for axes in training_curves.curves(history, "exp", accuracy=True).axes if "speed" in axes.get_title()
    )
    assert speed.lines[0].get_ydata()[-1] == pytest.approx(345)


def test_the_plane_is_that_of_the_models_classes(tmp_path):
    """A class that the model does not know has no part in it, though training has frames of it."""
    exp = write_experiment(tmp_path / "exp", ["ce", "en"], 3, {"train": {"ce": 9, "en": 9, "zz": 9}, "test": {"en": 4}})
    figure = dict(latent_figures.draw_scatter(read_drawing(exp, None)))["scatter_test"]
    assert [[t.get_text() for t in axes.texts] for axes in figure.axes] == [["ce", "en"]] * 2
    assert "mean in the training set" in texts(figure)
    labels = {(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes}
    assert labels == {("linear discriminant 1 (within-class s.d.)", "largest variance (within-class s.d.)")}


def test_gaussianity_shows_c_and_r_apart_and_heavy_tails_on_a_log_scale():
    rows = [
        {"part": p, "skew": 0.0, "kurt": k, "skew_within": 0.1, "kurt_within": 0.5}
        for p, k in [("c", -1.5), ("c", -1.7), ("r", 4.0)]
    ]
    said = texts(figure := gaussianity_figure.gaussianity([("train, ce+en: 9 frames", rows)], "exp"))
    assert "pooled mean c -1.600, r +4.000\nwithin class mean c +0.500, r +0.500" in said and "9 frames" in said
    assert figure.axes[1].get_yscale() == "linear"
    rows[2]["kurt"] = 400.0
    assert gaussianity_figure.gaussianity([("train", rows)], "exp").axes[1].get_yscale() == "symlog"


def test_given_colours_win_and_others_do_not_repeat_them():
    colours = colours_of(["je", "ce", "zz", "en"], {"en": "tab:blue", "ce": "#ff7f0e"})
    assert colours["en"] == "tab:blue" and colours["ce"] == "#ff7f0e"
    assert colours["je"] == "tab:green" and colours["zz"] == "tab:red"


def test_spread_is_even_and_gives_rare_classes_their_share():
    labels = torch.tensor([0] * 90 + [1] * 10)
    rows = spread(labels, 40)
    assert torch.bincount(labels[rows]).tolist() == [30, 10]
    assert rows[:30].tolist() == list(range(0, 90, 3))
    assert spread(labels, 1000).tolist() == list(range(100))


def test_separating_plane_finds_the_discriminant():
    g = torch.Generator().manual_seed(0)
    scale, labels = torch.tensor([1.0, 5.0, 0.2, 1.0]), torch.arange(3000) % 2
    x = torch.randn(3000, 4, generator=g) * scale
    x[:, 2] += 1.0 * labels
    plane = separating_plane(x, labels)
    assert plane.names == ("linear discriminant 1", "largest variance")
    assert plane.axes.abs().argmax(0).tolist()[0] == 2
    projected = x @ plane.axes
    within = torch.stack([projected[labels == k].T.cov(correction=0) for k in (0, 1)]).mean(0)
    torch.testing.assert_close(within, torch.eye(2), atol=1e-3, rtol=0)
    assert torch.corrcoef(torch.stack([projected[:, 1], x[:, 1]]))[0, 1].abs() > 0.99
    assert (projected[labels == 1].mean(0) - projected[labels == 0].mean(0))[0].item() == pytest.approx(5, abs=0.3)
    assert separating_plane(x, labels * 0).names == ("largest variance", "next largest variance")
    three = torch.arange(3000) % 3
    assert separating_plane(x + 9 * torch.eye(4)[three], three).names == (
        "linear discriminant 1",
        "linear discriminant 2",
    )


def test_tsne_keeps_far_clusters_apart_and_follows_the_seed():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 6, generator=g) + 50 * (torch.arange(30) // 15)[:, None]
    points = tsne_map(x, 30, 1000, seed=1)
    assert torch.equal(points, tsne_map(x, 30, 1000, seed=1))
    inside, across = torch.cdist(points[:15], points[:15]), torch.cdist(points[:15], points[15:])
    assert across.min() > inside.max()


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda exp: (exp / "config.yaml").unlink(), "config.yaml: .*stage 3"),
        (
            lambda exp: (exp / "config.yaml").write_text(
                (exp / "config.yaml").read_text().replace("tab:red", "blurple")
            ),
            "'blurple' is not a colour",
        ),
        (lambda exp: (exp / "history.tsv").unlink(), "history.tsv: .*stage 3"),
        (lambda exp: (exp / "history.tsv").write_text("step\tnll\n10\tmany\n"), "line 2: column nll: .*'many'"),
        (lambda exp: (exp / "gaussianity_dims.tsv").unlink(), "gaussianity_dims.tsv: .*stage 4"),
        (lambda exp: (exp / "latents" / "train" / "meta.json").unlink(), "no set has latents.*stage 4"),
        (
            lambda exp: np.save(exp / "latents" / "train" / "logp.npy", np.zeros((5, 2))),
            "the 5 rows of logp.npy.*stage 4",
        ),
        (lambda exp: np.save(exp / "latents" / "train" / "z.npy", np.zeros((5, 5))), "z.npy: shape .*stage 4"),
        (
            lambda exp: np.save(exp / "latents" / "train" / "z_mean.npy", np.zeros((5, 5))),
            "z_mean.npy: shape .*stage 4",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_the_file_and_the_stage(tmp_path, spoil, message):
    exp = write_experiment(tmp_path / "exp", ["ce", "en"], 3, {"train": {"ce": 2, "en": 2}})
    spoil(exp)
    with pytest.raises(ValueError, match=message) as caught:
        draw.make_plots(exp)
    assert "\n" not in entry.describe(caught.value)


def test_a_set_without_latents_is_named(experiment):
    with pytest.raises(ValueError, match="nowhere.*stage 4"):
        draw.make_plots(experiment[0], ["nowhere"])
