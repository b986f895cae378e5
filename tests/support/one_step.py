"""A step of training on its own."""

from dnf.training.trainer import Trainer


def one_step(trainer: Trainer) -> dict[str, float] | None:
    """Take a step; its figures, or None when it was not finite and has been undone."""
    trainer.advance()
    return next(iter(trainer.settle()), None)
