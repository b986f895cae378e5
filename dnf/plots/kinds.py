"""All kinds of pictures: who draws them, at which stage, and what to look for; no picture is drawn by importing this.

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
        caption: what to look for.
    """

    stage: str
    drawer: str
    caption: str


KINDS = {
    "curves": Kind(
        "plots",
        "training_curves.draw",
        "Training curves. LogLL should rise and level off; dev should follow train, and the gap between them is "
        "overfitting. Vertical lines are spikes and restores: there should be none.",
    ),
    "gaussianity": Kind(
        "plots",
        "gaussianity_figure.draw",
        "Shape of each latent dimension. Within-class values should lie on 0; pooled kurtosis of c goes towards "
        "-2 where classes lie far apart, which is separation, not a fault.",
    ),
    "scatter": Kind(
        "plots",
        "latent_figures.draw_scatter",
        "Latent frames, and the mean latents of utterances, in the plane that separates the model's classes most. First "
        "axis: Fisher's discriminant, the direction between the class means of training in units of the deviation within "
        "a class. Second axis: the next discriminant or, of two classes, the direction of largest variance that says "
        "nothing of the first. A class should lie around its training mean (cross), and so should its control; utterances "
        "that lie elsewhere show overfitting or another channel.",
    ),
    "scatter_r": Kind(
        "plots",
        "latent_figures.draw_scatter",
        "The residual part r in its own plane that separates classes most. Its prior does not know the class, so classes "
        "should overlap; a shift is class (or channel) information that c has not taken up.",
    ),
    "tsne": Kind(
        "plots",
        "latent_figures.draw_tsne",
        "Which utterances lie together? Lines lead to the middle of each speaker: clusters within a class are speakers, "
        "and a control away from its class is another channel. t-SNE keeps neighbours together and says nothing about "
        "distances or sizes.",
    ),
    "llr_hist": Kind(
        "plots",
        "latent_figures.draw_histograms",
        "Log-likelihood ratios of utterances. Well separated classes lie on both sides of 0; an unseen class lies "
        "where the model puts it.",
    ),
    "loglik_hist": Kind(
        "plots",
        "latent_figures.draw_histograms",
        "Log-likelihood of utterances under a flow that knows no classes. Speech unlike the training data should "
        "lie further left, but a flow may also give it more.",
    ),
    "durations": Kind(
        "plots",
        "breakdown_figures.draw",
        "Accuracy against the length of a recording, normalized by itself: it should rise and level off. Where it "
        "levels off below 1, more speech of the same speaker does not help: what is wrong is the speaker or the "
        "channel, not the noise of frames.",
    ),
    "fisher": Kind(
        "plots",
        "breakdown_figures.draw",
        "Dimensions by class information, in descending order: it should be in c, and not in r. A steep curve is class in few dims; "
        "the input's curve (x) says what a single dim had before the flow.",
    ),
    "detection": Kind(
        "decide",
        "detection_figures.draw",
        "Left, both error rates of each system at every threshold: lower is better. Where the dashed line of the control "
        "lies far above the solid one, the channel may explain the result. Right, posteriors against the share of "
        "utterances that are of the class: above the line posteriors are too low, below it too high.",
    ),
    "assess": Kind(
        "decide",
        "assess_figures.draw",
        "Predicted expert scores. Left, utterances are joined to the mean of their speaker: means of tenths (squares) "
        "should lie on the line, else predictions are too high or too low there. Right, the error against the duration: a "
        "slope says that duration is not used as it should be; that errors are small says nothing of sounds, since timing "
        "alone predicts most of the scores.",
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
