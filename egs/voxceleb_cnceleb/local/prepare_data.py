#!/usr/bin/env python3
"""VoxCeleb and CN-Celeb, English against Mandarin in the wild, with WSJ and accented English as test sets.

    option       corpus                            class   sets
    --vox1       VoxCeleb1, 352 h, CC BY 4.0       en      voxceleb_train, voxceleb_dev, voxceleb_test
    --vox2       VoxCeleb2, 2,442 h, CC BY 4.0     en      more of voxceleb_train, voxceleb_dev
    --cnceleb1   CN-Celeb1, 270 h, CC BY-SA 4.0    cn      cnceleb_train, cnceleb_dev, cnceleb_test
    --cnceleb2   CN-Celeb2, 1,090 h, CC BY-SA 4.0  cn      more of cnceleb_train, cnceleb_dev
    --wsj        WSJ0 and WSJ1, LDC                en      wsj: those of the recipe wsj
    --ce, --je   accented English, private         ce, je  ce, je: accents that are not in training

Test speakers are the published ones: those of VoxCeleb1's test split, and those of CN-Celeb1's ``eval/``. Dev speakers
are drawn from the others. With ``--speakers true`` the sets are those of ``speaker_sets``. The readers in ``egs/corpora`` describe the layout of each corpus.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dnf.data import recipe
from dnf.data.manifests import Utterance
from dnf.data.recipe import Corpus, Manifests
from dnf.experiment import entry
from egs.corpora import accented, cnceleb, voxceleb, wsj
from egs.voxceleb_cnceleb.local import speaker_sets

CORPORA = (
    Corpus(
        "vox1",
        "VoxCeleb1: vox1_meta.csv, wav/idNNNNN/<video>/NNNNN.wav",
        ("voxceleb_train", "voxceleb_dev", "voxceleb_test"),
    ),
    Corpus("vox2", "VoxCeleb2: vox2_meta.csv, idNNNNN/<video>/NNNNN.wav or .flac", ()),
    Corpus(
        "cnceleb1",
        "CN-Celeb1: data/idNNNNN/*.flac, dev/dev.lst, eval/",
        ("cnceleb_train", "cnceleb_dev", "cnceleb_test"),
    ),
    Corpus("cnceleb2", "CN-Celeb2: data/idNNNNN/*.flac", ()),
    Corpus("wsj", wsj.LAYOUT, ("wsj",)),
    Corpus("ce", accented.LAYOUTS["ce"], ("ce",)),
    Corpus("je", accented.LAYOUTS["je"], ("je",)),
)
DEV_SHARE = 0.1  # largest share of the training speech for dev


def prepare(
    corpus_dirs: Mapping[str, Path],
    output_dir: Path,
    seed: int = 1,
    max_rejected: float = 0.01,
    dev_hours: float = 5.0,
    nationalities: Collection[str] = (),
    genres: Collection[str] = (),
) -> dict[str, Manifests]:
    """Make and write the sets of the given corpora.

    Args:
        corpus_dirs: path of each corpus, by the name of its option.
        output_dir: such as ``data``.
        seed: seed of the choice of the dev speakers.
        max_rejected: share of a corpus that may be unreadable.
        dev_hours: held-out hours of each training class, by speaker.
        nationalities: nationalities of the VoxCeleb1 speakers to keep; empty: all.
        genres: genres of CN-Celeb to keep; empty: all.

    Returns:
        Manifests by set.
    """
    sets: dict[str, Manifests] = {}
    if corpus_dirs.keys() & {"vox1", "vox2"}:
        parts = voxceleb.read(corpus_dirs.get("vox1"), corpus_dirs.get("vox2"), nationalities=nationalities)
        sets |= divide("voxceleb", parts, output_dir, seed, max_rejected, dev_hours)
    if corpus_dirs.keys() & {"cnceleb1", "cnceleb2"}:
        parts = cnceleb.read(corpus_dirs.get("cnceleb1"), corpus_dirs.get("cnceleb2"), genres=genres)
        sets |= divide("cnceleb", parts, output_dir, seed, max_rejected, dev_hours)
    if "wsj" in corpus_dirs:
        sets["wsj"] = recipe.make("wsj", wsj.read(corpus_dirs["wsj"]), output_dir, max_rejected)
    for name in ("ce", "je"):
        if name in corpus_dirs:
            sets[name] = accented.read(corpus_dirs[name], name, name, output_dir, max_rejected)
    recipe.write(sets, output_dir, CORPORA, corpus_dirs)
    return sets


def divide(
    corpus: str,
    parts: Mapping[str, Sequence[Utterance]],
    output_dir: Path,
    seed: int,
    max_rejected: float,
    dev_hours: float,
) -> dict[str, Manifests]:
    """Sets ``<corpus>_train``, ``<corpus>_dev``, and, with test speakers, ``<corpus>_test``."""
    made = {
        f"{corpus}_{part}": recipe.make(f"{corpus}_{part}", spoken, output_dir, max_rejected)
        for part, spoken in parts.items()
        if spoken
    }
    train = made.get(f"{corpus}_train")
    if train:
        seconds = recipe.seconds_by(train, "speaker")
        share = min(DEV_SHARE, 3600 * dev_hours / sum(seconds.values()))
        for part, speakers in recipe.divide(seconds, {"dev": share, "train": 1 - share}, seed).items():
            made[f"{corpus}_{part}"] = recipe.of_speakers(train, speakers)
            recipe.write_list(output_dir, f"{corpus}_{part}_speakers", speakers)
    return made


def words(text: str) -> list[str]:
    """The words of a list such as ``USA,UK``."""
    return [word.strip() for word in text.split(",") if word.strip()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = recipe.parser(__doc__, CORPORA)
    parser.add_argument(
        "--dev-hours", type=float, default=5.0, metavar="N", help="dev hours of each training class (%(default)s)"
    )
    parser.add_argument(
        "--nationalities",
        type=words,
        default=[],
        metavar="LIST",
        help="nationalities of VoxCeleb1 speakers, such as USA,UK",
    )
    parser.add_argument(
        "--genres", type=words, default=[], metavar="LIST", help="genres of CN-Celeb, such as interview,speech"
    )
    parser.add_argument(
        "--speakers", choices=("true", "false"), default="false", help="sets of the experiment speakers (%(default)s)"
    )
    args = parser.parse_args(argv)
    if args.speakers == "true":
        given = recipe.given(CORPORA, vars(args))
        sets = speaker_sets.make(given, args.output_dir, args.seed, args.max_rejected)
        recipe.write(sets, args.output_dir, CORPORA, given)
        speaker_sets.write_trials(given, args.output_dir)
        return 0
    if not 0 < args.dev_hours < math.inf:  # nan, too
        raise ValueError(f"--dev-hours {args.dev_hours:g}: give a number above 0")
    prepare(
        recipe.given(CORPORA, vars(args)),
        args.output_dir,
        args.seed,
        args.max_rejected,
        args.dev_hours,
        args.nationalities,
        args.genres,
    )
    return 0


if __name__ == "__main__":
    entry.run(main)
