"""TIMIT (LDC93S1): ten sentences of each of 630 native speakers of American English, read by Lhotse's recipe.

5.4 hours, 16 kHz, recorded in a booth with a close-talking microphone; .WAV files are SPHERE. Licensed by the LDC.

    [TIMIT/|data/]{TRAIN,TEST}/DR[1-8]/<speaker>/<sentence>.{WAV,TXT,WRD,PHN}     also all in lower case, as on the disc

Lhotse's ``prepare_timit`` wants ``data/TRAIN`` in capitals and leaves out the 94 test speakers that are in neither its
development nor its core test list. It is given links to the files in the layout it knows, those speakers beside the
training speakers. Here all of TIMIT is one set, which no model is trained on.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from lhotse.recipes.timit import get_speakers, prepare_timit
from lhotse.utils import fastcopy

from dnf import entry, recipe
from dnf.recipe import Manifests

LAYOUT = "LDC93S1, the folder with TRAIN/DR1/<speaker>/*.WAV, or one above it"
PLACE = re.compile(r"(?:.*/)?(?:train|test)/(dr[1-8])/([fm][a-z]{3}[0-9])/(s[aix][0-9]+)\.(wav|txt|wrd|phn)", re.I)
EXPECTED = {"utterances": 6300, "speakers": 630}


def read(path: Path, nj: int = 1) -> Manifests:
    """All of TIMIT, class en.

    Args:
        path: the folder with TRAIN and TEST, or one above it.
        nj: processes that read headers.

    Raises:
        ValueError: TIMIT or a part of it is not there, or a file cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        link(path, Path(folder))
        try:
            parts = prepare_timit(folder, num_phones=60, num_jobs=nj)
        except Exception as error:  # what a damaged header raises depends on the backend that reads it
            linked = re.escape(f"{folder}/data/") + r"\S*?[.][A-Z]{3}"
            reason = re.sub(linked, lambda link: os.readlink(link[0]), entry.describe(error))
            raise ValueError(f"--timit {path}: a file cannot be read; restore it: {reason[:400]}") from None
        found = recipe.combine(Manifests(part["recordings"], part["supervisions"]) for part in parts.values())
        recordings = [
            fastcopy(r, sources=[fastcopy(r.sources[0], source=os.readlink(r.sources[0].source))])
            for r in found.recordings
        ]
    supervisions = [fastcopy(s, gender=s.gender[0]) for s in found.supervisions]
    made = recipe.label(Manifests(recordings, supervisions), "en", "timit")
    recipe.expect("TIMIT", recipe.counts(made), EXPECTED)
    return made


def link(path: Path, folder: Path) -> None:
    """Make ``folder`` the layout that Lhotse reads, of links to the files of TIMIT below ``path``."""
    lists = dict(zip(("development", "core test"), map(frozenset, get_speakers()), strict=True))
    empty = {"training", *lists}
    for file in sorted(path.rglob("*")):
        place = PLACE.fullmatch(file.relative_to(path.parent).as_posix())
        if not place:
            continue
        region, speaker, sentence, kind = (part.lower() for part in place.groups())
        part = next((name for name, speakers in lists.items() if speaker in speakers), "training")
        made = folder / "data" / ("TRAIN" if part == "training" else "TEST") / region / speaker
        made.mkdir(parents=True, exist_ok=True)
        if kind == "wav":
            empty.discard(part)
        made /= f"{sentence}.{kind.upper()}"
        if not made.is_symlink():
            made.symlink_to(file.absolute())
    if empty:
        raise ValueError(
            f"--timit {path}: no recording of the {' and '.join(sorted(empty))} speakers of TIMIT; expected {LAYOUT}"
        )
