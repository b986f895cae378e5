"""Kaldi data directories: check, fix, split, subset, combine.

    python3 -m dnf datadir validate data/train data/dev --classes data/classes.txt
    python3 -m dnf datadir fix data/train
    python3 -m dnf datadir split data/train 4
    python3 -m dnf datadir subset --speakers 20 data/train data/train_20
    python3 -m dnf datadir combine data/all data/train data/dev
    python3 -m dnf datadir disjoint data/train data/dev data/test

A violation is one line on stderr and status 1. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from dnf.data.edit import combine, fix, split, subset
from dnf.data.kaldi_files import read_text
from dnf.data.validate import check_disjoint, validate
from dnf.experiment import entry

log = logging.getLogger(__name__)


def read_ids(path: Path | None) -> list[str] | None:
    """The first field of each line, in any order; no path, no ids."""
    if path is None:
        return None
    ids = [line.split()[0] for line in read_text(path).split("\n") if line.strip()]
    if not ids:
        raise ValueError(f"{path}: no ids in it; write one a line")
    return ids


def run_validate(args: argparse.Namespace) -> None:
    for directory in args.directories:
        counts = validate(
            directory,
            allow_pipes=args.allow_pipes,
            wav_files=args.wav_files,
            need_wav=args.need_wav,
            need_feats=args.need_feats,
            spk_sort=args.spk_sort,
            classes=args.classes,
        )
        log.info("%s is valid: %s", directory, counts)


def run_fix(args: argparse.Namespace) -> None:
    for directory in args.directories:
        log.info("%s is valid: %s", directory, fix(directory, allow_pipes=args.allow_pipes, spk_sort=args.spk_sort))


def run_split(args: argparse.Namespace) -> None:
    split(args.directory, args.parts, per_utt=args.per_utt, spk_sort=args.spk_sort)


def run_subset(args: argparse.Namespace) -> None:
    counts = subset(
        args.source,
        args.target,
        utterances=args.utterances,
        speakers=args.speakers,
        utt_list=read_ids(args.utt_list),
        spk_list=read_ids(args.spk_list),
        classes=args.classes.split(",") if args.classes else None,
        force=args.force,
        spk_sort=args.spk_sort,
    )
    log.info("%s: %s", args.target, counts)


def run_combine(args: argparse.Namespace) -> None:
    log.info("%s: %s", args.target, combine(args.target, args.sources, force=args.force, spk_sort=args.spk_sort))


def run_disjoint(args: argparse.Namespace) -> None:
    check_disjoint(args.directories)
    log.info("no speaker is in two of the %d sets", len(args.directories))


def make_parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = entry.parser(__spec__, __doc__, description=summary, epilog=rest, formatter_class=raw)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run, text: str, *shared: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        added.set_defaults(run=run)
        if "spk-sort" in shared:
            text = "accept speaker ids that do not begin their utterance ids"
            added.add_argument("--no-spk-sort", dest="spk_sort", action="store_false", help=text)
        if "pipes" in shared:
            added.add_argument(
                "--allow-pipes", action="store_true", help="accept 'command |' in *.scp, which reading will run"
            )
        if "force" in shared:
            added.add_argument("--force", action="store_true", help="replace a set that is there already")
        if "directories" in shared:
            added.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="data directory")
        return added

    added = verb("validate", run_validate, "check that each set agrees with itself", "pipes", "spk-sort", "directories")
    added.add_argument("--no-wav-files", dest="wav_files", action="store_false", help="do not look for the audio files")
    added.add_argument("--no-wav", dest="need_wav", action="store_false", help="wav.scp may be absent")
    added.add_argument("--need-feats", action="store_true", help="feats.scp must be there")
    added.add_argument(
        "--classes", type=Path, metavar="FILE", help="every class must be in this file, as data/classes.txt"
    )
    text = "sort, keep what all files share, rebuild spk2utt; files that change are kept in .backup"
    verb("fix", run_fix, text, "pipes", "spk-sort", "directories")

    added = verb("split", run_split, "make DIR/splitN/1 to DIR/splitN/N, unless they are up to date", "spk-sort")
    added.add_argument("--per-utt", action="store_true", help="split by utterance, not by speaker, into DIR/splitNutt")
    added.add_argument("directory", type=Path, metavar="DIR", help="data directory")
    added.add_argument("parts", type=int, metavar="N", help="number of parts")

    added = verb("subset", run_subset, "make a set of part of another; the choices add up", "force", "spk-sort")
    added.add_argument("--utt-list", type=Path, metavar="FILE", help="only the utterances in the first column of FILE")
    added.add_argument("--spk-list", type=Path, metavar="FILE", help="only the speakers in the first column of FILE")
    added.add_argument("--classes", metavar="A,B", help="only utterances of these classes")
    added.add_argument("--speakers", type=int, metavar="N", help="N speakers of these, evenly spaced")
    added.add_argument("--utterances", type=int, metavar="N", help="N utterances of these, evenly spaced")
    added.add_argument("source", type=Path, metavar="SRC", help="data directory to choose from")
    added.add_argument("target", type=Path, metavar="DST", help="data directory to make")

    added = verb("combine", run_combine, "join sets; equal records may be in several of them", "force", "spk-sort")
    added.add_argument("target", type=Path, metavar="DST", help="data directory to make")
    added.add_argument("sources", type=Path, nargs="+", metavar="SRC", help="data directories to join")

    verb("disjoint", run_disjoint, "check that no speaker is in two of the sets", "directories")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    args.run(args)
    return 0


if __name__ == "__main__":
    entry.run(main)
