#!/usr/bin/env python3
"""The wsj recipe's data: native English of WSJ, and English with Chinese and Japanese accents to score.

    set                   corpus  class
    wsj_train, wsj_test   --wsj   en     nine tenths and one tenth of a 50 h subset
    wsj_dev               --wsj   en     speakers outside the subset
    ce                    --ce    ce     all of it
    je                    --je    je     all of it, with the experts' scores

``wsj.py`` and ``accented.py`` of ``egs/corpora`` describe the layouts. Each corpus of accented English is optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dnf.data import recipe
from dnf.data.recipe import Corpus, Manifests
from dnf.experiment import entry
from egs.corpora import accented, wsj

CORPORA = (
    Corpus("wsj", wsj.LAYOUT, wsj.SETS),
    Corpus("ce", accented.LAYOUTS["ce"], ("ce",)),
    Corpus("je", accented.LAYOUTS["je"], ("je",)),
)


def prepare(
    corpus_dirs: Mapping[str, Path],
    output_dir: Path,
    seed: int = 1,
    max_rejected: float = 0.01,
    hours: float = wsj.HOURS,
    split: str = "speaker",
) -> dict[str, Manifests]:
    """Write the sets of the given corpora.

    Args:
        corpus_dirs: path by corpus: ``wsj``, ``ce``, ``je``.
        output_dir: such as ``data``.
        seed: seed of the division of WSJ.
        max_rejected: share of the recordings of a corpus that may be unreadable.
        hours: size of the subset of WSJ.
        split: ``speaker`` or ``utterance``, the unit of the held-out tenth of the subset.

    Returns:
        The manifests by set.

    Raises:
        ValueError: a corpus has another layout or contains an error; the message has the remedy.
    """
    sets = {}
    if "wsj" in corpus_dirs:
        spoken = recipe.make("wsj", wsj.read(corpus_dirs["wsj"]), output_dir, max_rejected)
        sets |= wsj.divide(spoken, output_dir, seed, hours, split)
    for name in ("ce", "je"):
        if name in corpus_dirs:
            sets[name] = accented.read(corpus_dirs[name], name, name, output_dir, max_rejected)
    recipe.write(sets, output_dir, CORPORA, corpus_dirs)
    return sets


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the recipe's data preparation."""
    parser = recipe.parser(__doc__, CORPORA)
    parser.add_argument("--hours", type=float, default=wsj.HOURS, metavar="H", help="hours of the subset (%(default)s)")
    parser.add_argument(
        "--split", choices=("speaker", "utterance"), default="speaker", help="unit of the division (%(default)s)"
    )
    args = parser.parse_args(argv)
    if args.hours <= 0:
        raise ValueError(f"--hours {args.hours:g}: must be above 0")
    corpus_dirs = recipe.given(CORPORA, vars(args))
    prepare(corpus_dirs, args.output_dir, args.seed, args.max_rejected, args.hours, args.split)
    return 0


if __name__ == "__main__":
    entry.run(main)
