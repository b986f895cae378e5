"""Commands for experiments and recordings. For the options of one, run ``python3 -m dnf VERB --help``."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from dnf.experiment import entry

VERBS = {
    "results": (
        "dnf.report.results",
        "write results.txt of an experiment or print a section of it; compare all of a folder",
    ),
    "compare": ("dnf.report.compare", "compare two systems on the same utterances"),
    "fuse": ("dnf.report.fuse", "fuse systems by logistic regression of their scores on dev"),
    "sweep": ("dnf.report.sweep", "table and picture of a sweep: figures against the setting"),
    "corpora": ("dnf.report.left_out", "table of left-out corpora: figures to choose settings by"),
    "status": ("dnf.experiment.status", "show which stages of the experiments are done, running or interrupted"),
    "classify": ("dnf.inference.classify", "classify recordings with a trained model"),
    "score": ("dnf.inference.score_data", "score other data with a trained model, as an experiment of its own"),
    "verify": (
        "dnf.verification.verify",
        "verify speakers: trials scored by cosine and PLDA on vectors and latents of an experiment",
    ),
    "export": ("dnf.inference.export", "write a trained model as a folder to pass on, or as one ONNX file"),
    "move": ("dnf.inference.move", "move utterances from one class to another, and test the result"),
    "datadir": ("dnf.data.datadir", "check and repair Kaldi data directories"),
}


def main() -> int:
    width = max(map(len, VERBS))
    parser = argparse.ArgumentParser(
        prog="python3 -m dnf",
        description=__doc__,
        epilog="verbs:\n" + "\n".join(f"  {verb:{width}}  {line}" for verb, (_, line) in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of the verbs below")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="arguments of the verb")
    args = parser.parse_args()
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # has utils, also where path.sh was not sourced
    return importlib.import_module(VERBS[args.verb][0]).main(args.words)


if __name__ == "__main__":
    entry.run(main)
