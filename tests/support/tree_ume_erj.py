"""A miniature UME-ERJ: sentences and words of Japanese students, a native speaker, and teachers' ratings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import soundfile

SITES = ("DOS", "TOK", "TUT")


def make(root: Path, voices: Mapping[str, list], ratings: bool = True) -> Path:
    """Write the ``je`` voices as students; the n-th student's mean rating goes from 1 to 5 with n.

    Besides, each has a word that no one rated, the first has a sentence that no one rated, and there is an American.

    Args:
        root: folder of the corpus.
        voices: by class, ``(speaker, gender, [samples (T,) int16 at 16 kHz])``.
        ratings: write the lists of ratings.

    Returns:
        ``root``.
    """
    lists: dict[str, list[str]] = {"male": [], "female": []}
    for n, (_, gender, utterances) in enumerate(voices["je"]):
        student = f"{SITES[n % len(SITES)]}/{gender.upper()}{n + 1:02d}"
        folder = root / "wav" / "JE" / student
        folder.mkdir(parents=True)
        score = 1 + 4 * n // max(len(voices["je"]) - 1, 1)
        for k, samples in enumerate(utterances, 1):
            soundfile.write(folder / f"S6_{k:03d}.wav", samples, 16000)
            rated = [score, score, min(score + 1, 5), max(score - 1, 1), score][: 5 - k % 2]
            line = " ".join((f"{student}/S6_{k:03d}.wav ", *map(str, rated)))
            lists["female" if gender == "f" else "male"].append(line)
        soundfile.write(folder / "W1_001.wav", utterances[0][:8000], 16000)
        if n == 0:
            soundfile.write(folder / "S6_099.wav", utterances[0], 16000)
    native = root / "wav" / "AE" / "F01"
    native.mkdir(parents=True)
    soundfile.write(native / "S_PH_A_001.wav", voices["je"][0][2][0], 16000)
    if ratings:
        for sex, lines in lists.items():
            folder = root / "lbl" / f"{sex}-sentence" / "segmental"
            folder.mkdir(parents=True)
            text = "# 評定\r\n" + "".join(f"{line}\r\n" for line in lines)
            (folder / "scores.lst").write_bytes(text.encode("shift_jis"))
    return root
