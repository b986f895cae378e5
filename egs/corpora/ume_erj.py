"""UME-ERJ, the English speech database read by Japanese students, of NII's Speech Resources Consortium.

About 200 students of Japanese universities read English sentences and words, 70,000 recordings; teachers of English
rated some of them from 1 to 5. 16 kHz, 16 bits, mono. Not free: https://research.nii.ac.jp/src/en/UME-ERJ.html.
Minematsu et al., "Development of English speech database read by Japanese to support CALL research", ICA 2004.

    wav/JE/<SITE>/<[MF]number>/S<set>_<number>.wav     sentences; W... are words; wav/AE has American speakers
    lbl/{male,female}-sentence/segmental/scores.lst    '<SITE>/<speaker>/<file> <rating> <rating> ...', Shift-JIS, #

The documentation of the corpus is not public. This layout comes from programs that read the corpus:
github.com/bagustris/proscor, scripts/eval_umeerj.py, which counts 1900 rated sentences in the lists, and others agree.
Other copies may differ in upper and lower case or lack the lists, and it is uncertain which ratings the 2020 notes used.
We use the ratings of the sounds ("segmental"; there are also ratings of rhythm and intonation), averaged over the teachers.
With the lists only rated sentences are used, about two hours, as in the notes. Without the lists all sentences are used,
without scores. Words are never used, since they last only half a second.
"""

from __future__ import annotations

import logging
from pathlib import Path

from dnf.data import recipe
from dnf.data.kaldi_files import read_text
from dnf.data.manifests import Utterance, identifier, is_visible, number

log = logging.getLogger(__name__)

SPEECH = Path("wav", "JE")
LISTS = "lbl/*-sentence/segmental/scores.lst"
EXPECTED = {"rated sentences": 1900}
RATINGS = (1.0, 5.0)


def is_root(path: Path) -> bool:
    """Whether ``path`` is the folder of UME-ERJ."""
    return (path / SPEECH).is_dir()


def read(path: Path) -> list[Utterance]:
    """The rated sentences of UME-ERJ, or all sentences without lists of ratings."""
    scores = read_scores(path)
    if scores:
        recipe.expect("UME-ERJ", {"rated sentences": len(scores)}, EXPECTED)
        return [sentence(path / SPEECH / name, score) for name, score in sorted(scores.items())]
    files = sorted(
        file for file in (path / SPEECH).glob("*/*/[Ss]*") if file.suffix.lower() == ".wav" and is_visible(file, path)
    )
    if not files:
        raise ValueError(f"{path / SPEECH}: no sentences; expected <SITE>/<speaker>/S*.wav below it")
    log.warning("%s: no %s: all %d sentences are used, without scores", path, LISTS, len(files))
    return [sentence(file, None) for file in files]


def read_scores(path: Path) -> dict[str, float]:
    """The mean rating by file, ``<SITE>/<speaker>/<file>``."""
    ratings: dict[str, list[float]] = {}
    for file in sorted(path.glob(LISTS)):
        for line, text in enumerate(read_text(file, "shift_jis").splitlines(), 1):
            name, *found = text.split("#")[0].split() or [""]
            where = f"{file}: line {line}"
            if name and (name.count("/") != 2 or not found):
                raise ValueError(f"{where}: {text!r} is not '<SITE>/<speaker>/<file> <rating> ...'; restore the file")
            for rating in found:
                value = number(rating, where)
                if not RATINGS[0] <= value <= RATINGS[1]:
                    raise ValueError(f"{where}: rating {rating} is not between {RATINGS[0]:g} and {RATINGS[1]:g}")
                ratings.setdefault(name, []).append(value)
    return {name: sum(found) / len(found) for name, found in ratings.items()}


def sentence(file: Path, score: float | None) -> Utterance:
    """One sentence; the speaker's name is the site and a number, which starts with a letter for the gender."""
    speaker = identifier(f"{file.parts[-3]}_{file.parts[-2]}".lower())
    gender = file.parts[-2][0].lower()
    utt = f"{speaker}-{identifier(file.stem.lower())}"
    return Utterance(utt, utt, str(file.absolute()), speaker, "je", score=score, gender=gender)
