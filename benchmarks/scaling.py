"""Training by several processes compared with one: total frames per second, and the share of the exchange in a step.

    python3 -m benchmarks.scaling [--processes 1 2] [--device cuda] [--context 5] [--hidden 512] [--batch 10000]

Each process has its own GPU, or one thread of a processor. Batches are divided as in stage train. Steps with and
without the exchange of gradients alternate; the share of the exchange is the additional time of a step with it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import ours
from dnf.experiment.environment import choose_device, describe_environment
from dnf.training.ranks import join_ranks, leave


def seconds(trainer: ours.Trainer, steps: int, *, alone: bool) -> float:
    """Seconds per step, with the exchange of gradients or ``alone``."""
    parallel = trainer.parallel
    trainer.parallel = trainer.loss if alone else parallel
    trainer.ranks.sum([0.0])  # synchronize the start
    began = time.perf_counter()
    ours.take_steps(trainer, steps)
    trainer.parallel = parallel
    return (time.perf_counter() - began) / steps


def of_rank(options: argparse.Namespace) -> None:
    """The work of one process; the first prints the row."""
    torch.set_num_threads(1)
    ranks = join_ranks(choose_device(options.device))
    config = ours.settings(options.context, options.hidden, options.batch)
    with tempfile.TemporaryDirectory() as folder:
        store = ours.make_store(Path(folder) / "store", max(100_000, 2 * options.batch), 40)
        trainer = ours.make_trainer(ours.open_windows(store, config, ranks.device), config, ranks=ranks)
        taken: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(options.rounds + 1):
            for alone, times in taken.items():
                measured = seconds(trainer, options.steps, alone=alone)
                times += [measured] if turn else []
    together, apart = (statistics.median(taken[alone]) for alone in (False, True))
    if ranks.writes:
        exchange = f"{max(0.0, 1 - apart / together):7.1%}" if ranks.size > 1 else f"{'-':>7}"
        print(f"{ranks.size:9} {options.batch / together:10.0f} {1000 * together:10.1f} {exchange}", flush=True)
    leave()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.scaling", description=__doc__.split("\n\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="(%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--context", type=int, default=5, help="frames on each side (%(default)s)")
    parser.add_argument("--hidden", type=int, default=512, help="units of a hidden layer (%(default)s)")
    parser.add_argument("--batch", type=int, default=10000, help="frames of all processes together (%(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="steps timed together (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.rank:
        of_rank(options)
        return 0
    facts = describe_environment(choose_device(options.device))
    print(
        f"{facts['device_name']}, torch {facts['torch']}: {40 * (2 * options.context + 1)} dims, hidden {options.hidden}"
    )
    print(f"{'processes':>9} {'frames/s':>10} {'ms a step':>10} {'exchange':>8}", flush=True)
    given = sys.argv[1:] if argv is None else argv
    for size in options.processes:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*launch, "-m", "benchmarks.scaling", *given, "--rank"], check=True, env=one_thread)
    return 0


if __name__ == "__main__":
    sys.exit(main())
