#!/usr/bin/env python3
"""Time and memory of the stages on simulated corpora of growing size. Prints a table.

    export DNF_PYTHON=/path/to/python3; . ./path.sh
    benchmarks/scale.py --frames 1e6 1e7                 # stages 2 to 8, on simulated features
    benchmarks/scale.py --frames 1e6 --stage 0 --nj 2    # stages 0 to 8, on simulated sound
    benchmarks/scale.py --vectors 1e4 1e5 --classes 5000 # stages 2 to 8, on simulated vectors of speakers

Every stage runs by ``run.sh --data`` as for a user. A corpus of N frames of 10 ms (360,000 per hour) has utterances
of two classes, twenty per speaker, in the sets train (nine tenths), dev and test.

If stage 2 is the first, the script writes the output of stage 1 itself: tables of the data directories whose entries point
into one small ark of each class, and the done-markers of stages 0 and 1. So 1e8 frames are ready in seconds, and
stage 2 reads its arks from the page cache, while a real corpus comes from the disk (160 bytes per frame). The output of
stage 2 and later ones has the full size, 100 bytes per frame. If stage 0 is the first, utterances are segments of a few wav
files.

With ``--vectors`` a corpus of N vectors has speakers as classes, in all three sets, so that the growth with the number of
classes is seen; a frame of the table is then a vector.

The flow is small and trains for the same number of steps at any size, and the baselines are off, so the table shows the
growth of the stages themselves.

    seconds      wall time of run.sh for this stage alone, with start-up and checks
    processor    processor seconds of its processes and threads, which do not depend on the load of the machine
    frames/s     N divided by the seconds; for training, trained vectors per second
    relative     processor time per frame, relative to the smallest size; for training, processor time
    us/frame     additional processor time per additional frame since the previous size, so without fixed costs
    anonymous    peak MiB of anonymous memory of all processes of the stage, which must fit
    mapped       peak MiB of mapped files, which the system can drop and read again
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import kaldiio
import numpy as np
import soundfile
from scipy.signal import lfilter

from dnf.experiment import stage
from dnf.experiment.config import resolve
from dnf.experiment.layout import STAGES, Layout

ROOT = Path(__file__).resolve().parent.parent
RATE = 16000
SHARES = {"train": 0.9, "dev": 0.05, "test": 0.05}
CLASSES = {"high": -0.95, "low": 0.95}  # pole of the noise filter
SOURCES = 84  # different utterances of each class; all others are copies
WAV_SECONDS = 60
UTTERANCES = 20  # utterances of a speaker
BINS = 40
STEPS, BATCH, VECTOR_BATCH = 100, 10000, 1000
EXPERIMENT = f"""\
data: {{classes: [{", ".join(CLASSES)}]}}
flow: {{blocks: 2, hidden: 64}}
train: {{steps: {STEPS}, batch_size: {BATCH}, eval_steps: {STEPS // 2}, warmup_steps: 10, sampling: balanced}}
cmvn: {{scope: none}}
baselines: {{enabled: false}}
score: {{frame_scores: false}}
"""


OF_VECTORS = f"""\
features: {{kind: vectors}}
data: {{shared_speakers: true}}
flow: {{blocks: 2, hidden: 64}}
prior: {{cond_dim: null}}
train: {{steps: {STEPS}, batch_size: {VECTOR_BATCH}, eval_steps: {STEPS // 2}, warmup_steps: 10}}
baselines: {{enabled: false}}
score: {{frame_scores: false}}
"""


class Utterance(NamedTuple):
    """An utterance of a simulated set, a copy of utterance ``source`` of its class."""

    id: str
    speaker: str
    name: str
    source: int


def utterances(part: str, frames: int, seconds: int) -> Iterator[Utterance]:
    """Sorted utterances of a set of a corpus of ``frames`` in total."""
    per_class = max(UTTERANCES, round(SHARES[part] * frames / (100 * seconds) / len(CLASSES)))
    for name in sorted(CLASSES):
        for n in range(per_class):
            speaker = f"{name}_{part}{n // UTTERANCES:06d}"
            yield Utterance(f"{speaker}-{n % UTTERANCES:02d}", speaker, name, n % SOURCES)


def write_tables(directory: Path, of_set: Iterator[Utterance], values: dict[str, dict[str, list[str]]]) -> int:
    """Write the tables of a set, those of ``values`` by each utterance's class and source; returns the number of utterances."""
    directory.mkdir(parents=True, exist_ok=True)
    tables = {name: (directory / name).open("w", encoding="utf-8") for name in ("utt2spk", "utt2class", *values)}
    made = 0
    for utt, speaker, name, source in of_set:
        made += 1
        tables["utt2spk"].write(f"{utt} {speaker}\n")
        tables["utt2class"].write(f"{utt} {name}\n")
        for table, of_class in values.items():
            tables[table].write(f"{utt} {of_class[name][source]}\n")
    for table in tables.values():
        table.close()
    return made


def write_sound(folder: Path, frames: int, seconds: int) -> int:
    """Write a corpus of Kaldi data directories below ``folder / "corpus"``; returns the number of utterances.

    Utterances are segments of noise with the class's colour, in bursts of about half a second with silence in between.
    """
    rng, places = np.random.default_rng(1), WAV_SECONDS // seconds
    time = np.arange(WAV_SECONDS * RATE) / RATE
    wavs: dict[str, Path] = {}
    segments: dict[str, list[str]] = {name: [] for name in CLASSES}
    for name, pole in CLASSES.items():
        for number in range(-(-SOURCES // places)):
            white = rng.standard_normal(len(time) + 32)
            shaped = np.convolve(white, pole ** np.arange(33), mode="valid")
            loud = np.sin(2 * np.pi * (0.9 + 0.02 * number) * time) > -0.5
            samples = shaped / np.abs(shaped).max() * np.where(loud, 0.5, 0.0005)
            wav = f"{name}_{number:02d}"
            wavs[wav] = folder / f"{wav}.wav"
            soundfile.write(wavs[wav], samples, RATE, subtype="PCM_16")
            segments[name] += [f"{wav} {seconds * n} {seconds * (n + 1)}" for n in range(places)]
    made = 0
    for part in SHARES:
        directory = folder / "corpus" / part
        of_part = {name: [f"{part}_{segment}" for segment in of_class] for name, of_class in segments.items()}
        made += write_tables(directory, utterances(part, frames, seconds), {"segments": of_part})
        used = {line.split()[1] for line in (directory / "segments").open(encoding="utf-8")}
        lines = [f"{part}_{wav} {path}\n" for wav, path in sorted(wavs.items()) if f"{part}_{wav}" in used]
        (directory / "wav.scp").write_text("".join(lines), encoding="utf-8")
    return made


def write_features(folder: Path, frames: int, seconds: int) -> int:
    """Write the output of stages 0 and 1 for ``folder / "corpus"``, with their markers; returns the number of utterances.

    Frames are a first-order autoregression about a mean spectrum of the class and one of the utterance; every fourth is a
    pause. Classes overlap, so some decisions are wrong.
    """
    corpus, rng, length = folder / "corpus", np.random.default_rng(1), 100 * seconds
    corpus.mkdir()
    layout = Layout.make(folder / "exp", "scale", "corpus")
    layout.feats.mkdir(parents=True)
    values = {table: {name: [] for name in CLASSES} for table in ("feats.scp", "vad.scp")}
    values["utt2num_frames"] = {name: [str(length)] * SOURCES for name in CLASSES}
    for place, name in enumerate(CLASSES):
        arks = {kind: layout.feats / f"{kind}.{name}.ark" for kind in ("feats", "vad")}
        writers = {kind: kaldiio.WriteHelper(f"ark,scp:{ark},{ark.with_suffix('.scp')}") for kind, ark in arks.items()}
        for source in range(SOURCES):
            own = 12 + 0.2 * place + rng.standard_normal(BINS)
            noise = lfilter([1.0], [1.0, -0.9], rng.standard_normal((length, BINS)), axis=0)
            writers["feats"](f"{name}{source}", (own + noise).astype(np.float32))
            writers["vad"](f"{name}{source}", (np.arange(length) % 80 < 60).astype(np.float32))
        for kind, writer in writers.items():
            writer.close()
            entries = arks[kind].with_suffix(".scp").read_text(encoding="utf-8").splitlines()
            values[f"{kind}.scp"][name] = [entry.split(" ", 1)[1] for entry in entries]
    made = sum(write_tables(layout.data / part, utterances(part, frames, seconds), values) for part in SHARES)
    (layout.data / "classes.txt").write_text("".join(f"{name}\n" for name in sorted(CLASSES)), encoding="utf-8")
    for name in ("data", "features"):
        stage.begin(name, resolve([]), layout, f"own data {corpus}", [corpus], force=False)
        stage.finish(name, resolve([]), layout, f"own data {corpus}", [corpus])
    return made


def write_vectors(folder: Path, count: int, classes: int, dim: int) -> int:
    """Write the output of stages 0 and 1 for vectors, with their markers; returns the number of vectors.

    Speakers are Gaussian, and vectors about them; every speaker has vectors in all sets.
    """
    corpus, rng = folder / "corpus", np.random.default_rng(1)
    corpus.mkdir()
    layout = Layout.make(folder / "exp", "scale", "corpus", has_vectors=True)
    names = [f"s{number:06d}" for number in range(classes)]
    centres = rng.standard_normal((classes, dim)).astype(np.float32)
    made = 0
    for part, share in SHARES.items():
        each = max(2, round(share * count / classes))
        directory = layout.data / part
        directory.mkdir(parents=True)
        with kaldiio.WriteHelper(f"ark,scp:{directory}/vector.ark,{directory}/vector.scp") as writer:
            for name, centre in zip(names, centres):
                for n, x in enumerate(centre + 2 * rng.standard_normal((each, dim)).astype(np.float32)):
                    writer(f"{name}-{part}{n:04d}", x)
        utts = {f"{name}-{part}{n:04d}": name for name in names for n in range(each)}
        for table in ("utt2spk", "utt2class"):
            (directory / table).write_text("".join(f"{utt} {name}\n" for utt, name in utts.items()), encoding="utf-8")
        made += len(utts)
    (layout.data / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    config = resolve(["features.kind=vectors", "prior.cond_dim=null"])
    for name in ("data", "features"):
        stage.begin(name, config, layout, f"own data {corpus}", [corpus], force=False)
        stage.finish(name, config, layout, f"own data {corpus}", [corpus])
    return made


class Watch(threading.Thread):
    """Samples the memory of a process and its descendants until ``stop``; peaks are in MiB."""

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
    """A process and its descendants."""
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        try:
            for path in Path("/proc", str(found[-1]), "task").glob("*/children"):
                left += map(int, path.read_text().split())
        except OSError:  # it, or one of its threads, has ended
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


def run_stage(number: int, folder: Path, nj: int, device: str) -> tuple[float, float, Watch]:
    """Seconds, processor seconds and memory of one stage."""
    command = [ROOT / "run.sh", "--data", folder / "corpus", "--exp", folder / "scale.yaml", "--nj", nj]
    command += ["--device", device, "--stage", number, "--stop-stage", number]
    with (folder / f"stage{number}.log").open("w") as log:
        began, used = perf_counter(), processor_seconds()
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        watch = Watch(process.pid)
        watch.start()
        status = process.wait()
        seconds, used = perf_counter() - began, processor_seconds() - used
        watch.stop()
    if status:
        raise SystemExit(f"scale.py: stage {number} ended with status {status}:\n{Path(log.name).read_text()[-2000:]}")
    return seconds, used, watch


def processor_seconds() -> float:
    """Processor seconds of all ended child processes, in user and system mode."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def write_corpus(folder: Path, size: int, args: argparse.Namespace) -> int:
    """Write a corpus and its experiment; returns the number of frames, or of vectors."""
    folder.mkdir(parents=True)
    (folder / "scale.yaml").write_text(OF_VECTORS if args.vectors else EXPERIMENT, encoding="utf-8")
    if args.vectors:
        return write_vectors(folder, size, args.classes, args.dim)
    return 100 * args.seconds * (write_sound if args.stage == 0 else write_features)(folder, size, args.seconds)


def measure(sizes: Sequence[int], work: Path, args: argparse.Namespace) -> None:
    """Make a corpus of each size, run the stages on it, and print the rows of the table."""
    before: dict[str, list[tuple[int, float]]] = {}
    for size in sizes:
        folder = work / str(size)
        frames = write_corpus(folder, size, args)
        for name, of_stage in STAGES.items():
            if not args.stage <= of_stage.number <= args.stop_stage:
                continue
            taken, used, watch = run_stage(of_stage.number, folder, args.nj, args.device)
            earlier, training = before.setdefault(name, []), name == "train"
            earlier.append((frames, used))
            relative = used / earlier[0][1] * (1 if training else earlier[0][0] / frames)
            more = ""
            if len(earlier) > 1 and not training:
                less, shorter = earlier[-2]
                more = f"{1e6 * (used - shorter) / (frames - less):.2f}"
            rate = (STEPS * (VECTOR_BATCH if args.vectors else BATCH) if training else frames) / taken
            columns = f"{taken:8.1f} {used:9.1f} {rate:10.0f} {relative:8.2f} {more:>8}"
            print(f"{frames:12d} {name:8} {columns} {watch.anonymous:9.0f} {watch.mapped:7.0f}", flush=True)
        if args.work is None:
            shutil.rmtree(folder)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=float, nargs="+", default=[1e6], metavar="N", help="sizes (%(default)s)")
    parser.add_argument("--seconds", type=int, default=8, help="seconds of an utterance, 60 at most (%(default)s)")
    parser.add_argument("--vectors", type=float, nargs="+", metavar="N", help="sizes in vectors, in place of frames")
    parser.add_argument("--classes", type=int, default=1000, help="classes of the vectors (%(default)s)")
    parser.add_argument("--dim", type=int, default=512, help="dims of the vectors (%(default)s)")
    parser.add_argument("--stage", type=int, choices=(0, 2), default=2, help="0: from sound, 2: features (%(default)s)")
    parser.add_argument("--stop-stage", type=int, default=8, help="the last stage (%(default)s)")
    parser.add_argument("--nj", type=int, default=2, help="tasks of the feature stage (%(default)s)")
    parser.add_argument("--device", default="cpu", help="device of training and scoring (%(default)s)")
    parser.add_argument("--work", type=Path, help="new output folder, kept (default: a temporary folder, deleted)")
    args = parser.parse_args(argv)
    work = (args.work or Path(tempfile.mkdtemp(prefix="scale"))).absolute()
    columns = f"{'seconds':>8} {'processor':>9} {'frames/s':>10} {'relative':>8} {'us/frame':>8} {'anonymous':>9} {'mapped':>7}"
    print(f"{'frames':>12} {'stage':8} {columns}", flush=True)
    try:
        measure([round(size) for size in sorted(args.vectors or args.frames)], work, args)
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
