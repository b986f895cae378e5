"""Draw the pictures of docs/vectors.md on the experiment speakers.

    python3 docs/speakers.py exp/speakers --work work [--counts 22 44 88 177] [--seeds 1 2 3]

``speakers_eer.png`` is EER against the number of training speakers. Training speakers are drawn, and their vectors go through
stages 0 to 4 of ``run.sh`` and ``dnf verify`` as a user's own vectors. ``speakers_tsne.png`` has t-SNE of vectors and latents of
some test speakers.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from dnf.data.own_vectors import VectorUtterance, write_set
from dnf.experiment import entry
from dnf.experiment.classes import UNLABELLED
from dnf.experiment.layout import CONFIG_YAML
from dnf.experiment.tables import read_tsv
from dnf.plots.projections import tsne_map
from dnf.plots.style import LINES, MARKERS, OKABE_ITO, NamedFigures, new_figure, write_figures
from dnf.verification.verify import INPUT, OF_FLOW, RAW, VectorSet, read_set

ROOT = Path(__file__).resolve().parents[1]
SHOWN = {
    "raw_cosine": "cosine of the vectors, centred",
    "vectors_lda": "LDA, cosine",
    "vectors_plda": "PLDA",
    "latents_cosine": "DNF, cosine",
    "latents_plda": "DNF, PLDA",
    "latents_nl": "DNF, normalized likelihood",
}
SPACES = {"encoder": RAW, "PCA, whitened": INPUT, "latents of the DNF": OF_FLOW}
SPEAKERS = 16  # of the t-SNE


def write_subset(sets: dict[str, VectorSet], speakers: set[str], folder: Path) -> None:
    """Write a folder of the user's own vectors; train and dev have some of their speakers, which are the classes."""
    for name, of_set in sets.items():
        known = name != "test"
        write_set(
            [
                VectorUtterance(utt, speaker, speaker if known else UNLABELLED, x)
                for utt, speaker, x in zip(of_set.names, of_set.speakers, of_set.x)
                if not known or speaker in speakers
            ],
            folder / name,
        )


def eers(folder: Path, yaml: Path, seed: int) -> dict[str, float]:
    """EER of each system, trained on a folder of vectors."""
    words = ["--data", folder.name, "--exp", yaml.name, "--stop-stage", "4", "--seed", seed, "--nj", "1"]
    settings = ["vectors.front_end=files", "data.test=[test]", "plots.enabled=false"]
    words += [word for setting in settings for word in ("--set", setting)]
    command = [ROOT / "run.sh", "--recipe", "vectors", *words]
    subprocess.run([str(word) for word in command], cwd=folder.parent, check=True)
    exp = folder.parent / "exp" / f"{folder.name}_{yaml.stem}"
    words = ["-m", "dnf", "verify", exp, "--set", "test", "--calibrate", "none"]
    subprocess.run(["python3", *map(str, words)], check=True)
    rows = read_tsv(exp / "verify" / "test" / "results.tsv")
    return {row["system"]: float(row["value"]) for row in rows if row["metric"] == "eer"}


def eer_figure(found: dict[int, list[dict[str, float]]]) -> Figure:
    """EER of each system against the number of training speakers: means over the seeds, and a dot for each."""
    figure = new_figure("EER of new speakers against the number of training speakers", 4.6)
    axes = figure.subplots()
    for number, (system, title) in enumerate(SHOWN.items()):
        look = {"color": OKABE_ITO[number], "marker": MARKERS[number]}
        shift = 1.02 ** (number - len(SHOWN) / 2)
        counts = shift * np.array(list(found))
        values = [[100 * of_seed[system] for of_seed in of_count] for of_count in found.values()]
        axes.plot(counts, np.mean(values, 1), ls=LINES[number % 2], label=title, **look)
        for count, of_count in zip(counts, values):
            axes.plot([count] * len(of_count), of_count, ls="", ms=2, **look)
    axes.set(xscale="log", ylim=(0, None), xlabel="training speakers", ylabel="EER, %")
    axes.set_xticks(list(found), [str(count) for count in found])
    axes.minorticks_off()
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def tsne_figure(sets: Iterable[tuple[str, VectorSet]]) -> Figure:
    """t-SNE of the vectors of the same speakers in several spaces, side by side."""
    figure = new_figure(f"t-SNE of utterances of {SPEAKERS} test speakers", 3.6)
    panels = list(sets)
    for axes, (title, of_set) in zip(figure.subplots(1, len(panels)), panels):
        shown = sorted(set(of_set.speakers))[:SPEAKERS]
        rows = [n for n, speaker in enumerate(of_set.speakers) if speaker in shown]
        x = torch.from_numpy(np.array(of_set.x[rows], np.float32))
        points = tsne_map((x - x.mean(0)) / x.std(), 10, 1000, seed=1).numpy()
        for number, speaker in enumerate(shown):
            mine = points[[of_set.speakers[row] == speaker for row in rows]]
            look = {"color": OKABE_ITO[number % len(OKABE_ITO)], "marker": MARKERS[number // len(OKABE_ITO)]}
            axes.plot(*mine.T, ls="", ms=3.5, **look)
        axes.set(title=title, xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    return figure


def pictures(exp: Path, found: dict[int, list[dict[str, float]]]) -> NamedFigures:
    yield "speakers_eer", eer_figure(found)
    yield "speakers_tsne", tsne_figure((title, read_set(exp, "test", kind)) for title, kind in SPACES.items())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 docs/speakers.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("exp", type=Path, help="exp/speakers of the recipe, with latents")
    parser.add_argument("--work", type=Path, required=True, help="folder for the trainings")
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[22, 44, 88, 177], help="training speakers (%(default)s)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the pictures (docs)")
    args = parser.parse_args(argv)
    sets = {name: read_set(args.exp, name, RAW) for name in ("train", "dev", "test")}
    args.work.mkdir(parents=True, exist_ok=True)
    yaml = args.work / "speakers.yaml"
    shutil.copy(args.exp / CONFIG_YAML, yaml)
    everyone, found = sorted(set(sets["train"].speakers)), {}
    for count in args.counts:
        found[count] = []
        for seed in args.seeds:
            order = np.random.default_rng(seed).permutation(everyone)
            folder = args.work / f"speakers_{count}_{seed}"
            write_subset(sets, set(order[:count].tolist()), folder)
            found[count].append(eers(folder, yaml, seed))
    for system in SHOWN:
        print(system, *(f"{np.mean([of_seed[system] for of_seed in found[count]]):.4f}" for count in found), sep="\t")
    write_figures(pictures(args.exp, found), args.out, 120)
    return 0


if __name__ == "__main__":
    entry.run(main)
