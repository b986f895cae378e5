"""Readers of the private corpora: English spoken by Chinese (class ce) and by Japanese (class je) speakers.

A corpus comes in one of three forms:

    FILE.csv, FILE.tsv     a table of its recordings, ``dnf.data.recordings_table``: columns recording, speaker, class and,
                           where they exist, score, gender, utt, text
    a Kaldi directory      wav.scp, utt2spk and optionally segments, utt2class, utt2score, spk2gender, text;
                           relative paths start from the folder of the run, as in Kaldi
    UME-ERJ (je only)      the folder of the published corpus, ``ume_erj``

A score is an expert's, from 1 (strong accent) to 5. All utterances are of the corpus's one class.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lhotse.kaldi import load_kaldi_data_dir

from dnf.data import recipe
from dnf.data.kaldi_files import read_table, write_table
from dnf.data.manifests import Utterance, absolute, number
from dnf.data.recipe import Manifests
from dnf.data.recordings_table import read_recordings_table
from dnf.data.validate import validate
from egs.corpora import ume_erj

LAYOUT = "a table .csv or .tsv with columns recording, speaker, class, or a Kaldi data directory"
LAYOUTS = {"ce": LAYOUT, "je": f"{LAYOUT}, or the folder of UME-ERJ with wav/JE"}
SCORES = (1.0, 5.0)
IMPORTED = ("wav.scp", "segments", "utt2spk", "spk2gender")
OTHERS = ("utt2class", "utt2score", "text")


def read(path: Path, name: str, prefix: str, output_dir: Path, max_rejected: float) -> Manifests:
    """All utterances of a corpus of accented English.

    Args:
        path: the table, the Kaldi directory or, for class je, the folder of UME-ERJ.
        name: class of the corpus, which every utterance must have.
        prefix: prefix of the speaker ids, and name of the corpus in messages: ``ce`` or ``je``.
        output_dir: gets ``lists/<prefix>_rejected.txt``.
        max_rejected: share of the recordings that may be unreadable.

    Raises:
        ValueError: another layout, an error in a table, an utterance of another class, too many unreadable recordings.
    """
    if path.is_file():
        spoken = [utterance for of_set in read_recordings_table(path, scores=SCORES).values() for utterance in of_set]
    elif (path / "wav.scp").is_file():
        spoken = read_kaldi(path, name)
    elif name == "je" and ume_erj.is_root(path):
        spoken = ume_erj.read(path)
    else:
        raise ValueError(f"--{prefix} {path}: expected {LAYOUTS.get(name, LAYOUT)}")
    for utterance in spoken:
        if utterance.name != name:
            raise ValueError(
                f"{path}: utterance {utterance.id} has class {utterance.name!r}, but --{prefix} must have only class {name!r}; "
                f"correct the class, or move the utterance to another corpus"
            )
    return recipe.make(prefix, [prefixed(utterance, prefix) for utterance in spoken], output_dir, max_rejected)


def prefixed(utterance: Utterance, prefix: str) -> Utterance:
    """The utterance with ids ``<prefix>_<speaker>-<utterance>``."""
    speaker = utterance.speaker
    utt = utterance.id if utterance.id.startswith(f"{speaker}-") else f"{speaker}-{utterance.id}"
    own = utterance.recording == utterance.id
    return utterance._replace(
        id=f"{prefix}_{utt}",
        recording=f"{prefix}_{utt if own else utterance.recording}",
        speaker=f"{prefix}_{speaker}",
    )


def read_kaldi(directory: Path, name: str) -> list[Utterance]:
    """Utterances of a Kaldi data directory; those without a class in ``utt2class`` are of class ``name``."""
    validate(directory, wav_files=False, need_spk2utt=False, odd_times=True)
    with tempfile.TemporaryDirectory() as folder:
        for table in IMPORTED:
            if (directory / table).is_file():
                shutil.copy(directory / table, folder)
        # the importer opens no recording whose length it knows: recipe.make does, and lists those that are unreadable
        write_table(Path(folder, "reco2dur"), dict.fromkeys(read_table(directory / "wav.scp"), "1"))
        # and it wants a text wherever there are segments
        write_table(Path(folder, "text"), dict.fromkeys(read_table(directory / "utt2spk"), "-"))
        recordings, supervisions, _ = load_kaldi_data_dir(folder, sampling_rate=16000)
    sources = {recording.id: absolute(recording.sources[0].source, Path()) for recording in recordings}
    segments = read_table(directory / "segments") if (directory / "segments").is_file() else {}
    # without a segment, or with end -1, the utterance ends with the recording
    open_ended = {s.id for s in supervisions if float(segments.get(s.id, "-1").split()[-1]) == -1}
    classes, rated, texts = (read_table(directory / table) if (directory / table).is_file() else {} for table in OTHERS)
    scores = {
        utt: check_score(text, f"{directory / 'utt2score'}: line {line}: utterance {utt}")
        for line, (utt, text) in enumerate(rated.items(), 1)
    }
    return [
        Utterance(
            s.id,
            s.recording_id,
            sources[s.recording_id],
            s.speaker,
            classes.get(s.id, name),
            s.start,
            None if s.id in open_ended else s.end,
            scores.get(s.id),
            s.gender,
            texts.get(s.id),
        )
        for s in supervisions
    ]


def check_score(text: str, where: str) -> float:
    """A score as a number; ``ValueError`` if it is outside the scale."""
    score = number(text, where)
    if not SCORES[0] <= score <= SCORES[1]:
        raise ValueError(f"{where}: score {text} is not between {SCORES[0]:g} and {SCORES[1]:g}")
    return score
