"""Kaldi data directories: check and fix them.

    python3 -m dnf datadir validate data/train data/dev --classes data/classes.txt
    python3 -m dnf datadir fix data/train

A violation gives one line on stderr and status 1. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from dnf.data.fix import fix
from dnf.data.validate import Counts, validate
from dnf.experiment import entry

log = logging.getLogger(__name__)


def run_validate(directory: Path, args: argparse.Namespace) -> Counts:
    return validate(
        directory,
        allow_pipes=args.allow_pipes,
        wav_files=args.wav_files,
        need_wav=args.need_wav,
        need_feats=args.need_feats,
        spk_sort=args.spk_sort,
        classes=args.classes,
    )


def run_fix(directory: Path, args: argparse.Namespace) -> Counts:
    return fix(directory, allow_pipes=args.allow_pipes, spk_sort=args.spk_sort)


def make_parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = entry.parser(__spec__, __doc__, description=summary, epilog=rest, formatter_class=raw)
    shared = argparse.ArgumentParser(add_help=False)
    text = "accept speaker ids that do not begin their utterance ids"
    shared.add_argument("--no-spk-sort", dest="spk_sort", action="store_false", help=text)
    text = "accept commands ('command |') in *.scp; reading runs them"
    shared.add_argument("--allow-pipes", action="store_true", help=text)
    shared.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="data directory")

    verbs = parser.add_subparsers(required=True, metavar="VERB")
    added = verbs.add_parser("validate", help="check that the files of each set agree", parents=[shared])
    added.set_defaults(run=run_validate)
    added.add_argument("--no-wav-files", dest="wav_files", action="store_false", help="do not look for the audio files")
    added.add_argument("--no-wav", dest="need_wav", action="store_false", help="wav.scp may be absent")
    added.add_argument("--need-feats", action="store_true", help="feats.scp is required")
    text = "file of all known classes, such as data/classes.txt"
    added.add_argument("--classes", type=Path, metavar="FILE", help=text)
    text = "sort, keep the utterances that all files have, rebuild spk2utt; .backup keeps changed files"
    verbs.add_parser("fix", help=text, parents=[shared]).set_defaults(run=run_fix)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    for directory in args.directories:
        log.info("%s is valid: %s", directory, args.run(directory, args))
    return 0


if __name__ == "__main__":
    entry.run(main)
