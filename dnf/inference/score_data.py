"""Score other data with a trained model: decisions, calibrated posteriors, figures and a report page. Nothing is trained.

    python3 -m dnf score exp/hybrid my_corpus
    ./utils/score.sh exp/hybrid/baselines/mlp other/data/test --out score/mlp_other --nj 8

Runs the stages of run.sh as jobs. Features have the settings of the model. Its calibration, its open-set threshold and
its correction of the channel are applied without a new fit. The experiment does not change.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from dnf.experiment import entry
from dnf.experiment.layout import ROOT

OPTIONS = {  # options of run.sh: metavar and help
    "out": ("DIR", "folder for the scores (default: score/<experiment>_<data>)"),
    "nj": ("N", "tasks of a job array (default: processors)"),
    "cmd": ("RUNNER", "runner of the jobs (default: see cmd.sh)"),
    "device": ("NAME", "auto, cpu, cuda, cuda:1 (default: auto)"),
    "max-rejected": ("SHARE", "share of a set's recordings that may be rejected, e.g. 5%%"),
}
FLAGS = {
    "allow-pipes": "run the commands that wav.scp has for recordings",
    "force": "also run stages that are up to date",
    "dry-run": "show what would run, and run nothing",
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = entry.parser(__spec__, __doc__, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of an experiment, or of one of its baselines")
    parser.add_argument("data", type=Path, help="table of recordings, data directory, or folder of either")
    for name, (metavar, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    text = "a setting, such as 'data.controls={test: other}' or features.resample=true; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)
    for name, text in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = vars(parse(argv))
    words = [str(ROOT / "run.sh"), "--model", str(args["model"]), "--data", str(args["data"])]
    values = {name: args[name.replace("-", "_")] for name in (*OPTIONS, *FLAGS)}
    words += [word for name in OPTIONS if values[name] is not None for word in (f"--{name}", values[name])]
    words += [word for setting in args["set"] for word in ("--set", setting)]
    words += [word for name in FLAGS if values[name] for word in (f"--{name}", "true")]
    os.environ.setdefault("DNF_PYTHON", sys.executable)
    sys.stdout.flush()
    os.execv(words[0], words)


if __name__ == "__main__":
    entry.run(main)
