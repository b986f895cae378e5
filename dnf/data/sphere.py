"""NIST SPHERE recordings, recognized by their header and not by their file name.

libsndfile reads the uncompressed ones. Lhotse hands files called ``.sph`` to the program sph2pipe, which also decodes
the compressed ones (``sample_coding pcm,embedded-shorten-...``), but many compressed files have other names. After
``install``, Lhotse uses the header.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess

import numpy as np
import soundfile
from lhotse import get_current_audio_backend, set_current_audio_backend
from lhotse.audio.backend import (
    CompositeAudioBackend,
    LibsndfileBackend,
    LibsndfileCompatibleAudioInfo,
    Sph2pipeSubprocessBackend,
    get_default_audio_backend,
)

from dnf.data.wav_header import OpenLength

PROGRAM = "sph2pipe"
MAGIC = b"NIST_1A\n"


def header(path: str | os.PathLike) -> dict[str, str]:
    """Fields of a SPHERE header by name; empty for a file of another kind or with a broken header."""
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return {}
            size = int(file.readline(9))
            text = file.read(size - file.tell())
    except (OSError, ValueError):
        return {}
    lines = text.decode("latin-1").split("end_head")[0].splitlines()
    fields = (line.split(None, 2) for line in lines)
    return {"size": str(size)} | {field[0]: field[2].strip() for field in fields if len(field) == 3}


def compression(path: str | os.PathLike) -> str:
    """The compression of a SPHERE file as its header names it; empty if it is not compressed."""
    coding = header(path).get("sample_coding", "")
    return coding if "," in coding or "shorten" in coding else ""


def refusal(path: str | os.PathLike) -> str:
    """Why a file cannot be read on this machine, and the remedy; empty if it can be read."""
    coding = compression(path)
    if not coding or shutil.which(PROGRAM):
        return ""
    return (
        f"its samples are compressed ({coding}) and {PROGRAM}, which decodes them, is not installed; "
        f"run 'lhotse install-sph2pipe', or convert the corpus to wav or flac"
    )


def cut_off(path: str | os.PathLike) -> tuple[int, int] | None:
    """Bytes of samples in the header and in the file, for a truncated uncompressed SPHERE file.

    libsndfile reads such a file without a warning.
    """
    fields = header(path)
    if not fields or compression(path):
        return None
    try:
        sizes = (int(fields[name]) for name in ("sample_count", "channel_count", "sample_n_bytes"))
        said, there = int(np.prod(list(sizes))), os.path.getsize(path) - int(fields["size"])
    except (KeyError, ValueError):
        return None
    return (said, max(0, there)) if there < said else None


class Sphere(Sph2pipeSubprocessBackend):
    """Lhotse's backend for sph2pipe, for every file whose header names a compression."""

    def handles_special_case(self, path_or_fd) -> bool:
        return isinstance(path_or_fd, (str, os.PathLike)) and bool(compression(path_or_fd))

    def read_audio(self, path_or_fd, offset=0.0, duration=None, force_opus_sampling_rate=None):
        """Samples ``(channels, T)`` in -1..1 and their rate, Hz."""
        if reason := refusal(path_or_fd):
            raise ValueError(reason)
        done = subprocess.run([PROGRAM, "-p", "-f", "wav", str(path_or_fd)], capture_output=True, check=False)
        if done.returncode or not done.stdout:
            raise ValueError(f"{PROGRAM} failed: {done.stderr.decode(errors='replace').strip()[-200:]}")
        samples, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32", always_2d=True)
        if str(len(samples)) != (count := header(path_or_fd).get("sample_count")):
            raise ValueError(f"{PROGRAM} gave {len(samples)} samples, but its header says {count}")
        first = round(offset * rate)
        last = None if duration is None else first + round(duration * rate)
        return samples[first:last].T, rate

    def info(self, path_or_fd, force_opus_sampling_rate=None):
        """Read the header; nothing is decoded."""
        if reason := refusal(path_or_fd):
            raise ValueError(reason)
        fields = header(path_or_fd)
        missing = [
            name for name in ("channel_count", "sample_count", "sample_rate") if not fields.get(name, "").isdigit()
        ]
        if missing:
            raise ValueError(f"its SPHERE header has no {missing[0]}")
        channels, count, rate = (int(fields[name]) for name in ("channel_count", "sample_count", "sample_rate"))
        return LibsndfileCompatibleAudioInfo(channels=channels, frames=count, samplerate=rate, duration=count / rate)


def install() -> None:
    """Make Lhotse read files like classification: SPHERE files by their header, all others with libsndfile."""
    backend = get_current_audio_backend()
    if backend is get_default_audio_backend():  # else it is already ours, or the user's choice
        set_current_audio_backend(CompositeAudioBackend([Sphere(), OpenLength(), LibsndfileBackend()]))
