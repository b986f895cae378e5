#!/usr/bin/env python3
"""The mini corpus: English with native, Mandarin and Japanese accents, made by a speech synthesizer.

It has about an hour of speech and takes less than a minute. There is no download: the Python package espeakng-loader
contains espeak-ng, and ``speak.py`` runs it.

    set                classes     speakers (defaults)  speech
    train, dev, test   ce, en, je  12, 4, 6 per class   read; the channels of all classes come from one family
    en_other           en          6                    read too; other dialects, another family of channels
    wild               en          6                    free, in noisy rooms, at all levels and bandwidths

No speaker is in two sets, and no sentence of train is in another set. Speakers of different classes with the same number
share a build, a channel and the sentences, so only the accent separates the classes.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with PYTHONSAFEPATH

import accents
import channel
import espeak
import numpy as np
import voices
from cast import CLASSES, SETS, Settings, Speaker, cast
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from scipy.signal import resample_poly

from dnf.data import write_set
from dnf.experiment import entry
from dnf.experiment.progress import progress

log = logging.getLogger(__name__)

SENTENCES = Path(__file__).parent / "sentences.txt"
SPELLER = "en-us"  # the voice of the phonemes that the accents change
SYNTHESIZED = 22050  # rate of espeak-ng, Hz
AUDIBLE = 0.01  # share of the peak; quieter ends of a phrase are silence


@dataclass(frozen=True)
class Studio:
    """Everything that the synthesis of a speaker needs.

    Attributes:
        library: espeak-ng.
        data: its data, with a voice variant for each speaker.
        spelled: English phonemes by text.
        mnemonics: mnemonics that the voice of each accent accepts.
    """

    library: Path
    data: Path
    spelled: dict[str, str]
    mnemonics: dict[str, frozenset[str]]


def open_studio(speakers: Sequence[Speaker], data: Path) -> Studio:
    """The studio for ``speakers``, with its data directory at ``data``."""
    library, source = espeak.locate()
    espeak.copy_data(source, data, {s.id: voices.variant(s.voice, s.id) for s in speakers})
    texts = sorted({p.text for s in speakers if s.voice.accent for phrases in s.utterances for p in phrases})
    replies = espeak.talk(library, data, [{"voice": SPELLER, "spell": text} for text in texts])
    known = {accent.voice: espeak.mnemonics(data, accent.voice) for accent in accents.ACCENTS.values()}
    return Studio(library, data, {text: reply["phonemes"] for text, reply in zip(texts, replies)}, known)


def requests(speaker: Speaker, studio: Studio) -> list[dict]:
    """Requests to ``speak.py``: the phrases of all utterances, in order.

    Raises:
        ValueError: an accent has a mnemonic that its voice does not accept.
    """
    voice, asked = speaker.voice, []
    for number, phrases in enumerate(speaker.utterances, start=1):
        rng = voices.stream("said", *speaker.key, speaker.label, number)
        for phrase in phrases:
            said = phrase.text
            if voice.accent:
                words = voice.accent.pronounce(accents.parse(studio.spelled[phrase.text]), voice.strength, rng)
                unknown = sorted({m for word in words for m in word} - studio.mnemonics[voice.base])
                if unknown:
                    raise ValueError(f"{speaker.id}: voice {voice.base} has no phonemes {unknown}, in: {phrase.text}")
                said = accents.bracket(words)
            asked.append(
                {
                    "voice": f"{voice.base}+{speaker.id}",
                    "say": said,
                    "rate": round(voice.rate * phrase.tempo),
                    "pitch": voice.pitch,
                    "range": voice.range,
                    "seed": rng.getrandbits(29),
                }
            )
    return asked


def perform(speaker: Speaker, studio: Studio) -> list[np.ndarray]:
    """The recordings of ``speaker``, one int16 ``(N,)`` at 16 kHz for each utterance."""
    replies = iter(espeak.talk(studio.library, studio.data, requests(speaker, studio)))
    room = channel.echo(speaker.channel, generator("room", *speaker.key))
    recordings = []
    for number, phrases in enumerate(speaker.utterances, start=1):
        rng = generator("recording", *speaker.key, number)
        pieces = [silence(rng.uniform(0.05, 0.25))]
        for phrase in phrases:
            pieces += [silence(phrase.pause), 10 ** (phrase.gain / 20) * trim(resample(next(replies)))]
        pieces.append(silence(rng.uniform(0.05, 0.25)))
        recordings.append(channel.transmit(np.concatenate(pieces), speaker.channel, room, rng))
    return recordings


def generator(*key: object) -> np.random.Generator:
    """The random stream of ``key``."""
    return np.random.Generator(np.random.PCG64(voices.stream(*key).getrandbits(128)))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * channel.RATE))


def resample(reply: dict) -> np.ndarray:
    """The audio of a reply, float ``(N,)`` at 16 kHz."""
    if reply["rate"] != SYNTHESIZED:
        raise ValueError(f"espeak-ng has a rate of {reply['rate']} Hz; expected {SYNTHESIZED} Hz")
    return resample_poly(reply["audio"] / channel.FULL_SCALE, 320, 441)


def trim(speech: np.ndarray) -> np.ndarray:
    """``speech`` without the silence at its ends."""
    audible = np.flatnonzero(np.abs(speech) > AUDIBLE * np.abs(speech).max())
    return speech[audible[0] : audible[-1] + 1]


def utterance_ids(speaker: Speaker) -> list[str]:
    return [f"{speaker.id}-{number:03d}" for number in range(1, len(speaker.texts) + 1)]


def record(speaker: Speaker, studio: Studio, directory: Path) -> None:
    """Write the recordings of ``speaker`` to ``directory/<set>/<speaker>/<utterance>.wav``."""
    folder = directory / speaker.set / speaker.id
    folder.mkdir(parents=True)
    for name, samples in zip(utterance_ids(speaker), perform(speaker, studio)):
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(channel.RATE)
            file.writeframes(samples.tobytes())


def record_all(speakers: Sequence[Speaker], directory: Path, nj: int) -> None:
    """Write the recordings of all ``speakers`` under ``directory``, ``nj`` speakers at a time.

    The threads share no mutable state: each speaker has its own synthesis process and random streams.
    """
    with tempfile.TemporaryDirectory(prefix="mini") as temporary, ThreadPoolExecutor(nj) as pool:
        studio = open_studio(speakers, Path(temporary) / "espeak-ng-data")
        jobs = [pool.submit(record, speaker, studio, directory) for speaker in speakers]
        try:
            for job in progress(jobs, what="recordings", unit="speakers"):
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def manifests(speakers: Sequence[Speaker], wav: Path) -> tuple[RecordingSet, SupervisionSet]:
    """Lhotse manifests of one set, from the audio in ``wav/<speaker>``."""
    recordings, supervisions = [], []
    for speaker in speakers:
        for name, text in zip(utterance_ids(speaker), speaker.texts):
            recording = Recording.from_file(wav / speaker.id / f"{name}.wav", recording_id=name)
            recordings.append(recording)
            supervisions.append(
                SupervisionSegment(
                    id=name,
                    recording_id=name,
                    start=0.0,
                    duration=recording.duration,
                    channel=0,
                    text=text,
                    language="English",
                    speaker=speaker.id,
                    gender=speaker.voice.build.gender,
                    custom={"class": speaker.label, "corpus": SETS[speaker.set].name},
                )
            )
    return RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions)


def report(name: str, supervisions: SupervisionSet, settings: Settings) -> None:
    """Log the size of set ``name``; warn if the counts are not the expected ones."""
    classes = SETS[name].prefixes
    for label in classes:
        chosen = [s for s in supervisions if s.custom["class"] == label]
        found = len({s.speaker for s in chosen}), len(chosen)
        expected = settings.speakers(name), settings.speakers(name) * settings.utterances
        mean = sum(s.duration for s in chosen) / max(len(chosen), 1)
        log.info("%s %s: %d speakers, %d utterances, mean %.2f s", name, label, *found, mean)
        if found != expected:
            log.warning("%s %s: %d speakers and %d utterances, %d and %d expected", name, label, *found, *expected)


def prepare(output_dir: Path, settings: Settings) -> dict[str, tuple[RecordingSet, SupervisionSet]]:
    """Make the corpus: audio in ``output_dir/wav``, a data directory for each set, ``classes.txt``.

    The audio is written to ``output_dir/wav.partial`` and renamed when complete.

    Args:
        output_dir: such as ``data``; the paths in the manifests start with it, as given.
        settings: the size and the seed.

    Returns:
        The Lhotse manifests by set.

    Raises:
        ValueError: a setting is out of range, or the synthesizer is missing or failed.
    """
    speakers = cast(settings, SENTENCES.read_text(encoding="utf-8").splitlines())
    wav, partial = output_dir / "wav", output_dir / "wav.partial"
    shutil.rmtree(partial, ignore_errors=True)
    record_all(speakers, partial, settings.nj)
    if wav.exists():
        shutil.rmtree(wav)
    partial.rename(wav)

    made = {}
    for name in SETS:
        made[name] = manifests([speaker for speaker in speakers if speaker.set == name], wav / name)
        write_set.write_set(*made[name], output_dir / name)
        report(name, made[name][1], settings)
    (output_dir / "classes.txt").write_text("".join(f"{label}\n" for label in sorted(CLASSES)), encoding="utf-8")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the recipe's data preparation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Formatter)
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="output folder of the sets, such as data")
    for field in fields(Settings):
        option = "--" + field.name.replace("_", "-")
        if field.type == "bool":
            parser.add_argument(option, choices=("true", "false"), default="false", help=HELP[field.name])
        else:
            parser.add_argument(option, type=int, default=field.default, metavar="N", help=HELP[field.name])
    arguments = vars(parser.parse_args(argv))
    prepare(arguments.pop("output_dir"), Settings(**arguments | {"null": arguments["null"] == "true"}))
    return 0


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show the defaults, and the description with its line breaks."""


HELP = {
    "seed": "seed of the corpus",
    "nj": "speakers made in parallel; does not change the result",
    "train_speakers": "speakers of each class in train",
    "dev_speakers": "speakers of each class in dev",
    "test_speakers": "speakers of each class in test",
    "other_speakers": "speakers in each of en_other and wild",
    "utterances": "utterances of each speaker",
    "null": "all classes speak with the English accent, so nothing separates them",
}


if __name__ == "__main__":
    entry.run(main)
