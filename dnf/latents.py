"""Stage 4: latents, LogP under every class and LogDet of every frame, Gaussianity, and whether training and evaluation agree.

The flow runs once over each set; the scores of stage 6 are sums over what this stage leaves in ``latents/<set>/``.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from tqdm import tqdm

from dnf import channel, entry
from dnf.checkpoint import Trained, load_model
from dnf.classes import read_classes
from dnf.config import Config
from dnf.environment import choose_device
from dnf.evaluate import AGREEMENT_FRAMES, BATCH, evaluate, evenly_spaced
from dnf.frames import FrameStore
from dnf.gaussianity import Moments, Shape, mardia
from dnf.sets import reasons, scored_sets
from dnf.splits import check_speakers
from dnf.tables import write_tsv
from dnf.windows import Windows

log = logging.getLogger(__name__)

SHAPES = ("skew", "kurt", "skew_within", "kurt_within")
MARDIA = ("mardia_frames", "mardia_skew", "mardia_skew_p", "mardia_kurt", "mardia_kurt_z", "mardia_kurt_p")


def check_agreement(trained: Trained, windows: Windows, out: Path, limit: float) -> None:
    """Score the sample of training frames that training scored with these weights; a large difference is an error.

    Args:
        windows: training vectors of the model's classes, as in training.
        out: gets ``agreement.json``, in nats per frame.
        limit: the largest difference allowed, nats per frame.
    """
    rows = evenly_spaced(len(windows), AGREEMENT_FRAMES)
    before, after = trained.content["sample"], evaluate(trained.model, windows, rows)
    figures = {"frames": len(rows)}
    figures |= {f"training_{name}": before[name] for name in ("nll", "logp", "logdet")}
    training, evaluation = before["nll"], after["nll"]
    figures |= {"evaluation_nll": evaluation, "difference": evaluation - training}
    (out / "agreement.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    log.info(
        "%s: the same %d training frames have NLL %.4f in training and %.4f now", out, len(rows), training, evaluation
    )
    if not abs(evaluation - training) <= limit:
        raise ValueError(
            f"{out / 'best.pt'}: training frames score NLL {evaluation:.3f} now but {training:.3f} in training, more than "
            f"latents.max_difference {limit} nats apart; the features or the code are not those of training: run stage 3 again"
        )


@torch.no_grad()
def write_latents(
    trained: Trained,
    windows: Windows,
    all_classes: list[str],
    out: Path,
    save_frames: int,
    correction: channel.Correction | None = None,
) -> Moments:
    """Run the flow over a set and write ``out``; the moments of its latents by true class.

    Args:
        windows: all vectors of the set, of classes the model knows or not; at least one.
        all_classes: classes of the corpus, by whose ids the moments are kept.
        out: ``latents/<set>``, replaced as a whole.
        save_frames: vectors whose z is kept; 0 keeps all.
        correction: against the channel; what is written are corrected latents and their densities.
    """
    model, total = trained.model, len(windows)
    prior = correction.prior(model.prior) if correction else model.prior
    shifts = correction.shifts(model, windows) if correction else None
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    ids = {name: i for i, name in enumerate(all_classes)}
    true = torch.tensor([ids[segment.name] for segment in windows.segments()])
    kept = evenly_spaced(total, save_frames)
    logp = open_memmap(temporary / "logp.npy", "w+", np.float32, (total, len(trained.classes)))
    logdet = open_memmap(temporary / "logdet.npy", "w+", np.float32, (total,))
    z_kept = open_memmap(temporary / "z.npy", "w+", np.float32, (len(kept), windows.dim))
    moments = Moments(len(all_classes), windows.dim)
    for start in tqdm(range(0, total, BATCH), desc=f"latents {out.name}", unit="batch"):
        rows = torch.arange(start, min(start + BATCH, total))
        z, change = model(windows.gather(rows))
        z = channel.centred(z, shifts, windows.segment(rows))
        of_all = prior.of_all(z)
        if not (torch.isfinite(change).all() and torch.isfinite(of_all).all()):
            raise ValueError(
                f"{out}: a log density is not finite; the checkpoint is damaged or the frames are far from training"
            )
        logp[start : start + BATCH], logdet[start : start + BATCH] = of_all.cpu(), change.cpu()
        moments.update(z, true[windows.segment(rows)])
        first, last = torch.searchsorted(kept, torch.stack([rows[0], rows[-1] + 1])).tolist()
        z_kept[first:last] = z[(kept[first:last] - start).to(z.device)].cpu()
    for array in (logp, logdet, z_kept):
        array.flush()
    np.save(temporary / "z_rows.npy", kept.numpy())
    with (temporary / "utts.tsv").open("w", encoding="utf-8") as file:
        file.write("utt\tspeaker\tclass\tset\tscore\tfirst\trows\n")
        for utt, speaker, name, of_set, score, first, rows in windows.segments():
            file.write(f"{utt}\t{speaker}\t{name}\t{of_set}\t{'' if score is None else score}\t{first}\t{rows}\n")
    settings = trained.config.prior
    meta = {
        "classes": trained.classes,
        "dim": windows.dim,
        "cond_dim": settings.cond_dim,
        "var_c": settings.var_c,
        "var_r": settings.var_r,
    }
    (temporary / "meta.json").write_text(json.dumps(meta | {"frames": total}) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)
    return moments


def groups_of_classes(moments: Moments, all_classes: list[str], model_classes: list[str]) -> Iterator[list[int]]:
    """Class ids whose frames are judged together: those the model knows, then with the others where there are any."""
    present = [k for k in range(len(all_classes)) if moments.count[k] > 0]
    seen = [k for k in present if all_classes[k] in model_classes]
    if seen:
        yield seen
    if seen != present:
        yield present


def parts(dim: int, cond_dim: int) -> dict[str, slice]:
    """Columns of c and of r; what is empty is left out."""
    both = {"c": slice(0, cond_dim), "r": slice(cond_dim, dim)}
    return {name: columns for name, columns in both.items() if columns.start < columns.stop}


def gaussianity_rows(
    name: str,
    out: Path,
    windows: Windows,
    moments: Moments,
    all_classes: list[str],
    trained: Trained,
    mardia_frames: int,
) -> tuple[list[dict], list[dict]]:
    """Rows of ``gaussianity.tsv`` and ``gaussianity_dims.tsv`` for one set; ``out`` is its ``latents/<set>``."""
    z = torch.from_numpy(np.load(out / "z.npy", mmap_mode="c"))
    of_segment = torch.tensor([all_classes.index(segment.name) for segment in windows.segments()])
    true = of_segment[windows.segment(torch.from_numpy(np.load(out / "z_rows.npy")))]
    rows, dims = [], []
    for group in groups_of_classes(moments, all_classes, trained.classes):
        names = "+".join(all_classes[k] for k in group)
        pooled, within = moments.pooled(group), moments.within(group)
        chosen = torch.nonzero(torch.isin(true, torch.tensor(group)))[:, 0]
        chosen = chosen[evenly_spaced(len(chosen), mardia_frames)]
        for part, columns in parts(moments.dim, trained.config.prior.cond_dim).items():
            shapes = per_dim(pooled, within, columns)
            test = mardia_figures(z[chosen, columns], true[chosen], f"{name} {names} {part}")
            row = {"set": name, "classes": names, "part": part, "dim": columns.stop - columns.start}
            row["frames"] = int(sum(moments.count[k] for k in group))
            rows.append(row | {key: f"{values.nanmean().item():.6g}" for key, values in shapes.items()} | test)
            for i, values in enumerate(zip(*(values.tolist() for values in shapes.values()))):
                dims.append(
                    {"set": name, "classes": names, "part": part, "dim_index": i}
                    | {k: f"{v:.6g}" for k, v in zip(SHAPES, values)}
                )
    return rows, dims


def per_dim(pooled: Shape, within: Shape, columns: slice) -> dict[str, torch.Tensor]:
    return dict(zip(SHAPES, (pooled.skew[columns], pooled.kurt[columns], within.skew[columns], within.kurt[columns])))


def mardia_figures(z: torch.Tensor, labels: torch.Tensor, what: str) -> dict[str, str]:
    """Mardia's test as table cells; empty ones where there are too few frames for it."""
    try:
        test = mardia(z, labels)
    except ValueError as error:
        log.warning("%s: no multivariate test: %s", what, error)
        return dict.fromkeys(MARDIA, "")
    values = (len(z), test.skew, test.skew_p, test.kurt, test.kurt_z, test.kurt_p)
    return {key: f"{value:.6g}" for key, value in zip(MARDIA, values)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.latents", description=__doc__.split("\n\n")[0])
    parser.add_argument("frames", type=Path, help="folder of the frame stores")
    parser.add_argument("exp", type=Path, help="folder of the experiment, with config.yaml and best.pt")
    parser.add_argument("--classes", type=Path, required=True, help="the corpus's classes.txt")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: cuda if there is one (%(default)s)"
    )
    args = parser.parse_args(argv)
    config, device, all_classes = (
        Config.load(args.exp / "config.yaml"),
        choose_device(args.device),
        read_classes(args.classes),
    )
    trained = load_model(args.exp / "best.pt", device, all_classes)
    present = {path.parent.name for path in args.frames.glob("*/meta.json")}
    sets, left_out = scored_sets(config.data, present)
    stores = {name: FrameStore(args.frames / name) for name in sorted({s for _, view in sets for s in view.sets})}
    check_speakers(stores, config.data)
    splice, cmvn = trained.config.splice, trained.config.cmvn
    train = Windows(
        [stores[s] for s in config.data.train], splice, cmvn, trained.classes, keep_unseen=False, device=device
    )
    check_agreement(trained, train, args.exp, config.latents.max_difference)
    correction = channel.fit(config.channel, trained.model, train, args.exp)
    for path in (args.exp / "latents").glob("*"):
        if path.name not in dict(sets):
            shutil.rmtree(path)
    rows, dims, empty = [], [], {}
    for name, view in sets:
        pieces = max(1, round(view.seconds / trained.config.features.frame_shift)) if view.seconds else None
        windows = Windows(
            [stores[s] for s in view.sets], splice, cmvn, trained.classes, True, device, view.scores, pieces
        )
        out = args.exp / "latents" / name
        scored = any(score is not None for s in view.sets for score in stores[s].scores)
        if not len(windows) or view.scores and not scored:
            empty[name] = (
                "its sets have no expert scores" if view.scores and not scored else "no utterance of it is left"
            )
            shutil.rmtree(out, ignore_errors=True)
            continue
        moments = write_latents(trained, windows, all_classes, out, config.latents.save_frames, correction)
        of_set = gaussianity_rows(name, out, windows, moments, all_classes, trained, config.latents.mardia_frames)
        rows += of_set[0]
        dims += of_set[1]
    why = reasons(left_out, args.classes.parent) | empty
    for name, reason in why.items():
        log.warning("%s: %s is left out: %s", args.exp, name, reason)
    write_tsv(args.exp / "left_out.tsv", [{"set": k, "reason": v} for k, v in why.items()], ("set", "reason"))
    write_tsv(args.exp / "gaussianity.tsv", rows)
    write_tsv(args.exp / "gaussianity_dims.tsv", dims)
    return 0


if __name__ == "__main__":
    entry.run(main)
