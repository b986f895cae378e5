"""Miniature WSJ0 and WSJ1, on discs or merged, with the names, headers and index files of the published corpora."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
import sphere_file

RATE = sphere_file.RATE
SHORTEN = "pcm,embedded-shorten-v1.1"
WSJ0 = ("011", "01i", "02a", "40n")  # speakers; the next ones are those of WSJ1
WSJ1 = ("460", "46b", "4a8", "4bz")
DISCS = {"011": "11-1.1", "01i": "11-1.1", "02a": "11-2.1", "40n": "11-3.1"}
DISCS |= {"460": "13-1.1", "46b": "13-1.1", "4a8": "13-11.1", "4bz": "13-11.1"}


def sphere(samples: np.ndarray, name: str, coding: str = "pcm", count: int | None = None) -> bytes:
    """A SPHERE file with the header of WSJ's; ``count`` samples according to the header, if not all."""
    fields = (
        "microphone -s16 Sennheiser HMD410",
        "recording_site -s3 SRI",
        "database_id -s4 wsj0",
        f"speaker_id -s3 {name[:3]}",
        f"utterance_id -s8 {name}",
        "prompt_id -s20 84_062.870622.870622",
        "speaking_mode -s11 read-common",
        f"sample_coding -s{len(coding)} {coding}",
        f"sample_checksum -i {int(samples.astype(np.int64).sum()) % 65536}",
    )
    return sphere_file.content(samples, *fields, count=count)


def write(path: Path, samples: np.ndarray, coding: str) -> Path:
    """A recording beside ``path`` (ending in .wv1) in one of the codings of ``make``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if coding in ("wav", "flac"):
        path = path.with_suffix(f".{coding}")
        soundfile.write(path, samples, RATE, subtype="PCM_16")
    else:
        path.write_bytes(sphere(samples, path.stem.lower(), SHORTEN if coding == "shorten-header" else "pcm"))
    return path


def make(root: Path, voices: dict, layout: str = "discs", coding: str = "pcm") -> dict[str, np.ndarray]:
    """Build the corpus below ``root`` from the speakers of class en.

    Beside what the index lists there are, as in the published corpus: the other microphone's files, adaptation
    sentences, other parts of the corpus, and in the index of WSJ0 the speaker of whom no disc has a recording.

    Args:
        voices: speakers ``(id, gender, [samples (T,) int16, ...])`` by class.
        layout: ``discs`` or ``merged``.
        coding: ``pcm``; ``shorten-header``, a header that says the samples are compressed before samples that are not;
            ``wav`` or ``flac``.

    Returns:
        Samples by utterance, those that the index lists.
    """
    listed, lines, genders = {}, {"wsj0": [], "wsj1": []}, {"wsj0": [], "wsj1": []}
    for speaker, (_, gender, recordings) in zip(WSJ0 + WSJ1, voices["en"]):
        corpus, disc = "wsj0" if speaker in WSJ0 else "wsj1", DISCS[speaker]
        folder = (root / disc if layout == "discs" else root) / corpus
        for number, samples in enumerate(recordings, start=1):
            name = f"{speaker}c02{number:02d}"
            write(folder / "si_tr_s" / speaker / f"{name}.wv1", samples, coding)
            listed[name] = samples
            lines[corpus].append(f"{disc.replace('-', '_').replace('.', '_')}:{path_in_index(corpus, name)}")
        (folder / "si_tr_s" / speaker / f"{speaker}c0201.wv2").write_bytes(sphere(recordings[0], f"{speaker}c0201"))
        write(folder / "si_tr_s" / speaker / f"{speaker}a0101.wv1", recordings[0], coding)
        write(folder / "sd_tr_s" / speaker / f"{speaker}c0301.wv1", recordings[0], coding)
        genders[corpus].append(f"{speaker}  {gender.upper()}   north midland   SRI")
    lines["wsj0"].append("11_2_1:wsj0/si_tr_s/401/401c0201.wv1")
    text = {
        ("11-13.1", "wsj0/doc/indices/train/tr_s_wv1.ndx"): index("tr_s_wv1.ndx", lines["wsj0"]),
        ("13-34.1", "wsj1/doc/indices/si_tr_s.ndx"): index("si_tr_s.ndx", lines["wsj1"]),
        ("11-13.1", "wsj0/doc/spkrinfo.txt"): "; Speaker Gender Dialect\n------\n" + "\n".join(genders["wsj0"]) + "\n",
        ("13-34.1", "wsj1/doc/train/spkrinfo.txt"): "\n".join(genders["wsj1"]) + "\n",
    }
    for (disc, name), content in text.items():
        path = (root / disc if layout == "discs" else root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return listed


def fake_sph2pipe(folder: Path) -> Path:
    """A program sph2pipe in ``folder`` that writes the samples of a ``shorten-header`` file as wav."""
    program = folder / "sph2pipe"
    program.write_text(SPH2PIPE.format(python=sys.executable))
    program.chmod(0o755)
    return program


SPH2PIPE = """#!{python} -ESs
import sys, wave
assert sys.argv[1:4] == ["-p", "-f", "wav"], sys.argv
data = open(sys.argv[4], "rb").read()
assert data.startswith(b"NIST_1A"), "sph2pipe: not a SPHERE file"
with wave.open(sys.stdout.buffer, "wb") as out:
    out.setparams((1, 2, 16000, (len(data) - 1024) // 2, "NONE", ""))
    out.writeframes(data[1024:])
"""


def path_in_index(corpus: str, name: str) -> str:
    """As the two index files write it: the one of WSJ1 with a blank and a slash before the path."""
    return f"{'' if corpus == 'wsj0' else ' /'}{corpus}/si_tr_s/{name[:3]}/{name}.wv1"


def index(name: str, lines: list[str]) -> str:
    return (
        f";; File: {name}, updated 04/26/94\n;;\n;; Data is read WSJ sentences, Sennheiser mic.\n;;\n"
        + "\n".join(lines)
        + "\n"
    )
