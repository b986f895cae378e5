"""Score other data with a trained model: decisions, calibrated posteriors, figures and a report page. Nothing is trained.

    python3 -m dnf score exp/hybrid my_corpus
    ./utils/score.sh exp/hybrid/baselines/mlp other/data/test --out score/mlp_other --nj 8

Runs the stages of run.sh as jobs. Features have the settings of the model. Its calibration, its open-set threshold and
its correction of the channel are applied without a new fit. The experiment does not change. Of a fused system, all members are
scored, and fused with its weights.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dnf.experiment import entry
from dnf.experiment.layout import MEMBERS, ROOT, experiment_of, is_fused, is_taken, present_members

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
    parser.add_argument(
        "model", type=Path, help="folder of an experiment, of one of its baselines, or of a fused system"
    )
    parser.add_argument("data", type=Path, help="table of recordings, data directory, or folder of either")
    for name, (metavar, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    text = "a setting, such as 'data.controls={test: other}' or features.resample=true; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)
    for name, text in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser.parse_args(argv)


def words_of(args: dict) -> list[str]:
    """The command line of run.sh."""
    words = [str(ROOT / "run.sh"), "--model", str(args["model"]), "--data", str(args["data"])]
    values = {name: args[name.replace("-", "_")] for name in (*OPTIONS, *FLAGS)}
    words += [word for name in OPTIONS if values[name] is not None for word in (f"--{name}", values[name])]
    words += [word for setting in args["set"] for word in ("--set", setting)]
    return words + [word for name in FLAGS if values[name] for word in (f"--{name}", "true")]


class Scoring(NamedTuple):
    """What to score of the experiment of some members: the experiment, or one of its baselines; and the folder for it."""

    exp: Path
    model: Path
    out: Path

    def place(self, member: Path) -> Path:
        """The folder with the scores of a member."""
        return self.out / member.relative_to(self.exp)


def scorings(members: Sequence[Path], out: Path) -> dict[Path, Scoring]:
    """By experiment. A baseline is scored beside the flow, and an experiment with all its baselines."""
    found = {}
    for exp in map(experiment_of, members):
        baselines = [member for member in members if experiment_of(member) == exp and member != exp]
        model = baselines[0] if len(baselines) == 1 else exp
        found.setdefault(exp, Scoring(exp, model, out / MEMBERS / f"{len(found) + 1}_{exp.name}"))
    return found


def score_fused(args: dict) -> int:
    """Score the experiments of all members below ``members/`` of the output, then fuse; the status of the first that fails."""
    from dnf.experiment.plan import check_out  # slow to import, as is the other
    from dnf.inference.taken_model import out_of

    fused, out = args["model"], Path(args["out"] or out_of(args["model"], args["data"]))
    check_out(out, "score", is_own=is_taken(out))
    members = present_members(fused)
    parts = scorings(members, out)
    commands = [words_of(args | {"model": part.model, "out": str(part.out)}) for part in parts.values()]
    if not args["dry_run"]:
        words = [sys.executable, "-m", "dnf", "fuse", *(str(parts[experiment_of(m)].place(m)) for m in members)]
        words += ["--model", str(fused), "--out", str(out)]
        words += [word for setting in args["set"] for word in ("--set", setting)]
        commands.append(words + ["--force"] * args["force"])
    return next(filter(None, (subprocess.run(words).returncode for words in commands)), 0)


def main(argv: list[str] | None = None) -> int:
    args = vars(parse(argv))
    os.environ.setdefault("DNF_PYTHON", sys.executable)
    sys.stdout.flush()
    if is_fused(args["model"]):
        return score_fused(args)
    words = words_of(args)
    os.execv(words[0], words)


if __name__ == "__main__":
    entry.run(main)
