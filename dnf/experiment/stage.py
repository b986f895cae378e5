"""Stages: the settings and inputs each depends on, and the done-marker with those of the last run.

``begin`` tells whether a stage has to run (status 0) or is up to date (status 3). If it has to run, its settings
are written beside its output, and the name of the work is printed: the same as before, if it continues what a run
with the same settings and inputs left unfinished. The forecast of the run follows on the same line. If the stage is
up to date, its name is printed, and those of the stages that follow it up to the first that has to run. ``finish``
writes the marker of a stage that succeeded; ``begin --finish`` writes it before it looks at the next one, to save the
start of an interpreter. A marker has a key: the hash of the settings and tables the stage reads and of the runs of the
stages before it. So a stage is run again when a setting or table changed or a stage before it ran again, and starting
in the middle with settings that an earlier stage was not run with is an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gzip
import hashlib
import itertools
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

from dnf import __version__
from dnf.experiment import entry
from dnf.experiment.config import Config, add_arguments, from_tree, resolve
from dnf.experiment.files import write_json
from dnf.experiment.forecast import coming
from dnf.experiment.layout import (
    BEST_PT,
    CONFIG_YAML,
    MEMBERS_JSON,
    META_JSON,
    MODEL_JSON,
    RECORDINGS_CSV,
    RECORDINGS_JSONL,
    RECORDINGS_TSV,
    SEGMENTS,
    STAGES,
    STEPS,
    SUPERVISIONS_JSONL,
    UTT2CLASS,
    UTT2CORPUS,
    UTT2SCORE,
    UTT2SPK,
    VECTOR_SCP,
    VECTORS_NPY,
    VECTORS_NPZ,
    WAV_SCP,
    Layout,
    done_marker,
    is_fused,
    is_taken,
)
from dnf.experiment.markers import read_marker
from dnf.experiment.settings import VectorsSettings

UP_TO_DATE = 3
OTHER_DATA = 4  # stage data would run, so sets and classes are not known yet
TABLES = (
    *(RECORDINGS_JSONL, SUPERVISIONS_JSONL, WAV_SCP, SEGMENTS, UTT2SPK, UTT2CLASS, f"{UTT2SCORE}*"),
    UTT2CORPUS,
    *(RECORDINGS_TSV, RECORDINGS_CSV, VECTOR_SCP),
)
# Of a corpus that stage data reads
LISTINGS = ("spk2*", "*vector.scp", VECTORS_NPZ, VECTORS_NPY, "*.csv", "*.tsv", "*.lst", "*.json")


# Settings that change where a stage runs but not its output: they are not hashed. Training with any number of processes
# uses the same batches and sums the same gradients, only in another order, as another machine does: a model trained on
# two GPUs is up to date for one, and an interrupted run continues with any number.
WHERE = ("train.num_gpus", "train.num_nodes")


def settings_of(name: str, config: Config) -> dict:
    """The settings that determine a stage's output, by dotted name; for training the order of the classes does not count."""
    stage = STEPS[name]
    other = config.reads_vectors if name == "data" else config.has_vectors  # front-ends make vectors of the same data
    names = (*stage.settings, *(stage.of_vectors if other else ()))
    sections = {dotted.partition(".")[0] for dotted in names}
    parts = {section: getattr(config, section) for section in sections}
    tree = {
        section: dataclasses.asdict(part) if dataclasses.is_dataclass(part) else part for section, part in parts.items()
    }
    settings = {}
    for dotted in names:
        section, _, key = dotted.partition(".")
        value = tree[section][key] if key else tree[section]
        if (name, dotted) == ("train", "data.classes"):
            value = sorted(value)
        if isinstance(value, dict) and not key:
            settings |= {f"{section}.{k}": v for k, v in value.items()}
        else:
            settings[dotted] = value
    others = tuple(f"vectors.{other}" for other in front_ends() if other != config.vectors.front_end)
    return {name: value for name, value in settings.items() if name not in WHERE and not name.startswith(others)}


@functools.cache
def front_ends() -> tuple[str, ...]:
    """Names of the front-ends, with which the names of their settings begin."""
    return get_args(get_type_hints(VectorsSettings)["front_end"])


def key_of(name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> str:
    """Hash of all that the output of the stage depends on."""
    stage = STEPS[name]
    parts = [__version__, name, settings_of(name, config)]
    parts += [(read_marker(layout.marker(before)) or {"run": None})["run"] for before in (*stage.after, *stage.shows)]
    if name == "data":
        parts += [source, *(hash_tables(path, (*TABLES, *LISTINGS)) for path in source_tables)]
    if name == "data" and is_taken(layout.exp):  # only the sets that are asked for are read
        parts += [config.data.classes, config.data.test, {name: view.sets for name, view in config.data.views.items()}]
    if name == "features":
        parts.append(hash_tables(layout.data))
        parts += [read_marker(done_marker(Path(exp), "train")) for exp in flow_of(config) if not is_taken(layout.exp)]
    if (name == "train" or name in ("features", "frames") and config.has_vectors) and is_taken(layout.exp):
        parts.append(hash_tables(layout.exp / MODEL_JSON))
    if name == "train" and config.train.from_model and not is_taken(layout.exp):
        parts.append(hash_tables(Path(config.train.from_model) / BEST_PT))
    if name == "latents" and is_fused(layout.exp):
        parts += [hash_tables(layout.exp / MEMBERS_JSON), is_taken(layout.exp) and hash_tables(layout.exp / MODEL_JSON)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def flow_of(config: Config) -> list[str]:
    """The folder of the other experiment whose flow a front-end takes; empty if there is none."""
    of_front_end = {"ubm": config.vectors.ubm_of, "pool": config.vectors.pool_of}.get(config.vectors.front_end)
    return [of_front_end] if config.has_vectors and of_front_end else []


@functools.cache
def hash_tables(directory: Path, names: tuple[str, ...] = TABLES) -> str:
    """Hash of a table, or of those in a folder and in the sets below it; not of the recordings they name."""
    if directory.is_file():
        return hashlib.sha256(directory.read_bytes()).hexdigest()[:16]
    digest = hashlib.sha256()
    for folder in [directory, *sorted(p for p in directory.glob("*/") if p.is_dir())]:
        for path in sorted({path for name in names for path in folder.glob(name) if path.is_file()}):
            digest.update(f"{path.relative_to(directory)}\n".encode())
            digest.update(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    return digest.hexdigest()[:16]


def is_begun(layout: Layout, name: str) -> bool:
    """Whether a stage was started, finished or not."""
    return layout.marker(name).is_file() or layout.started(name).is_file()


def check_before(name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> None:
    """Raise ``ValueError`` if a stage that this one reads is missing or was made with other settings or inputs."""
    shown = [before for before in STEPS[name].shows if config.plots.enabled and is_begun(layout, before)]
    for before in filter(layout.stages.__contains__, (*STEPS[name].after, *shown)):
        check_before(before, config, layout, source, source_tables)
        marker, stage = read_marker(layout.marker(before)), STAGES[before]
        if marker is None:
            raise ValueError(
                f"{layout.folder(before)}: stage {stage.number} ({before}) is not done; start with --stage {stage.number}"
            )
        if marker["key"] != key_of(before, config, layout, source, source_tables):
            made_with = marker["settings"]
            changed = [
                f"{key} was {made_with.get(key)}, is {value}"
                for key, value in settings_of(before, config).items()
                if made_with.get(key) != value
            ]
            raise ValueError(
                f"{layout.folder(before)}: stage {stage.number} ({before}) was made with other "
                f"{'settings (' + '; '.join(changed) + ')' if changed else 'inputs'}: "
                f"start with --stage {stage.number}, or give its earlier settings"
            )


def read_started(path: Path) -> dict:
    """The record of ``begin`` for an unfinished stage; empty if there is none, or if a power cut damaged it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def up_to_date(name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> bool:
    """Whether the stage's marker has these settings and inputs."""
    marker = read_marker(layout.marker(name))
    return marker is not None and marker["key"] == key_of(name, config, layout, source, source_tables)


def up_to_date_from(name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> list[str]:
    """The stage, which is up to date, and those that follow it up to the first that is not."""
    names = list(layout.stages)
    following = names[names.index(name) + 1 :] if name in STAGES else []
    current = itertools.takewhile(lambda other: up_to_date(other, config, layout, source, source_tables), following)
    return [name, *current]


def with_dim(config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> Config:
    """The settings, with the dims of vectors if stage frames is up to date and so has found them.

    Raises:
        ValueError: they do not go with other settings.
    """
    if not config.has_vectors or not up_to_date("frames", config, layout, source, source_tables):
        return config
    store = layout.frames / config.data.train[0] / META_JSON
    if not store.is_file():  # a taken model has no frames of training
        return config
    tree = dataclasses.asdict(config)
    tree["vectors"]["dim"] = json.loads(store.read_text(encoding="utf-8"))["dim"]
    return from_tree(tree)


def begin(
    name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path], *, force: bool
) -> str | None:
    """Name of the work, if the stage has to run; its marker is then removed and ``config.yaml`` is written to its folder."""
    check_before(name, config, layout, source, source_tables)
    known = with_dim(config, layout, source, source_tables)
    if not force and up_to_date(name, config, layout, source, source_tables):
        return None
    layout.marker(name).unlink(missing_ok=True)
    os.sync()  # after a crash of the machine the old marker must not reappear beside new output
    known.save(layout.folder(name) / CONFIG_YAML)
    if layout.folder(name) == layout.exp:
        layout.save()
    started, key = layout.started(name), key_of(name, config, layout, source, source_tables)
    before = read_started(started)
    work = before["work"] if before.get("key") == key and not force else secrets.token_hex(4)
    started.write_text(json.dumps({"time": time.time(), "key": key, "work": work}), encoding="utf-8")
    return work


def finish(name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> None:
    """Write the marker of a successful stage that ``begin`` started; its key has the inputs after the stage."""
    started = layout.started(name)
    if "time" not in read_started(started):
        raise ValueError(f"{started}: no such file: begin the stage before you finish it")
    record = {
        "key": key_of(name, config, layout, source, source_tables),
        "run": f"{time.time_ns():x}",
        "source": source,
        "tables": [os.path.relpath(path, layout.data) for path in source_tables],
        "settings": settings_of(name, config),
        "seconds": round(time.time() - read_started(started)["time"], 1),
    }
    os.sync()  # the output is on the disk before the marker, in case the machine crashes
    write_json(layout.marker(name), record)
    started.unlink()


def outlook(
    config: Config, layout: Layout, source: str, source_tables: Sequence[Path], *, first: int, last: int, force: bool
) -> tuple[str, bool]:
    """What a run would do, one line per stage, without doing it; and whether stage data would run."""
    at_first = next(name for name, stage in STAGES.items() if stage.number == first)
    check_before(at_first, config, layout, source, source_tables)
    lines, rerun = [], set()
    with_dim(config, layout, source, source_tables)  # raises what begin would raise
    for name, stage in layout.stages.items():
        stale = bool(rerun & {*stage.after, *stage.shows}) or not up_to_date(
            name, config, layout, source, source_tables
        )
        chosen = first <= stage.number <= last
        if chosen and (stale or force):
            rerun.add(name)
        state = "not asked for" if not chosen else "would run" if name in rerun else "up to date"
        lines.append(f"stage {stage.number} {name:8}  {state:13}  {stage.title} -> {layout.folder(name)}")
    return "\n".join(lines), "data" in rerun


def make_parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    add_arguments(shared)
    for place in ("data", "feats", "frames", "exp"):
        shared.add_argument(f"--{place}", type=Path, required=True, help=f"folder of the {place} of this run")
    shared.add_argument("--source", default="", help="the source of stage data, in words")
    text = "table or folder of tables that stage data reads"
    shared.add_argument("--source-tables", type=Path, action="append", default=[], help=text)
    shared.add_argument("--force", action="store_true", help="run the stage even if it is up to date")
    shared.add_argument("--first", type=int, default=0, help="first stage of the run (%(default)s)")
    shared.add_argument("--last", type=int, default=8, help="last stage of the run (%(default)s)")
    parser = entry.parser(__spec__, __doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (("begin", "whether the stage has to run"), ("finish", "the stage has succeeded")):
        verbs.add_parser(verb, help=text, parents=[shared]).add_argument("name", choices=STEPS, help="of the stage")
    text = "first write the marker of this stage, which has succeeded"
    verbs.choices["begin"].add_argument("--finish", choices=STEPS, metavar="NAME", help=text)
    verbs.add_parser("outlook", help="what a run would do", parents=[shared])
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    made_from = (
        resolve(args.layers),
        Layout(args.data, args.feats, args.frames, args.exp),
        args.source,
        args.source_tables,
    )
    if args.verb == "outlook":
        lines, other_data = outlook(*made_from, first=args.first, last=args.last, force=args.force)
        print(lines)
        return OTHER_DATA if other_data else 0
    if args.verb == "finish":
        finish(args.name, *made_from)
        return 0
    if args.finish:
        finish(args.finish, *made_from)
    to_come = coming(args.name, made_from[1], args.first, args.last) if args.name in STAGES else ""
    work = begin(args.name, *made_from, force=args.force)
    print(f"{work} {to_come}".rstrip() if work else " ".join(up_to_date_from(args.name, *made_from)))
    return 0 if work else UP_TO_DATE


if __name__ == "__main__":
    entry.run(main)
