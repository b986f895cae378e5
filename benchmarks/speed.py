"""One table of speeds: training and its peers, scoring, splicing, filter banks, wav to decision, starts, stages.

    benchmarks/run.sh --threads 1                        on one thread, about 22 minutes
    benchmarks/run.sh --device cuda --profile            on a GPU, with the profile of a step
    benchmarks/run.sh --only 'batch 1000 .*(ours$|zuko)' some rows
    benchmarks/run.sh --quick                            a smoke test of seconds, without peers and run.sh

Rows are timed in turn, round by round, so a slower machine slows all of them. Figures are medians and quartiles
over the rounds; compare only ratios of one run. benchmarks/README.md explains the table.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks import ours, parts, peers, processes, profiling, rows, table
from benchmarks.timing import CLOCKS, Watch, has_fast_bf16
from dnf.experiment import entry
from dnf.experiment.config import resolve
from dnf.experiment.environment import choose_device, describe_environment
from dnf.experiment.files import write_json
from dnf.features.frame_store import FrameStore

SIZES = (rows.Size(5, 512, 10_000), rows.Size(5, 512, 1000), rows.Size(1, 256, 1000))
QUICK = (rows.Size(1, 32, 200, ("flow.blocks=4",)),)
FRAMES, QUICK_FRAMES = 300_000, 3000  # frames of the simulated store
QUICK_MM = 128
SHORT_ROUNDS = 3  # factor of the rounds for small batches
MOST_STAGE_ROUNDS = 3
PROFILED = 3  # profiled steps


def head(device: torch.device, precisions: tuple[str, ...], options: argparse.Namespace) -> str:
    """Machine, date, command and versions."""
    known = describe_environment(device)
    options.figures |= {"command": options.command, "environment": dict(known)}
    machine = [known.pop("device_name"), f"{os.cpu_count()} processors", f"threads: {known.pop('threads')}", load()]
    machine += [f"products in {', '.join(precisions)}", f"{options.clock} clock"]
    versions = "  ".join(f"{name} {value}" for name, value in (known | options.peers).items())
    return f"{time.strftime('%Y-%m-%d %H:%M')}  {options.command}\n{', '.join(machine)}\n{versions}"


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def model_rows(
    size: rows.Size, store: FrameStore, watch: Watch, options: argparse.Namespace, precisions: tuple[str, ...]
) -> Iterator[str]:
    """The table of one size, if any of its rows is selected, and the profile."""
    title = f"{size.config().dim} dims, hidden {size.hidden}, batch {size.batch} "
    made = rows.makers(size, store, watch.device, precisions, options.peers)
    chosen = {name: make for name, make in made.items() if re.search(options.only, title + name)}
    if chosen:
        chosen = {rows.REFERENCE: made[rows.REFERENCE]} | chosen
        mm = QUICK_MM if options.quick else rows.MM_SIZE[watch.device.type]
        measured = rows.measure(chosen, precisions, mm, watch)
        options.figures[title.strip()] = {
            "GFLOP/s of torch.mm": {name: [2e-9 * rate for rate in rates] for name, rates in measured.ceilings.items()},
            "rows": table.figures(size, measured),
        }
        yield table.of_size(size, measured, watch.rounds)
    if options.profile:
        trainer = ours.make_trainer(ours.open_windows(store, size.config(), watch.device), size.config())
        groups = profiling.groups(partial(ours.take_steps, trainer, 1), PROFILED, watch.device)
        options.figures[f"{title}profile"] = {name: group._asdict() for name, group in groups.items()}
        yield f"{title}{rows.REFERENCE}: time of a step\n{profiling.table(groups)}"


def sound_and_starts(work: Path, watch: Watch, options: argparse.Namespace) -> Iterator[str]:
    """The tables of filter banks, decisions and starts."""
    config, made = resolve(QUICK[0].words if options.quick else ()), {}
    count, seconds = (2, 2.0) if options.quick else (10, 12.0)
    if options.recordings:
        files, kind = parts.find_recordings(options.recordings, count), "real"
    else:
        files = parts.bursts(work, config.features.sampling_rate, count, seconds)
        kind = "simulated; name real ones with --recordings"
    ours.save_model(work / "model", config)
    if re.search(options.only, "fbank"):
        made["fbank and energy"] = parts.fbank(config)
    if re.search(options.only, "wav to decision"):
        made |= parts.decisions(work, files, watch.device)
    if made:
        taken = watch.in_turn({name: part.action for name, part in made.items()})
        options.figures["sound"] = {
            name: {"seconds": taken[name], "seconds of sound": part.sound} for name, part in made.items()
        }
        yield table.of_parts(f"sound, rounds: {watch.rounds}; recordings are {kind}", made, taken)
    if re.search(options.only, "start"):
        made = processes.starts(work, work / "model", files[0], str(watch.device))
        taken = watch.in_turn({name: part.action for name, part in made.items()})
        yield table.of_parts(f"starting programs, rounds: {watch.rounds}", made, taken)


def stages(work: Path, watch: Watch) -> str:
    """The table of stages."""
    made, first = processes.stages(work, os.cpu_count() or 1, watch)
    taken = watch.in_turn({name: part.action for name, part in made.items()})
    text = table.of_parts(f"run.sh on half a minute of speech a set, rounds: {watch.rounds}", made, taken)
    lines = [[name, f"{value:.2f}"] for name, value in first.items()]
    if lines:
        text += "\n\nthe same, made for the first time\n" + table.aligned([["", "seconds"], *lines])
    return text


def tables(options: argparse.Namespace, watch: Watch, folder: Path) -> Iterator[str]:
    """The selected tables."""
    options.peers, missing = ({}, {}) if options.quick else peers.available()
    precisions = ("float32", *(("tf32",) if watch.device.type == "cuda" else ()))
    precisions += ("bf16",) if has_fast_bf16(watch.device) else ()
    yield head(watch.device, precisions, options)
    if "bf16" not in precisions:
        yield "no bf16 rows: bf16 products are slower than float32 ones here"
    for name, reason in missing.items():
        yield f"{name} is left out: {reason}"
    if options.quick:
        yield "--quick: without peers and stages, with tiny sizes: the figures mean nothing"
    store = ours.make_store(folder / "frames" / "train", QUICK_FRAMES if options.quick else FRAMES, 40)
    for size in QUICK if options.quick else SIZES:
        size = size._replace(words=(*size.words, *options.set))
        more = 1 if options.quick or size.batch == SIZES[0].batch else SHORT_ROUNDS
        yield from model_rows(size, store, watch._replace(rounds=more * watch.rounds), options, precisions)
    held = sum(path.stat().st_size for path in store.directory.iterdir())
    spliced = 4 * len(store.centres) * resolve(()).dim
    yield f"frame store: {held / 1e6:.1f} MB for {spliced / 1e6:.1f} MB of spliced float32 vectors"
    yield from sound_and_starts(folder, watch, options)
    if re.search(options.only, "run.sh") and not options.quick:
        work = options.work or folder / "recipe"
        work.mkdir(parents=True, exist_ok=True)
        yield stages(work, watch._replace(rounds=min(watch.rounds, MOST_STAGE_ROUNDS)))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, help="threads of PyTorch and of child processes (all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="rounds of each row, three times as many for batches of 1000 (%(default)s)",
    )
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="rows whose size and name, or group, match the regular expression"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="setting of our models, such as train.compile=never",
    )
    parser.add_argument("--profile", action="store_true", help="also profile a training step")
    parser.add_argument(
        "--recordings", type=Path, metavar="DIR", help="classify 10 of the recordings below this folder"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the corpus of the stages, and use it again")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: processor seconds, for one thread of a shared machine (%(default)s)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures of models and sound to a file"
    )
    parser.add_argument("--quick", action="store_true", help="smoke test with tiny sizes; the figures mean nothing")
    options = parser.parse_args(argv)
    options.figures = {}
    options.command = shlex.join(["benchmarks/run.sh", *(sys.argv[1:] if argv is None else argv)])
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    if options.clock == "cpu" and (options.threads != 1 or options.device != "cpu"):
        parser.error("--clock cpu goes with --threads 1 and --device cpu")
    device = choose_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    torch.manual_seed(0)
    watch, began = Watch(device, 1 if options.quick else options.rounds, CLOCKS[options.clock]), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmark.") as folder:
        for text in tables(options, watch, Path(folder)):
            print(text, end="\n\n", flush=True)
            if options.json:
                write_json(options.json, options.figures)
    print(f"{time.monotonic() - began:.0f} s, {load()}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("DNF_LOG_LEVEL", "ERROR")
    entry.run(main)
