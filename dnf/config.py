"""The settings: one frozen dataclass a section, filled from YAML files and ``section.key=value`` words.

Order of strength: ``conf/default.yaml`` < recipe < experiment YAML < command line. The defaults stand in
``conf/default.yaml`` alone; a key that is not there is an error that names the nearest one that is.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

SET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
DEFAULTS = Path(__file__).resolve().parent.parent / "conf" / "default.yaml"


@dataclass(frozen=True)
class Features:
    sampling_rate: int
    resample: bool
    channel: int | None
    num_filters: int
    frame_length: float
    frame_shift: float
    window_type: Literal["povey", "hanning", "hamming", "rectangular"]
    preemph_coeff: float
    remove_dc_offset: bool
    dither: float
    snip_edges: bool
    round_to_power_of_two: bool
    low_freq: float
    high_freq: float
    energy_floor: float
    raw_energy: bool
    use_fft_mag: bool
    norm_filters: bool
    min_duration: float
    max_rejected: float
    compress: bool

    def __post_init__(self):
        positive(self, "sampling_rate", "num_filters", "frame_length", "frame_shift", "energy_floor")
        not_negative(self, "min_duration", "max_rejected", "dither")
        if self.num_filters < 4:
            raise ValueError(f"features.num_filters must be at least 4, not {self.num_filters}")
        top = self.high_freq if self.high_freq > 0 else self.sampling_rate / 2 + self.high_freq
        if not 0 <= self.low_freq < top <= self.sampling_rate / 2:
            raise ValueError(
                f"features.high_freq {self.high_freq} and low_freq {self.low_freq} leave no band below "
                f"{self.sampling_rate / 2} Hz"
            )


@dataclass(frozen=True)
class Vad:
    energy_threshold: float
    energy_mean_scale: float
    frames_context: int
    proportion_threshold: float

    def __post_init__(self):
        not_negative(self, "frames_context", "proportion_threshold")


@dataclass(frozen=True)
class Frames:
    dtype: Literal["float16", "float32"]


@dataclass(frozen=True)
class Cmvn:
    scope: Literal["none", "utterance", "speaker"]
    variance: bool


@dataclass(frozen=True)
class Augment:
    probability: float
    eq: float
    tilt: float
    band_limit: float
    reverb: float
    noise: list[float]
    renormalize: bool

    def __post_init__(self):
        not_negative(self, "probability", "eq", "tilt", "band_limit", "reverb")
        if self.probability > 1 or self.band_limit > 0.5:
            raise ValueError(
                f"augment.probability {self.probability} must be at most 1, band_limit {self.band_limit} at most 0.5"
            )
        if self.noise and (len(self.noise) != 2 or self.noise[0] > self.noise[1]):
            raise ValueError(f"augment.noise must be [] or [lowest, highest] in dB, not {self.noise}")
        if self.probability and not (self.eq or self.tilt or self.band_limit or self.reverb or self.noise):
            raise ValueError("augment.probability: nothing to augment by; set one of eq, tilt, band_limit, reverb, noise")


@dataclass(frozen=True)
class Channel:
    centre: Literal["none", "set", "speaker", "utterance"]
    nap: int

    def __post_init__(self):
        not_negative(self, "nap")


@dataclass(frozen=True)
class Splice:
    left: int
    right: int
    hop: int

    def __post_init__(self):
        positive(self, "hop")
        not_negative(self, "left", "right")


@dataclass(frozen=True)
class View:
    """A set made of others when scoring: their union, or the utterances of a score, or pieces of a length."""

    sets: list[str]
    scores: list[float] = dataclasses.field(default_factory=list)
    seconds: float | None = None

    def __post_init__(self):
        if not self.sets or len(set(self.sets)) < len(self.sets):
            raise ValueError(f"sets must name sets, each once, not {self.sets}")
        if self.scores and (len(self.scores) != 2 or self.scores[0] > self.scores[1]):
            raise ValueError(f"scores must be [lowest, highest], not {self.scores}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds must be above 0, not {self.seconds}")


@dataclass(frozen=True)
class Data:
    train: list[str]
    dev: list[str]
    test: list[str]
    classes: list[str]
    views: dict[str, View]
    controls: dict[str, str]
    shared_speakers: bool

    def __post_init__(self):
        for name in self.views:
            if not SET_NAME.fullmatch(name):
                raise ValueError(f"data.views: {name!r} cannot be the name of a folder; use letters, digits, _ . + -")
        for role in ("train", "dev"):
            sets = getattr(self, role)
            if not sets or len(set(sets)) < len(sets):
                raise ValueError(f"data.{role}: name at least one set, and each once, not {sets}")


@dataclass(frozen=True)
class Flow:
    blocks: int
    hidden: int
    layers: int
    activation: Literal["relu", "tanh", "silu"]
    mask: Literal["halves", "evenodd"]
    nets: Literal["one", "two"]
    log_scale_bound: float

    def __post_init__(self):
        positive(self, "blocks", "hidden", "layers", "log_scale_bound")


@dataclass(frozen=True)
class Prior:
    cond_dim: int
    var_c: float
    var_r: float
    cond_r: bool = False
    variances: Literal["fixed", "tied", "free"] = "fixed"

    def __post_init__(self):
        not_negative(self, "cond_dim")
        positive(self, "var_c", "var_r")
        if self.cond_r and not self.cond_dim:
            raise ValueError("prior.cond_r: a flow with prior.cond_dim 0 knows no classes; give c some dims")


@dataclass(frozen=True)
class Gaussianality:
    """Weights of the terms of Maximum Gaussianality training; ``dnf.objective`` says what they are."""

    length: float
    angle: float
    class_length: float
    class_angle: float

    def __post_init__(self):
        not_negative(self, "length", "angle", "class_length", "class_angle")


@dataclass(frozen=True)
class Train:
    epochs: int
    steps: int | None
    objective: Literal["likelihood", "gaussianality"]
    beta: float
    label_smoothing: float
    batch_size: int
    micro_batch: int
    sampling: Literal["natural", "balanced"]
    lr: float
    lr_final: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    precision: Literal["float32", "tf32", "bf16"]
    eval_steps: int
    select: Literal["nll", "accuracy", "ce", "loss"]
    spike_factor: float
    max_restores: int
    num_gpus: int
    num_nodes: int

    def __post_init__(self):
        positive(self, "num_gpus", "num_nodes", "epochs", "batch_size", "lr", "grad_clip", "spike_factor")
        not_negative(self, "micro_batch", "warmup_steps", "eval_steps", "max_restores", "lr_final", "weight_decay", "beta")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"train.label_smoothing must lie in 0..1, 1 left out, not {self.label_smoothing}")
        if self.select == "ce" and not self.beta:
            raise ValueError("train.select: ce goes with hybrid training; set train.beta or choose by nll")
        if self.select == "loss" and self.objective == "gaussianality":
            raise ValueError("train.select: loss is that of train.objective likelihood; choose by nll, accuracy or ce")
        if self.steps is not None:
            positive(self, "steps")


@dataclass(frozen=True)
class Latents:
    save_frames: int
    max_difference: float
    mardia_frames: int
    durations: list[float]
    duration_frames: int

    def __post_init__(self):
        not_negative(self, "save_frames", "duration_frames")
        positive(self, "max_difference", "mardia_frames")
        if any(seconds <= 0 for seconds in self.durations) or len(set(self.durations)) < len(self.durations):
            raise ValueError(f"latents.durations must be seconds above 0, each once, not {self.durations}")


@dataclass(frozen=True)
class Baselines:
    enabled: bool
    systems: list[Literal["lda", "gmm", "mlp"]]
    max_frames: int
    gmm_components: int
    mlp_hidden: int
    mlp_layers: int
    mlp_dropout: float
    mlp_epochs: int
    mlp_lr: float
    mlp_weight_decay: float

    def __post_init__(self):
        positive(self, "max_frames", "gmm_components", "mlp_hidden", "mlp_layers", "mlp_epochs", "mlp_lr")
        not_negative(self, "mlp_weight_decay")
        if len(set(self.systems)) < len(self.systems):
            raise ValueError(f"baselines.systems must name each once, not {self.systems}")
        if not 0 <= self.mlp_dropout < 1:
            raise ValueError(f"baselines.mlp_dropout must be from 0 to below 1, not {self.mlp_dropout}")


@dataclass(frozen=True)
class Plots:
    colours: dict[str, str]
    max_points: int
    tsne_points: int
    tsne_perplexity: float
    dpi: int

    def __post_init__(self):
        positive(self, "max_points", "tsne_points", "tsne_perplexity", "dpi")


@dataclass(frozen=True)
class Score:
    frame_scores: bool


@dataclass(frozen=True)
class Decide:
    near_tie: float

    def __post_init__(self):
        not_negative(self, "near_tie")


@dataclass(frozen=True)
class OpenSet:
    score: Literal["combined", "density", "typicality", "distance", "gap"]
    false_alarm: float

    def __post_init__(self):
        if not 0 < self.false_alarm < 1:
            raise ValueError(f"open_set.false_alarm must be between 0 and 1, not {self.false_alarm}")


@dataclass(frozen=True)
class Calibrate:
    enabled: bool
    priors: dict[str, float]
    effective_frames: bool
    duration: bool
    pseudo_speakers: float
    dcf_prior: float
    dcf_cost_miss: float
    dcf_cost_false: float

    def __post_init__(self):
        positive(self, "pseudo_speakers", "dcf_prior", "dcf_cost_miss", "dcf_cost_false")
        if not self.dcf_prior < 1:
            raise ValueError(f"calibrate.dcf_prior must be below 1, not {self.dcf_prior}")
        for name, prior in self.priors.items():
            if not prior > 0:
                raise ValueError(f"calibrate.priors: that of {name} must be above 0, not {prior}")


@dataclass(frozen=True)
class Report:
    bootstrap: int

    def __post_init__(self):
        positive(self, "bootstrap")


@dataclass(frozen=True)
class Config:
    """All settings of an experiment; ``Config.load`` reads them back from the ``config.yaml`` a stage left behind."""

    seed: int
    features: Features
    vad: Vad
    frames: Frames
    cmvn: Cmvn
    augment: Augment
    channel: Channel
    splice: Splice
    data: Data
    flow: Flow
    prior: Prior
    train: Train
    gaussianality: Gaussianality
    latents: Latents
    baselines: Baselines
    plots: Plots
    score: Score
    decide: Decide
    open_set: OpenSet
    calibrate: Calibrate
    report: Report

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, but is {self.seed}")

    @classmethod
    def load(cls, path: Path) -> Config:
        return resolve([path])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(yaml.safe_dump(dataclasses.asdict(self), sort_keys=False), encoding="utf-8")
        temporary.replace(path)

    @property
    def dim(self) -> int:
        """Dimension D of a spliced vector."""
        return (self.splice.left + 1 + self.splice.right) * self.features.num_filters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options ``--config FILE`` and ``--set SECTION.KEY=VALUE``, kept in ``layers`` in the order they are given."""
    parser.add_argument(
        "--config", dest="layers", type=Path, action="append", default=[], metavar="FILE", help="YAML settings; the later wins"
    )
    parser.add_argument(
        "--set", dest="layers", action="append", metavar="SECTION.KEY=VALUE", help="one setting; the later of --config and --set wins"
    )


def resolve(layers: Iterable[Path | str]) -> Config:
    """Defaults, then each layer, a YAML file (``Path``) or a ``section.key=value`` word; later ones win.

    Raises:
        ValueError: an unknown section or key (with the nearest known one), a value of the wrong type or out of range.
    """
    tree = read_yaml(DEFAULTS)
    for layer in layers:
        if isinstance(layer, Path):
            merge(tree, read_yaml(layer), str(layer))
        else:
            merge(tree, parse_word(layer), f"--set {layer}")
    return from_tree(tree)


def from_saved(tree: Mapping[str, Any]) -> Config:
    """The settings that a checkpoint holds; those that are younger than the checkpoint have their defaults."""
    full = read_yaml(DEFAULTS)
    merge(full, tree, "the checkpoint")
    return from_tree(full)


def from_tree(tree: Mapping[str, Any]) -> Config:
    """The settings from a tree of plain values that names every one of them."""
    config = build(Config, tree, "")
    if config.train.beta and config.prior.cond_dim == 0:
        raise ValueError("train.beta: a flow with prior.cond_dim 0 has no class posteriors; train it with beta 0")
    if config.train.select == "accuracy" and config.prior.cond_dim == 0:
        raise ValueError("train.select: a flow with prior.cond_dim 0 decides nothing; choose it by nll")
    check_channel(config)
    if config.prior.cond_dim > config.dim:
        raise ValueError(
            f"prior.cond_dim {config.prior.cond_dim} is more than the {config.dim} dims of a vector "
            f"({config.splice.left} + 1 + {config.splice.right} frames of {config.features.num_filters})"
        )
    return config


def check_channel(config: Config) -> None:
    """Raise ``ValueError`` where means against the channel would do nothing or could not work."""
    augment, channel = config.augment, config.channel
    only_curves = not (augment.band_limit or augment.reverb or augment.noise)
    if augment.probability and augment.renormalize and only_curves and config.cmvn.scope != "none":
        raise ValueError(
            f"augment: cmvn.scope {config.cmvn.scope} takes EQ and tilt away again, whole; add noise, reverb or band_limit, or "
            "set augment.renormalize=false to leave them in"
        )
    if augment.probability and config.features.use_fft_mag:
        raise ValueError("augment: adds powers, and features.use_fft_mag makes magnitudes; set one of them to off")
    if (channel.nap or channel.centre != "none") and config.prior.cond_dim < 2:
        raise ValueError(f"channel: prior.cond_dim {config.prior.cond_dim} leaves no direction beside those of the classes")
    if (channel.nap or channel.centre != "none") and config.prior.cond_r:
        raise ValueError("channel: corrects c alone, and with prior.cond_r the class is in r, too; set one of them to off")
    if channel.nap and channel.nap >= config.prior.cond_dim:
        raise ValueError(f"channel.nap {channel.nap} must be below prior.cond_dim {config.prior.cond_dim}")


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected 'section:' with 'key: value' lines below it")
    return tree


def parse_word(word: str) -> dict[str, Any]:
    name, equals, text = word.partition("=")
    keys = name.split(".")
    if not equals or not all(keys) or len(keys) > 2:
        raise ValueError(f"--set {word}: must be of the form section.key=value, e.g. train.lr=0.001")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"--set {word}: {text!r} is not a value") from None
    for key in reversed(keys):
        value = {key: value}
    return value


def merge(tree: dict[str, Any], more: Mapping[str, Any], source: str) -> None:
    """Lay ``more`` over ``tree``, which knows every legal section and key."""
    for section, values in more.items():
        known(section, tree, source, "")
        if not isinstance(tree[section], dict):
            tree[section] = values
            continue
        if not isinstance(values, dict):
            raise ValueError(f"{source}: {section} is a section; set one of its keys: {', '.join(tree[section])}")
        for key, value in values.items():
            known(key, tree[section], source, f"{section}.")
            tree[section][key] = value


def known(name: str, tree: Mapping[str, Any], source: str, prefix: str) -> None:
    if name not in tree:
        near = difflib.get_close_matches(str(name), tree, n=1, cutoff=0.0)[0]
        raise ValueError(f"{source}: unknown setting {prefix}{name}; the nearest known one is {prefix}{near}")


def build(cls: type, tree: Mapping[str, Any], prefix: str):
    hints = typing.get_type_hints(cls)
    missing = hints.keys() - tree.keys()
    if missing:
        raise ValueError(f"{DEFAULTS}: no default for {prefix}{sorted(missing)[0]}")
    return cls(**{key: convert(tree[key], hints[key], prefix + key) for key in hints})


def build_view(tree: Any, name: str) -> View:
    """A view; what is not given has its default."""
    hints = typing.get_type_hints(View)
    if not isinstance(tree, dict) or "sets" not in tree:
        raise ValueError(f"{name}: {tree!r} is not a view such as {{sets: [a, b]}}")
    for key in tree:
        known(key, hints, name, f"{name}.")
    values = {key: convert(value, hints[key], f"{name}.{key}") for key, value in tree.items()}
    try:
        return View(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def convert(value: Any, hint: Any, name: str) -> Any:
    """``value`` as the type the field asks for; YAML reads 1e-3 as text, so a float may come as text."""
    if dataclasses.is_dataclass(hint):
        return build_view(value, name) if hint is View else build(hint, value, f"{name}.")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(map(str, args))}")
        return value
    if origin is types.UnionType:
        return None if value is None else convert(value, args[0], name)
    if origin is list:
        items = [value] if args[0] is str and isinstance(value, str) else value
        if not isinstance(items, list) or args[0] is str and not all(isinstance(item, str) for item in items):
            raise ValueError(f"{name}: {value!r} is not a list such as [a, b]")
        return [convert(item, args[0], name) for item in items]
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"{name}: {value!r} is not a map such as {{a: b}}")
        if args[1] is str and not all(isinstance(item, str) for item in value.values()):
            raise ValueError(f"{name}: {value!r} is not a map such as {{a: b}}")
        return {key: convert(item, args[1], f"{name}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    if type(value) is not hint:
        raise ValueError(f"{name}: {value!r} is not {'text' if hint is str else hint.__name__}")
    return value


def positive(section, *names: str) -> None:
    for name in names:
        if not getattr(section, name) > 0:
            raise ValueError(f"{type(section).__name__.lower()}.{name} must be above 0, not {getattr(section, name)}")


def not_negative(section, *names: str) -> None:
    for name in names:
        if getattr(section, name) < 0:
            raise ValueError(
                f"{type(section).__name__.lower()}.{name} must not be negative, but is {getattr(section, name)}"
            )
