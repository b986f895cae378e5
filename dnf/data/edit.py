"""Making data directories from data directories: fix, split, subset, combine."""

from __future__ import annotations

import bisect
import json
import logging
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from dnf.data.data_dir import DataSet, files_of, join, load, select, spk2utt_of, write
from dnf.data.kaldi_files import (
    BY_RECORDING,
    BY_SPEAKER,
    BY_UTTERANCE,
    PARTIAL,
    RECORDINGS,
    SUPERVISIONS,
    VALUES,
    render_manifest,
    render_table,
)
from dnf.data.rename import keeps_together, new_ids, renamed
from dnf.data.validate import Counts, few, validate
from dnf.experiment.files import replace_file

log = logging.getLogger(__name__)


def write_new(data: DataSet, target: Path, force: bool, spk_sort: bool) -> Counts:
    """Write a set under a temporary name, check it, move it to ``target``; ``force`` replaces a set that is there."""
    if not data.utt2spk:
        raise ValueError(f"{target}: no utterances are left; choose more of them")
    if target.exists() and any(target.iterdir()) and not force:
        raise ValueError(f"{target}: is there already; delete it, or replace it with --force")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        write(data, temporary)
        try:
            counts = validate(temporary, allow_pipes=True, wav_files=False, need_wav=False, spk_sort=spk_sort)
        except ValueError as error:
            raise ValueError(str(error).replace(str(temporary), str(target))) from None
        target.mkdir(exist_ok=True)
        for name in files_of(target):
            (target / name).unlink()
        for name in sorted(files_of(temporary), key=lambda name: name == "utt2spk"):  # a set without it is none
            os.replace(temporary / name, target / name)
    finally:
        shutil.rmtree(temporary)
    return counts


def fix(directory: Path | str, *, allow_pipes: bool = False, spk_sort: bool = True) -> Counts:
    """Make a directory agree with itself: sort, drop repeated lines, keep what all files share, rebuild spk2utt.

    Where sorting by utterance would mix speakers, utterances are renamed to ``<speaker>-<rest>``.

    Files that change are kept in ``.backup`` as they were.

    Raises:
        ValueError: nothing would be left (nothing is changed then), a key has two different values, or what is left
            breaks a rule that cannot be met by leaving records out.
    """
    directory = Path(directory)
    data = load(directory, loose=True)
    if not data.utt2spk:
        raise ValueError(f"{directory}/utt2spk: no utterances; make the set again")
    kept = select(data, shared_utterances(data, directory))
    if spk_sort and not keeps_together(kept.utt2spk) and (ids := new_ids(kept.utt2spk)):
        first = min(utterance for utterance, name in ids.items() if name != utterance)
        log.warning("%s: utterances are renamed to <speaker>-<rest>, as %s to %s", directory, first, ids[first])
        kept = renamed(kept, ids)
    files = {name: render_table(table) for name, table in kept.tables.items()}
    files["spk2utt"] = render_table(spk2utt_of(kept.utt2spk))
    files |= {
        name: render_manifest(found.values()) for name, found in kept.manifests.items() if found != data.manifests[name]
    }
    for name, content in files.items():
        path = directory / name
        if path.is_file():
            if path.read_bytes() == content:
                continue
            (directory / ".backup").mkdir(exist_ok=True)
            shutil.copy2(path, directory / ".backup" / name)
        replace_file(path, content)
        log.info("%s: rewritten", path)
    return validate(directory, allow_pipes=allow_pipes, wav_files=False, need_wav=False, spk_sort=spk_sort)


def shared_utterances(data: DataSet, directory: Path) -> list[str]:
    """The utterances that every table and manifest of the set has something for."""
    tables, utterances = data.tables, list(data.utt2spk)

    def keep(fine, why: str) -> None:
        nonlocal utterances
        dropped = [utterance for utterance in utterances if not fine(utterance)]
        if dropped:
            log.warning("%s: left out %d utterances that %s: %s", directory, len(dropped), why, few(dropped))
            chosen = set(dropped)
            utterances = [utterance for utterance in utterances if utterance not in chosen]
        if not utterances:
            raise ValueError(
                f"{directory}: no utterance would be left without those that {why}; give it files of one set"
            )

    for name in BY_UTTERANCE:
        if name in tables and name not in PARTIAL:
            keep(tables[name].__contains__, f"{name} does not have")
    if "segments" in tables:
        keep(lambda u: VALUES["segments"][0](tables["segments"][u]), "have bad times in segments")
    for name in BY_SPEAKER:
        if name in tables:
            keep(lambda u, table=tables[name]: data.utt2spk[u] in table, f"are of speakers {name} does not have")
    for name in BY_RECORDING:
        if name in tables:
            keep(lambda u, table=tables[name]: data.recording_of(u) in table, f"are of recordings {name} does not have")
    supervisions, recordings = data.manifests.get(SUPERVISIONS), data.manifests.get(RECORDINGS)
    if supervisions is not None:
        keep(supervisions.__contains__, f"{SUPERVISIONS} does not have")
    if recordings is not None:
        name_of = data.recording_of if supervisions is None else lambda u: supervisions[u].get("recording_id")
        keep(lambda u: name_of(u) in recordings, f"are of recordings {RECORDINGS} does not have")
    return utterances


def cut(sizes: Sequence[int], parts: int) -> list[range]:
    """Cut a row of ``sizes`` into ``parts`` runs of about the same sum, none of them empty."""
    sums = [0]
    for size in sizes:
        sums.append(sums[-1] + size)
    ends = [0]
    for part in range(1, parts):
        low, high = ends[-1] + 1, len(sizes) - (parts - part)
        above = min(max(bisect.bisect_left(sums, -(-sums[-1] * part // parts)), low), high)
        ends.append(min((max(above - 1, low), above), key=lambda end: abs(sums[end] * parts - sums[-1] * part)))
    return [range(first, last) for first, last in zip(ends, [*ends[1:], len(sizes)], strict=True)]


def split(directory: Path | str, parts: int, *, per_utt: bool = False, spk_sort: bool = True) -> Path:
    """Cut a set into ``split<N>/<n>/``, n from 1 to N, by speaker, or into ``split<N>utt/<n>/`` by utterance.

    Does nothing if the parts were made from the files as they are now.

    Returns:
        The folder of the parts.

    Raises:
        ValueError: more parts than speakers (or utterances), or a set that is not valid.
    """
    directory = Path(directory)
    counts = validate(directory, allow_pipes=True, wav_files=False, need_wav=False, spk_sort=spk_sort)
    target = directory / f"split{parts}{'utt' if per_utt else ''}"
    stats = {name: (directory / name).stat() for name in files_of(directory)}
    made_from = json.dumps({name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()})
    done = target / ".done"
    if done.is_file() and done.read_text(encoding="utf-8") == made_from:
        log.info("%s: up to date", target)
        return target
    units = {"utterances": counts.utterances} if per_utt else {"speakers": counts.speakers}
    for unit, most in units.items():
        if not 1 <= parts <= most:
            hint = "" if per_utt else ", or split by utterance with --per-utt"
            raise ValueError(f"{directory}: {most} {unit} cannot be {parts} parts; ask for 1 to {most}{hint}")
    data = load(directory)
    rows = data.utt2spk if per_utt else dict(sorted(spk2utt_of(data.utt2spk).items())).values()
    groups = [row.split(" ") for row in rows]
    temporary = directory / f".{target.name}.{os.getpid()}.tmp"
    try:
        for number, run in enumerate(cut([len(group) for group in groups], parts), 1):
            (temporary / str(number)).mkdir(parents=True)
            write(select(data, (utterance for at in run for utterance in groups[at])), temporary / str(number))
        (temporary / ".done").write_text(made_from, encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        log.info("%s: %d parts", target, parts)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def subset(
    source: Path | str,
    target: Path | str,
    *,
    utterances: int | None = None,
    speakers: int | None = None,
    utt_list: Collection[str] | None = None,
    spk_list: Collection[str] | None = None,
    classes: Collection[str] | None = None,
    force: bool = False,
    spk_sort: bool = True,
) -> Counts:
    """Write part of a set as a set of its own.

    Args:
        source: the set to choose from.
        target: folder of the new set.
        utterances: so many, evenly spaced over the set; applied last.
        speakers: all utterances of so many speakers, evenly spaced.
        utt_list: only these utterances.
        spk_list: only these speakers.
        classes: only utterances of these classes.
        force: replace a set that is in ``target``.
        spk_sort: as in ``validate``.

    Raises:
        ValueError: the set does not have what is asked for.
    """
    source = Path(source)
    validate(source, allow_pipes=True, wav_files=False, need_wav=False, spk_sort=spk_sort)
    data = load(source)
    if classes is not None and "utt2class" not in data.tables:
        raise ValueError(f"{source}/utt2class: no such file; make it, or choose without classes")
    for wanted, what, table in (
        (utt_list, "utterances", {utterance: utterance for utterance in data.utt2spk}),
        (spk_list, "speakers", data.utt2spk),
        (classes, "classes", data.tables.get("utt2class", {})),
    ):
        if wanted is None:
            continue
        chosen = set(wanted)
        unknown = sorted(chosen - set(table.values()))
        if unknown:
            raise ValueError(f"{source}: lacks {len(unknown)} of the {what} asked for ({few(unknown)}); leave them out")
        data = select(data, [utterance for utterance in data.utt2spk if table[utterance] in chosen])
    if speakers is not None:
        chosen = set(evenly(sorted(set(data.utt2spk.values())), speakers, source, "speakers"))
        data = select(data, [utterance for utterance, speaker in data.utt2spk.items() if speaker in chosen])
    if utterances is not None:
        data = select(data, evenly(list(data.utt2spk), utterances, source, "utterances"))
    return write_new(data, Path(target), force, spk_sort)


def evenly(names: list[str], count: int, source: Path, what: str) -> list[str]:
    """``count`` of ``names``, evenly spaced."""
    if not 1 <= count <= len(names):
        raise ValueError(f"{source}: cannot choose {count} of {len(names)} {what}; ask for 1 to {len(names)}")
    return [names[at * len(names) // count] for at in range(count)]


def combine(target: Path | str, sources: Sequence[Path | str], *, force: bool = False, spk_sort: bool = True) -> Counts:
    """Join sets into one. What only some of them have is left out, with a warning; segments are made where they lack.

    Raises:
        ValueError: an utterance, speaker or recording is in two sets with different values.
    """
    paths = [Path(source) for source in sources]
    parts = []
    for path in paths:
        validate(path, allow_pipes=True, wav_files=False, need_wav=False, spk_sort=spk_sort)
        parts.append(load(path))
    if any("segments" in part.tables for part in parts):
        for path, part in zip(paths, parts, strict=True):
            if "segments" not in part.tables:
                if "utt2dur" not in part.tables:
                    raise ValueError(f"{path}/utt2dur: no such file, but other sets have segments; make it first")
                part.tables["segments"] = {u: f"{u} 0 {seconds}" for u, seconds in part.tables["utt2dur"].items()}
    joined = DataSet({}, {}, {})
    for group in ("tables", "manifests", "values"):
        files = [getattr(part, group) for part in parts]
        for name in sorted(set().union(*files)):
            lacking = [str(path) for path, found in zip(paths, files, strict=True) if name not in found]
            if lacking and name not in PARTIAL:
                log.warning("%s: left out %s, which %s does not have", target, name, few(lacking))
                continue
            having = [(path, found[name]) for path, found in zip(paths, files, strict=True) if name in found]
            getattr(joined, group)[name] = join(name, having)
    return write_new(joined, Path(target), force, spk_sort)
