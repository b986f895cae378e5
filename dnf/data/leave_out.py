"""The experiments of a run that leaves each corpus out in turn, as lines of ``dnf.experiment.plan``.

``exp/<name>_without_<corpus>`` is trained and chosen on the other corpora of ``data.train`` and ``data.dev``. The left-out one is a
control of dev: its classes against the other classes of dev, or alone where it has all. So a choice between settings uses no
test set. All experiments share the sets of ``dnf.data.by_corpus``, and so features and frames.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from dnf.data.by_corpus import Part, parts_of
from dnf.experiment import entry
from dnf.experiment.classes import choose_classes, read_classes
from dnf.experiment.config import Config, resolve
from dnf.experiment.layout import CLASSES_TXT, UTT2CORPUS, Layout, done_marker
from dnf.experiment.plan import Experiment, experiments, make_parser, name_of_data, planned, quoted
from dnf.experiment.sets import name_of
from dnf.experiment.stage import flow_of

log = logging.getLogger(__name__)

BY_CORPUS = "by_corpus"  # name of the sets, or its end, as of a user's own recordings
LEFT_OUT = "left_out"  # view of the left-out parts


def parts_of_role(parts: Sequence[Part], names: Sequence[str], data: Path) -> list[Part]:
    """The parts of the sets ``names``; ``ValueError`` if a set does not exist or has no corpora."""
    for name in names:
        of_set = [part for part in parts if part.of == name]
        if not of_set:
            raise ValueError(f"{data}: no set {name}; name sets of {', '.join(sorted({part.of for part in parts}))}")
        if not of_set[0].corpora:
            raise ValueError(f"{data / name}: no {UTT2CORPUS}; name the corpus of each recording (column corpus)")
    return [part for part in parts if part.of in names]


def reason_against(corpus: str, roles: dict[str, list[Part]], classes: Collection[str]) -> str:
    """Why a corpus cannot be left out; empty if it can."""
    for role, parts in roles.items():
        there = frozenset().union(*(part.classes for part in parts if corpus not in part.corpora))
        if lacking := [name for name in classes if name not in there]:
            return f"class {lacking[0]} has no other corpus in data.{role}"
    alone = (part for parts in roles.values() for part in parts if part.corpora == {corpus})
    if not any(part.classes & set(classes) for part in alone):
        return "all its speakers are in another corpus, too"
    return ""


def without(corpus: str, roles: dict[str, list[Part]], config: Config) -> list[str]:
    """The settings of an experiment without a corpus."""
    sets = {role: [part.name for part in parts if corpus not in part.corpora] for role, parts in roles.items()}
    out = [part.name for parts in roles.values() for part in parts if part.corpora == {corpus}]
    dev = name_of(dataclasses.replace(config.data, dev=sets["dev"], views={}), "dev")
    settings = {
        "data.train": sets["train"],
        "data.dev": sets["dev"],
        "data.test": out,
        "data.views": {LEFT_OUT: {"sets": out}} if len(out) > 1 else {},
        "data.controls": {dev: LEFT_OUT if len(out) > 1 else out[0]},
        "plots.sets": [],
    }
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]


def left_out(path: Path, experiment: Experiment, data: Path, parts: Sequence[Part]) -> list[Experiment]:
    """The experiment of a file without each corpus that can be left out; ``ValueError`` if there is none."""
    config = resolve(experiment.layers)
    for model in (*flow_of(config), config.train.from_model):
        if model:
            raise ValueError(
                f"{experiment.name}: starts from {model}, which may know the left-out corpus; train without it"
            )
    classes = choose_classes(read_classes(data / CLASSES_TXT), config.data.classes, data / CLASSES_TXT)
    roles = {role: parts_of_role(parts, getattr(config.data, role), data) for role in ("train", "dev")}
    of_classes = (part for parts in roles.values() for part in parts if part.classes & set(classes))
    corpora = sorted(frozenset().union(*(part.corpora for part in of_classes)))
    against = {corpus: reason_against(corpus, roles, classes) for corpus in corpora}
    kept = "; ".join(f"{corpus}: {reason}" for corpus, reason in against.items() if reason)
    if all(against.values()):
        raise ValueError(
            f"{experiment.name}: no corpus can be left out ({kept}); give a class a second corpus: "
            f"name its set in data.train, or more corpora in {UTT2CORPUS} (column corpus)"
        )
    if kept:
        log.info("%s: not left out: %s", experiment.name, kept)
    return [
        Experiment(
            f"{path.stem}_without_{corpus}{experiment.name.removeprefix(path.stem)}",
            [*experiment.layers, *without(corpus, roles, config)],
        )
        for corpus, reason in against.items()
        if not reason
    ]


def main(argv: list[str] | None = None) -> int:
    args = make_parser(__spec__, __doc__).parse_args(argv)
    corpus, exp, lines = name_of_data(args.own_data), Path("exp"), []
    data = Layout.make(exp, "", corpus).data
    if not done_marker(data, "data").is_file():
        raise ValueError(
            f"{data}: which corpora can be left out is known after stage data; run it first: ./run.sh --stop-stage 0 with the same --data"
        )
    parts = parts_of(data)
    shared = Layout.make(exp, "", f"{corpus}_{BY_CORPUS}" if corpus else BY_CORPUS)
    for path in args.experiments:
        for whole in experiments([path], args.weaker, args.layers, args.sweep):
            for experiment in left_out(path, whole, data, parts):
                has_vectors = resolve(experiment.layers).has_vectors
                own = Layout.make(exp, experiment.name, corpus, has_vectors=has_vectors)
                feats, frames = (own.feats, own.frames) if has_vectors else (shared.feats, shared.frames)
                layout = Layout(shared.data, feats, frames, own.exp)
                line = planned(experiment, layout, args.source, data)
                lines.append(f"{line} source_tables=(--source-tables {quoted(str(data))})")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    entry.run(main)
