"""The sections of the settings: one frozen dataclass each, which refuses values out of range.

Their defaults stand in ``conf/default.yaml``, with what each setting means; ``dnf.experiment.config`` reads them.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from dnf.experiment.setting_checks import below_one, between_0_and_1, different, is_colour, not_negative, positive

SET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Features:
    kind: Literal["fbank", "vectors"]
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
    min_duration: float
    max_rejected: float
    compress: bool

    def __post_init__(self):
        positive(self, "sampling_rate", "num_filters", "frame_length", "frame_shift", "energy_floor")
        not_negative(self, "min_duration", "max_rejected", "dither")
        if self.max_rejected > 1:
            raise ValueError(f"features.max_rejected is a share, 1 or less, not {self.max_rejected}")
        if self.num_filters < 4:
            raise ValueError(f"features.num_filters must be at least 4, not {self.num_filters}")
        top = self.high_freq if self.high_freq > 0 else self.sampling_rate / 2 + self.high_freq
        if not 0 <= self.low_freq < top <= self.sampling_rate / 2:
            raise ValueError(
                f"features.high_freq {self.high_freq} and low_freq {self.low_freq} leave no band up to "
                f"{self.sampling_rate / 2} Hz"
            )

    @property
    def dim(self) -> int:
        """F, values of a frame."""
        return {"fbank": self.num_filters}[self.kind]


@dataclass(frozen=True)
class VectorsSettings:
    front_end: Literal["files", "ubm", "pool", "encoder", "rates"]
    ubm_of: str | None
    ubm_components: int
    ubm_ceps: int
    ubm_lifter: int
    ubm_warp: float
    ubm_seconds: float
    ubm_iterations: int
    ubm_relevance: float
    pool_of: str | None
    encoder: Literal["resemblyzer"]
    encoder_hop: float
    centre: bool
    length_norm: bool
    project: Literal["none", "lda", "pca"]
    project_to: int
    whiten: bool
    dim: int | None

    def __post_init__(self):
        positive(self, "project_to", "encoder_hop", "ubm_components", "ubm_ceps")
        positive(self, "ubm_seconds", "ubm_iterations", "ubm_relevance")
        not_negative(self, "ubm_lifter", "ubm_warp")
        if self.dim is not None:
            positive(self, "dim")


@dataclass(frozen=True)
class Vad:
    energy_threshold: float
    energy_mean_scale: float
    frames_context: int
    proportion_threshold: float
    kind: Literal["energy", "relative", "silero"] = "energy"
    relative_share: float = 0.3
    silero_threshold: float = 0.5

    def __post_init__(self):
        not_negative(self, "frames_context", "proportion_threshold")
        between_0_and_1(self, "relative_share", "silero_threshold")


@dataclass(frozen=True)
class FramesSettings:
    dtype: Literal["float16", "float32"]


@dataclass(frozen=True)
class Cmvn:
    scope: Literal["none", "utterance", "speaker", "window"]
    variance: bool
    window: int = 300

    def __post_init__(self):
        if not 2 <= self.window <= 510:
            raise ValueError(f"cmvn.window must be from 2 to 510 frames, not {self.window}")
        if self.variance and self.scope == "window":
            raise ValueError("cmvn.variance: warped frames have variance 1 already; set cmvn.variance=false")

    @property
    def reach(self) -> int:
        """Frames on each side that the normalization of a frame needs."""
        return self.window // 2 if self.scope == "window" else 0


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
            raise ValueError(
                "augment.probability: no augmentation is set; set one of eq, tilt, band_limit, reverb, noise"
            )


@dataclass(frozen=True)
class ChannelSettings:
    centre: Literal["none", "set", "speaker", "utterance"]


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
    """A set made from others when scoring: their union, utterances in a range of scores, or pieces of a duration."""

    sets: list[str]
    scores: list[float] = dataclasses.field(default_factory=list)
    seconds: float | None = None

    def __post_init__(self):
        if not self.sets or len(set(self.sets)) < len(self.sets):
            raise ValueError(f"sets must be a list of different sets, not {self.sets}")
        if self.scores and (len(self.scores) != 2 or self.scores[0] > self.scores[1]):
            raise ValueError(f"scores must be [lowest, highest], not {self.scores}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds must be above 0, not {self.seconds}")


@dataclass(frozen=True)
class DataSettings:
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
            if name in {*self.train, *self.dev, *self.test}:
                raise ValueError(f"data.views: {name} is the name of a set; rename the view")
        for role in ("train", "dev"):
            sets = getattr(self, role)
            if not sets or len(set(sets)) < len(sets):
                raise ValueError(f"data.{role}: give at least one set, and no set twice, not {sets}")


@dataclass(frozen=True)
class Flow:
    first: Literal["standardize", "whiten", "joint"]
    first_trainable: bool
    kind: Literal["realnvp", "maf", "spline", "conditional"]
    blocks: int
    hidden: int
    layers: int
    activation: Literal["relu", "tanh", "silu"]
    mask: Literal["halves", "evenodd"]
    nets: Literal["one", "two"]
    mix: Literal["none", "permute", "lu"]
    dropout: float
    summary: int
    log_scale_bound: float
    bins: int
    tail_bound: float

    def __post_init__(self):
        positive(self, "blocks", "hidden", "layers", "summary", "log_scale_bound", "tail_bound")
        below_one(self, "dropout")
        if not 2 <= self.bins <= 100:
            raise ValueError(f"flow.bins must be from 2 to 100, not {self.bins}")


@dataclass(frozen=True)
class Prior:
    cond_dim: int | None
    var_c: float
    var_r: float
    cond_r: bool = False
    variances: Literal["fixed", "tied", "free"] = "fixed"

    def __post_init__(self):
        if self.cond_dim is not None:
            not_negative(self, "cond_dim")
        positive(self, "var_c", "var_r")
        if self.cond_r and self.cond_dim == 0:
            raise ValueError("prior.cond_r: a flow with prior.cond_dim 0 has no classes; raise prior.cond_dim")


@dataclass(frozen=True)
class Gaussianality:
    """Weights of the terms of Maximum Gaussianality training; ``dnf.training.objective`` says what they are."""

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
    sampling: Literal["natural", "balanced", "corpora"]
    pieces: float
    lr: float
    lr_final: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    precision: Literal["auto", "float32", "tf32", "bf16"]
    compile: Literal["auto", "always", "never"]
    eval_steps: int
    select: Literal["nll", "accuracy", "ce", "loss"]
    spike_factor: float
    max_restores: int
    num_gpus: int
    num_nodes: int
    from_model: str | None

    def __post_init__(self):
        positive(self, "num_gpus", "num_nodes", "epochs", "batch_size", "lr", "grad_clip", "spike_factor")
        not_negative(self, "micro_batch", "warmup_steps", "eval_steps", "max_restores")
        not_negative(self, "lr_final", "weight_decay", "beta", "pieces")
        below_one(self, "label_smoothing")
        if self.select == "ce" and not self.beta:
            raise ValueError("train.select: ce needs hybrid training; set train.beta, or train.select=nll")
        if self.select == "loss" and self.objective == "gaussianality":
            raise ValueError("train.select: loss needs train.objective=likelihood; set nll, accuracy or ce")
        if self.steps is not None:
            positive(self, "steps")


@dataclass(frozen=True)
class LatentsSettings:
    save_frames: int
    max_difference: float
    mardia_frames: int
    durations: list[float]
    duration_frames: int

    def __post_init__(self):
        not_negative(self, "save_frames", "duration_frames")
        positive(self, "max_difference", "mardia_frames")
        different(self, "durations", "numbers of seconds")
        if any(seconds <= 0 for seconds in self.durations):
            raise ValueError(f"latents.durations must be above 0, not {self.durations}")


@dataclass(frozen=True)
class Baselines:
    enabled: bool
    systems: list[Literal["lda", "qda", "gmm", "lr", "plda", "mlp"]]
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
        different(self, "systems", "systems")
        below_one(self, "mlp_dropout")


LEAST_TSNE_ITERATIONS = 250  # that scikit-learn takes: those of its early exaggeration


@dataclass(frozen=True)
class Plots:
    enabled: bool
    colours: dict[str, str]
    sets: list[str]
    max_points: int
    tsne_points: int
    tsne_perplexity: float
    tsne_iterations: int
    dpi: int

    def __post_init__(self):
        positive(self, "max_points", "tsne_points", "tsne_perplexity", "dpi")
        if self.tsne_iterations < LEAST_TSNE_ITERATIONS:
            raise ValueError(f"plots.tsne_iterations {self.tsne_iterations}: give {LEAST_TSNE_ITERATIONS} or more")
        for name, colour in self.colours.items():
            if not is_colour(colour):
                raise ValueError(f"plots.colours: {name}: {colour!r} is not a colour; try tab:blue or '#1f77b4'")


@dataclass(frozen=True)
class Score:
    frame_scores: bool


@dataclass(frozen=True)
class Decide:
    near_tie: float

    def __post_init__(self):
        not_negative(self, "near_tie")


@dataclass(frozen=True)
class OpenSetSettings:
    score: Literal["combined", "density", "typicality", "distance", "gap"]
    false_alarm: float

    def __post_init__(self):
        between_0_and_1(self, "false_alarm")


@dataclass(frozen=True)
class Assess:
    predictors: list[Literal["llr", "duration", "timing", "tempo", "latents", "vectors", "external"]]
    fit: list[str]
    regression: Literal["best", "svr", "ridge"]
    external: str | None

    def __post_init__(self):
        different(self, "predictors", "predictors")
        if ("external" in self.predictors) != (self.external is not None):
            raise ValueError(
                "assess.predictors: external needs assess.external, a file of lines 'utterance score', and the reverse; "
                "set both or none"
            )


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
        positive(self, "pseudo_speakers", "dcf_cost_miss", "dcf_cost_false")
        between_0_and_1(self, "dcf_prior")
        for name, prior in self.priors.items():
            if not prior > 0:
                raise ValueError(f"calibrate.priors: the prior of {name} must be above 0, not {prior}")


@dataclass(frozen=True)
class Report:
    bootstrap: int

    def __post_init__(self):
        positive(self, "bootstrap")
