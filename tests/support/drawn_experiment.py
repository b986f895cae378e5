"""A small made-up experiment to draw pictures of: settings, history, latents and their shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from dnf.experiment.config import resolve

HEADER = (
    *("step", "epoch", "seconds", "nll", "logp", "logdet", "grad_norm", "lr", "frames_per_s"),
    *("dev_nll", "dev_logp", "dev_logdet", "dev_accuracy", "spikes", "restores"),
)


def write_set(
    directory: Path,
    classes: list[str],
    cond_dim: int,
    found: dict[str, int],
    dim: int = 5,
    rows: int = 12,
    made_of=None,
) -> None:
    """A set of ``found[class]`` utterances of ``rows`` frames; a class lies at its first letter in every dim.

    ``made_of`` are the sets that the utterances of a class come from, in turns; the set itself where it does not say.
    """
    g = torch.Generator().manual_seed(len(directory.name))
    utts, z, logp = [], [], []
    for name in sorted(found):
        for i in range(found[name]):
            of_class = (made_of or {}).get(name, [directory.name])
            of = of_class[i % len(of_class)]
            utts.append((f"{name}{i % 3}-u{i:02d}", f"{name}{i % 3}", name, of, "", len(utts) * rows, rows))
            z.append(torch.randn(rows, dim, generator=g) + 2 * (ord(name[0]) - ord("c")))
            means = [2.0 * (ord(c[0]) - ord("c")) for c in classes]
            logp.append(torch.stack([-0.5 * (z[-1] - mean).pow(2).sum(1) for mean in means], 1))
    directory.mkdir(parents=True)
    total = len(utts) * rows
    np.save(directory / "logp.npy", torch.cat(logp).numpy())
    np.save(directory / "logdet.npy", np.full(total, 3.0, dtype=np.float32))
    np.save(directory / "z.npy", torch.cat(z)[::2].numpy())
    np.save(directory / "z_rows.npy", np.arange(0, total, 2))
    np.save(directory / "z_mean.npy", torch.stack([rows.mean(0) for rows in z]).numpy())
    meta = {"classes": classes, "dim": dim, "cond_dim": cond_dim, "var_c": 1.0, "var_r": 1.0, "frames": total}
    (directory / "meta.json").write_text(json.dumps(meta))
    (directory / "utts.tsv").write_text(
        "\n".join("\t".join(map(str, u)) for u in [("utt", "speaker", "class", "set", "score", "first", "rows"), *utts])
    )


def write_experiment(
    exp: Path, classes: list[str], cond_dim: int, sets: dict[str, dict[str, int]], dim: int = 5
) -> Path:
    exp.mkdir()
    words = ("seed=3", "plots.colours={en: 'tab:blue', ce: 'tab:red'}", "plots.max_points=60", "plots.tsne_points=24")
    resolve(words).save(exp / "config.yaml")
    history = [HEADER]
    for i in range(1, 41):
        dev = (-i, i, 1, 0.5 + i / 100) if i % 10 == 0 else ("", "", "", "")
        history.append((10 * i, i, i, -i if i != 20 else 900, i, 1, 5, 0.1, 1000, *dev, int(i >= 20), int(i >= 30)))
    (exp / "history.tsv").write_text("\n".join("\t".join(map(str, row)) for row in history) + "\n")
    shapes = ["set\tclasses\tpart\tdim_index\tskew\tkurt\tskew_within\tkurt_within"]
    for name, found in sets.items():
        write_set(exp / "latents" / name, classes, cond_dim, found, dim)
        for part, dims in (("c", cond_dim), ("r", dim - cond_dim)):
            shapes += [f"{name}\t{'+'.join(sorted(found))}\t{part}\t{i}\t0.1\t-1.5\t0.01\t0.{i}" for i in range(dims)]
    (exp / "gaussianity_dims.tsv").write_text("\n".join(shapes) + "\n")
    return exp
