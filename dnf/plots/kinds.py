"""All kinds of pictures: who draws them, at which stage, and what to look for. Importing it draws nothing.

A file is named after its kind, ``<kind>.png``, or ``<kind>_<set>.png`` where each set has one. A new kind is a module
that yields names and figures, and its row here: the stage draws it, and report.html shows it in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of picture.

    Attributes:
        stage: ``plots`` or ``decide``, after which it is there; ``sweep`` for the pictures of ``dnf sweep``.
        drawer: module of this package and function that yields names and figures, maybe those of several kinds.
        caption: what the picture shows, and in at most two sentences how to read it.
    """

    stage: str
    drawer: str
    caption: str


KINDS = {
    "curves": Kind(
        "plots",
        "training_curves.draw",
        "Training curves of train and dev. LogLL should rise and level off; a gap between train and dev that grows is "
        "overfitting. The grey line is the step that was kept; other vertical lines are spikes and restores, and "
        "there should be none.",
    ),
    "gaussianity": Kind(
        "plots",
        "gaussianity_figure.draw",
        "Skewness and excess kurtosis of each latent dimension. Within-class values should lie on 0. Pooled kurtosis "
        "of c goes towards -2 where classes lie far apart, which is separation, not a fault.",
    ),
    "scatter": Kind(
        "plots",
        "latent_figures.draw_scatter",
        "Latents of frames (left) and mean latents of utterances (right, another scale), in the plane where the model's "
        "classes lie furthest apart. A class and its control should lie around the class's mean in training (cross). Utterances "
        "that lie elsewhere show overfitting or another channel.",
    ),
    "scatter_r": Kind(
        "plots",
        "latent_figures.draw_scatter",
        "The residual part r of the latents, in its own plane where classes lie furthest apart. Classes should "
        "overlap, since the prior of r does not know the class. A shift is class or channel information that c has "
        "not taken up.",
    ),
    "tsne": Kind(
        "plots",
        "latent_figures.draw_tsne",
        "t-SNE of the mean latents of utterances, with lines to the middle of each speaker. Clusters within a class "
        "are speakers, and a control away from its class is another channel. t-SNE keeps neighbours together and says "
        "nothing about distances or sizes.",
    ),
    "llr_hist": Kind(
        "plots",
        "latent_figures.draw_histograms",
        "Log-likelihood ratios of utterances by class. Well separated classes lie on both sides of 0. An unseen class "
        "lies where the model puts it.",
    ),
    "loglik_hist": Kind(
        "plots",
        "latent_figures.draw_histograms",
        "Log-likelihoods of utterances under a flow that knows no classes. Speech unlike the training data should lie "
        "further left, but a flow may also give it more.",
    ),
    "durations": Kind(
        "plots",
        "breakdown_figures.draw",
        "Accuracy against the length of a recording, normalized by itself, with 95 % intervals over speakers. It "
        "should rise and level off. Where it levels off below 1, more speech of the same speaker does not help: the "
        "fault lies in the speaker or the channel, not in the noise of frames.",
    ),
    "fisher": Kind(
        "plots",
        "breakdown_figures.draw",
        "Fisher ratio of each dimension (variance between classes over variance within), in descending order. High "
        "ratios should be in c, and not in r; a steep curve is class in few dims. The input's curve (x) says what a "
        "single dim had before the flow.",
    ),
    "detection": Kind(
        "decide",
        "detection_figures.draw",
        "Error rates of each system at every threshold (left), and its posteriors against the share of utterances "
        "that are of the class (right). Left, lower is better; where the control (dashed) lies far above the set "
        "(solid), the channel may explain the result. Right, points should lie on the line: above it posteriors are "
        "too low, below it too high.",
    ),
    "assess": Kind(
        "decide",
        "assess_figures.draw",
        "Expert scores against predicted ones (left), and the error against the duration (right). Left, utterances "
        "are joined to the mean of their speaker, and means of tenths (squares) should lie on the line. Right, a "
        "slope says that duration is not used as it should be; small errors say nothing of sounds, since timing alone may "
        "predict most of the scores.",
    ),
    "assess_loglik": Kind(
        "decide",
        "assess_figures.draw",
        "Log-likelihood of the utterances by expert score. Where the histograms lie on each other, the likelihood says "
        "nothing of the score.",
    ),
    "sweep": Kind("sweep", "sweep_figure.draw", "Figures against the setting that a sweep varies."),
}

# Kinds that answer the first questions, and that report.html begins with.
FIRST = ("llr_hist", "loglik_hist", "detection", "scatter", "curves")


def drawers(stage: str) -> list[Callable]:
    """The functions that draw the pictures of a stage, each once."""
    names = dict.fromkeys(kind.drawer for kind in KINDS.values() if kind.stage == stage)
    return [getattr(import_module(f"dnf.plots.{module}"), name) for module, name in (n.split(".") for n in names)]


def kind_of(name: str) -> str:
    """The kind of a picture by its name, the longest that fits; empty for one of no kind."""
    return max((kind for kind in KINDS if name == kind or name.startswith(f"{kind}_")), key=len, default="")
