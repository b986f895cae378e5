"""The output of stage latents for a set, as pictures need it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib import colors

from dnf.experiment.layout import LOGP_NPY, META_JSON, UTTS_TSV, Z_MEAN_NPY, Z_NPY, Z_ROWS_NPY, run_again
from dnf.metrics.figures import MOST_CLASSES
from dnf.plots.projections import spread
from dnf.plots.style import MOST_SETS, REFERENCE, SET_SHADES
from dnf.scoring import latent_store

MOST_GROUPS = MOST_SETS  # in a picture
OTHERS = ("", "")  # the group of all others


class LatentSet(NamedTuple):
    """One set's stage latents output.

    Attributes:
        name: set.
        model_classes: the K classes of the model; the set may have others.
        cond_dim: the first ``cond_dim`` columns of z are c, the rest is r.
        utterances: rows of utts.tsv, ``first`` and ``rows`` as integers.
        z: (M, D) float32 latents of some frames; may lie on disk until indexed.
        utterance: (M,) the utterance of each row of z.
        z_mean: (U, D) float32 mean latent of each utterance; may lie on disk until indexed.
        loglik: (U, K) float64, log p(x | class) of each utterance, mean over its frames, nats; (U, 1) NaN of a model of more than
            ``MOST_CLASSES`` classes.
        classes: true classes of the set, sorted.
        label_of_utterance: (U,) true class of each utterance, as an index into ``classes``.
        groups: pairs of true class and set that the frames come from, by class; a set made of others has several sets.
            Of more than ``MOST_GROUPS`` those of most utterances, and ``OTHERS``.
        group_of_utterance: (U,) as an index into ``groups``.
    """

    name: str
    model_classes: list[str]
    cond_dim: int
    utterances: Sequence[dict]
    z: torch.Tensor
    utterance: torch.Tensor
    z_mean: torch.Tensor
    loglik: torch.Tensor
    classes: list[str]
    label_of_utterance: torch.Tensor
    groups: list[tuple[str, str]]
    group_of_utterance: torch.Tensor

    @classmethod
    def of(cls, utterances: Sequence[dict], **given) -> LatentSet:
        """A set of these utterances; classes and groups follow from them."""
        classes = sorted({utt["class"] for utt in utterances})
        number = {name: k for k, name in enumerate(classes)}
        labels = torch.tensor([number[utt["class"]] for utt in utterances])
        groups, group_of_utterance = grouped([(utt["class"], utt["set"]) for utt in utterances])
        return cls(
            utterances=utterances,
            classes=classes,
            label_of_utterance=labels,
            groups=groups,
            group_of_utterance=group_of_utterance,
            **given,
        )

    @property
    def labels(self) -> torch.Tensor:
        """(M,) true class of each row of z, as an index into ``classes``."""
        return self.label_of_utterance[self.utterance]

    @property
    def group(self) -> torch.Tensor:
        """(M,) group of each row of z, as an index into ``groups``."""
        return self.group_of_utterance[self.utterance]

    def parts(self) -> list[tuple[str, str, slice]]:
        """File suffix, name and columns of each part of z; the latent of a plain flow is all r, and gets no suffix."""
        c, r = slice(0, self.cond_dim), slice(self.cond_dim, self.z.shape[1])
        both = [("", "c", c), ("_r" if self.cond_dim else "", "r", r)]
        return [part for part in both if part[2].start < part[2].stop]

    def counts(self, names: Collection[str]) -> tuple[int, int]:
        """Frames and utterances of true classes."""
        rows = [u["rows"] for u in self.utterances if u["class"] in names]
        return sum(rows), len(rows)

    def of_group(self, group: tuple[str, str]) -> torch.Tensor:
        """Which utterances are of a group, (U,) bool."""
        return self.group_of_utterance == self.groups.index(group)

    def frames(self, utterances: torch.Tensor) -> int:
        """Frames of some utterances, (U,) bool."""
        return sum(u["rows"] for u, wanted in zip(self.utterances, utterances.tolist()) if wanted)

    def group_title(self, group: tuple[str, str]) -> str:
        """The class, and the set if the class comes from several."""
        if group == OTHERS:
            return "others"
        several = sum(name == group[0] for name, _ in self.groups) > 1
        return self.title(group[0]) + (f", {group[1]}" if several else "")

    def group_colours(self, colours: Mapping[str, str]) -> dict[tuple[str, str], tuple[float, float, float]]:
        """The colour of the class, and darker and lighter ones for more sets of it."""
        seen, shades = Counter(), {}
        for group in self.groups:
            colour = colors.to_rgb(REFERENCE if group == OTHERS else colours[group[0]])
            end, weight = SET_SHADES[seen[group[0]] % len(SET_SHADES)]
            shades[group] = tuple((1 - weight) * c + weight * end for c in colour)
            seen[group[0]] += 1
        return shades

    @property
    def decides(self) -> bool:
        """Whether the model has classes to decide between; a plain flow has none."""
        return self.cond_dim > 0 and len(self.model_classes) > 1

    def title(self, name: str) -> str:
        """The class, marked if a model that decides was not trained on it."""
        return f"{name} (unseen by the model)" if self.decides and name not in self.model_classes else name


def read_latents(directory: Path) -> LatentSet:
    """One set's latents; the arrays stay on disk until used."""
    latents = latent_store.Latents.open(directory)
    z, rows, z_mean = (
        torch.from_numpy(latent_store.mapped(directory / name, "c")) for name in (Z_NPY, Z_ROWS_NPY, Z_MEAN_NPY)
    )
    ends = [0, *(utt["first"] + utt["rows"] for utt in latents.utts)]
    if [utt["first"] for utt in latents.utts] != ends[:-1] or not ends[-1] == len(latents.logp) == len(latents.logdet):
        raise ValueError(
            f"{directory / UTTS_TSV}: its utterances do not fill the {len(latents.logp)} rows of {LOGP_NPY} one after "
            f"the other; {run_again('latents')}"
        )
    if z.ndim != 2 or len(z) != len(rows) or z.shape[1] < latents.cond_dim or not len(z):
        raise ValueError(
            f"{directory / Z_NPY}: shape {tuple(z.shape)} does not match {len(rows)} rows in {Z_ROWS_NPY} and cond_dim "
            f"{latents.cond_dim} in {META_JSON}; {run_again('latents')}"
        )
    if z_mean.shape != (len(latents.utts), z.shape[1]):
        raise ValueError(
            f"{directory / Z_MEAN_NPY}: shape {tuple(z_mean.shape)} does not match {len(latents.utts)} utterances of "
            f"{z.shape[1]} dims; {run_again('latents')}"
        )
    loglik = torch.full((len(latents.utts), 1), torch.nan, dtype=torch.float64)
    if len(latents.classes) <= MOST_CLASSES:
        frames = torch.tensor([utt["rows"] for utt in latents.utts])
        loglik = torch.from_numpy(latent_store.utterance_loglik(latents)) / frames[:, None]
    return LatentSet.of(
        latents.utts,
        name=directory.name,
        model_classes=latents.classes,
        cond_dim=latents.cond_dim,
        z=z,
        utterance=torch.searchsorted(torch.tensor(ends[:-1]), rows.clone(), right=True) - 1,
        z_mean=z_mean,
        loglik=loglik,
    )


def with_control(latents: LatentSet, control: LatentSet, limit: int) -> LatentSet:
    """A set and its control in one, whose utterances are of the set ``control <name>``; at most ``limit`` rows of z each."""
    shown = [spread(side.labels, limit) for side in (latents, control)]
    of_control = [utt | {"set": f"control {control.name}"} for utt in control.utterances]
    first = torch.tensor([0, len(latents.utterances)])
    return LatentSet.of(
        [*latents.utterances, *of_control],
        name=latents.name,
        model_classes=latents.model_classes,
        cond_dim=latents.cond_dim,
        z=torch.cat([side.z[rows] for side, rows in zip((latents, control), shown)]),
        utterance=torch.cat([side.utterance[rows] + n for side, rows, n in zip((latents, control), shown, first)]),
        z_mean=torch.cat([latents.z_mean, control.z_mean]),
        loglik=torch.cat([latents.loglik, control.loglik]),
    )


def grouped(of_utterances: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], torch.Tensor]:
    """Pairs of class and set, by class and then as they come, and which of them each utterance is of, (U,).

    Of more than ``MOST_GROUPS`` pairs those of most utterances stay and ``OTHERS`` is the last.
    """
    counts = Counter(of_utterances)
    groups = sorted(counts, key=lambda group: group[0])
    if len(groups) > MOST_GROUPS:
        largest = sorted(groups, key=lambda group: -counts[group])[: MOST_GROUPS - 1]
        groups = [*(group for group in groups if group in largest), OTHERS]
    number = {group: k for k, group in enumerate(groups)}
    return groups, torch.tensor([number.get(group, len(groups) - 1) for group in of_utterances])
