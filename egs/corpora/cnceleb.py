"""CN-Celeb1 and CN-Celeb2: Mandarin speech of celebrities from the Internet, in eleven genres, "in the wild", 16 kHz.

Origin: Fan et al., "CN-CELEB: a challenging Chinese speaker recognition dataset", ICASSP 2020, arXiv:1911.01799;
Li et al., "CN-Celeb: multi-genre speaker recognition", Speech Communication 2022, arXiv:2012.12468;
https://www.openslr.org/82/. Licence: Creative Commons Attribution-ShareAlike 4.0.
Size: CN-Celeb1 997 speakers, 126,532 utterances, about 270 h; CN-Celeb2 1,996 speakers, 524,787 utterances, about
1,090 h. The papers have 1,000 and 2,000 speakers, since the archives were cleaned later.

Layout of CN-Celeb1, ``CN-Celeb_flac``, or the same with .wav::

    data/id00010/singing-01-002.flac     genre, session, number; all speakers
    dev/dev.lst                          the 797 training speakers, one per line
    eval/test/id00800-singing-01-001.flac, eval/enroll/id00800-enroll.flac, eval/lists/    the 200 test speakers

CN-Celeb2, ``CN-Celeb2_flac``, has ``data/`` without a division: all of it is for training. All utterances come from
``data/``, also those of the test speakers: ``eval/`` has the same speech, partly concatenated for enrolment.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from dnf.data import recipe
from dnf.data.kaldi_files import read_text
from dnf.data.manifests import Utterance, is_visible

log = logging.getLogger(__name__)

READABLE = (".flac", ".wav")
SPEAKER = re.compile(r"id[0-9]{5}")
PUBLISHED = {
    "cnceleb1": {"speakers": 997, "utterances": 126532, "training speakers": 797, "test speakers": 200},
    "cnceleb2": {"speakers": 1996, "utterances": 524787},
}


def read(
    cnceleb1: Path | None, cnceleb2: Path | None = None, name: str = "cn", genres: Collection[str] = ()
) -> dict[str, list[Utterance]]:
    """Utterances of CN-Celeb1 and CN-Celeb2, as far as given; no recording is opened.

    Args:
        cnceleb1: folder of CN-Celeb1.
        cnceleb2: folder of CN-Celeb2.
        name: class of all of them.
        genres: keep these only, such as interview and speech; empty: all.

    Returns:
        ``train`` and ``test``; ``test`` has the eval speakers of CN-Celeb1. Speakers are called ``cn_idNNNNN``.

    Raises:
        ValueError: ``data/`` or a list is missing, a speaker is for training and for tests, or a genre has no recordings.
    """
    sets: dict[str, list[Utterance]] = {"train": [], "test": []}
    for corpus, root in (("cnceleb1", cnceleb1), ("cnceleb2", cnceleb2)):
        if root is None:
            continue
        spoken = read_data(root, corpus, name)
        of_genre = Counter(map(genre, spoken))
        log.info("--%s: %s", corpus, ", ".join(f"{count} {one}" for one, count in of_genre.most_common()))
        unknown = sorted(set(genres) - of_genre.keys())
        if unknown:
            raise ValueError(
                f"--{corpus} {root}: no recording of genre {', '.join(unknown)}; give some of {', '.join(sorted(of_genre))}"
            )
        speakers = {u.speaker for u in spoken}
        parts = read_division(root) if corpus == "cnceleb1" else dict.fromkeys(speakers, "train")
        outside = sorted(speakers - parts.keys())
        if outside:
            log.warning(
                "--%s %s: left out, since neither in dev/dev.lst nor in eval/: %s", corpus, root, " ".join(outside)
            )
        for utterance in spoken:
            if utterance.speaker in parts and (not genres or genre(utterance) in genres):
                sets[parts[utterance.speaker]].append(utterance)
        divided = Counter(parts[speaker] for speaker in speakers & parts.keys())
        found = {"speakers": len(speakers), "utterances": len(spoken)}
        found |= {"training speakers": divided["train"], "test speakers": divided["test"]}
        recipe.expect(f"--{corpus} {root}", found, PUBLISHED[corpus])
    return sets


def read_data(root: Path, corpus: str, name: str) -> list[Utterance]:
    """All utterances below ``data/``, sorted."""
    spoken = []
    for folder in sorted(path for path in (root / "data").glob("id*") if SPEAKER.fullmatch(path.name)):
        recordings = {
            path.stem: path for path in sorted(folder.iterdir()) if path.suffix in READABLE and path.name[0] != "."
        }
        for stem, path in recordings.items():
            utt = f"cn_{folder.name}-{stem}"
            spoken.append(Utterance(utt, utt, str(path.absolute()), f"cn_{folder.name}", name))
    if not spoken:
        raise ValueError(f"--{corpus} {root}: no data/idNNNNN/<genre>-<session>-<number>.flac or .wav")
    return spoken


def enrolments(root: Path, name: str = "cn") -> list[Utterance]:
    """The enrolment recordings of CN-Celeb1, ``eval/enroll/idNNNNN-enroll.flac``, sorted; their ids are ``cn_idNNNNN-enroll``."""
    paths = sorted(path for path in (root / "eval" / "enroll").glob("id*-enroll.*") if path.suffix in READABLE)
    return [Utterance(f"cn_{p.stem}", f"cn_{p.stem}", str(p.absolute()), f"cn_{p.stem[:7]}", name) for p in paths]


def genre(utterance: Utterance) -> str:
    """The genre, the start of the file name."""
    return utterance.id.split("-")[1]


def read_division(root: Path) -> dict[str, str]:
    """``train`` or ``test`` by speaker of CN-Celeb1, from ``dev/dev.lst`` and the names in ``eval/``."""
    dev = root / "dev" / "dev.lst"
    if not dev.is_file():
        raise ValueError(f"{dev}: no such file; copy dev/ and eval/ of CN-Celeb1 to the folder of data/")
    names = [path.name for part in ("test", "enroll") for path in (root / "eval" / part).glob("id*")]
    for path in sorted((root / "eval" / "lists").glob("*.lst")):
        names += SPEAKER.findall(read_text(path)) if is_visible(path, root) else []
    test = {f"cn_{name[:7]}" for name in names if SPEAKER.match(name)}
    if not test:
        raise ValueError(f"{root / 'eval'}: no test speakers; copy eval/lists, eval/test and eval/enroll of CN-Celeb1")
    train = {f"cn_{speaker}" for speaker in read_text(dev).split()}
    both = sorted(train & test)
    if both:
        raise ValueError(
            f"{dev}: {both[0]} and {len(both) - 1} more are also test speakers of eval/; use the published lists"
        )
    return dict.fromkeys(train, "train") | dict.fromkeys(test, "test")
