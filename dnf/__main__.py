"""What is done with experiments and recordings, beside the stages of run.sh: ``python3 -m dnf VERB --help`` says more."""

from __future__ import annotations

import argparse
import importlib

from dnf.experiment import entry

VERBS = {
    "results": (
        "dnf.report.results",
        "write results.txt of an experiment or print a section of it; compare all of a folder",
    ),
    "compare": ("dnf.report.compare", "hold two systems against each other, utterance by utterance"),
    "sweep": ("dnf.report.sweep", "figures of a sweep against the setting that it varies"),
    "status": ("dnf.experiment.status", "which stages of which experiments are done, running or broken off"),
    "classify": ("dnf.inference.classify", "decide the class of recordings by a trained model"),
    "move": ("dnf.inference.move", "move utterances from one class to another, and judge whether that came out"),
    "datadir": ("dnf.data.datadir", "check and mend Kaldi data directories"),
}


def main() -> int:
    width = max(map(len, VERBS))
    parser = argparse.ArgumentParser(
        prog="python3 -m dnf",
        description=__doc__,
        epilog="verbs:\n" + "\n".join(f"  {verb:{width}}  {line}" for verb, (_, line) in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of those below")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="what the verb takes")
    args = parser.parse_args()
    return importlib.import_module(VERBS[args.verb][0]).main(args.words)


if __name__ == "__main__":
    entry.run(main)
