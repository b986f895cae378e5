#!/usr/bin/env python3
"""English of native, Chinese and Japanese speakers, from five corpora. None is freely available; each is optional.

    option    corpus                                                    class  sets
    --wsj     WSJ0 and WSJ1 (LDC), the 50 h of the recipe wsj           en     wsj_train, wsj_dev, wsj_test
    --timit   TIMIT (LDC93S1), 5 h on another channel                   en     timit
    --ce      Chinese English, private, about 30 h                      ce     ce_train, ce_dev, ce_test
    --je      Japanese English with expert scores 1 to 5, about 2 h     je     je_train, je_dev, je_test
    --vox1    test part of VoxCeleb1, a mixture of accents              vox    voxceleb

ce and je are divided by speaker, 8 : 1 : 1, in an order that depends on the speaker ids and the seed; the lists are in
OUTPUT_DIR/lists. The readers in ``egs/corpora`` describe the formats of each corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dnf.data import recipe
from dnf.data.recipe import Corpus, Manifests
from dnf.experiment import entry
from egs.corpora import accented, timit, voxceleb, wsj

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
CORPORA = (
    Corpus("wsj", wsj.LAYOUT, wsj.SETS),
    Corpus("timit", timit.LAYOUT, ("timit",)),
    *(Corpus(name, layout, tuple(f"{name}_{part}" for part in SHARES)) for name, layout in accented.LAYOUTS.items()),
    Corpus("vox1", "VoxCeleb1 with vox1_meta.csv; idNNNNN/<video>/NNNNN.wav in it or below", ("voxceleb",)),
)


def prepare(
    corpus_dirs: Mapping[str, Path], output_dir: Path, seed: int = 1, max_rejected: float = 0.01
) -> dict[str, Manifests]:
    """Write a data directory of each set of the given corpora.

    Args:
        corpus_dirs: path of each given corpus, by the name of its option.
        output_dir: such as ``data``.
        seed: seed of the division by speaker.
        max_rejected: share of the recordings of a corpus that may be unreadable.

    Returns:
        The manifests by set.

    Raises:
        ValueError: a corpus has another layout, or too many unreadable recordings.
    """
    sets: dict[str, Manifests] = {}
    if "wsj" in corpus_dirs:
        of_wsj = recipe.make("wsj", wsj.read(corpus_dirs["wsj"]), output_dir, max_rejected)
        sets |= wsj.divide(of_wsj, output_dir, seed)
    if "timit" in corpus_dirs:
        sets["timit"] = timit.read(corpus_dirs["timit"], output_dir, max_rejected)
    for name in accented.LAYOUTS:
        if name in corpus_dirs:
            of_corpus = accented.read(corpus_dirs[name], name, name, output_dir, max_rejected)
            sets |= divide(of_corpus, name, output_dir, seed)
    if "vox1" in corpus_dirs:
        spoken = voxceleb.read(corpus_dirs["vox1"], name="vox")["test"]
        sets["voxceleb"] = recipe.make("voxceleb", spoken, output_dir, max_rejected)
    recipe.write(sets, output_dir, CORPORA, corpus_dirs)
    return sets


def divide(manifests: Manifests, name: str, output_dir: Path, seed: int) -> dict[str, Manifests]:
    """``<name>_train``, ``<name>_dev`` and ``<name>_test``; no speaker is in two of them."""
    parts = recipe.divide(recipe.seconds_by(manifests, "speaker"), SHARES, seed)
    for part, speakers in parts.items():
        recipe.write_list(output_dir, f"{name}_{part}", speakers)
    return {f"{name}_{part}": recipe.of_speakers(manifests, speakers) for part, speakers in parts.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the recipe's data preparation."""
    arguments = vars(recipe.parser(__doc__, CORPORA).parse_args(argv))
    found = recipe.given(CORPORA, arguments)
    prepare(found, arguments["output_dir"], arguments["seed"], arguments["max_rejected"])
    return 0


if __name__ == "__main__":
    entry.run(main)
