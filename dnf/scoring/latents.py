"""Stage latents: latents, LogP under every class, LogDet, Gaussianity, autocorrelation; compares training and evaluation.

The flow runs once over each set. The scores of stage score are sums over the output of this stage in ``latents/<set>/``.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path

import kaldiio
import numpy as np
import torch
from numpy.lib.format import open_memmap

from dnf.data.check_sets import reasons
from dnf.experiment import entry
from dnf.experiment.classes import read_classes
from dnf.experiment.config import Config
from dnf.experiment.environment import choose_device
from dnf.experiment.files import write_json
from dnf.experiment.layout import (
    AGREEMENT_JSON,
    AUTOCORRELATION_TSV,
    BEST_PT,
    CHANNEL_JSON,
    CHANNEL_NPY,
    CONFIG_YAML,
    FISHER_TSV,
    GAUSSIANITY_DIMS_TSV,
    GAUSSIANITY_TSV,
    LATENTS,
    LEFT_OUT_TSV,
    NORMALIZED,
    PIECES_TSV,
    SHIFTED_NPZ,
    Z_MEAN_NPY,
    Z_NPY,
    Z_ROWS_NPY,
    Z_SQUASHED_NPY,
    is_taken,
    run_again,
)
from dnf.experiment.sets import fitted_sets
from dnf.experiment.tables import write_tsv
from dnf.features.rows import evenly_spaced
from dnf.features.windows import Windows, training_windows
from dnf.metrics.autocorrelation import Autocorrelation
from dnf.metrics.figures import MOST_CLASSES
from dnf.metrics.gaussianity import Moments
from dnf.models.checkpoint import Trained, load_model
from dnf.scoring import channel_compensation
from dnf.scoring.channel_mismatch import MOST_DIMS, fit_experiment, frequencies_of, write_statistics
from dnf.scoring.gaussianity_rows import (
    AUTOCORRELATION,
    FISHER,
    Kept,
    autocorrelation_rows,
    fisher_rows,
    gaussianity_rows,
    parts,
)
from dnf.scoring.latent_store import mapped
from dnf.scoring.latent_writer import SegmentMeans, write_scored, written_whole
from dnf.scoring.open_sets import Opened, each_set, open_sets
from dnf.scoring.pieces import COLUMNS, piece_rows
from dnf.scoring.shifted_copies import shifted_copies
from dnf.training.evaluate import AGREEMENT_FRAMES, evaluate

log = logging.getLogger(__name__)

TABLES = {GAUSSIANITY_TSV: (), GAUSSIANITY_DIMS_TSV: (), AUTOCORRELATION_TSV: AUTOCORRELATION, FISHER_TSV: FISHER}


def check_agreement(trained: Trained, windows: Windows, out: Path, limit: float) -> None:
    """Score the training frames that training has scored with the same weights; a large difference is an error.

    Args:
        windows: training vectors of the model's classes, as in training.
        out: folder for ``agreement.json``, in nats per frame.
        limit: largest allowed difference, nats per frame.
    """
    rows = evenly_spaced(len(windows), AGREEMENT_FRAMES)
    before, after = trained.content["sample"], evaluate(trained.model, windows, rows)
    figures = {"frames": len(rows)}
    figures |= {f"training_{name}": before[name] for name in ("nll", "logp", "logdet")}
    training, evaluation = before["nll"], after["nll"]
    figures |= {"evaluation_nll": evaluation, "difference": evaluation - training}
    write_json(out / AGREEMENT_JSON, figures)
    log.info(
        "%s: the same %d training frames have NLL %.4f in training and %.4f now", out, len(rows), training, evaluation
    )
    if not abs(evaluation - training) <= limit:
        raise ValueError(
            f"{out / BEST_PT}: training frames score NLL {evaluation:.3f} now but {training:.3f} in training, "
            f"more than latents.max_difference {limit} nats apart; the features or the code have changed since training: "
            f"{run_again('train')}"
        )


def true_classes(windows: Windows, all_classes: list[str]) -> torch.Tensor:
    """Class ids ``(G,)`` of the segments of a set."""
    ids = {name: i for i, name in enumerate(all_classes)}
    return torch.tensor([ids[segment.name] for segment in windows.segments()])


@torch.no_grad()
def write_latents(
    trained: Trained,
    windows: Windows,
    all_classes: list[str],
    out: Path,
    save_frames: int,
    correction: channel_compensation.Correction | None = None,
) -> tuple[Moments, Moments, Autocorrelation]:
    """Run the flow over a set and write ``out``; returns moments of latents and vectors by class, and autocorrelation.

    Args:
        windows: all vectors of the set, of known and unknown classes; at least one.
        all_classes: classes of the corpus, whose ids are the keys of the moments.
        out: ``latents/<set>``, replaced completely.
        save_frames: number of saved z; 0 saves all.
        correction: of the channel; the output has corrected latents and their densities.
    """
    model = trained.model
    shifts = correction.shifts(model, windows) if correction else None
    true = true_classes(windows, all_classes)
    kept = evenly_spaced(len(windows), save_frames)
    where = windows.device if windows.device.type == "cuda" else "cpu"
    dim, classes = trained.config.latent_dim, len(all_classes)
    moments, of_input = Moments(classes, dim, where), Moments(classes, windows.dim, where)
    autocorrelation = Autocorrelation(dim, where)
    frames = torch.tensor([segment.rows for segment in windows.segments()])
    meta = {"classes": trained.classes, "cond_dim": trained.config.prior.cond_dim}
    with written_whole(out) as folder:
        z_kept = open_memmap(folder / Z_NPY, "w+", np.float32, (len(kept), dim))
        means, squashed = (SegmentMeans(folder / name, frames, dim) for name in (Z_MEAN_NPY, Z_SQUASHED_NPY))

        def density(rows: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            z, change = model(x)
            segments = windows.segment(rows)
            z = channel_compensation.centred(z, shifts, segments)
            moments.update(z, true[segments])
            of_input.update(x, true[segments])
            means.update(z, segments)
            squashed.update(model.prior.squashed(z), segments)
            known = (labels := windows.labels(rows)) >= 0
            autocorrelation.update(model.prior.standardized(z[known], labels[known]), segments[known.cpu()])
            first, last = torch.searchsorted(kept, torch.stack([rows[0], rows[-1] + 1])).tolist()
            z_kept[first:last] = z[(kept[first:last] - rows[0]).to(z.device)].cpu()
            return model.prior.of_all(z), change

        write_scored(folder, windows, meta, density, f"latents {out}")
        z_kept.flush()
        means.file.flush()
        squashed.file.flush()
        np.save(folder / Z_ROWS_NPY, kept.numpy())
        write_statistics(folder / CHANNEL_NPY, windows, frequencies_of(trained.config))
    return *(Moments(classes, of.dim).merge(of) for of in (moments, of_input)), autocorrelation


def write_normalized(latents: Path, windows: Windows, folder: Path) -> None:
    """Write ``<set>.{ark,scp}`` below ``folder``: the mean latent of each utterance, for back-ends that read Kaldi vectors."""
    folder.mkdir(exist_ok=True)
    path, z_mean = folder.absolute() / latents.name, mapped(latents / Z_MEAN_NPY)
    with kaldiio.WriteHelper(f"ark,scp:{path}.ark,{path}.scp") as writer:
        for segment, z in zip(windows.segments(), z_mean):
            writer(segment.utt, np.asarray(z))


def fit_to_training(
    trained: Trained, opened: Opened, config: Config, args: argparse.Namespace, device: torch.device
) -> channel_compensation.Correction | None:
    """Check the model on its training vectors; write the channels of training and, if the settings have one, the correction.

    Also writes the shifted copies of dev.
    """
    splice, cmvn = trained.config.splice, trained.config.cmvn
    stores = [opened.stores[name] for name in config.data.train]
    train = Windows(stores, splice, cmvn, trained.classes, keep_unseen=False, device=device)
    fitted = training_windows(stores, trained.config, trained.classes, device)
    check_agreement(trained, fitted, args.exp, config.latents.max_difference)
    for name in (CHANNEL_JSON, SHIFTED_NPZ):
        (args.exp / name).unlink(missing_ok=True)
    correction = channel_compensation.fit_correction(config.channel, trained.model, train, args.exp)
    if not config.has_vectors or trained.model.prior.dim <= MOST_DIMS:
        fit_experiment(args.frames, trained.config, trained.classes).save(args.exp / CHANNEL_JSON)
        if len(trained.classes) <= MOST_CLASSES:
            dev = [opened.stores[name] for name in config.data.dev]
            shifted_copies(trained, correction, dev, device).save(args.exp / SHIFTED_NPZ)
    return correction


def set_rows(
    name: str,
    windows: Windows,
    out: Path,
    figures: tuple[Moments, Moments, Autocorrelation],
    trained: Trained,
    all_classes: list[str],
    mardia_frames: int,
) -> dict[str, list[dict]]:
    """Rows of ``TABLES`` for a set, from what ``write_latents`` wrote to ``out`` and returned."""
    moments, of_input, autocorrelation = figures
    z, places = (torch.from_numpy(mapped(out / file, "c")) for file in (Z_NPY, Z_ROWS_NPY))
    true = true_classes(windows, all_classes)[windows.segment(places)]
    columns, names = parts(moments.dim, trained.config.prior.cond_dim), (all_classes, trained.classes)
    of_z = Kept(true, z.__getitem__, mardia_frames)
    of_x = of_z._replace(vectors=lambda chosen: windows.gather(places[chosen]).cpu())
    rows, dims = gaussianity_rows(name, moments, columns, of_z, *names)
    return {
        GAUSSIANITY_TSV: rows + gaussianity_rows(name, of_input, {"x": slice(None)}, of_x, *names)[0],
        GAUSSIANITY_DIMS_TSV: dims,
        AUTOCORRELATION_TSV: autocorrelation_rows(name, moments, autocorrelation, all_classes, trained),
        FISHER_TSV: fisher_rows(name, moments, of_input, all_classes, trained),
    }


def main(argv: list[str] | None = None) -> int:
    parser = entry.model_parser(__spec__, __doc__)
    args = parser.parse_args(argv)
    config, device, all_classes = (
        Config.load(args.exp / CONFIG_YAML),
        choose_device(args.device),
        read_classes(args.classes),
    )
    trained = load_model(args.exp / BEST_PT, device, all_classes)
    opened = open_sets(args.frames, config)
    if is_taken(args.exp):
        correction = channel_compensation.load_correction(args.exp)
    else:
        correction = fit_to_training(trained, opened, config, args, device)
    for path in (args.exp / LATENTS).glob("*"):
        if path.name not in dict(opened.sets):
            shutil.rmtree(path)
    shutil.rmtree(args.exp / NORMALIZED, ignore_errors=True)
    tables, empty = {file: [] for file in TABLES}, {}
    for name, windows, reason in each_set(opened, trained.config, trained.classes, device):
        out = args.exp / LATENTS / name
        if windows is None:
            empty[name] = reason
            shutil.rmtree(out, ignore_errors=True)
            continue
        figures = write_latents(trained, windows, all_classes, out, config.latents.save_frames, correction)
        write_normalized(out, windows, args.exp / NORMALIZED)
        of_set = set_rows(name, windows, out, figures, trained, all_classes, config.latents.mardia_frames)
        for file, rows in of_set.items():
            tables[file] += rows
    lacking = {name: absent for name, absent in opened.left_out.items() if name not in fitted_sets(config.data)}
    why = reasons(lacking, args.classes.parent) | empty
    for name, reason in why.items():
        log.warning("%s: %s is left out: %s", args.exp, name, reason)
    write_tsv(args.exp / LEFT_OUT_TSV, [{"set": k, "reason": v} for k, v in why.items()], ("set", "reason"))
    for file, columns in TABLES.items():
        write_tsv(args.exp / file, tables[file], columns)
    write_tsv(args.exp / PIECES_TSV, piece_rows(trained, opened, config, correction), COLUMNS)
    return 0


if __name__ == "__main__":
    entry.run(main)
