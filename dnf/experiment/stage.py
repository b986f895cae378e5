"""Stages: which settings and inputs each depends on, and the done-marker that says with which it was last made.

``begin`` answers whether a stage has to run (status 0) or is up to date (status 3), writes the settings it is to run
with beside its output, and prints the name of the work: the same as before, if it goes on with what a run with the same
settings and inputs left unfinished. ``finish`` writes its marker. A marker holds a key: the hash of the settings and
tables the stage reads and of the runs of the stages before it. So a stage is run again when a setting or table changed
or a stage before it ran again, and starting in the middle with settings that an earlier stage was not run with is an
error.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from dnf import __version__
from dnf.experiment import entry
from dnf.experiment.config import Config, add_arguments, resolve
from dnf.experiment.layout import CONFIG_YAML, RECORDINGS_JSONL, STAGES, SUPERVISIONS_JSONL, WAV_SCP, Layout

UP_TO_DATE = 3
MARKER = ("key", "run", "source", "settings", "seconds")
TABLES = (
    RECORDINGS_JSONL, SUPERVISIONS_JSONL, WAV_SCP, "segments", "utt2spk", "utt2class", "utt2score", "recordings.tsv", "recordings.csv",
)  # fmt: skip
LISTS = ("spk2*", "*.csv", "*.tsv", "*.lst", "*.json")  # of a corpus that stage data reads


# Settings that say where a stage runs and not what comes out: they are not hashed. Training as any number of processes
# takes the same batches and sums the same gradients, only in another order, as another machine would: a model trained on
# two GPUs is up to date for one, and a run that broke off goes on as any number.
WHERE = ("train.num_gpus", "train.num_nodes")


def settings_of(name: str, config: Config) -> dict:
    """The settings that what a stage makes depends on, by dotted name; training does not on which class comes first."""
    tree = dataclasses.asdict(config)
    found = {}
    for dotted in STAGES[name].settings:
        section, _, key = dotted.partition(".")
        value = tree[section][key] if key else tree[section]
        value = sorted(value) if (name, dotted) == ("train", "data.classes") else value
        found.update(
            {f"{section}.{k}": v for k, v in value.items()} if isinstance(value, dict) and not key else {dotted: value}
        )
    return {name: value for name, value in found.items() if name not in WHERE}


def key_of(name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> str:
    """Hash of all that the output of the stage depends on."""
    parts = [__version__, name, settings_of(name, config)]
    parts += [(read_marker(layout.marker(before)) or {"run": None})["run"] for before in STAGES[name].after]
    if name == "data":
        parts += [source, *(hash_tables(path, (*TABLES, *LISTS)) for path in source_tables)]
    if name == "features":
        parts.append(hash_tables(layout.data))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


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


def read_marker(path: Path) -> dict | None:
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        marker = None
    if not isinstance(marker, dict) or not set(MARKER) <= marker.keys():
        raise ValueError(f"{path}: not a done-marker; delete it and run its stage again")
    return marker


def check_before(name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> None:
    """Raise ``ValueError`` when a stage this one reads from is missing or was made with other settings or inputs."""
    for before in STAGES[name].after:
        check_before(before, config, layout, source, source_tables)
        marker, stage = read_marker(layout.marker(before)), STAGES[before]
        if marker is None:
            raise ValueError(
                f"{layout.folder(before)}: stage {stage.number} ({before}) is not done; start with --stage {stage.number}"
            )
        if marker["key"] != key_of(before, config, layout, source, source_tables):
            now = settings_of(before, config)
            changed = [
                f"{k} was {marker['settings'].get(k)}, is {v}" for k, v in now.items() if marker["settings"].get(k) != v
            ]
            raise ValueError(
                f"{layout.folder(before)}: stage {stage.number} ({before}) was made with other "
                f"{'settings (' + '; '.join(changed) + ')' if changed else 'inputs'}: "
                f"start with --stage {stage.number}, or give the settings it was made with"
            )


def read_started(path: Path) -> dict:
    """What ``begin`` noted of a stage that is not finished; empty if there is none, or if a power cut tore it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def begin(
    name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path], force: bool
) -> str | None:
    """Name of the work, if the stage has to run; then its marker is gone and ``config.yaml`` stands in its folder."""
    check_before(name, config, layout, source, source_tables)
    marker = layout.marker(name)
    done = read_marker(marker)
    key = key_of(name, config, layout, source, source_tables)
    if done and done["key"] == key and not force:
        return None
    marker.unlink(missing_ok=True)
    os.sync()  # should the machine go down, the marker does not come back beside what the stage writes from here on
    config.save(layout.folder(name) / CONFIG_YAML)
    started = marker.with_name(f".started.{name}")
    before = read_started(started)
    work = before["work"] if before.get("key") == key and not force else secrets.token_hex(4)
    started.write_text(json.dumps({"time": time.time(), "key": key, "work": work}), encoding="utf-8")
    return work


def finish(name: str, config: Config, layout: Layout, source: str, source_tables: Sequence[Path]) -> None:
    """Write the marker of a stage that ``begin`` started and that has succeeded; its key is of the inputs as it leaves them."""
    marker = layout.marker(name)
    started = marker.with_name(f".started.{name}")
    if "time" not in read_started(started):
        raise ValueError(f"{started}: nothing there: begin the stage before you finish it")
    record = {
        "key": key_of(name, config, layout, source, source_tables),
        "run": f"{time.time_ns():x}",
        "source": source,
        "settings": settings_of(name, config),
        "seconds": round(time.time() - read_started(started)["time"], 1),
    }
    temporary = marker.with_name(marker.name + ".tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.sync()  # what the stage wrote is on the disk before the marker says so, if the machine should go down
    os.replace(temporary, marker)
    started.unlink()


def outlook(
    config: Config, layout: Layout, source: str, source_tables: Sequence[Path], first: int, last: int, force: bool
) -> str:
    """One line a stage: what a run would do, without doing it."""
    check_before(
        next(name for name, stage in STAGES.items() if stage.number == first), config, layout, source, source_tables
    )
    lines, rerun = [], set()
    for name, stage in STAGES.items():
        done = read_marker(layout.marker(name))
        stale = (
            not done
            or bool(rerun & set(stage.after))
            or done["key"] != key_of(name, config, layout, source, source_tables)
        )
        chosen = first <= stage.number <= last
        if chosen and (stale or force):
            rerun.add(name)
        state = "not asked for" if not chosen else "would run" if name in rerun else "up to date"
        lines.append(f"stage {stage.number} {name:8}  {state:13}  {stage.title} -> {layout.folder(name)}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("verb", choices=("begin", "finish", "outlook", "check"))
    parser.add_argument("name", nargs="?", choices=STAGES, help="the stage, for begin and finish")
    add_arguments(parser)
    for place in ("data", "feats", "frames", "exp"):
        parser.add_argument(f"--{place}", type=Path, required=True, help=f"folder of the {place} of this run")
    parser.add_argument("--source", default="", help="what stage data is made from, in words")
    parser.add_argument(
        "--source-tables",
        type=Path,
        action="append",
        default=[],
        help="table, or folder of tables, that stage data reads",
    )
    parser.add_argument("--force", action="store_true", help="run although up to date")
    parser.add_argument("--first", type=int, default=0, help="first stage of an outlook (%(default)s)")
    parser.add_argument("--last", type=int, default=8, help="last stage of an outlook (%(default)s)")
    args = parser.parse_args(argv)
    config = resolve(args.layers)
    layout = Layout(args.data, args.feats, args.frames, args.exp)
    if args.verb == "check":
        return 0
    if args.verb == "outlook":
        print(outlook(config, layout, args.source, args.source_tables, args.first, args.last, args.force))
        return 0
    if args.name is None:
        parser.error(f"{args.verb} needs the name of a stage")
    if args.verb == "finish":
        finish(args.name, config, layout, args.source, args.source_tables)
        return 0
    work = begin(args.name, config, layout, args.source, args.source_tables, args.force)
    if work is None:
        return UP_TO_DATE
    print(work)
    return 0


if __name__ == "__main__":
    entry.run(main)
