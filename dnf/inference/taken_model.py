"""Copy a trained model to a new folder, to score other data: settings, weights, calibration and thresholds.

The folder has the layout of an experiment. Its stage train copies the model instead of training one. Later stages apply the
copied calibration and thresholds, and fit nothing. ``model.json`` has the hash of each file, and the marker of stage train
has the hash of ``model.json``, so a changed model makes all outputs of the old one out of date. The source folder does not
change.

``plan`` prints the same assignments as ``dnf.experiment.plan``, ``note`` writes ``model.json``, ``take`` copies the files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dnf.experiment import entry, packages
from dnf.experiment.classes import reference_first
from dnf.experiment.config import add_arguments, from_saved, resolve
from dnf.experiment.files import write_json
from dnf.experiment.layout import (
    ACCURACY_TSV,
    AGREEMENT_JSON,
    ASSESS_NPZ,
    BANDS_NPZ,
    BASELINES,
    BEST_PT,
    BIAS_NPZ,
    CALIBRATION_JSON,
    CHANNEL_JSON,
    CONFIG_YAML,
    CORRECTION_NPZ,
    DATA,
    DOUBT_JSON,
    ENV_JSON,
    FEATS,
    FITTED_TSV,
    FLOW,
    FLOW_PT,
    FRAMES,
    MODEL_JSON,
    MODEL_PT,
    OPEN_SET_JSON,
    OPEN_SET_NPZ,
    PAIRS_TSV,
    PREPROCESSING_NPZ,
    SCORED,
    TRAINING_JSON,
    UBM_NPZ,
    Layout,
    done_marker,
    is_fused,
    is_taken,
    run_stage,
)
from dnf.experiment.markers import read_marker
from dnf.experiment.plan import assignments, check_folders, check_out, check_recordings
from dnf.experiment.sets import fitted_sets
from dnf.experiment.stage import settings_of
from dnf.experiment.tables import read_tsv, write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.scoring.channel_model import ChannelModel

NEEDED = {BEST_PT: "train", CONFIG_YAML: "train", ENV_JSON: "train", TRAINING_JSON: "train"}
NEEDED |= {AGREEMENT_JSON: "latents", ACCURACY_TSV: "decide"}
OPTIONAL = (
    CHANNEL_JSON,
    BANDS_NPZ,
    CORRECTION_NPZ,
    CALIBRATION_JSON,
    OPEN_SET_JSON,
    OPEN_SET_NPZ,
    DOUBT_JSON,
    BIAS_NPZ,
    PAIRS_TSV,
    ASSESS_NPZ,
)
# What stages before train apply
OF_VECTORS = (f"{FEATS}/{UBM_NPZ}", f"{FEATS}/{FLOW_PT}", f"{FRAMES}/{PREPROCESSING_NPZ}")
OF_BASELINE = (MODEL_PT, CALIBRATION_JSON)
OF_DATA = ("features.resample", "features.channel", "features.min_duration", "features.max_rejected")


class Model(NamedTuple):
    """An experiment, and its baselines that are scored beside the flow."""

    exp: Path
    baselines: list[str]

    @property
    def files(self) -> list[str]:
        """The files to copy, as paths below the experiment."""
        of_baselines = (f"{BASELINES}/{name}/{file}" for name in self.baselines for file in OF_BASELINE)
        return [name for name in (*NEEDED, *OPTIONAL, *OF_VECTORS, *of_baselines) if (self.exp / name).is_file()]


def find_model(folder: Path) -> Model:
    """The model in ``folder``: an experiment with all its baselines, or a baseline with the flow of its experiment.

    Raises:
        ValueError: there is no model, a stage with required output has not run, or the channels are of an earlier version.
    """
    exp, name = Path(os.path.abspath(folder)), ""
    if (exp / MODEL_PT).is_file() and exp.parent.name == BASELINES:
        exp, name = exp.parents[1], exp.name
    elif not (exp / BEST_PT).is_file():
        raise ValueError(f"{folder}: no model; name an experiment that has {BEST_PT}, or a folder of its {BASELINES}/")
    for file, stage in NEEDED.items():
        if not (exp / file).is_file():
            raise ValueError(f"{exp / file}: does not exist; {run_stage(stage)}")
    if (exp / CHANNEL_JSON).is_file():
        ChannelModel.load(exp / CHANNEL_JSON)
    baselines = sorted(path.parent.name for path in exp.glob(f"{BASELINES}/*/{MODEL_PT}"))
    return Model(exp, [name] if name else baselines)


def layers_of(model: Model, words: Sequence[Path | str]) -> list[Path | str]:
    """Settings for scoring: those of the experiment with the sets of the new data, then ``words``.

    Raises:
        ValueError: they contradict those of the model.
    """
    from dnf.models.checkpoint import load  # slow to import, and only the plan needs it

    path = model.exp / BEST_PT
    content = load(path)
    made, classes = from_saved(content["config"]), content["classes"]
    packages.check(made)
    if made.reads_vectors:
        raise ValueError(f"{path}: the model takes vectors that come with the data, and score reads recordings")
    order = reference_first(classes, resolve([model.exp / CONFIG_YAML]).data.classes)
    sets = [f"data.classes=[{', '.join(order)}]", "data.test=[]", "data.views={}", "data.controls={}"]
    layers = [model.exp / CONFIG_YAML, *sets, *words]
    asked = resolve(layers)
    for stage in ("features", "frames", "train"):
        before = settings_of(stage, made)
        for name, value in settings_of(stage, asked).items():
            if value != before[name] and name not in (*OF_DATA, "data.classes"):
                raise ValueError(
                    f"{path}: was trained with {name}={before[name]}, which cannot change to {value} for scoring; "
                    "remove this setting, or train a model with it"
                )
    return layers


def hashes(folder: Path, files: Iterable[str]) -> dict[str, str]:
    """Hash of each file."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}


def copy_files(files: Iterable[str], exp: Path, out: Path) -> None:
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(exp / name, out / name)


def out_of(model: Path, data: Path) -> Path:
    """The default folder for the scores: ``score/<experiment>[_<baseline>]_<data>`` below the working folder."""
    folder, data = Path(os.path.abspath(model)), data.resolve()
    exp = folder if is_fused(folder) else find_model(model).exp
    name = exp.name if exp == folder else f"{exp.name}_{folder.name}"
    corpus = data.name if data.is_dir() else data.parent.name if data.stem == "recordings" else data.stem
    return Path(SCORED) / f"{name}_{corpus}"


def plan(args: argparse.Namespace) -> None:
    """Print shell assignments of the run."""
    out = args.out or out_of(args.model, args.data)
    layers = layers_of(find_model(args.model), args.layers)
    layout = Layout(out / DATA, out / FEATS, out / FRAMES, out)
    check_out(out, "score", is_own=is_taken(out))
    check_folders(layout)
    check_recordings(layout, args.data, args.source)
    print(assignments(out.name, layers, resolve(layers), layout))


def trained_on(exp: Path) -> str:
    """The source of the training data, in words; that of a model that export wrote is in ``env.json``. Empty: not known."""
    if marker := read_marker(done_marker(exp, "train")):
        return marker["source"]
    return json.loads((exp / ENV_JSON).read_text(encoding="utf-8")).get("trained_on", "")


def note(args: argparse.Namespace) -> None:
    """Write ``model.json``, and copy what the stages before train apply."""
    model = find_model(args.model)
    facts = {"model": str(args.model.absolute()), "trained_on": trained_on(model.exp) or "unknown"}
    args.out.mkdir(parents=True, exist_ok=True)
    copy_files([name for name in OF_VECTORS if name in model.files], model.exp, args.out)
    write_json(args.out / MODEL_JSON, facts | {"files": hashes(model.exp, model.files)})


def take(args: argparse.Namespace) -> None:
    """Replace the files of an earlier model by those of the model, with the figures of the sets that it was fitted on.

    Raises:
        ValueError: the files have changed since ``model.json`` was written.
    """
    model, noted = find_model(args.model), json.loads((args.out / MODEL_JSON).read_text(encoding="utf-8"))["files"]
    shutil.rmtree(args.out / BASELINES, ignore_errors=True)
    for name in OPTIONAL:
        (args.out / name).unlink(missing_ok=True)
    files = [name for name in model.files if name not in (CONFIG_YAML, ACCURACY_TSV)]
    copy_files(files, model.exp, args.out)
    fitted, systems = fitted_sets(resolve([model.exp / CONFIG_YAML]).data), (FLOW, *model.baselines)
    rows = [row for row in read_tsv(model.exp / ACCURACY_TSV) if row["set"] in fitted and row["system"] in systems]
    write_tsv(args.out / FITTED_TSV, rows, COLUMNS)
    if noted != hashes(model.exp, model.files) or any(
        noted[name] != of for name, of in hashes(args.out, files).items()
    ):
        raise ValueError(f"{args.model}: the model changed during the copy; start again")


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for run, text in (
        (plan, "print the run's folders and settings"),
        (note, "write the hash of each file"),
        (take, "copy it"),
    ):
        verb = verbs.add_parser(run.__name__, help=text)
        verb.set_defaults(run=run)
        verb.add_argument("model", type=Path, help="folder of an experiment or of a baseline")
        verb.add_argument("out", type=Path, nargs="?", help="folder for the scores")
    planning = verbs.choices["plan"]
    planning.add_argument("--data", type=Path, required=True, help="data to score")
    planning.add_argument("--source", default="", help="the source of stage data, in words")
    add_arguments(planning)
    args = parser.parse_args(argv)
    args.run(args)
    return 0


if __name__ == "__main__":
    entry.run(main)
