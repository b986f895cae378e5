"""The settings of an experiment, filled from YAML files and ``section.key=value`` words.

Order of precedence: ``conf/default.yaml`` < recipe < experiment YAML < command line. The defaults are in
``conf/default.yaml`` alone. An unknown key is an error, and the message names the nearest known key.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dnf.experiment.files import replace_file
from dnf.experiment.layout import DEFAULTS
from dnf.experiment.settings import (
    Assess,
    Augment,
    Baselines,
    Calibrate,
    ChannelSettings,
    Cmvn,
    DataSettings,
    Decide,
    Features,
    Flow,
    FramesSettings,
    Gaussianality,
    LatentsSettings,
    OpenSetSettings,
    Plots,
    Prior,
    Report,
    Score,
    Splice,
    Train,
    Vad,
    VectorsSettings,
)
from dnf.experiment.typed_settings import build, check_known
from dnf.experiment.yaml_files import load_yaml, parse_value


@dataclass(frozen=True)
class Config:
    """All settings of an experiment; ``Config.load`` reads them from the ``config.yaml`` of a stage."""

    seed: int
    features: Features
    vad: Vad
    frames: FramesSettings
    vectors: VectorsSettings
    cmvn: Cmvn
    augment: Augment
    channel: ChannelSettings
    splice: Splice
    data: DataSettings
    flow: Flow
    prior: Prior
    train: Train
    gaussianality: Gaussianality
    latents: LatentsSettings
    baselines: Baselines
    plots: Plots
    score: Score
    decide: Decide
    open_set: OpenSetSettings
    calibrate: Calibrate
    assess: Assess
    report: Report

    def __post_init__(self):
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}, not {self.seed}")

    @classmethod
    def load(cls, path: Path) -> Config:
        """The settings that a stage saved in ``path``.

        Raises:
            ValueError: the file lacks a section, for example because it is truncated.
        """
        tree = read_yaml(path)
        lacking = [field.name for field in dataclasses.fields(cls) if field.name not in tree]
        if lacking:
            raise ValueError(
                f"{path}: has no section {lacking[0]}; it is truncated, or an earlier version wrote it: restore "
                "it, or run the stage that wrote it again"
            )
        full = defaults()
        merge(full, tree, str(path))
        return from_tree(full)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, yaml.safe_dump(dataclasses.asdict(self), sort_keys=False))

    @property
    def has_vectors(self) -> bool:
        """Whether an utterance is one vector, and no sequence of frames."""
        return self.features.kind == "vectors"

    @property
    def reads_vectors(self) -> bool:
        """Whether the data come as vectors, and not as recordings."""
        return self.has_vectors and self.vectors.front_end == "files"

    @property
    def dim(self) -> int | None:
        """Dimension D of a spliced vector; None for ``features.kind`` vectors until stage frames has seen them."""
        if self.has_vectors:
            return self.vectors.dim
        return (self.splice.left + 1 + self.splice.right) * self.features.dim

    @property
    def frame(self) -> slice | None:
        """Columns of a spliced vector that a conditional flow is a density of, its current frame; None for other flows."""
        if self.flow.kind != "conditional":
            return None
        first = self.splice.left * self.features.dim
        return slice(first, first + self.features.dim)

    @property
    def latent_dim(self) -> int | None:
        """Dimension of a latent: that of a vector (``dim``), or of a frame if the flow is conditional."""
        return self.features.dim if self.frame else self.dim


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options ``--config FILE`` and ``--set SECTION.KEY=VALUE``, kept in ``layers`` in the order they are given."""
    parser.add_argument(
        "--config",
        dest="layers",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML file with settings; the last one has precedence",
    )
    parser.add_argument(
        "--set",
        dest="layers",
        action="append",
        metavar="SECTION.KEY=VALUE",
        help="one setting; the last of --config and --set has precedence",
    )


def resolve(layers: Iterable[Path | str]) -> Config:
    """Defaults, then each layer, a YAML file (``Path``) or a ``section.key=value`` word; later layers have precedence.

    Raises:
        ValueError: an unknown section or key (with the nearest known one), a value of the wrong type or out of range.
    """
    tree = defaults()
    for layer in layers:
        if isinstance(layer, Path):
            merge(tree, read_yaml(layer), str(layer))
        else:
            merge(tree, parse_word(layer), f"--set {layer}")
    return from_tree(tree)


def from_saved(tree: Mapping[str, Any]) -> Config:
    """The settings in a checkpoint; settings that are newer than the checkpoint have their defaults."""
    full = defaults()
    merge(full, tree, "the checkpoint")
    return from_tree(full)


def of_any_version(path: Path) -> tuple[Config, list[str]]:
    """The settings in an experiment's ``config.yaml`` of any version, and the names of those that it lacks.

    Those have their defaults; settings that are not known any more are left out.

    Raises:
        ValueError: a value that is not legal any more.
    """
    tree, saved = defaults(), read_yaml(path) if path.is_file() else {}
    missing = lacking(saved, tree)
    for section in tree.keys() & saved.keys():
        known, given = tree[section], saved[section]
        are_trees = isinstance(known, dict) and isinstance(given, dict)
        tree[section] = {key: given.get(key, value) for key, value in known.items()} if are_trees else given
    return from_tree(tree), missing


def lacking(saved: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Names of sections and settings that are known and that an experiment's settings lack."""
    names = [section for section in known if section not in saved]
    for section in known.keys() & saved.keys():
        if isinstance(known[section], dict) and isinstance(saved[section], dict):
            names += [f"{section}.{key}" for key in known[section] if key not in saved[section]]
    return sorted(names)


def from_tree(tree: Mapping[str, Any]) -> Config:
    """The settings from a tree of plain values that names every one of them.

    Raises:
        ValueError: a value of the wrong type or out of range, or settings that contradict each other.
    """
    config = build(Config, tree, "")
    if config.has_vectors:
        config = without_time(config)
    if config.prior.cond_dim is None:
        config = dataclasses.replace(config, prior=dataclasses.replace(config.prior, cond_dim=config.latent_dim))
    if config.train.beta and config.prior.cond_dim == 0:
        raise ValueError("train.beta: a flow with prior.cond_dim 0 has no class posteriors; set train.beta=0")
    if config.train.select == "accuracy" and config.prior.cond_dim == 0:
        raise ValueError("train.select: a flow with prior.cond_dim 0 makes no decisions; set train.select=nll")
    if config.flow.dropout and config.train.objective == "gaussianality":
        raise ValueError(
            "flow.dropout: train.objective gaussianality maps each batch twice, and alike; set one of them to its default"
        )
    check_channel(config)
    check_pieces(config)
    check_rate_of_vad(config)
    if config.vectors.front_end == "ubm" and config.vectors.ubm_ceps > config.features.num_filters:
        raise ValueError(
            f"vectors.ubm_ceps {config.vectors.ubm_ceps} is more than features.num_filters "
            f"{config.features.num_filters}; lower it"
        )
    if config.latent_dim is not None and config.prior.cond_dim > config.latent_dim:
        made_of = f"{config.splice.left} + 1 + {config.splice.right} frames of "
        made_of = "null: all of them" if config.has_vectors else f"{made_of}{config.features.dim}"
        raise ValueError(
            f"prior.cond_dim {config.prior.cond_dim} is more than the {config.latent_dim} dims of "
            f"{'a frame' if config.frame else f'a vector ({made_of})'}"
        )
    return config


def without_time(config: Config) -> Config:
    """Settings for utterances of one vector: what is about frames and their times is off.

    Raises:
        ValueError: a view of pieces of so many seconds, or a flow that is given the frames before.
    """
    if config.flow.kind == "conditional":
        raise ValueError(
            "flow.kind: conditional needs the frames before one, which vectors do not have; take another kind"
        )
    for name, view in config.data.views.items():
        if view.seconds:
            raise ValueError(
                f"data.views: {name}: a vector has no pieces of {view.seconds:g} seconds; take the view out"
            )
    off = {
        "frames": {"dtype": "float32"},
        "cmvn": {"scope": "speaker" if config.cmvn.scope == "speaker" else "none"},
        "augment": {"probability": 0.0},
        "train": {"pieces": 0.0},
        "splice": {"left": 0, "right": 0, "hop": 1},
        "latents": {"durations": []},
        "score": {"frame_scores": False},
        "calibrate": {"effective_frames": False, "duration": False},
    }
    sections = {name: dataclasses.replace(getattr(config, name), **values) for name, values in off.items()}
    return dataclasses.replace(config, **sections)


def check_pieces(config: Config) -> None:
    """Raise ``ValueError`` if ``train.pieces`` is shorter than a spliced vector, or would have no effect."""
    frames, seconds = config.splice.left + 1 + config.splice.right, config.train.pieces
    if not seconds:
        return
    if config.cmvn.scope not in ("utterance", "window"):
        raise ValueError(
            f"train.pieces: with cmvn.scope {config.cmvn.scope} the length of a recording does not change its "
            "normalization; set cmvn.scope to utterance or window, or train.pieces=0"
        )
    if round(seconds / config.features.frame_shift) < frames:
        raise ValueError(
            f"train.pieces {seconds:g} s is shorter than a vector of {frames} frames "
            f"({frames * config.features.frame_shift:g} s); set some seconds, or 0"
        )


def check_rate_of_vad(config: Config) -> None:
    """Raise ``ValueError`` if the network of ``vad.kind`` silero does not read the sampling rate."""
    if config.vad.kind == "silero" and config.features.sampling_rate not in (8000, 16000):
        raise ValueError(
            f"vad.kind: silero reads 8000 or 16000 Hz, not features.sampling_rate {config.features.sampling_rate}; "
            "set vad.kind=energy, or another rate with features.resample=true"
        )


def check_channel(config: Config) -> None:
    """Raise ``ValueError`` if augmentation or channel compensation would have no effect or cannot work."""
    augment, channel = config.augment, config.channel
    if augment.probability and config.cmvn.scope == "window":
        raise ValueError(
            "augment: the windows of frames that it changes are too short to be warped again, as cmvn.scope window "
            "would have to; set augment.probability=0, or another cmvn.scope"
        )
    only_curves = not (augment.band_limit or augment.reverb or augment.noise)
    if augment.probability and augment.renormalize and only_curves and config.cmvn.scope != "none":
        raise ValueError(
            f"augment: cmvn.scope {config.cmvn.scope} removes EQ and tilt completely; add noise, reverb or "
            "band_limit, or set augment.renormalize=false to keep them"
        )
    if augment.probability and config.features.use_fft_mag:
        raise ValueError(
            "augment needs power spectra, but features.use_fft_mag gives magnitudes; switch one of them off"
        )
    if channel.centre != "none" and config.prior.cond_dim in (0, 1):
        raise ValueError(
            f"channel: prior.cond_dim {config.prior.cond_dim} leaves no direction outside the span of the class means; raise it, or set channel.centre=none"
        )
    if channel.centre != "none" and config.prior.cond_r:
        raise ValueError(
            "channel.centre corrects only c, but with prior.cond_r r depends on the class, too; switch one of them off"
        )


@functools.cache
def read_defaults() -> dict[str, Any]:
    return read_yaml(DEFAULTS)


def defaults() -> dict[str, Any]:
    """A tree of all settings with their defaults, which the caller may change."""
    return copy.deepcopy(read_defaults())


def read_yaml(path: Path) -> dict[str, Any]:
    tree = load_yaml(path)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected 'section:' with 'key: value' lines below it")
    return tree


def parse_word(word: str) -> dict[str, Any]:
    name, equals, text = word.partition("=")
    keys = name.split(".")
    if not equals or not all(keys) or len(keys) > 2:
        raise ValueError(f"--set {word}: write section.key=value, e.g. train.lr=0.001")
    try:
        value = parse_value(text)
    except ValueError as error:
        raise ValueError(f"--set {word}: {error}") from None
    for key in reversed(keys):
        value = {key: value}
    return value


def merge(tree: dict[str, Any], more: Mapping[str, Any], source: str) -> None:
    """Merge ``more`` into ``tree``, which has every legal section and key."""
    for section, values in more.items():
        check_known(section, tree, source, "")
        if not isinstance(tree[section], dict):
            tree[section] = values
            continue
        if not isinstance(values, dict):
            raise ValueError(f"{source}: {section} is a section; set one of its keys: {', '.join(tree[section])}")
        for key, value in values.items():
            check_known(key, tree[section], source, f"{section}.")
            tree[section][key] = value
