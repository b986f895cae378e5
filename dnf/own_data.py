"""Stage 0 for a user's own recordings: data directories, or one table, to checked sets with Lhotse manifests.

``DIR`` holds Kaldi data directories ``train/ [dev/] <test sets>/`` with ``wav.scp``, ``utt2spk``, ``utt2class`` and, where
they exist, ``segments``, ``utt2score``, ``text``, ``spk2gender``; or one table ``recordings.tsv`` with a header line naming
the columns ``path speaker class set`` and, where they exist, ``utt score gender text``. Paths that are not absolute are
taken from DIR. Without a dev set, speakers of train are set apart for it.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import math
import random
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from tqdm import tqdm

from dnf import entry
from dnf.config import Config
from dnf.corpus import check_class, write_set
from dnf.datadir import read_table, validate, write_table
from dnf.splits import check_splits, speaker_classes

log = logging.getLogger(__name__)

TABLE = "recordings.tsv"
NEEDED = ("path", "speaker", "class", "set")
DEV_SHARE = 0.15


class Utterance(NamedTuple):
    """One utterance as its table gives it; ``end`` is None for the whole recording."""

    id: str
    recording: str
    path: str
    speaker: str
    name: str
    start: float = 0.0
    end: float | None = None
    score: float | None = None
    gender: str | None = None
    text: str | None = None


def read_kaldi(directory: Path, base: Path, allow_pipes: bool) -> list[Utterance]:
    """Utterances of a Kaldi data directory; raises ``ValueError`` where it breaks a rule."""
    validate(directory, allow_pipes=allow_pipes, wav_files=False, need_spk2utt=False)
    if not (directory / "utt2class").is_file():
        raise ValueError(f"{directory / 'utt2class'}: no such file; write '<utterance> <class>' a line")
    tables = {name: read_table(directory / name) for name in ("wav.scp", "utt2spk", "utt2class")}
    extra = {
        name: read_table(directory / name) if (directory / name).is_file() else {}
        for name in ("segments", "utt2score", "text", "spk2gender")
    }
    found = []
    for utt, speaker in tables["utt2spk"].items():
        recording, start, end = utt, 0.0, None
        if extra["segments"]:
            recording, first, last = extra["segments"][utt].split()
            start, end = float(first), float(last)
        score = extra["utt2score"].get(utt)
        found.append(
            Utterance(
                utt,
                recording,
                absolute(tables["wav.scp"][recording], base),
                speaker,
                tables["utt2class"][utt],
                start,
                end,
                None if score is None else number(score, f"{directory / 'utt2score'}: {utt}"),
                extra["spk2gender"].get(speaker),
                extra["text"].get(utt),
            )
        )
    return found


def read_recordings_table(path: Path, allow_pipes: bool) -> dict[str, list[Utterance]]:
    """Utterances by set from ``recordings.tsv``."""
    sets: dict[str, list[Utterance]] = {}
    seen: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        columns = reader.fieldnames or []
        for name in NEEDED:
            if name not in columns:
                raise ValueError(
                    f"{path}: no column {name!r} in its first line; it must name {', '.join(NEEDED)}, tab separated"
                )
        for line, row in enumerate(reader, start=2):
            where = f"{path}: line {line}"
            empty = [name for name in NEEDED if not row[name]]
            if empty or None in row:
                raise ValueError(
                    f"{where}: {'column ' + empty[0] + ' is empty' if empty else 'more columns than the first line names'}"
                )
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", row["set"]):
                raise ValueError(
                    f"{where}: set {row['set']!r} cannot be the name of a folder; use letters, digits, _ . -"
                )
            check_class(row["class"], where)
            if row["path"].rstrip().endswith("|") and not allow_pipes:
                raise ValueError(f"{where}: path is a command, which would be run; name a file, or give --allow-pipes true")
            speaker = identifier(row["speaker"])
            utt = identifier(row.get("utt") or Path(row["path"]).stem)
            utt = utt if utt.startswith(f"{speaker}-") else f"{speaker}-{utt}"
            if utt in seen:
                raise ValueError(
                    f"{where}: utterance {utt} stands in line {seen[utt]} already; give a column utt with names of their own"
                )
            seen[utt] = line
            score = number(row["score"], f"{where}: score") if row.get("score") else None
            spoken = (absolute(row["path"], path.parent), speaker, row["class"])
            sets.setdefault(row["set"], []).append(
                Utterance(
                    utt, utt, *spoken, score=score, gender=row.get("gender") or None, text=row.get("text") or None
                )
            )
    return sets


def identifier(text: str) -> str:
    """``text`` as part of a Kaldi id: white space becomes an underscore."""
    return re.sub(r"\s+", "_", text.strip())


def number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {text!r} is not a number")
    return value


def absolute(path: str, base: Path) -> str:
    """A path of wav.scp from the folder it is relative to; a command as it is."""
    return path if path.rstrip().endswith("|") else str((base / path).absolute())


def read_sets(directory: Path, allow_pipes: bool) -> dict[str, list[Utterance]]:
    """Utterances by set, from the table or the data directories of ``directory``."""
    if not directory.is_dir():
        raise ValueError(f"--data {directory}: no such folder")
    if (directory / TABLE).is_file():
        sets = read_recordings_table(directory / TABLE, allow_pipes)
    else:
        sets = {
            p.parent.name: read_kaldi(p.parent, directory, allow_pipes) for p in sorted(directory.glob("*/utt2spk"))
        }
    if not sets.get("train"):
        raise ValueError(
            f"--data {directory}: no set 'train': expected data directories train/ [dev/] <test sets>/ or {TABLE}"
        )
    return sets


def split_dev(train: list[Utterance], seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """Set the utterances of about 15 % of the speakers of each class, and at least one, apart as dev."""
    speakers: dict[str, set[str]] = {}
    for utterance in train:
        speakers.setdefault(utterance.name, set()).add(utterance.speaker)
    chosen: set[str] = set()
    for name, of_class in sorted(speakers.items()):
        if len(of_class) < 2:
            raise ValueError(
                f"train: class {name} has one speaker, {min(of_class)}: none can be set apart as dev; add a dev set"
            )
        chosen.update(
            random.Random(f"{seed}/{name}").sample(sorted(of_class), max(1, round(DEV_SHARE * len(of_class))))
        )
    return [u for u in train if u.speaker not in chosen], [u for u in train if u.speaker in chosen]


def make_recording(utterance: Utterance) -> Recording | str:
    """Lhotse's recording from the header of the file, or why there is none."""
    try:
        if not utterance.path.rstrip().endswith("|"):
            if not Path(utterance.path).is_file():
                return f"{utterance.path}: no such file; correct the path or leave the recording out"
            return Recording.from_file(utterance.path, recording_id=utterance.recording)
        command = utterance.path.rstrip()[:-1]
        info = soundfile.info(
            io.BytesIO(subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True).stdout)
        )
        source = AudioSource(type="command", channels=list(range(info.channels)), source=command)
        return Recording(utterance.recording, [source], info.samplerate, info.frames, info.frames / info.samplerate)
    except Exception as error:  # what a damaged header raises depends on the backend that reads it
        return f"{utterance.path}: cannot be read ({entry.describe(error)[:200]}); restore or leave out the file"


def manifests(utterances: list[Utterance]) -> tuple[RecordingSet, SupervisionSet, dict[str, str]]:
    """Recordings and supervisions of a set, and the utterances whose recording cannot be opened, with the reason."""
    unique = {u.recording: u for u in utterances}
    with ThreadPoolExecutor() as pool:
        made = dict(
            zip(unique, tqdm(pool.map(make_recording, unique.values()), total=len(unique), desc="headers", unit="file"))
        )
    rejected = {u.id: made[u.recording] for u in utterances if isinstance(made[u.recording], str)}
    supervisions = [supervision(u, made[u.recording]) for u in utterances if u.id not in rejected]
    return (
        RecordingSet.from_recordings(r for r in made.values() if not isinstance(r, str)),
        SupervisionSet.from_segments(supervisions),
        rejected,
    )


def supervision(utterance: Utterance, recording: Recording) -> SupervisionSegment:
    end = recording.duration if utterance.end is None else utterance.end
    if not utterance.start < end <= recording.duration + 0.01:
        raise ValueError(
            f"utterance {utterance.id}: its segment {utterance.start} to {end} s does not lie in {utterance.path} "
            f"of {recording.duration:.2f} s; correct segments"
        )
    custom = {"class": utterance.name} | ({} if utterance.score is None else {"score": utterance.score})
    return SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.recording,
        start=utterance.start,
        duration=min(end, recording.duration) - utterance.start,
        speaker=utterance.speaker,
        gender=utterance.gender,
        text=utterance.text,
        custom=custom,
    )


def check_order(name: str, utterances: list[Utterance]) -> None:
    """Raise ``ValueError`` where sorting by utterance mixes two speakers, which Kaldi's tables cannot have."""
    speakers = [u.speaker for u in sorted(utterances, key=lambda u: u.id)]
    for one, other in zip(speakers, speakers[1:]):
        if one > other:
            raise ValueError(f"{name}: speaker {other} and speaker {one}: their utterances mix when sorted; rename one of the two")


def prepare(directory: Path, out: Path, config: Config, allow_pipes: bool) -> None:
    """Write a data directory of each set below ``out``, and ``classes.txt``; nothing before all of it is checked."""
    sets = read_sets(directory, allow_pipes)
    if "dev" not in sets:
        sets["train"], sets["dev"] = split_dev(sets["train"], config.seed)
        log.info("no dev set: %d utterances of train set apart by speaker", len(sets["dev"]))
    for name, utterances in sets.items():
        check_order(name, utterances)
    speakers = {
        name: speaker_classes({u.id: u.speaker for u in of_set}, {u.id: u.name for u in of_set}) for name, of_set in sets.items()
    }
    check_splits(speakers, config.data)
    classes = sorted({u.name for of_set in sets.values() for u in of_set})
    max_rejected, made = config.features.max_rejected, {}
    for name, utterances in sorted(sets.items()):
        recordings, supervisions, rejected = manifests(utterances)
        if len(rejected) > max_rejected * len(utterances):
            utt = min(rejected)
            raise ValueError(
                f"{directory}: {len(rejected)} of {len(utterances)} utterances of {name} rejected, more than features.max_rejected "
                f"{max_rejected:.0%}; utterance {utt}: {rejected[utt]}"
            )
        made[name] = recordings, supervisions, rejected
    for path in out.glob("*/utt2spk"):
        if path.parent.name not in made:
            shutil.rmtree(path.parent)
    for name, (recordings, supervisions, rejected) in made.items():
        write_set(recordings, supervisions, out / name)
        write_rejected(out / name, rejected)
        log.info(
            "%s: %d utterances of %d speakers, %d rejected",
            out / name,
            len(supervisions),
            len({s.speaker for s in supervisions}),
            len(rejected),
        )
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def write_rejected(directory: Path, rejected: dict[str, str]) -> None:
    if rejected:
        write_table(directory / "rejected.txt", rejected)
        for utt, reason in sorted(rejected.items()):
            log.warning("%s: utterance %s rejected: %s", directory, utt, reason)
    else:
        (directory / "rejected.txt").unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dnf.own_data", description=__doc__.split("\n\n")[0])
    parser.add_argument("directory", type=Path, help="folder of the data directories or of recordings.tsv")
    parser.add_argument("out", type=Path, help="folder for the checked sets; its config.yaml holds the settings")
    parser.add_argument(
        "--allow-pipes", choices=("true", "false"), default="false", help="run commands of wav.scp (%(default)s)"
    )
    args = parser.parse_args(argv)
    prepare(args.directory, args.out, Config.load(args.out / "config.yaml"), args.allow_pipes == "true")
    return 0


if __name__ == "__main__":
    entry.run(main)
