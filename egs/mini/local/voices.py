"""Speakers of the mini corpus: espeak-ng voices, accents, ways of speaking, and phrases of an utterance."""

from __future__ import annotations

import random
from dataclasses import dataclass

from accents import Accent

FORMANTS = 9  # espeak-ng numbers them from 0


@dataclass(frozen=True)
class Build:
    """A larynx and a vocal tract, shared by speakers of all classes with the same number.

    Attributes:
        gender: ``m`` or ``f``.
        pitch: lowest and highest fundamental frequency of the voice, Hz.
        voicing, breath, roughness, flutter, consonants: in the units of espeak-ng's voice files.
        formants: frequency, height and width of each formant, percent of the neutral voice.
    """

    gender: str
    pitch: tuple[int, int]
    voicing: int
    breath: int
    roughness: int
    flutter: int
    consonants: int
    formants: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Voice:
    """A person: a build, an accent and a way of speaking.

    Attributes:
        build: the build.
        base: the espeak-ng voice with the phonemes.
        accent: the foreign accent, or none.
        strength: strength of the accent, 0..1.
        pitch, range, rate: in units of espeak-ng (0..100, 0..100, words per minute).
        shifts: factors on the frequency of formants 1, 2, ...
    """

    build: Build
    base: str
    accent: Accent | None
    strength: float
    pitch: int
    range: int
    rate: int
    shifts: tuple[float, ...]


@dataclass(frozen=True)
class Phrase:
    """Words without a pause.

    Attributes:
        text: the words.
        tempo: factor on the speaker's rate.
        pause: silence before the phrase, s.
        gain: level, dB.
    """

    text: str
    tempo: float
    pause: float
    gain: float


def stream(*key: object) -> random.Random:
    """The random stream of ``key``, the same on every machine."""
    return random.Random("/".join(map(str, key)))


def draw_build(gender: str, *key: object) -> Build:
    """The build of ``gender`` for ``key``."""
    rng = stream("build", *key)
    lowest, size = (rng.uniform(65, 95), 0.99) if gender == "m" else (rng.uniform(135, 185), 1.02)
    size *= rng.uniform(0.985, 1.015)
    formants = tuple(
        (100 * size * rng.uniform(0.985, 1.015), rng.uniform(90, 110), rng.uniform(95, 115)) for _ in range(FORMANTS)
    )
    return Build(
        gender=gender,
        pitch=(round(lowest), round(lowest * rng.uniform(1.35, 1.6))),
        voicing=rng.randint(60, 130),
        breath=rng.randint(0, 3),
        roughness=rng.randint(0, 3),
        flutter=rng.randint(0, 8),
        consonants=rng.randint(80, 120),
        formants=formants,
    )


def draw_voice(build: Build, bases: tuple[str, ...], accent: Accent | None, *key: object) -> Voice:
    """The person for ``key``: with ``accent``, or without one in one of the native voices ``bases``."""
    rng = stream("voice", *key)
    native, strength, rate = rng.choice(bases), rng.uniform(0.7, 1.0), rng.randint(150, 195)
    pitch, extent = rng.randint(30, 70), rng.randint(30, 80)
    shifts = [rng.uniform(0.96, 1.04) for _ in range(5)]
    if accent is None:
        return Voice(build, native, None, 0.0, pitch, extent, rate, tuple(shifts))
    for number, factor in enumerate(accent.setting):
        shifts[number] *= factor
    return Voice(build, accent.voice, accent, strength, pitch, extent, rate + accent.faster, tuple(shifts))


def variant(voice: Voice, name: str) -> str:
    """The voice as an espeak-ng voice variant file called ``name``."""
    build = voice.build
    lines = [
        "language variant",
        f"name {name}",
        f"gender {'male' if build.gender == 'm' else 'female'}",
        f"pitch {build.pitch[0]} {build.pitch[1]}",
        f"voicing {build.voicing}",
        f"roughness {build.roughness}",
        f"flutter {build.flutter}",
        f"consonants {build.consonants} {build.consonants}",
        "breath " + " ".join([str(build.breath)] * 8),
    ]
    for number, (frequency, height, width) in enumerate(build.formants):
        shift = voice.shifts[number - 1] if 1 <= number <= len(voice.shifts) else 1.0
        lines.append(f"formant {number} {frequency * shift:.0f} {height:.0f} {width:.0f} 0")
    return "\n".join(lines) + "\n"


def read_aloud(text: str, rng: random.Random) -> list[Phrase]:
    """Read speech: the sentence as one phrase."""
    return [Phrase(text, rng.uniform(0.95, 1.05), 0.0, 0.0)]


def talk_freely(text: str, rng: random.Random) -> list[Phrase]:
    """Conversational speech: phrases of a few words with varying rate and level, and pauses."""
    words = text.split()
    phrases = []
    while words:
        count = min(rng.randint(2, 5), len(words))
        pause = rng.uniform(0.1, 0.6) if phrases else 0.0
        phrases.append(Phrase(" ".join(words[:count]), rng.uniform(0.75, 1.35), pause, rng.uniform(-5, 5)))
        words = words[count:]
    return phrases
