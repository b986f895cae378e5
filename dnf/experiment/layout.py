"""Where everything of a run lies, its stages, and its systems: the flow, and the baselines scored on the same frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout


@dataclass(frozen=True)
class Stage:
    """What a stage depends on: sections or keys of the settings, the stages it reads from, and whether it reads tables."""

    number: int
    title: str
    settings: tuple[str, ...]
    after: tuple[str, ...]
    place: str


STAGES = {
    "data": Stage(0, "corpus to manifests and data directories", ("seed",), (), "data"),
    "features": Stage(1, "fbank, energy VAD, CMVN statistics", ("features", "vad"), ("data",), "feats"),
    "frames": Stage(2, "frame stores", ("frames",), ("features",), "frames"),
    "train": Stage(
        3,
        "the flow",
        (
            "seed",
            "data.train",
            "data.dev",
            "data.classes",
            "cmvn",
            "augment",
            "splice",
            "flow",
            "prior",
            "train",
            "gaussianality",
        ),
        ("frames",),
        "exp",
    ),
    "latents": Stage(
        4,
        "latents, Gaussianity, train/eval agreement",
        ("data.test", "data.views", "data.controls", "data.shared_speakers", "channel", "latents", "baselines"),
        ("train",),
        "exp",
    ),
    "plots": Stage(5, "plots", ("seed", "plots", "report"), ("latents",), "exp"),
    "score": Stage(6, "scores", ("score",), ("latents",), "exp"),
    "decide": Stage(
        7,
        "decisions",
        ("seed", "data.classes", "decide", "calibrate", "open_set", "report", "plots.dpi"),
        ("score",),
        "exp",
    ),
    "report": Stage(8, "results.txt, results.tsv, report.html", ("data.controls",), ("plots", "decide"), "exp"),
}


@dataclass(frozen=True)
class Layout:
    """The folders of one run, by the place a stage writes to."""

    data: Path
    feats: Path
    frames: Path
    exp: Path

    def folder(self, name: str) -> Path:
        return getattr(self, STAGES[name].place)

    def marker(self, name: str) -> Path:
        return self.folder(name) / f".done.{name}"


FLOW = "dnf"


def systems(exp: Path) -> dict[str, Path]:
    """Folder of each system by its name, the flow first; each has ``latents/<set>/`` in the form of stage 4.

    Args:
        exp: folder of the experiment, which is that of the flow; a baseline's is ``baselines/<name>`` below it.
    """
    baselines = sorted(path for path in (exp / "baselines").glob("*") if any(path.glob("latents/*/meta.json")))
    return {FLOW: exp, **{path.name: path for path in baselines}}
