#!/usr/bin/env python3
"""Time and memory of stages 0 to 4 on simulated corpora of growing size. Prints a table.

    export DNF_PYTHON=/path/to/python3; . ./path.sh; benchmarks/scale.py --frames 1e6 1e7 --nj 2

A corpus of N frames of 10 ms (360,000 an hour) is made of a few wav files of shaped noise in two classes; every
utterance is a segment of one of them, and a speaker has twenty utterances. So a corpus takes seconds to make and next
to no disk, but every stage of ``run.sh --data`` does all of its work on it: 250 bytes of disk a frame go to its arks and
frame store. The flow is small and trains for the same number of steps whatever the size, so what is seen is how the
stages themselves grow.

    seconds      of run.sh for this stage alone, its checks included
    frames/s     N by these seconds; for training, vectors trained on
    anonymous    MiB that the processes of the stage held at once at their peak, summed over them, which have to fit
    mapped       MiB of files mapped into them at their peak, which the system can drop and read again

``anonymous`` should grow with the utterances, not with the frames; ``mapped`` may reach the size of the frame store.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("data", "features", "frames", "train", "latents")
RATE = 16000
SHARES = {"train": 0.9, "dev": 0.05, "test": 0.05}
CLASSES = {"low": 0.95, "high": -0.95}  # pole of the filter that shapes the noise
WAVS = 12  # of each class
WAV_SECONDS = 60
UTTERANCES = 20  # of a speaker
STEPS, BATCH = 100, 10000
EXPERIMENT = f"""\
data: {{classes: [{", ".join(CLASSES)}]}}
flow: {{blocks: 2, hidden: 64}}
train: {{steps: {STEPS}, batch_size: {BATCH}, eval_steps: {STEPS // 2}, warmup_steps: 10, sampling: balanced}}
score: {{frame_scores: false}}
"""


def write_noise(folder: Path) -> dict[str, list[Path]]:
    """Wav files by class: noise of the class's colour, in bursts of about half a second, with quiet between them."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    files: dict[str, list[Path]] = {name: [] for name in CLASSES}
    time = np.arange(WAV_SECONDS * RATE) / RATE
    for name, pole in CLASSES.items():
        for number in range(WAVS):
            white = rng.standard_normal(len(time) + 32)
            shaped = np.convolve(white, pole ** np.arange(33), mode="valid")
            loud = np.sin(2 * np.pi * (0.9 + 0.02 * number) * time) > -0.5
            samples = shaped / np.abs(shaped).max() * np.where(loud, 0.5, 0.0005)
            files[name].append(folder / f"{name}_{number:02d}.wav")
            soundfile.write(files[name][-1], samples, RATE, subtype="PCM_16")
    return files


def write_corpus(folder: Path, frames: int, seconds: int) -> int:
    """Data directories ``folder/{train,dev,test}`` of ``frames`` in all; the number of utterances."""
    files = write_noise(folder.with_name(folder.name + "_wav"))
    places = WAV_SECONDS // seconds
    made = 0
    for part, share in SHARES.items():
        per_class = max(UTTERANCES, round(share * frames / (100 * seconds) / len(CLASSES)))
        directory = folder / part
        directory.mkdir(parents=True)
        names = ("wav.scp", "segments", "utt2spk", "utt2class")
        tables = {name: (directory / name).open("w", encoding="utf-8") for name in names}
        for name in sorted(CLASSES):
            for file in files[name]:
                tables["wav.scp"].write(f"{part}_{file.stem} {file}\n")
            for n in range(per_class):
                speaker = f"{name}_{part}{n // UTTERANCES:06d}"
                utt = f"{speaker}-{n % UTTERANCES:02d}"
                recording, start = files[name][n % WAVS].stem, seconds * (n // WAVS % places)
                tables["segments"].write(f"{utt} {part}_{recording} {start} {start + seconds}\n")
                tables["utt2spk"].write(f"{utt} {speaker}\n")
                tables["utt2class"].write(f"{utt} {name}\n")
            made += per_class
        for table in tables.values():
            table.close()
    return made


class Watch(threading.Thread):
    """Samples the memory of a process and all below it until ``stop``; peaks are in MiB."""

    def __init__(self, pid: int, interval: float = 0.1):
        super().__init__(daemon=True)
        self.pid, self.interval, self.done = pid, interval, threading.Event()
        self.anonymous = self.mapped = 0.0

    def run(self) -> None:
        while not self.done.wait(self.interval):
            sizes = [memory(pid) for pid in family(self.pid)]
            self.anonymous = max(self.anonymous, sum(size[0] for size in sizes))
            self.mapped = max(self.mapped, sum(size[1] for size in sizes))

    def stop(self) -> None:
        self.done.set()
        self.join()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        for path in Path("/proc", str(found[-1]), "task").glob("*/children"):
            try:
                left += map(int, path.read_text().split())
            except OSError:  # it has ended
                pass
    return found


def memory(pid: int) -> tuple[float, float]:
    """Resident MiB of a process: anonymous (and shared memory), and mapped from files; zero when it has ended."""
    kilobytes = {"RssAnon": 0, "RssShmem": 0, "RssFile": 0}
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key in kilobytes:
                    kilobytes[key] = int(value.split()[0])
    except (OSError, ValueError):
        pass
    return (kilobytes["RssAnon"] + kilobytes["RssShmem"]) / 1024, kilobytes["RssFile"] / 1024


def run_stage(number: int, folder: Path, corpus: Path, nj: int, device: str) -> tuple[float, Watch]:
    """Seconds and memory of one stage."""
    command = [ROOT / "run.sh", "--data", corpus, "--exp", folder / "scale.yaml", "--nj", nj, "--device", device]
    command += ["--stage", number, "--stop-stage", number]
    with (folder / f"stage{number}.log").open("w") as log:
        began = perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        watch = Watch(process.pid)
        watch.start()
        status = process.wait()
        seconds = perf_counter() - began
        watch.stop()
    if status:
        raise SystemExit(f"scale.py: stage {number} ended with status {status}:\n{Path(log.name).read_text()[-2000:]}")
    return seconds, watch


def measure(frames: int, folder: Path, seconds: int, nj: int, device: str) -> None:
    """Make a corpus, run the stages on it, and print their rows."""
    folder.mkdir(parents=True)
    (folder / "scale.yaml").write_text(EXPERIMENT, encoding="utf-8")
    utterances = write_corpus(folder / "corpus", frames, seconds)
    frames = 100 * seconds * utterances
    for number, name in enumerate(STAGES):
        taken, watch = run_stage(number, folder, folder / "corpus", nj, device)
        done = STEPS * BATCH if name == "train" else frames
        rate, peak = done / taken, f"{watch.anonymous:10.0f} {watch.mapped:7.0f}"
        print(f"{frames:13d} {utterances:11d}  {name:9} {taken:8.1f} {rate:10.0f} {peak}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=float, nargs="+", default=[1e6], metavar="N", help="sizes (%(default)s)")
    parser.add_argument("--seconds", type=int, default=8, help="of an utterance, 60 at most (%(default)s)")
    parser.add_argument("--nj", type=int, default=2, help="tasks of the feature stage (%(default)s)")
    parser.add_argument("--device", default="cpu", help="of training and scoring (%(default)s)")
    parser.add_argument("--work", type=Path, help="new folder for what is made, kept (a temporary one, deleted)")
    args = parser.parse_args(argv)
    work = (args.work or Path(tempfile.mkdtemp(prefix="scale"))).absolute()
    columns = f"{'seconds':>8} {'frames/s':>10} {'anonymous':>10} {'mapped':>7}"
    print(f"{'frames':>13} {'utterances':>11}  {'stage':9} {columns}")
    try:
        for frames in args.frames:
            folder = work / f"{frames:.0f}"
            measure(round(frames), folder, args.seconds, args.nj, args.device)
            if args.work is None:
                shutil.rmtree(folder)
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
