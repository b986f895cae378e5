"""TIMIT (LDC93S1): ten sentences of each of 630 native speakers of American English.

5.4 hours, 16 kHz, recorded in a booth with a close-talking microphone; .WAV files are SPHERE. Licensed by the LDC.

    [TIMIT/|data/]{TRAIN,TEST}/DR[1-8]/<speaker>/<sentence>.{WAV,TXT}     also all in lower case, as on the disc

Lhotse's ``prepare_timit`` needs ``data/TRAIN`` in upper case, leaves out the 94 test speakers that are in neither its
development nor its core test list, and stops at the first unreadable file, so only its two lists are used. Here all
of TIMIT is one test set.
"""

from __future__ import annotations

import re
from pathlib import Path

from lhotse.recipes.timit import get_speakers

from dnf.data import recipe
from dnf.data.kaldi_files import read_text
from dnf.data.manifests import Utterance, is_visible
from dnf.data.recipe import Manifests

LAYOUT = "LDC93S1, the folder with TRAIN/DR1/<speaker>/*.WAV, or one above it"
PLACE = re.compile(r"(?:.*/)?(?:train|test)/(dr[1-8])/([fm][a-z]{3}[0-9])/(s[aix][0-9]+)\.(wav|txt)", re.I)
EXPECTED = {"utterances": 6300, "speakers": 630}


def read(path: Path, output_dir: Path, max_rejected: float = 0.01) -> Manifests:
    """All of TIMIT, class en, speakers ``timit_<speaker>``.

    Args:
        path: the folder with TRAIN and TEST, or one above it.
        output_dir: gets ``lists/timit_rejected.txt``.
        max_rejected: share of the recordings that may be unreadable.

    Raises:
        ValueError: TIMIT or a part of it is missing, or too many files are unreadable.
    """
    lists = dict(zip(("development", "core test"), map(frozenset, get_speakers()), strict=True))
    empty, files = {"training", *lists}, {}
    for file in sorted(path.rglob("*")):
        place = PLACE.fullmatch(file.relative_to(path.parent).as_posix())
        if place and is_visible(file, path):
            _, speaker, sentence, kind = (part.lower() for part in place.groups())
            files.setdefault((speaker, sentence, kind), file.absolute())
            if kind == "wav":
                empty.discard(next((name for name, speakers in lists.items() if speaker in speakers), "training"))
    if empty:
        raise ValueError(
            f"--timit {path}: no recording of the {' and '.join(sorted(empty))} speakers of TIMIT; expected {LAYOUT}"
        )
    spoken = [
        utterance(file, speaker, sentence, files.get((speaker, sentence, "txt")))
        for (speaker, sentence, kind), file in files.items()
        if kind == "wav"
    ]
    made = recipe.make("timit", spoken, output_dir, max_rejected)
    recipe.expect("TIMIT", recipe.counts(made), EXPECTED)
    return made


def utterance(file: Path, speaker: str, sentence: str, words: Path | None) -> Utterance:
    """One sentence. The first letter of a speaker's name is the gender; in the file of words, the text follows two numbers."""
    utt = f"timit_{speaker}-{sentence}"
    text = " ".join(read_text(words).split(" ")[2:]).strip() if words else None
    return Utterance(
        utt, utt, str(file), f"timit_{speaker}", "en", gender=speaker[0], text=text or None, language="English"
    )
