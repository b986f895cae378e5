#!/usr/bin/env python3
"""Speed of the parts: training step and scoring against torch.mm and zuko, splicing, frame store, fbank. Prints a table.

    DNF_PYTHON=... benchmarks/run.sh [--threads N] [--device cuda] [--rounds 5]

All rows of one model are timed in turn, round by round, so a machine that slows down slows them all; a figure is the median
of the rounds, and only ratios from one run compare.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zuko

from dnf.config import Config, resolve
from dnf.environment import describe_environment
from dnf.features import fbank_and_energy, make_extractor
from dnf.frames import FrameStore
from dnf.model import DNF
from dnf.trainer import CPU_MICRO_BATCH, backward
from dnf.windows import Windows

CLASSES = ["a", "b"]
SIZES = {"440-d, hidden 512": (5, 512, 10000), "120-d, hidden 256": (1, 256, 10000)}


def make_store(folder: Path, frames: int, dim: int, length: int = 300) -> FrameStore:
    """A simulated store of utterances of 3 s, three quarters of it speech."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rng.standard_normal((frames, dim), dtype=np.float32).astype(np.float16).tofile(folder / "frames.bin")
    offsets = np.arange(0, frames + 1, length)
    centres = np.arange(frames)[np.arange(frames) % 4 > 0]
    centres.tofile(folder / "centres.bin")
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "spoken.npy", np.searchsorted(centres, offsets))
    np.ones((len(offsets) - 1, 2, dim + 1)).tofile(folder / "stats.bin")
    rows = "".join(f"s{i}-1\ts{i}\t{CLASSES[i % 2]}\t\n" for i in range(len(offsets) - 1))
    (folder / "utts.tsv").write_text("utt\tspeaker\tclass\tscore\n" + rows)
    meta = {"dtype": "float16", "dim": dim, "frames": frames, "speech": len(centres), "utterances": len(offsets) - 1}
    (folder / "meta.json").write_text(json.dumps(meta) + "\n")
    return FrameStore(folder)


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Seconds that one call takes, kernels included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def medians(actions: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each action, timed in turn after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for round_ in range(rounds + 1):
        for name, action in actions.items():
            taken = seconds(action, device)
            if round_:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def multiply_adds(model: torch.nn.Module) -> int:
    """Multiply-adds a frame of one forward pass: the entries of all weight matrices of the flow."""
    return sum(p.numel() for p in model.parameters() if p.dim() == 2)


def our_step(model: DNF, windows: Windows, rows: torch.Tensor, precision: str, micro_batch: int) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(model, windows, rows, micro_batch, precision)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()

    return step


def zuko_step(flow: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (-flow().log_prob(x).mean()).backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 100.0)
        optimizer.step()

    return step


def model_rows(title: str, config: Config, store: FrameStore, batch: int, rounds: int, device: torch.device) -> None:
    """Training steps and scoring of one size, with the matrix product of the same run."""
    windows = Windows([store], config.splice, config.cmvn, CLASSES, keep_unseen=False, device=device)
    rows = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))[:batch]
    x = windows.gather(rows)
    micro_batch = CPU_MICRO_BATCH if device.type == "cpu" else batch

    def ours(**flow) -> DNF:
        return DNF.from_config(
            dataclasses.replace(config, flow=dataclasses.replace(config.flow, **flow)), len(CLASSES)
        ).to(device)

    model, two = ours(), ours(nets="two")
    peer = zuko.flows.NICE(
        windows.dim, transforms=config.flow.blocks, hidden_features=[config.flow.hidden] * config.flow.layers
    ).to(device)
    a, b = torch.randn(2, 2048, 2048, device=device)

    @torch.no_grad()
    def score() -> None:
        for part in rows.split(micro_batch):
            model.log_prob(windows.gather(part))

    taken = medians(
        {
            "torch.mm, 2048 cubed": lambda: torch.mm(a, b),
            "training step, one network": our_step(model, windows, rows, "float32", micro_batch),
            "training step, bf16 products": our_step(model, windows, rows, "bf16", micro_batch),
            "training step, two networks": our_step(two, windows, rows, "float32", micro_batch),
            "training step, zuko NICE (affine coupling)": zuko_step(peer, x),
            "scoring, all classes": score,
            "splicing": lambda: windows.gather(rows),
        },
        rounds,
        device,
    )
    ceiling = 2 * 2048**3 / taken.pop("torch.mm, 2048 cubed")
    reference = taken["training step, one network"]
    print(f"\n{title}, batch {batch}, {config.flow.blocks} blocks   (torch.mm float32: {ceiling / 1e9:.0f} GFLOP/s)")
    print(f"{'':44} {'frames/s':>10} {'of mm':>6} {'speed against one network':>26} {'MAC/frame':>10}")
    for name, time_taken in taken.items():
        macs = multiply_adds(peer if "zuko" in name else two if "two networks" in name else model)
        passes = 6 if "training" in name else 2
        share = "" if name == "splicing" else f"{passes * macs * batch / time_taken / ceiling:.2f}"
        print(
            f"{name:44} {batch / time_taken:10.0f} {share:>6} {reference / time_taken:26.2f} {'' if name == 'splicing' else f'{macs:10}'}"
        )
    print(f"splicing takes {taken['splicing'] / reference:.2%} of a training step")


def store_row(store: FrameStore, config: Config) -> None:
    """Bytes of the store beside those of its spliced vectors."""
    bytes_ = sum(path.stat().st_size for path in store.directory.iterdir())
    spliced = len(store.centres) * config.dim * 4
    print(
        f"\nframe store: {bytes_ / 1e6:.1f} MB for {spliced / 1e6:.1f} MB of spliced float32: {bytes_ / spliced:.4f} of it (1/11 is {1 / 11:.4f})"
    )


def fbank_row(config: Config, rounds: int) -> None:
    """Fbank of 10 s utterances on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    extractor = make_extractor(config.features)
    samples = 0.1 * np.random.default_rng(0).standard_normal(10 * config.features.sampling_rate).astype(np.float32)
    taken = medians(
        {"fbank": lambda: [fbank_and_energy(samples, extractor) for _ in range(20)]}, rounds, torch.device("cpu")
    )["fbank"]
    print(f"\nfbank with energy: {200 / taken:.0f} times real time on one thread")
    torch.set_num_threads(threads)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, help="of PyTorch (all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="times each row is measured (%(default)s)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    torch.manual_seed(0)
    print("  ".join(f"{name} {value}" for name, value in describe_environment(device).items()))
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", 300_000, 40)
        for title, (context, hidden, batch) in SIZES.items():
            dim = (2 * context + 1) * 40
            words = [
                f"splice.left={context}",
                f"splice.right={context}",
                f"prior.cond_dim={dim}",
                f"flow.hidden={hidden}",
            ]
            config = resolve(words)
            model_rows(title, config, store, batch, args.rounds, device)
        store_row(store, resolve([]))
    fbank_row(resolve([]), args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
