"""Miniature CN-Celeb1 and CN-Celeb2: real names of folders, files and lists."""

from pathlib import Path

import soundfile

RATE = 16000
GENRES = ("singing", "live_broadcast", "interview")
TRAINING = ("id00010", "id00012", "id00013", "id00016")
TESTED = ("id00800", "id00802")
SPEAKERS2 = ("id10001", "id10002")


def make(root: Path, voices, suffix: str = ".flac") -> tuple[Path, Path]:
    """Write ``root/CN-Celeb_flac`` and ``root/CN-Celeb2_flac``, spoken by the Chinese voices.

    Args:
        root: where the two go.
        voices: lists of (speaker, gender, int16 utterances) by class.
        suffix: of the recordings and of the folders' names, .flac or .wav.
    """
    one, two = root / f"CN-Celeb_{suffix[1:]}", root / f"CN-Celeb2_{suffix[1:]}"
    speech = {speaker: utterances for speaker, (_, _, utterances) in zip(TRAINING + TESTED + SPEAKERS2, voices["ce"])}
    for speaker, utterances in speech.items():
        for genre, samples in zip(GENRES, utterances):
            write((two if speaker in SPEAKERS2 else one) / "data" / speaker / f"{genre}-01-002{suffix}", samples)
    text(one / "README.TXT", "CN-Celeb")
    text(one / "dev" / "dev.lst", *TRAINING)
    for speaker in TESTED:
        write(one / "eval" / "enroll" / f"{speaker}-enroll{suffix}", speech[speaker][0])
        for genre, samples in zip(GENRES[1:], speech[speaker][1:]):
            write(one / "eval" / "test" / f"{speaker}-{genre}-01-002{suffix}", samples)
    tests = [f"test/{speaker}-{genre}-01-002.wav" for speaker in TESTED for genre in GENRES[1:]]
    text(
        one / "eval" / "lists" / "enroll.lst", *(f"{speaker}-enroll enroll/{speaker}-enroll.wav" for speaker in TESTED)
    )
    text(one / "eval" / "lists" / "test.lst", *tests)
    trials = (f"{speaker}-enroll {path} {int(speaker in path)}" for speaker in TESTED for path in tests)
    text(one / "eval" / "lists" / "trials.lst", *trials)
    text(two / "spk.lst", *SPEAKERS2)
    return one, two


def write(path: Path, samples) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="PCM_16")


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
