"""Write Lhotse manifests as the data directory of a set: manifests and Kaldi tables, checked together."""

from __future__ import annotations

import logging
from pathlib import Path

from lhotse import RecordingSet, SupervisionSet, fix_manifests, validate_recordings_and_supervisions

from dnf.data.kaldi_files import MADE_FROM_AUDIO, Genders, Spellings, further_scores, is_class_name, write_table
from dnf.experiment.layout import (
    RECORDINGS_JSONL,
    SEGMENTS,
    SPK2GENDER,
    SPK2UTT,
    SUPERVISIONS_JSONL,
    UTT2CLASS,
    UTT2CORPUS,
    UTT2DUR,
    UTT2SCORE,
    UTT2SCORES,
    UTT2SPK,
    WAV_SCP,
)

log = logging.getLogger(__name__)


def write_set(recordings: RecordingSet, supervisions: SupervisionSet, directory: Path) -> None:
    """Write ``recordings`` and ``supervisions`` of one set as Lhotse manifests and as a Kaldi data directory.

    Every supervision is one utterance with ``custom={"class": NAME}`` and, if an expert scored it,
    ``"score": FLOAT``, ``"marks": LIST`` of the experts' own scores, and ``"corpus": NAME`` where corpora are known.
    ``"tables"`` are its values in further tables, ``{"utt2score_fluency": "7.5", ...}``. Utterance ids start with the speaker
    id, as Kaldi's sort order asks.

    Args:
        recordings: mono recordings, read from plain files.
        supervisions: one per utterance.
        directory: ``data/<set>``; made if needed, its tables are replaced.

    Raises:
        ValueError: an utterance without speaker or class, or manifests that contradict each other.
    """
    recordings, supervisions = fix_manifests(recordings.to_eager(), supervisions.to_eager())
    recordings = RecordingSet.from_recordings(sorted(recordings, key=lambda r: r.id))
    supervisions = SupervisionSet.from_segments(sorted(supervisions, key=lambda s: s.id))
    try:
        validate_recordings_and_supervisions(recordings, supervisions)
    except AssertionError as error:
        raise ValueError(f"{directory}: {error}") from None
    spellings, genders = Spellings(f"{directory}: "), Genders(f"{directory}: ")
    for utterance in supervisions:
        check_utterance(utterance, directory)
        spellings.check("speaker", utterance.speaker, f"utterance {utterance.id}")
        genders.check(utterance.speaker, utterance.gender, f"utterance {utterance.id}")
    unknown = [speaker for speaker, gender in genders.of.items() if gender not in ("m", "f")]
    if 0 < len(unknown) < len(genders.of):
        log.warning(
            "%s: %d of %d speakers have no gender, the first is %s: no spk2gender",
            *(directory, len(unknown), len(genders.of), unknown[0]),
        )

    directory.mkdir(parents=True, exist_ok=True)
    for name in (*MADE_FROM_AUDIO, *further_scores(directory)):
        (directory / name).unlink(missing_ok=True)
    recordings.to_file(directory / RECORDINGS_JSONL)
    supervisions.to_file(directory / SUPERVISIONS_JSONL)
    for name, table in tables(recordings, supervisions).items():
        if table:
            write_table(directory / name, table)
        else:
            (directory / name).unlink(missing_ok=True)


def check_utterance(utterance, directory: Path) -> None:
    """Raise ``ValueError`` unless the utterance has a speaker, a class of legal form and an id that starts with the speaker."""
    where = f"{directory}: utterance {utterance.id}"
    if not utterance.speaker or not utterance.id.startswith(utterance.speaker):
        raise ValueError(
            f"{where}: its id does not start with its speaker {utterance.speaker!r}; name it <speaker>-<utterance>"
        )
    check_class((utterance.custom or {}).get("class"), where)


def check_class(name: object, where: str) -> None:
    """Raise ``ValueError`` unless ``name`` can be the name of a class."""
    if not isinstance(name, str) or not is_class_name(name):
        raise ValueError(f"{where}: class {name!r} is not a name like en or zh_cn (letters a-z, digits, underscore)")


def tables(recordings: RecordingSet, supervisions: SupervisionSet) -> dict[str, dict[str, str]]:
    """The Kaldi tables of a set by file name; unused tables are empty."""
    by_id = {r.id: r for r in recordings}
    speakers: dict[str, list[str]] = {}
    for s in supervisions:
        speakers.setdefault(s.speaker, []).append(s.id)
    whole = all(
        s.id == s.recording_id and s.start == 0 and s.duration == by_id[s.recording_id].duration for s in supervisions
    )
    further: dict[str, dict[str, str]] = {}
    for s in supervisions:
        for name, value in s.custom.get("tables", {}).items():
            further.setdefault(name, {})[s.id] = value
    return {
        WAV_SCP: {
            r.id: f"{r.sources[0].source} |" if r.sources[0].type == "command" else str(r.sources[0].source)
            for r in recordings
        },
        SEGMENTS: {} if whole else {s.id: f"{s.recording_id} {s.start} {s.end}" for s in supervisions},
        UTT2SPK: {s.id: s.speaker for s in supervisions},
        SPK2UTT: {speaker: " ".join(utts) for speaker, utts in speakers.items()},
        UTT2CLASS: {s.id: s.custom["class"] for s in supervisions},
        UTT2DUR: {s.id: str(s.duration) for s in supervisions},
        UTT2SCORE: {s.id: str(s.custom["score"]) for s in supervisions if "score" in s.custom},
        UTT2SCORES: {s.id: " ".join(map(str, s.custom["marks"])) for s in supervisions if "marks" in s.custom},
        UTT2CORPUS: {s.id: s.custom["corpus"] for s in supervisions}
        if all("corpus" in s.custom for s in supervisions)
        else {},
        **further,
        "text": {s.id: s.text for s in supervisions if s.text} if all(s.text for s in supervisions) else {},
        SPK2GENDER: {s.speaker: s.gender for s in supervisions}
        if all(s.gender in ("m", "f") for s in supervisions)
        else {},
    }
