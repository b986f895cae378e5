"""Second part of stage latents: fit the baselines on the frames of the flow, and score the same sets.

Each baseline writes ``exp/<exp>/baselines/<name>/latents/<set>/`` in the format of the flow's ``latents/<set>/``, with
log-likelihoods of the classes in ``logp`` and 0 in ``logdet``, so later stages treat all systems in the same way. The
log-likelihoods may lack a constant that is common to the classes.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import torch

from dnf.experiment import entry
from dnf.experiment.classes import choose_classes, read_classes
from dnf.experiment.config import Config, from_saved
from dnf.experiment.environment import choose_device
from dnf.experiment.layout import BASELINES, CONFIG_YAML, LATENTS, MODEL_PT, is_taken
from dnf.features.windows import Windows, training_windows
from dnf.models import checkpoint
from dnf.scoring.latent_writer import write_scored, written_whole
from dnf.scoring.open_sets import Opened, each_set, open_sets
from dnf.training.baselines import fit_baseline, make_baseline
from dnf.training.baselines.baseline import FEWEST_FRAMES, Baseline

log = logging.getLogger(__name__)


def load_baseline(path: Path, device: torch.device | str = "cpu") -> tuple[Baseline, Config, list[str]]:
    """Load a baseline in evaluation mode, its settings and its classes from its ``model.pt``."""
    content = checkpoint.load(path, device)
    config, classes = from_saved(content["config"]), content["classes"]
    model = make_baseline(content["system"], config, len(classes)).to(device)
    model.load_state_dict(content["model"], strict=True)
    return model.eval(), config, classes


def fit_systems(exp: Path, train: Windows, dev: Windows, classes: list[str], config: Config) -> dict[str, Baseline]:
    """Fit every system of ``baselines.systems``, and save it to ``exp/baselines/<name>/model.pt``."""
    models = {}
    for name in config.baselines.systems:
        start = time.monotonic()
        models[name] = fit_baseline(name, train, dev, classes, config)
        size = sum(t.numel() for t in models[name].state_dict().values())
        log.info("%s: %s with %d parameters, made in %.1f s", exp, name, size, time.monotonic() - start)
        folder = exp / BASELINES / name
        folder.mkdir(parents=True)
        content = {"system": name, "model": models[name].state_dict(), "classes": classes}
        checkpoint.save(folder / MODEL_PT, content | {"config": checkpoint.config_tree(config)})
    return models


def vectors_of(role: str, opened: Opened, classes: list[str], config: Config, device: torch.device) -> Windows:
    """All vectors of train or dev; ``ValueError`` if a class has too few for a baseline."""
    stores = [opened.stores[name] for name in getattr(config.data, role)]
    if role == "train":
        windows = training_windows(stores, config, classes, device)
    else:
        windows = Windows(stores, config.splice, config.cmvn, classes, keep_unseen=False, device=device)
    for name, count in windows.class_counts(classes).items():
        if count < FEWEST_FRAMES:
            raise ValueError(
                f"data.{role}: class {name} has {count} frames in {role}, too few for baselines; "
                "add recordings of it, or set baselines.enabled=false"
            )
    return windows


def why_none(config: Config, classes: list[str]) -> str | None:
    """Why an experiment has no baselines, in words; None if it has some."""
    if not config.baselines.enabled or not config.baselines.systems:
        return "the settings have none"
    if config.prior.cond_dim == 0 or len(classes) < 2:
        return "the flow has no classes"
    return None


def main(argv: list[str] | None = None) -> int:
    parser = entry.model_parser(__spec__, __doc__)
    args = parser.parse_args(argv)
    config, root = Config.load(args.exp / CONFIG_YAML), args.exp / BASELINES
    classes = choose_classes(read_classes(args.classes), config.data.classes, args.classes)
    device, opened = choose_device(args.device), open_sets(args.frames, config)
    if is_taken(args.exp):
        models = {path.parent.name: load_baseline(path, device)[0] for path in sorted(root.glob(f"*/{MODEL_PT}"))}
        for name in models:
            shutil.rmtree(root / name / LATENTS, ignore_errors=True)
    else:
        shutil.rmtree(root, ignore_errors=True)
        reason = why_none(config, classes)
        if reason:
            log.info("%s: no baselines: %s", args.exp, reason)
            return 0
        roles = {role: vectors_of(role, opened, classes, config, device) for role in ("train", "dev")}
        models = fit_systems(args.exp, roles["train"], roles["dev"], classes, config)
    meta = {"classes": classes, "cond_dim": config.dim}
    with torch.no_grad():
        for set_name, windows, _ in each_set(opened, config, classes, device):
            for name, model in models.items() if windows is not None else ():
                out = root / name / LATENTS / set_name
                with written_whole(out) as folder:
                    write_scored(
                        folder, windows, meta, lambda rows, x: (model(x), torch.zeros(len(x))), f"{name} {out}"
                    )
    return 0


if __name__ == "__main__":
    entry.run(main)
