"""Draw the speakers of each set of the mini corpus, their sentences and their channels, before the synthesis."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import accents
import channel
import voices

CLASSES = ("ce", "en", "je")
MOST_SPEAKERS = 999  # of one class, since ids have three digits


@dataclass(frozen=True)
class Corpus:
    """Common properties of sets.

    Attributes:
        name: its name.
        prefixes: prefixes of the speaker ids by class; the keys are its classes.
        natives: espeak-ng voices of its native speakers.
        family: family of its channels.
        manner: function from a sentence to its phrases.
    """

    name: str
    prefixes: dict[str, str]
    natives: tuple[str, ...]
    family: channel.Family
    manner: Callable[[str, random.Random], list[voices.Phrase]]


READ = Corpus(
    name="read",
    prefixes={label: label for label in CLASSES},
    natives=("en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan"),
    family=channel.STUDIO,
    manner=voices.read_aloud,
)
OTHER = Corpus("other", {"en": "eno"}, ("en-us-nyc", "en-gb-x-gbcwmd"), channel.OFFICE, voices.read_aloud)
WILD = Corpus("wild", {"en": "wild"}, (*READ.natives, *OTHER.natives, "en-029"), channel.STREET, voices.talk_freely)
SETS = {"train": READ, "dev": READ, "test": READ, "en_other": OTHER, "wild": WILD}


@dataclass(frozen=True)
class Settings:
    """Size and seed of the corpus.

    Attributes:
        seed: seed of the corpus.
        nj: number of speakers that are synthesized in parallel; does not change the result.
        train_speakers, dev_speakers, test_speakers: number of speakers per class.
        other_speakers: number of speakers in each of en_other and wild.
        utterances: number of utterances per speaker.
        null: all classes speak with the English accent, so that nothing separates them.
    """

    seed: int = 1
    nj: int = 2
    train_speakers: int = 12
    dev_speakers: int = 4
    test_speakers: int = 6
    other_speakers: int = 6
    utterances: int = 15
    null: bool = False

    def speakers(self, name: str) -> int:
        """Speakers of each class in set ``name``."""
        return self.other_speakers if SETS[name] is not READ else getattr(self, f"{name}_speakers")


@dataclass(frozen=True)
class Speaker:
    """One speaker of the corpus, with the sentences to speak.

    Attributes:
        id: such as ``ce_f003``.
        set, label: set and class of the speaker.
        key: key of the random streams; speakers of all classes with the same number share it.
        voice, channel: voice and channel of the speaker.
        texts: one per utterance.
        utterances: the phrases of each utterance.
    """

    id: str
    set: str
    label: str
    key: tuple[object, ...]
    voice: voices.Voice
    channel: channel.Channel
    texts: tuple[str, ...]
    utterances: tuple[tuple[voices.Phrase, ...], ...]


def cast(settings: Settings, sentences: Sequence[str]) -> list[Speaker]:
    """All speakers, sorted by set and id; ``train`` reads half of the sentences, the other sets the other half.

    Raises:
        ValueError: a setting is out of range.
    """
    halves = {name: sentences[0 if name == "train" else 1 :: 2] for name in SETS}
    check(settings, min(map(len, halves.values())))
    speakers = []
    last = {corpus.name: 0 for corpus in SETS.values()}
    for name, corpus in SETS.items():
        for number in range(last[corpus.name] + 1, last[corpus.name] + 1 + settings.speakers(name)):
            key = (settings.seed, corpus.name, number)
            speakers += [draw(label, key, name, halves[name], settings) for label in corpus.prefixes]
        last[corpus.name] += settings.speakers(name)
    return sorted(speakers, key=lambda speaker: (speaker.set, speaker.id))


def draw(label: str, key: tuple[int, str, int], name: str, sentences: Sequence[str], settings: Settings) -> Speaker:
    """The speaker of class ``label`` for ``key`` (seed, corpus, number); only id and voice depend on the class."""
    corpus, number = SETS[name], key[-1]
    gender = "fm"[number % 2]
    accent = None if settings.null else accents.ACCENTS.get(label)
    texts = tuple(voices.stream("texts", *key).sample(sentences, settings.utterances))
    manner = voices.stream("manner", *key)
    return Speaker(
        id=f"{corpus.prefixes[label]}_{gender}{number:03d}",
        set=name,
        label=label,
        key=key,
        voice=voices.draw_voice(voices.draw_build(gender, *key), corpus.natives, accent, *key, label),
        channel=channel.draw(corpus.family, *key),
        texts=texts,
        utterances=tuple(tuple(corpus.manner(text, manner)) for text in texts),
    )


def check(settings: Settings, sentences: int) -> None:
    """Raise ``ValueError`` for a setting out of range; each set has ``sentences`` sentences."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name not in ("seed", "null") and value < 1:
            raise ValueError(f"{field.name} is {value}; give 1 or more")
    if settings.utterances > sentences:
        raise ValueError(f"{settings.utterances} utterances per speaker are too many: a set has {sentences} sentences")
    most = max(settings.train_speakers + settings.dev_speakers + settings.test_speakers, settings.other_speakers)
    if most > MOST_SPEAKERS:
        raise ValueError(f"{most} speakers of a class are too many: give at most {MOST_SPEAKERS}")
