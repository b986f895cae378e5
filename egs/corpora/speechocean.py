"""speechocean762: English read by Mandarin speakers, with experts' scores, 16 kHz WAV, read by Lhotse's Kaldi importer.

Origin: Zhang et al., "speechocean762: an open-source non-native English speech corpus for pronunciation assessment",
Interspeech 2021, arXiv:2104.01378; https://www.openslr.org/101. Licence: CC BY 4.0.
Size: 5,000 utterances of 250 speakers, half in each of train and test. About half of the speakers are children, who are left out here.

    speechocean762/{train,test}/{wav.scp,utt2spk,spk2age,spk2gender}    Kaldi style; paths start from speechocean762
    speechocean762/WAVE/SPEAKER0001/000010011.WAV
    speechocean762/resource/scores.json                                 optional; without it there are no scores
    speechocean762/resource/scores-detail.json                          optional; without it there are no marks of each expert

``scores.json`` has for each utterance, besides scores of the words, scores of the sentence from 0 to 10, the means or medians
of five experts: ``{"000010011": {"accuracy": 8, "fluency": 9, "prosodic": 9, "total": 8, ...}, ...}``.
``scores-detail.json`` has a list of the scores of all experts in place of each score.
"""

from __future__ import annotations

import json
import logging
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from lhotse.kaldi import load_kaldi_data_dir
from lhotse.utils import resumable_download, safe_extract

from dnf.data import recipe
from dnf.data.kaldi_files import read_loose, read_text, write_table
from dnf.data.manifests import Utterance
from dnf.data.recordings_table import gender_of
from dnf.experiment import entry
from dnf.experiment.layout import UTT2SCORE, UTT2SCORES

log = logging.getLogger(__name__)

FOLDER = "speechocean762"
URL = "https://www.openslr.org/resources/101/speechocean762.tar.gz"
LAYOUT = "speechocean762 of https://www.openslr.org/101 with train, test and WAVE; --download true fetches it"
PARTS = ("train", "test")
TABLES = ("wav.scp", "utt2spk", "spk2age", "spk2gender")
PUBLISHED = {"utterances": 5000, "speakers": 250}
ADULT = 18  # years
SCORES = ("total", "accuracy", "fluency", "prosodic")
SCALE = (0.0, 10.0)
RESTORE = "restore the files of the corpus"
Found = TypeVar("Found")


def read(folder: Path, score: str = "total") -> dict[str, list[Utterance]]:
    """The adults' utterances, class ce, of ``train`` and ``test``; no recording is opened.

    Args:
        folder: speechocean762.
        score: which of ``SCORES`` is an utterance's main score.

    Raises:
        ValueError: a table is missing, contradicts another one, or contains an error.
    """
    scores = read_scores(folder / "resource" / "scores.json", number)
    marks = read_scores(folder / "resource" / "scores-detail.json", numbers)
    parts = {part: read_part(folder, part) for part in PARTS}
    everyone = [utterance for spoken, _ in parts.values() for utterance in spoken]
    found = {"utterances": len(everyone), "speakers": len({u.speaker for u in everyone})}
    recipe.expect("speechocean762", found, PUBLISHED)
    adults = {part: [u for u in spoken if ages[u.speaker] >= ADULT] for part, (spoken, ages) in parts.items()}
    unscored = [u.id for spoken in adults.values() for u in spoken if u.id not in scores]
    if scores and unscored:
        log.warning("%s: %d utterances have no score, the first is %s", folder, len(unscored), unscored[0])
    return {
        part: [labelled(u, score, scores.get(u.id, {}), marks.get(u.id, {})) for u in spoken]
        for part, spoken in adults.items()
    }


def read_part(folder: Path, part: str) -> tuple[list[Utterance], dict[str, int]]:
    """All utterances of ``train`` or ``test``, under the ids of the corpus, and the age of each speaker."""
    for name in TABLES:
        if not (folder / part / name).is_file():
            raise ValueError(f"--speechocean {folder}: no {part}/{name}; expected {LAYOUT}")
    tables = {name: read_loose(folder / part / name) for name in TABLES}
    speakers, ages = tables["utt2spk"], {}
    for one, other in (("wav.scp", "utt2spk"), ("utt2spk", "wav.scp")):
        left = sorted(tables[one].keys() - tables[other].keys())
        if left:
            raise ValueError(f"{folder / part / other}: no utterance {left[0]}, which is in {one}; {RESTORE}")
    for speaker in sorted(set(speakers.values())):
        age = tables["spk2age"].get(speaker, "")
        if not age.isdecimal():
            raise ValueError(f"{folder / part / 'spk2age'}: speaker {speaker} has no age; {RESTORE}")
        ages[speaker] = int(age)
    for utt, path in tables["wav.scp"].items():
        if path.endswith("|"):
            raise ValueError(f"{folder / part / 'wav.scp'}: {utt} is a command; {RESTORE}")
    paths = {utt: str((folder / path).absolute()) for utt, path in tables["wav.scp"].items()}
    with tempfile.TemporaryDirectory() as directory:
        write_table(Path(directory, "wav.scp"), paths)
        write_table(Path(directory, "utt2spk"), speakers)
        write_table(Path(directory, "spk2gender"), {s: tables["spk2gender"].get(s, "") for s in ages})
        # the importer opens no recording whose length it knows: recipe.make does, and lists those that are unreadable
        write_table(Path(directory, "reco2dur"), dict.fromkeys(speakers, "1"))
        recordings, supervisions, _ = load_kaldi_data_dir(directory, sampling_rate=16000)
    sources = {recording.id: recording.sources[0].source for recording in recordings}
    where = folder / part / "spk2gender"
    genders = {s: gender_of(tables["spk2gender"].get(s, ""), f"{where}: speaker {s}") for s in ages}
    return [
        Utterance(s.id, s.id, sources[s.id], s.speaker, "ce", gender=genders[s.speaker]) for s in supervisions
    ], ages


def labelled(
    utterance: Utterance, main: str, scores: Mapping[str, float], marks: Mapping[str, tuple[float, ...]]
) -> Utterance:
    """The utterance ``speechocean_<speaker>-<utterance>`` with its scores and those of each expert.

    Args:
        utterance: under the ids of the corpus.
        main: the score of ``utt2score``; the others are in ``utt2score_<name>``.
        scores, marks: by name of the score.
    """
    speaker = f"speechocean_{utterance.speaker}"
    utt = f"{speaker}-{utterance.id}"
    tables = {f"{UTT2SCORE}_{name}": str(score) for name, score in scores.items() if name != main}
    tables |= {f"{UTT2SCORES}_{name}": " ".join(map(str, given)) for name, given in marks.items() if name != main}
    return utterance._replace(
        id=utt, recording=utt, speaker=speaker, score=scores.get(main), marks=marks.get(main, ()), tables=tables
    )


def number(value: object) -> float | None:
    """A score within ``SCALE``; None for another value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not SCALE[0] <= value <= SCALE[1]:
        return None
    return float(value)


def numbers(value: object) -> tuple[float, ...] | None:
    """Scores of each expert; None if one of them is invalid."""
    found = tuple(map(number, value)) if isinstance(value, list) else ()
    return found if found and None not in found else None


def read_scores(path: Path, legal: Callable[[object], Found | None]) -> dict[str, dict[str, Found]]:
    """``SCORES`` of each utterance in ``scores.json`` or ``scores-detail.json``, by name; empty without this file.

    Args:
        path: the file.
        legal: converts a value, and returns None for an invalid one: ``number`` or ``numbers``.
    """
    if not path.is_file():
        log.info("%s: does not exist; no score of it is used", path)
        return {}
    try:
        tree = json.loads(read_text(path), object_pairs_hook=unique)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({entry.describe(error)}); {RESTORE}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected an object with the scores of each utterance; {RESTORE}")
    scores: dict[str, dict[str, Found]] = {}
    kind = "a number" if legal is number else "a list of numbers"
    for utt, entries in tree.items():
        for name in SCORES:
            value = entries.get(name) if isinstance(entries, dict) else None
            found = legal(value)
            if found is None:
                scale = f"{SCALE[0]:g} to {SCALE[1]:g}"
                raise ValueError(f"{path}: utterance {utt}: {name} is {value!r}, not {kind} from {scale}; {RESTORE}")
            scores.setdefault(utt, {})[name] = found
    return scores


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; ``ValueError`` for a key that appears twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"key {max(names, key=names.count)!r} appears twice")
    return dict(pairs)


def download(folder: Path) -> None:
    """Download the corpus unless ``folder`` exists, 0.5 GB; the archive stays beside it."""
    if folder.name != FOLDER:
        raise ValueError(
            f"--speechocean {folder}: the download creates a folder {FOLDER}; use this name, or omit the option"
        )
    archive, completed = folder.parent / f"{FOLDER}.tar.gz", folder / ".completed"
    if folder.is_dir() and (completed.is_file() or not archive.is_file()):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        resumable_download(URL, filename=archive)
        with tarfile.open(archive) as tar:
            safe_extract(tar, folder.parent)
        completed.touch()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{URL}: download failed ({entry.describe(error)}); start again to continue, or unpack the "
            f"archive in {folder.parent} yourself"
        ) from None
