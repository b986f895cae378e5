"""Files and folders of a run, its stages, and its systems: the flow and the baselines."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from dnf.experiment.files import write_json

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
DEFAULTS = ROOT / "conf" / "default.yaml"

# data/: one folder per set
CLASSES_TXT = "classes.txt"
MISSING_TXT = "missing.txt"
HASHES_JSONL = "hashes.jsonl"
LISTS = "lists"

# Own data as one table
RECORDINGS_TSV = "recordings.tsv"
RECORDINGS_CSV = "recordings.csv"

# data/<set>/: Kaldi's tables and Lhotse's manifests
RECORDINGS_JSONL = "recordings.jsonl.gz"
SUPERVISIONS_JSONL = "supervisions.jsonl.gz"
WAV_SCP = "wav.scp"
SEGMENTS = "segments"
UTT2SPK = "utt2spk"
SPK2UTT = "spk2utt"
SPK2GENDER = "spk2gender"
UTT2SESS = "utt2sess"
TRIALS = "trials"
UTT2CLASS = "utt2class"
UTT2SCORE = "utt2score"
UTT2SCORES = "utt2scores"
UTT2CORPUS = "utt2corpus"
UTT2DUR = "utt2dur"
UTT2NUM_FRAMES = "utt2num_frames"
FEATS_SCP = "feats.scp"
VAD_SCP = "vad.scp"
CMVN_SCP = "cmvn.scp"
CMVN_ARK = "cmvn.ark"
REJECTED_TXT = "rejected.txt"
VECTOR_SCP = "vector.scp"
VECTOR_ARK = "vector.ark"

# Own data as vectors
VECTORS_NPZ = "vectors.npz"
VECTORS_NPY = "vectors.npy"
VECTORS_TSV = "vectors.tsv"
UTTERANCE_VECTORS = (VECTOR_SCP, "xvector.scp", "ivector.scp")  # Kaldi's names of a table of vectors
SPEAKER_VECTORS = ("spk_vector.scp", "spk_xvector.scp", "spk_ivector.scp")

# exp/feats/<set>/ and exp/frames/<set>/
META_JSON = "meta.json"
FRAMES_BIN = "frames.bin"
CENTRES_BIN = "centres.bin"
STATS_BIN = "stats.bin"
SPOKEN_NPY = "spoken.npy"
OFFSETS_NPY = "offsets.npy"
ALI_SCP = "ali.scp"
PREPROCESSING_NPZ = "preprocessing.npz"
UBM_NPZ = "ubm.npz"
FLOW_PT = "flow.pt"
VECTOR = "vector"  # .scp: vectors of a front-end
SUFFSTATS = "suffstats"  # .scp: zeroth- and first-order statistics

# Folders that are of no experiment: exp/feats/, exp/frames/ and exp/sweeps/; own/<corpus>/ below data/, exp/feats/ and
# exp/frames/ is for a user's own recordings
DATA = "data"
FEATS = "feats"
FRAMES = "frames"
SWEEPS = "sweeps"
OWN = "own"
NOT_EXPERIMENTS = (FEATS, FRAMES, SWEEPS)

# exp/<experiment>/
LAYOUT_JSON = "layout.json"
MODEL_JSON = "model.json"
MEMBERS_JSON = "members.json"
FUSION_JSON = "fusion.json"
CONFIG_YAML = "config.yaml"
ENV_JSON = "env.json"
HISTORY_TSV = "history.tsv"
BEST_PT = "best.pt"
LAST_PT = "last.pt"
TRAINING_JSON = "training.json"
RENDEZVOUS_JSON = "rendezvous.json"
AGREEMENT_JSON = "agreement.json"
GAUSSIANITY_TSV = "gaussianity.tsv"
GAUSSIANITY_DIMS_TSV = "gaussianity_dims.tsv"
AUTOCORRELATION_TSV = "autocorrelation.tsv"
FISHER_TSV = "fisher.tsv"
PIECES_TSV = "pieces.tsv"
LEFT_OUT_TSV = "left_out.tsv"
CHANNEL_JSON = "channel.json"
BANDS_NPZ = "bands.npz"
SHIFTED_NPZ = "shifted.npz"
ACCURACY_TSV = "accuracy.tsv"
FITTED_TSV = "fitted.tsv"
PAIRS_TSV = "pairs.tsv"
DURATIONS_TSV = "durations.tsv"
SPEAKERS_TSV = "speakers.tsv"
BY_SCORE_TSV = "by_score.tsv"
BY_CORPUS_TSV = "by_corpus.tsv"
DECILES_TSV = "deciles.tsv"
ASSESS_NPZ = "assess.npz"
CALIBRATION_JSON = "calibration.json"
OPEN_SET_JSON = "open_set.json"
OPEN_SET_NPZ = "open_set.npz"
OPEN_SET_TSV = "open_set.tsv"
DOUBT_JSON = "doubt.json"
BIAS_NPZ = "bias.npz"
DOUBT_TSV = "doubt.tsv"
RESULTS_TSV = "results.tsv"
RESULTS_TXT = "results.txt"
REPORT_HTML = "report.html"
CORRECTION_NPZ = "correction.npz"

# A model that python3 -m dnf export wrote: a folder with some files of an experiment, and
CARD_MD = "card.md"
MODEL_ONNX = "model.onnx"

# The folder of scores on other data, where nobody names one
SCORED = "score"

# exp/, the folder of all experiments
COMPARISON_HTML = "comparison.html"
LEFT_OUT_CORPORA_TSV = "left_out_corpora.tsv"

# exp/<experiment>/latents/<set>/ and scores/<set>/
UTTS_TSV = "utts.tsv"
Z_NPY = "z.npy"
Z_ROWS_NPY = "z_rows.npy"
Z_MEAN_NPY = "z_mean.npy"
Z_SQUASHED_NPY = "z_squashed.npy"
LOGP_NPY = "logp.npy"
LOGDET_NPY = "logdet.npy"
CHANNEL_NPY = "channel.npy"
DENSITIES_TSV = "densities.tsv"
UTT_SCORES_TXT = "utt_scores.txt"

# exp/<experiment>/verify/<trials>/
SCORES_TSV = "scores.tsv"
DET = "det"

# exp/<experiment>/baselines/<system>/
MODEL_PT = "model.pt"

# Folders of an experiment
LATENTS = "latents"
PLOTS = "plots"
DECISIONS = "decisions"
SCORES = "scores"
BASELINES = "baselines"
ASSESS = "assess"
MOVE = "move"
LOG = "log"
MEMBERS = "members"  # of a fused system, scored on other data
TENSORBOARD = "tb"
SPLICED = "spliced"
NORMALIZED = "normalized"
VERIFY = "verify"


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        number: as ``run.sh`` counts them.
        title: its output.
        settings: sections or keys of the settings it depends on.
        after: the stages it reads, which must be done.
        place: of its folder in a ``Layout``.
        shows: stages whose output it uses if it exists.
        of_vectors: more of the settings that it depends on where ``features.kind`` is vectors.
    """

    number: int
    title: str
    settings: tuple[str, ...]
    after: tuple[str, ...]
    place: str
    shows: tuple[str, ...] = ()
    of_vectors: tuple[str, ...] = ()


STAGES = {
    "data": Stage(0, "corpus to manifests and data directories", ("seed",), (), "data", of_vectors=("features.kind",)),
    "features": Stage(
        1,
        "fbank, energy VAD, CMVN statistics, or vectors",
        ("features", "vad"),
        ("data",),
        "feats",
        of_vectors=(
            "seed",
            "data.train",
            "data.classes",
            *(f"vectors.{name}" for name in ("front_end", "ubm_components", "ubm_ceps", "ubm_lifter", "ubm_warp")),
            *(
                f"vectors.{name}"
                for name in ("ubm_seconds", "ubm_iterations", "ubm_of", "pool_of", "encoder", "encoder_hop")
            ),
        ),
    ),
    "frames": Stage(
        2,
        "frame stores",
        ("frames",),
        ("features",),
        "frames",
        of_vectors=("vectors", "data.train", "data.classes"),
    ),
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
        (
            "seed",
            "data.classes",
            "decide",
            "calibrate",
            "assess",
            "open_set",
            "report",
            "plots.dpi",
            "plots.enabled",
            "plots.sets",
        ),
        ("score",),
        "exp",
    ),
    "report": Stage(8, "results.txt, results.tsv, report.html", ("data.controls",), ("decide",), "exp", ("plots",)),
}


def run_stage(name: str) -> str:
    """The remedy if a stage has not run."""
    return f"run stage {name} (--stage {STAGES[name].number})"


def run_again(name: str) -> str:
    """The remedy if the output of a stage is wrong."""
    return f"run stage {name} again (--stage {STAGES[name].number})"


# Optional steps of run.sh beside the stages, with the same kind of done-marker
STEPS = {**STAGES, "spliced": Stage(2, "arks of spliced vectors", ("cmvn", "splice"), ("frames",), "spliced")}


def done_marker(folder: Path, name: str) -> Path:
    """The marker of a stage that is done, in the folder it writes to."""
    return folder / f".done.{name}"


def check_folder(exp: Path) -> None:
    """Raise ``ValueError`` if what was named as the folder of an experiment, or of several, is none."""
    if not exp.is_dir():
        reason = "is a file" if exp.exists() else "no such folder"
        raise ValueError(f"{exp}: {reason}; name the folder of an experiment")


def is_taken(exp: Path) -> bool:
    """Whether the model in folder ``exp`` was trained elsewhere, so that stages apply what came with it and fit nothing."""
    return (exp / MODEL_JSON).is_file()


def is_fused(exp: Path) -> bool:
    """Whether folder ``exp`` has the scores of several systems fused (``dnf fuse``), and no model of its own."""
    return (exp / MEMBERS_JSON).is_file()


def members_of(exp: Path) -> list[Path]:
    """Folders of the systems that are fused in folder ``exp``, whose paths ``members.json`` has relative to it."""
    names = json.loads((exp / MEMBERS_JSON).read_text(encoding="utf-8"))
    return [Path(os.path.normpath(exp / name)) for name in names]


def present_members(exp: Path) -> list[Path]:
    """The same; ``ValueError`` if one does not exist."""
    members = members_of(exp)
    for member in members:
        if not member.is_dir():
            raise ValueError(
                f"{exp / MEMBERS_JSON}: member {member} does not exist; move a fused system with its members"
            )
    return members


# The stages of a fused system: latents are the fused log-likelihoods
OF_FUSED = ("latents", "score", "decide", "report")


@dataclass(frozen=True)
class Layout:
    """The folders of one experiment, by the place a stage writes to."""

    data: Path
    feats: Path
    frames: Path
    exp: Path

    @classmethod
    def make(cls, exp: Path, name: str, corpus: str = "", *, has_vectors: bool = False) -> Layout:
        """The folders of an experiment of a run.

        Args:
            exp: folder of all experiments, ``exp/``; ``data/`` is beside it.
            name: of the experiment.
            corpus: name of the user's own recordings; empty for those of the recipe.
            has_vectors: whether utterances are vectors; what is made of these is small, and the experiment's own.

        Raises:
            ValueError: the folder of that name has other contents.
        """
        below = (OWN, corpus) if corpus else ()
        data = Path(os.path.normpath(exp / ".." / DATA), *below)
        folder = exp / (f"{corpus}_{name}" if corpus else name)
        if folder.name in NOT_EXPERIMENTS:
            raise ValueError(f"experiment {name}: {folder} has other contents; rename the experiment")
        if has_vectors:
            return cls(data, folder / FEATS, folder / FRAMES, folder)
        return cls(data, exp.joinpath(FEATS, *below), exp.joinpath(FRAMES, *below), folder)

    @classmethod
    def read(cls, exp: Path) -> Layout:
        """The folders of the experiment in folder ``exp``, as ``save`` wrote them; without a file, those of a recipe.

        Raises:
            ValueError: the file cannot be read.
        """
        path, places = exp / LAYOUT_JSON, {"data": f"../../{DATA}", "feats": f"../{FEATS}", "frames": f"../{FRAMES}"}
        if path.is_file():
            try:
                noted = json.loads(path.read_text(encoding="utf-8"))
                places = {name: str(noted[name]) for name in places}
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}: does not name {', '.join(places)}; restore it, or remove {exp}") from None
        return cls(**{name: Path(os.path.normpath(exp / place)) for name, place in places.items()}, exp=exp)

    def save(self) -> None:
        """Write the relative paths of the other folders into the experiment's folder."""
        write_json(
            self.exp / LAYOUT_JSON,
            {name: os.path.relpath(getattr(self, name), self.exp) for name in ("data", "feats", "frames")},
        )

    @property
    def spliced(self) -> Path:
        return self.exp / SPLICED

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages that run here; the pictures of stage plots need latents of training, which a taken model lacks."""
        if is_fused(self.exp):
            return {name: STAGES[name] for name in OF_FUSED}
        return {name: stage for name, stage in STAGES.items() if name != "plots" or not is_taken(self.exp)}

    def folder(self, name: str) -> Path:
        return getattr(self, STEPS[name].place)

    def marker(self, name: str) -> Path:
        return done_marker(self.folder(name), name)

    def started(self, name: str) -> Path:
        return self.folder(name) / f".started.{name}"


FLOW = "dnf"


def experiment_of(system: Path) -> Path:
    """The experiment that a system belongs to; its folder may be relative to any place, such as ``.`` or ``../mlp``."""
    for folder in (system, Path(os.path.abspath(system))):
        if folder.parent.name == BASELINES:
            return folder.parent.parent
    return system


def systems(exp: Path) -> dict[str, Path]:
    """Folder of each system by its name, the flow first; each has ``latents/<set>/`` in the form of stage latents.

    Args:
        exp: folder of the experiment, which is that of the flow; a baseline's is ``baselines/<name>`` below it.
    """
    baselines = sorted(path for path in (exp / BASELINES).glob("*") if any(path.glob(f"{LATENTS}/*/{META_JSON}")))
    return {FLOW: exp, **{path.name: path for path in baselines}}
