"""A miniature LibriSpeech (OpenSLR 12) in the published layout, with placeholders for transcripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import soundfile

READERS = {"train-clean-100": ("103", "1034", "26", "4088", "7067", "8975"), "test-other": ("1688", "3005")}
HEAD = "; Some metadata about all readers\n;ID  |SEX| SUBSET           |MINUTES| NAME\n"


def make(root: Path, voices: Mapping[str, list], text: str = "TRANSCRIPT NOT INCLUDED") -> Path:
    """Write the first eight ``en`` voices: six readers of train-clean-100, two of test-other.

    Args:
        root: folder above that of the corpus.
        voices: by class, ``(speaker, gender, [samples (T,) int16 at 16 kHz])``.
        text: transcript of every utterance.

    Returns:
        The folder of the corpus, ``root/LibriSpeech``.
    """
    folder, left, lines = root / "LibriSpeech", list(voices["en"]), []
    for part, readers in READERS.items():
        for reader in readers:
            _, gender, utterances = left.pop(0)
            chapter = folder / part / reader / "121669"
            chapter.mkdir(parents=True)
            ids = [f"{reader}-{chapter.name}-{n:04d}" for n in range(len(utterances))]
            for utt, samples in zip(ids, utterances, strict=True):
                soundfile.write(chapter / f"{utt}.flac", samples, 16000)
            transcripts = "".join(f"{utt} {text}\n" for utt in ids)
            (chapter / f"{reader}-{chapter.name}.trans.txt").write_text(transcripts)
            lines.append(f"{reader:<4} | {gender.upper()} | {part:<16} | 25.03 | A Reader\n")
    (folder / "SPEAKERS.TXT").write_text(HEAD + "".join(lines))
    return folder
