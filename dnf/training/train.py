"""Stage train: train a flow, by maximum likelihood or another ``train.objective``; ``best.pt`` is chosen on dev.

A run can be stopped at any point: started again with the same settings it continues from ``last.pt`` and ends with the
same weights. A step with a non-finite loss or gradient goes back to the state of ``last.pt`` with half the learning
rate.
"""

from __future__ import annotations

import logging
from pathlib import Path

from dnf.experiment import entry
from dnf.experiment.classes import choose_classes, read_classes
from dnf.experiment.config import Config
from dnf.experiment.environment import choose_device, describe_environment
from dnf.experiment.files import write_json
from dnf.experiment.layout import CONFIG_YAML, ENV_JSON, LAST_PT, TRAINING_JSON
from dnf.experiment.progress import progress
from dnf.features.frame_store import FrameStore, check_speakers
from dnf.features.windows import Windows, training_windows
from dnf.training.history import History, NoHistory
from dnf.training.ranks import Ranks, join_ranks, leave, recorded
from dnf.training.trainer import Trainer

log = logging.getLogger(__name__)

ROWS_PER_EPOCH = 10
MOST_PENDING = 50  # most steps before their figures are fetched from the device


def run(trainer: Trainer) -> float:
    """Train to the last step, keeping history, TensorBoard scalars and a progress bar; the seconds of all its parts."""
    out, per_row = trainer.out, max(1, trainer.eval_steps // ROWS_PER_EPOCH)
    recent: list[dict[str, float]] = []
    hidden = not trainer.ranks.writes
    bar = progress(
        what=f"train {out.name}", unit="steps", total=trainer.total_steps, initial=trainer.step, disable=hidden
    )
    with NoHistory() if hidden else History(out, trainer.step, trainer.objective.columns) as history, bar:

        def record(dev: dict[str, float]) -> None:
            row = {name: sum(f[name] for f in recent) / len(recent) for name in recent[0]} if recent else {}
            row |= {f"dev_{name}": value for name, value in dev.items()}
            row |= {"spikes": trainer.monitor.spikes, "restores": trainer.restores}
            epoch = trainer.step / trainer.sampler.steps_per_epoch
            rate = history.write(trainer.step, epoch, len(recent) * trainer.sampler.batch_size, row)
            if recent:
                bar.set_postfix_str(f"NLL {row['nll']:.2f} nats/frame, {rate:.0f} frames/s")
            recent.clear()

        while trainer.step < trainer.total_steps:
            trainer.model.train()
            trainer.advance()
            periods = (trainer.eval_steps, per_row, MOST_PENDING)
            if trainer.step < trainer.total_steps and all(trainer.step % period for period in periods):
                continue
            recent += trainer.settle()
            bar.update(trainer.step - bar.n)
            if trainer.step % trainer.eval_steps == 0 or trainer.step >= trainer.total_steps:
                trainer.look(record)
                history.rest()
            elif trainer.step % per_row == 0:
                record({})
        seconds = history.seconds()
    if not trainer.best_step:
        raise ValueError(
            f"{out}: the NLL on dev was never finite; lower train.lr or flow.log_scale_bound, or check the dev set"
        )
    return seconds


def make_trainer(
    frames: Path, out: Path, config: Config, classes: list[str], ranks: Ranks, last: Path | None = None
) -> Trainer:
    """Open train and dev and check that every class of the model has frames in both; other arguments as of ``Trainer``."""
    stores = {name: FrameStore(frames / name) for name in dict.fromkeys((*config.data.train, *config.data.dev))}
    check_speakers(stores, config.data)
    if config.prior.cond_dim and len(classes) == 1:
        log.warning(
            "%s is the only class, so nothing will be decided: give another class, or prior.cond_dim=0", *classes
        )
    opened = {}
    for role in ("train", "dev"):
        names = getattr(config.data, role)
        of_role = [stores[n] for n in names]
        if role == "train":
            windows = training_windows(of_role, config, classes, ranks.device)
        else:
            windows = Windows(of_role, config.splice, config.cmvn, classes, keep_unseen=False, device=ranks.device)
        for label, count in windows.class_counts(classes).items():
            if not count:
                raise ValueError(
                    f"{frames}: class {label} has no frames in {' '.join(names)}; "
                    "add recordings, or remove the class from data.classes"
                )
            log.info("%s: class %s has %d frames", "+".join(names), label, count)
        opened[role] = windows
    return Trainer(opened["train"], opened["dev"], config, classes, out, ranks, last)


def main(argv: list[str] | None = None) -> int:
    parser = entry.model_parser(__spec__, __doc__)
    parser.add_argument("--restart", action="store_true", help="train from scratch even if there is a last.pt")
    args = parser.parse_args(argv)
    config, ranks = Config.load(args.exp / CONFIG_YAML), join_ranks(choose_device(args.device))
    classes = choose_classes(read_classes(args.classes), config.data.classes, args.classes)
    trainer = make_trainer(args.frames, args.exp, config, classes, ranks, None if args.restart else args.exp / LAST_PT)
    environment = describe_environment(ranks.device) | {"precision": trainer.precision, "compiled": trainer.compiled}
    if ranks.size > 1:
        environment["device_name"] = f"{ranks.size} x {environment['device_name']}"
    seconds = run(trainer)
    if ranks.writes:
        write_json(args.exp / ENV_JSON, environment | {"train_seconds": round(seconds, 1)})
        write_json(args.exp / TRAINING_JSON, trainer.summary())
    leave()
    return 0


if __name__ == "__main__":
    entry.run(recorded(main))
