"""A miniature TIMIT (LDC93S1) in the layouts in which it is handed on: published names, .WAV with a SPHERE header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import sphere_file

NAMES = {  # as on the disc: (part, region, speaker); Lhotse's lists have faks0 as development, mdab0 as core test
    "f": (("TEST", "DR1", "FAKS0"), ("TRAIN", "DR1", "FCJF0"), ("TRAIN", "DR2", "FAEM0"), ("TRAIN", "DR8", "FCLT0")),
    "m": (("TEST", "DR1", "MDAB0"), ("TEST", "DR1", "MSJS1"), ("TRAIN", "DR1", "MCPM0"), ("TRAIN", "DR2", "MARC0")),
}
SENTENCES = ("SA1", "SI1027", "SX37", "SX127", "SX217")
HEADER = ("database_id -s5 TIMIT", "database_version -s3 1.0", "utterance_id -s8 cjf0_sa1")
LAYOUTS = ("TIMIT", "data", "lower")


def make(root: Path, voices: Mapping[str, list], layout: str = "TIMIT") -> Path:
    """Write the ``en`` voices as speakers of TIMIT.

    Args:
        root: folder of the corpus.
        voices: by class, ``(speaker, gender, [samples (T,) int16 at 16 kHz])``.
        layout: ``TIMIT`` (TIMIT/TRAIN/DR1/FCJF0/SA1.WAV), ``data`` (data/TRAIN/...) or ``lower`` (timit/train/dr1/...).

    Returns:
        ``root``.
    """
    left = {gender: list(names) for gender, names in NAMES.items()}
    for _, gender, utterances in voices["en"]:
        part, region, speaker = left[gender].pop(0)
        for sentence, samples in zip(SENTENCES, utterances, strict=False):
            place = Path("data" if layout == "data" else "TIMIT", part, region, speaker, sentence)
            file = root / (Path(str(place).lower()) if layout == "lower" else place)
            file.parent.mkdir(parents=True, exist_ok=True)
            texts = {"txt": "She had your dark suit.", "wrd": "she", "phn": "h#"}
            for kind, text in texts.items():
                suffix = f".{kind}" if layout == "lower" else f".{kind.upper()}"
                file.with_suffix(suffix).write_text(f"0 {len(samples)} {text}\n")
            file.with_suffix(".wav" if layout == "lower" else ".WAV").write_bytes(sphere_file.content(samples, *HEADER))
    return root
