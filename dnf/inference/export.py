"""Write a trained model to pass on: a folder with all that its use needs, or one ONNX file.

    python3 -m dnf export exp/hybrid --out hybrid_model
    python3 -m dnf export exp/hybrid --out hybrid.onnx

The folder has the files of an experiment that classify, score and ``dnf.Classifier`` read, card.md, and the ONNX file. It has
no training data and no paths. The ONNX file takes the samples of a recording, and gives log-likelihoods, calibrated
posteriors and the open-set score. A JSON file beside it describes its input and its outputs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dnf.experiment import entry
from dnf.experiment.files import write_json
from dnf.experiment.layout import (
    BEST_PT,
    CALIBRATION_JSON,
    CARD_MD,
    CONFIG_YAML,
    DATA,
    ENV_JSON,
    FEATS,
    FRAMES,
    LAYOUT_JSON,
    MODEL_ONNX,
    Layout,
    is_fused,
    run_stage,
)
from dnf.experiment.plan import check_out

if TYPE_CHECKING:
    from dnf.inference.taken_model import Model

log = logging.getLogger(__name__)

OLDEST_OPSET = 18  # of PyTorch's exporter
KEPT = ("model", "config", "classes", "step", "dev", "sample")  # of a checkpoint; the rest only continues training


def trained_model(exp: Path) -> Model:
    """The model in the folder of an experiment, without its baselines.

    Raises:
        ValueError: there is none, it is a baseline, or a stage that export needs has not run.
    """
    from dnf.inference.taken_model import find_model  # slow to import, as is all that reads models

    if is_fused(exp):
        raise ValueError(f"{exp}: is several systems fused, and only a flow is exported; name the experiment of one")
    model = find_model(exp)
    if model.exp.resolve() != exp.resolve():
        raise ValueError(f"{exp}: is a baseline, and only a flow is exported; name {exp.parents[1]}")
    if not (exp / CALIBRATION_JSON).is_file():
        raise ValueError(
            f"{exp / CALIBRATION_JSON}: does not exist; {run_stage('decide')} with calibrate.enabled and all classes in dev"
        )
    return model._replace(baselines=[])


def check_own(out: Path) -> None:
    """Raise ``ValueError`` if the folder of an earlier export has a file that export did not write, since it is replaced."""
    from dnf.inference.onnx_file import description_of
    from dnf.inference.taken_model import NEEDED, OF_VECTORS, OPTIONAL

    written = {*NEEDED, *OPTIONAL, *OF_VECTORS, LAYOUT_JSON, CARD_MD, MODEL_ONNX, description_of(Path(MODEL_ONNX)).name}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if not path.is_dir() and name not in written:
            raise ValueError(f"--out {out}: has {name}, which export did not write; move it away, or name a new folder")


def write_folder(exp: Path, out: Path, opset: int, licence: str, data: str) -> None:
    """Write the model of an experiment as a folder; an earlier one is replaced when the new one is complete.

    Args:
        licence: of the model, for the card; empty: not stated.
        data: of training, in words; empty: the source that the experiment has noted.
    """
    import torch

    from dnf.inference.model_card import card, data_words
    from dnf.inference.system import load_system
    from dnf.models import checkpoint

    model = trained_model(exp)
    if out.is_file():
        raise ValueError(f"--out {out}: is a file; name a folder, or a file whose name ends in .onnx")
    check_out(out, "export", is_own=(out / CARD_MD).is_file())
    check_own(out)
    system = load_system(exp, None, torch.device("cpu"))  # which also writes channel.json if it can
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    Layout(part / DATA, part / FEATS, part / FRAMES, part).save()  # where files of models of vectors are
    for name in model.files:
        (part / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(exp / name, part / name)
    environment = json.loads((exp / ENV_JSON).read_text(encoding="utf-8"))
    write_json(part / ENV_JSON, environment | {"trained_on": data or data_words(exp)})
    content = checkpoint.load(exp / BEST_PT)
    content["config"]["train"]["from_model"] = None  # a path
    train = dataclasses.replace(system.config.train, from_model=None)
    dataclasses.replace(system.config, train=train).save(part / CONFIG_YAML)
    checkpoint.save(part / BEST_PT, {name: content[name] for name in KEPT if name in content})
    try:
        from dnf.inference.onnx_file import write_onnx

        write_onnx(system, part / MODEL_ONNX, opset)
    except ValueError as error:
        log.warning("%s is left out: %s", MODEL_ONNX, error)
    (part / CARD_MD).write_text(card(exp, part, system, licence), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)


def write_file(exp: Path, out: Path, opset: int) -> None:
    """Write the model of an experiment as an ONNX file."""
    import torch

    from dnf.inference.onnx_file import write_onnx
    from dnf.inference.system import load_system

    trained_model(exp)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_onnx(load_system(exp, None, torch.device("cpu")), out, opset)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = entry.parser(__spec__, __doc__, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help=f"folder of an experiment, with {BEST_PT} and {CONFIG_YAML}")
    parser.add_argument("--out", type=Path, required=True, help="a folder, or a file whose name ends in .onnx")
    parser.add_argument(
        "--opset", type=int, default=OLDEST_OPSET, metavar="N", help="ONNX operator set (%(default)s, the oldest)"
    )
    parser.add_argument("--licence", default="", metavar="TEXT", help=f"licence of the model, for {CARD_MD}")
    parser.add_argument(
        "--training-data", default="", metavar="TEXT", help=f"corpora of training and their licences, for {CARD_MD}"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.opset < OLDEST_OPSET:
        raise ValueError(f"--opset {args.opset}: is too old for PyTorch's exporter; give {OLDEST_OPSET} or later")
    if args.out.suffix == ".onnx":
        write_file(args.model, args.out, args.opset)
    else:
        write_folder(args.model, args.out, args.opset, args.licence, args.training_data)
    log.info("%s: wrote %s", args.model, args.out)
    return 0


if __name__ == "__main__":
    entry.run(main)
