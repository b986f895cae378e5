"""Open data: native readers of LibriSpeech (class en) and Mandarin speakers of speechocean762 (class ce).

    set                             of                                 speakers
    librispeech_{train,dev,test}    LibriSpeech train-clean-100        70, 10 and 20 % of the speech, by speaker
    test_other                      LibriSpeech test-other             all: native, in other and noisier recordings
    speechocean_{train,dev}         adults of speechocean762, train    5/6 and 1/6 of the speech, by speaker
    speechocean_test                adults of speechocean762, test     all

Both corpora, https://www.openslr.org/12 and https://www.openslr.org/101, are CC BY 4.0; ``librispeech.py`` and
``speechocean.py`` of ``egs/corpora`` describe origin and layout. Transcripts are not used. No speaker is in two sets.
The division depends on the seed; ``OUTPUT_DIR/lists/<set>.txt`` has the speakers of each set.
With ``--speakers true`` the sets are those of ``speaker_sets``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from dnf.data import recipe
from dnf.data.recipe import Corpus, Manifests
from dnf.experiment import entry
from egs.corpora import librispeech, speechocean
from egs.librispeech_speechocean.local import speaker_sets

log = logging.getLogger(__name__)

SHARES = {
    "librispeech": {"train": 0.7, "dev": 0.1, "test": 0.2},
    "speechocean": {"train": 5 / 6, "dev": 1 / 6},
}
CORPORA = (
    Corpus(
        "librispeech", librispeech.LAYOUT, ("librispeech_train", "librispeech_dev", "librispeech_test", "test_other")
    ),
    Corpus("speechocean", speechocean.LAYOUT, ("speechocean_train", "speechocean_dev", "speechocean_test")),
)
MODULES = {"librispeech": librispeech, "speechocean": speechocean}


def prepare(
    corpus_dirs: Mapping[str, Path],
    output_dir: Path,
    seed: int = 1,
    max_rejected: float = 0.01,
    score: str = "total",
) -> dict[str, Manifests]:
    """Make a data directory of each set of the given corpora.

    Args:
        corpus_dirs: folders by corpus, ``librispeech`` and ``speechocean`` or one of them.
        output_dir: such as ``data``.
        seed: seed of the division by speaker.
        max_rejected: share of a corpus that may be missing or unreadable.
        score: the score of utterances, one of ``speechocean.SCORES``.

    Returns:
        Manifests by set.

    Raises:
        ValueError: a corpus has another layout than the published one, or contains an error.
    """
    sets: dict[str, Manifests] = {}
    if folder := corpus_dirs.get("librispeech"):
        sets |= divide(
            librispeech.read(folder, "train-clean-100", output_dir, max_rejected), "librispeech", output_dir, seed
        )
        if (folder / "test-other").is_dir():
            sets["test_other"] = librispeech.read(folder, "test-other", output_dir, max_rejected)
        else:
            log.warning("--librispeech %s: no test-other, so no control set test_other", folder)
    if folder := corpus_dirs.get("speechocean"):
        made = {
            part: recipe.make(f"speechocean_{part}", spoken, output_dir, max_rejected)
            for part, spoken in speechocean.read(folder, score).items()
        }
        sets |= divide(made["train"], "speechocean", output_dir, seed)
        sets["speechocean_test"] = made["test"]
    recipe.write(sets, output_dir, CORPORA, corpus_dirs)
    return sets


def divide(manifests: Manifests, corpus: str, output_dir: Path, seed: int) -> dict[str, Manifests]:
    """Sets ``<corpus>_<part>`` of different speakers, listed in ``lists/<corpus>_<part>.txt``."""
    parts = recipe.divide(recipe.seconds_by(manifests, "speaker"), SHARES[corpus], seed)
    for part, speakers in parts.items():
        recipe.write_list(output_dir, f"{corpus}_{part}", speakers)
    return {f"{corpus}_{part}": recipe.of_speakers(manifests, speakers) for part, speakers in parts.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the recipe's data preparation."""
    parser = recipe.parser(__doc__, CORPORA)
    parser.add_argument(
        "--score", choices=speechocean.SCORES, default="total", help="score of the experts (%(default)s)"
    )
    parser.add_argument(
        "--speakers", choices=("true", "false"), default="false", help="sets of the experiment speakers (%(default)s)"
    )
    parser.add_argument(
        "--download",
        choices=("true", "false"),
        default="false",
        help="download missing archives to the given folders or to download/ (%(default)s)",
    )
    arguments = parser.parse_args(argv)
    folders = {corpus.name: getattr(arguments, corpus.name) for corpus in CORPORA}
    for name, module in MODULES.items():
        default = Path("download", module.FOLDER)
        if arguments.download == "true":
            folders[name] = folders[name] or default
            module.download(folders[name])
        elif folders[name] is None and default.is_dir():
            folders[name] = default
    found = recipe.given(CORPORA, folders)
    if arguments.speakers == "true":
        sets = speaker_sets.make(found, arguments.output_dir, arguments.seed, arguments.max_rejected)
        recipe.write(sets, arguments.output_dir, CORPORA, found)
        return 0
    prepare(found, arguments.output_dir, arguments.seed, arguments.max_rejected, arguments.score)
    return 0


if __name__ == "__main__":
    entry.run(main)
