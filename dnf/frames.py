"""Stage 2: the frame store, and spliced vectors gathered from it.

A store holds the 40-d frames of a set once, in utterance order; a training vector is gathered from it by index arithmetic
on the device that uses it, so nothing spliced touches the disk. ``exp/frames/<set>/`` holds

    frames.bin    (T, F) float16 or float32, flat
    offsets.npy   (U + 1,) int64, first frame of each utterance
    centres.npy   (S,) int64, the frames that the VAD calls speech
    stats.npy     (U, 2, F + 1) float64, CMVN statistics of each utterance's speech frames
    utts.tsv      utterance, speaker and class, in the order of ``offsets``
    meta.json     the counts, to open the rest by
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import shutil
from pathlib import Path

import kaldiio
import numpy as np
import torch
from tqdm import tqdm

from dnf import entry
from dnf.config import Cmvn, Config, Splice, resolve
from dnf.datadir import read_table
from dnf.features import cmvn_stats, sets_below

log = logging.getLogger(__name__)


class FrameStore:
    """The frames of one set, mapped from disk.

    Attributes:
        frames: ``(T, F)`` tensor, as stored.
        offsets: ``(U + 1,)`` int64.
        centres: ``(S,)`` int64, speech frames.
        stats: ``(U, 2, F + 1)`` float64, Kaldi's layout.
        utterances, speakers, classes: lists of U names.
    """

    def __init__(self, directory: Path):
        meta_path = directory / "meta.json"
        if not meta_path.is_file():
            raise ValueError(f"{directory}: no frame store; run stage 2")
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        shape = (meta["frames"], meta["dim"])
        path = directory / "frames.bin"
        if path.stat().st_size != shape[0] * shape[1] * np.dtype(meta["dtype"]).itemsize:
            raise ValueError(f"{path}: {path.stat().st_size} bytes, not {shape} of {meta['dtype']}; run stage 2 again")
        self.directory = directory
        self.frames = torch.from_numpy(np.memmap(path, dtype=meta["dtype"], mode="c", shape=shape))
        self.offsets = torch.from_numpy(np.load(directory / "offsets.npy"))
        self.centres = torch.from_numpy(np.load(directory / "centres.npy", mmap_mode="c"))
        self.stats = torch.from_numpy(np.load(directory / "stats.npy", mmap_mode="c"))
        with (directory / "utts.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        self.utterances = [row["utt"] for row in rows]
        self.speakers = [row["speaker"] for row in rows]
        self.classes = [row["class"] for row in rows]


    def fingerprint(self) -> str:
        """Short hash of the names, counts and statistics, to tell one set of frames from another."""
        digest = hashlib.sha256(self.stats.sum(0).numpy().tobytes())
        digest.update(f"{int(self.offsets[-1])} {len(self.centres)}".encode())
        for names in (self.utterances, self.speakers, self.classes):
            digest.update("\n".join(names).encode())
        return digest.hexdigest()[:16]


class Windows:
    """Spliced vectors of a store: which there are, their labels, and any of them on any device.

    Vector i is frames ``centre - left .. centre + right`` of its utterance, edges repeated, each frame normalized by the
    statistics of its utterance or speaker (``cmvn``), laid out oldest frame first: D = (left + 1 + right) F.

    Args:
        store: the set.
        splice: context and hop; a hop of n takes every n-th speech frame of each utterance.
        cmvn: per-utterance or per-speaker normalization.
        classes: names of the model's classes; utterances of others have label -1.
        keep_unseen: whether vectors with label -1 stay.
        device: where ``gather`` works; frames and statistics are moved there once.
    """

    def __init__(
        self, store: FrameStore, splice: Splice, cmvn: Cmvn, classes: list[str], keep_unseen: bool, device: torch.device
    ):
        ids = {name: i for i, name in enumerate(classes)}
        self.utterance_labels = torch.tensor([ids.get(name, -1) for name in store.classes])
        centres = store.centres
        utterance = torch.searchsorted(store.offsets, centres, right=True) - 1
        if splice.hop > 1:
            first = torch.searchsorted(centres, store.offsets[:-1])
            keep = (torch.arange(len(centres)) - first[utterance]) % splice.hop == 0
            centres, utterance = centres[keep], utterance[keep]
        if not keep_unseen:
            keep = self.utterance_labels[utterance] >= 0
            centres, utterance = centres[keep], utterance[keep]
        self.store, self.device = store, device
        self.centres, self.utterance = centres, utterance.to(torch.int32)
        self._frames = store.frames.to(device)
        self._first, self._last = store.offsets[:-1].to(device), (store.offsets[1:] - 1).to(device)
        self._window = torch.arange(-splice.left, splice.right + 1, device=device)
        self._cmvn = normalization(store, cmvn)
        self._affine = self._cmvn and tuple(t.float().to(device) for t in self._cmvn)

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def dim(self) -> int:
        return len(self._window) * self._frames.shape[1]

    def labels(self, rows: torch.Tensor) -> torch.Tensor:
        """Class ids ``(B,)`` of vectors ``rows`` ``(B,)``, on the device."""
        return self.utterance_labels[self.utterance[rows].long()].to(self.device)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Vectors ``rows`` ``(B,)`` as ``(B, D)`` float32 on the device."""
        utterance = self.utterance[rows].to(self.device, torch.int64)
        index = self.centres[rows].to(self.device)[:, None] + self._window
        index = torch.clamp(index, self._first[utterance][:, None], self._last[utterance][:, None])
        vectors = self._frames.index_select(0, index.flatten()).float().view(*index.shape, self._frames.shape[1])
        if self._affine:
            mean, scale = self._affine
            vectors = (vectors - mean[utterance][:, None]) * scale[utterance][:, None]
        return vectors.flatten(1)

    def class_counts(self, classes: list[str]) -> dict[str, int]:
        """Vectors of each class of the model."""
        counts = torch.bincount(self.utterance_labels[self.utterance.long()] + 1, minlength=len(classes) + 1)
        return {name: int(count) for name, count in zip(classes, counts[1:])}

    def global_normalization(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation ``(F,)`` of the frames that the utterances present contribute, after CMVN."""
        present = self.utterance.unique().long()
        stats = self.store.stats[present]
        count, first, second = stats[:, 0, -1:], stats[:, 0, :-1], stats[:, 1, :-1]
        if self._cmvn:
            mean, scale = (t[present] for t in self._cmvn)
            second = (second - 2 * mean * first + count * mean**2) * scale**2
            first = (first - count * mean) * scale
        total = count.sum()
        mean = first.sum(0) / total
        return mean.float(), (second.sum(0) / total - mean**2).clamp(min=1e-8).sqrt().float()


def normalization(store: FrameStore, cmvn: Cmvn) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mean and inverse standard deviation ``(U, F)`` that CMVN takes from each utterance's frames; None without CMVN."""
    if cmvn.scope == "none":
        return None
    stats = store.stats
    if cmvn.scope == "speaker":
        names = {name: i for i, name in enumerate(sorted(set(store.speakers)))}
        speaker = torch.tensor([names[name] for name in store.speakers])
        stats = torch.zeros(len(names), *stats.shape[1:], dtype=stats.dtype).index_add_(0, speaker, stats)[speaker]
    count, first, second = stats[:, 0, -1:], stats[:, 0, :-1], stats[:, 1, :-1]
    mean = first / count
    if not cmvn.variance:
        return mean, torch.ones_like(mean)
    return mean, (second / count - mean**2).clamp(min=1e-8).rsqrt()


def build(directory: Path, out: Path, dtype: str) -> dict:
    """Write the frame store of data directory ``directory`` at ``out`` and return its counts."""
    tables = {
        name: read_table(directory / name)
        for name in ("feats.scp", "vad.scp", "utt2num_frames", "utt2spk", "utt2class")
    }
    feats = tables["feats.scp"]
    lengths = [int(tables["utt2num_frames"][utt]) for utt in feats]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    centres, stats, dim = [], [], None
    with (temporary / "frames.bin").open("wb") as file:
        for i, utt in enumerate(tqdm(feats, desc=f"frames {directory.name}", unit="utt")):
            frames, speech = kaldiio.load_mat(feats[utt]), kaldiio.load_mat(tables["vad.scp"][utt])
            dim = dim or frames.shape[1]
            if frames.shape != (lengths[i], dim) or len(speech) != lengths[i]:
                raise ValueError(
                    f"{directory}: utterance {utt} has {frames.shape} features and {len(speech)} VAD marks, "
                    f"not {lengths[i]} frames of {dim}; run stage 1 again"
                )
            frames = frames.astype(dtype)
            if not np.isfinite(frames).all():
                raise ValueError(f"{directory}: utterance {utt} has features that are not numbers; run stage 1 again")
            file.write(frames.tobytes())
            centres.append(offsets[i] + np.flatnonzero(speech))
            stats.append(cmvn_stats(frames[speech > 0]))
    np.save(temporary / "offsets.npy", offsets)
    np.save(temporary / "centres.npy", np.concatenate(centres))
    np.save(temporary / "stats.npy", np.stack(stats))
    with (temporary / "utts.tsv").open("w", encoding="utf-8") as file:
        file.write("utt\tspeaker\tclass\n")
        file.writelines(f"{utt}\t{tables['utt2spk'][utt]}\t{tables['utt2class'][utt]}\n" for utt in feats)
    meta = {
        "dtype": dtype,
        "dim": dim,
        "frames": int(offsets[-1]),
        "speech": sum(map(len, centres)),
        "utterances": len(feats),
    }
    (temporary / "meta.json").write_text(json.dumps(meta) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)
    return meta


def write_spliced(store: FrameStore, splice: Splice, cmvn: Cmvn, out: Path) -> None:
    """Write ``spliced.ark`` and ``spliced.scp``: the spliced speech frames of each utterance, for use in Kaldi."""
    windows = Windows(store, splice, cmvn, [], keep_unseen=True, device=torch.device("cpu"))
    counts = torch.bincount(windows.utterance.long(), minlength=len(store.utterances)).tolist()
    out.mkdir(parents=True, exist_ok=True)
    rows = torch.arange(len(windows)).split(counts)
    with kaldiio.WriteHelper(f"ark,scp:{out}/spliced.ark,{out}/spliced.scp") as writer:
        for utt, mine in zip(store.utterances, rows):
            writer(utt, windows.gather(mine).numpy())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.frames", description=__doc__.split("\n\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    building = verbs.add_parser("build", help="frame stores of all data directories")
    building.add_argument("data", type=Path, help="folder of the data directories")
    building.add_argument("frames", type=Path, help="folder for the stores; its config.yaml holds the settings")
    splicing = verbs.add_parser("splice", help="arks of spliced vectors, for use in Kaldi")
    splicing.add_argument("frames", type=Path, help="folder of the stores")
    splicing.add_argument("out", type=Path, help="folder for <set>/spliced.{ark,scp}")
    splicing.add_argument("--config", type=Path, action="append", default=[], help="YAML settings: splice and cmvn")
    splicing.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    args = parser.parse_args(argv)
    if args.verb == "splice":
        config = resolve(args.config, args.set)
        for path in sorted(args.frames.glob("*/meta.json")):
            write_spliced(FrameStore(path.parent), config.splice, config.cmvn, args.out / path.parent.name)
        return 0
    config = Config.load(args.frames / "config.yaml")
    for directory in sets_below(args.data):
        out = args.frames / directory.name
        meta = build(directory, out, config.frames.dtype)
        log.info(
            "%s: %d utterances, %d frames, %d of them speech", out, meta["utterances"], meta["frames"], meta["speech"]
        )
    return 0


if __name__ == "__main__":
    entry.run(main)
