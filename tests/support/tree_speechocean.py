"""A miniature speechocean762 (OpenSLR 101) in the published layout, with experts' scores and a child in each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import soundfile

SPEAKERS = {  # number: age
    "train": {"0001": 6, "0036": 18, "0135": 20, "1012": 43, "2022": 25, "9601": 19},
    "test": {"0003": 17, "0120": 22, "0461": 23, "9604": 30},
}
KINDS = ("accuracy", "fluency", "prosodic", "total")


def make(root: Path, voices: Mapping[str, list], scores: bool = True) -> Path:
    """Write the first eight ``ce`` voices as adults, and the first one as a child in each part, too.

    Args:
        root: folder above that of the corpus.
        voices: by class, ``(speaker, gender, [samples (T,) int16 at 16 kHz])``.
        scores: write ``resource/scores.json`` and ``scores-detail.json``; ``score`` and ``marks_of`` say which.

    Returns:
        The folder of the corpus, ``root/speechocean762``.
    """
    folder, left, entries = root / "speechocean762", list(voices["ce"]), {}
    for part, ages in SPEAKERS.items():
        tables: dict[str, dict[str, str]] = {}
        for speaker, age in ages.items():
            _, gender, utterances = left.pop(0) if age >= 18 else voices["ce"][0]
            (folder / "WAVE" / f"SPEAKER{speaker}").mkdir(parents=True)
            ids = [f"0{speaker}{n:04d}" for n in range(11, 11 + len(utterances))]
            for utt, samples in zip(ids, utterances, strict=True):
                path = f"WAVE/SPEAKER{speaker}/{utt}.WAV"
                soundfile.write(folder / path, samples, 16000, format="WAV")
                fill(tables, **{"wav.scp": (utt, path), "utt2spk": (utt, speaker), "text": (utt, "WE CALL IT BEAR")})
                entries[utt] = entry(utt)
            fill(tables, spk2age=(speaker, str(age)), spk2gender=(speaker, gender), spk2utt=(speaker, " ".join(ids)))
        (folder / part).mkdir()
        for name, table in tables.items():
            (folder / part / name).write_text("".join(f"{key}\t{value}\n" for key, value in sorted(table.items())))
    if scores:
        (folder / "resource").mkdir()
        (folder / "resource" / "scores.json").write_text(json.dumps(entries, indent=4))
        marks = {utt: {kind: marks_of(utt, kind) for kind in KINDS} for utt in entries}
        (folder / "resource" / "scores-detail.json").write_text(json.dumps(marks, indent=4))
    return folder


def fill(tables: dict[str, dict[str, str]], **records: tuple[str, str]) -> None:
    for name, (key, value) in records.items():
        tables.setdefault(name, {})[key] = value


def score(utt: str, kind: str) -> float:
    """The score of an utterance, the same in every tree; each kind has one of its own."""
    return (int(utt) * 7 + KINDS.index(kind)) % 9 + 1


def marks_of(utt: str, kind: str) -> list[float]:
    """Marks of three experts, of which ``score`` is the mean."""
    return [score(utt, kind) + step for step in (-0.5, 0.0, 0.5)]


def entry(utt: str) -> dict:
    """What ``scores.json`` says of one utterance: its scores, and those of its words."""
    word = {
        "text": "BEAR",
        "accuracy": 6,
        "stress": 10,
        "total": 6,
        "phones": "B EH0 R",
        "phones-accuracy": [2.0, 1.0, 1.0],
    }
    return {
        "text": "WE CALL IT BEAR",
        **{kind: score(utt, kind) for kind in KINDS},
        "completeness": 10.0,
        "words": [word],
    }
