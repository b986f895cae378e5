"""Opening recordings, for stages and classification: why a recording cannot be used, and the cause of an error."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from pathlib import Path

import soundfile

from dnf.data import sphere, wav_header
from dnf.data.kaldi_files import not_a_file
from dnf.experiment import entry

LONGEST = 300  # characters of a cause; its end is the most informative
TOLERANCE = 0.025  # seconds that may be missing at the end, as in Lhotse
SAID = re.compile(r"riff *: (\d+) \(should be (\d+)\)")  # libsndfile on W64


def unusable(path: str | Path) -> str:
    """Why a recording cannot be used, by its header and length, and the remedy; empty if it can be used.

    Raises:
        OSError: the file cannot be opened.
        soundfile.LibsndfileError: it is a damaged file of a kind whose header libsndfile reads here.
    """
    if reason := not_a_file(path):
        return f"{reason}; correct the path, or leave out the recording" if ";" not in reason else reason
    if reason := sphere.refusal(path):
        return reason
    if said := sphere.cut_off(path):
        return cut_off(*said)
    with open(path, "rb") as file:
        if file.read(4) != b"riff":
            return header_fault(file, os.path.getsize(path))
    fault = SAID.search(soundfile.info(str(path)).extra_info)
    said, there = (int(fault[1]), int(fault[2])) if fault else (0, 0)
    return cut_off(said, there) if said - there > 1 and said < wav_header.STREAMED else ""


def header_fault(file, size: int) -> str:
    """What is wrong with the length in the header of a WAV, AIFF or AU file; empty for other files."""
    samples = wav_header.find_samples(file, size)
    if samples is None or samples.fits or samples.unknown:
        return ""
    if samples.said > samples.there:
        return cut_off(samples.said, samples.there)
    return (
        f"its header says {samples.said} bytes of samples, but the file has {samples.there} bytes; "
        "write the file again, or leave it out"
    )


def cut_off(said: int, there: int, unit: str = "bytes of samples") -> str:
    return f"truncated: the file has {there} of {said} {unit}; restore or leave out the file"


def count_samples(path: str | Path) -> tuple[int, int, int]:
    """The number of samples in a file's header, the number that can be decoded, and the rate, Hz."""
    with soundfile.SoundFile(wav_header.to_open(path)) as file:
        count = 0
        with contextlib.suppress(soundfile.SoundFileError):
            while len(block := file.read(1 << 14, dtype="float32", always_2d=True)):
                count += len(block)
        return file.frames, count, file.samplerate


def failure(path: str | Path, error: Exception) -> str:
    """Why reading a file with a good header failed, and the remedy."""
    with contextlib.suppress(OSError, soundfile.SoundFileError):
        said, there, rate = count_samples(path)
        if said - there > TOLERANCE * rate:
            return cut_off(said, there, "samples")
    return f"cannot be read ({cause(error, path)}); restore or leave out the file"


def cause(error: Exception, path: str | Path = "") -> str:
    """Why a file cannot be read, without the wrapping of libraries and the name of the file."""
    text = entry.describe(error)
    first = re.search(r"Exception #0 \([^)]*\): (.*?)(?= Exception #1 | Set LHOTSE_|$)", text)
    text = first[1] if first else text
    text = re.sub(
        r"Reading audio from '.*?' failed\. Details: |<class '[\w.]+'>: |Error opening ('.*?'|<.*?>): ", "", text
    )
    text = re.sub(r" *\[extra info\].*| Set LHOTSE_\w+=1 .*", "", text)
    text = text.replace(f"{path}: ", "").strip() if path else text.strip()
    text = text if len(text) <= LONGEST else f"{text[: LONGEST // 3]} ... {text[-LONGEST // 2 :]}"
    return text.rstrip(".") or "its samples are damaged"


def run_pipe(command: str) -> bytes:
    """The output of a command of wav.scp, as a sound file with a correct header.

    Raises:
        ValueError: the command fails or writes nothing; the message has the end of its stderr and its folder.
    """
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    said = " ".join(done.stderr.decode(errors="replace").split())[-LONGEST:]
    if done.returncode or not done.stdout:
        what = f"ended with status {done.returncode}" if done.returncode else "wrote nothing"
        raise ValueError(f"the command {what}, run in {Path.cwd()}" + (f": {said}" if said else ""))
    data = bytearray(done.stdout)
    if reason := header_fault(io.BytesIO(data), len(data)):
        raise ValueError(f"the output of the command is {reason}")
    samples = wav_header.find_samples(io.BytesIO(data), len(data))
    if samples and samples.unknown:
        wav_header.mend(data, samples)
    return bytes(data)
