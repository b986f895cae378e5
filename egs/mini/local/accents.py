"""English phonemes with a Mandarin or a Japanese accent, in the mnemonics of espeak-ng.

A word is a list of ``Phone``; an accent has a table of vowels and two lists of rules. Vowels are always replaced, since
the phoneme tables of Mandarin and Japanese have few of the English vowels. A consonant is replaced by the first rule that
matches and is drawn. Each rule is drawn with its own probability times the speaker's accent strength in 0..1, so a light
accent keeps some English sounds.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

VOWELS = frozenset("i: I E a A: 0 O: U u: V @ 3: eI oU aI aU OI".split())
CONSONANTS = frozenset("p b t d k g f v T D s z S Z h tS dZ m n N l r w j R".split())  # R: r after a vowel

# Other names of these phones in the American voice, and sequences with a single name.
SPELLINGS = {
    "I": "I2 I# i", "a": "aa", "0": "O O2 02", "@": "@2 @5 a#", "t": "t# t2", "": "? : ; ! -",
    "A: R": "A@", "E R": "e@", "O: R": "O@ o@", "i: R": "i@ i@3", "U R": "U@", "aI @": "aI@", "aI @ R": "aI3",
    "@ R": "3 r-", "@ l": "@L l-", "@ n": "n-", "@ m": "m-", "3:": "IR VR",
}  # fmt: skip
PHONES = {phone: [phone] for phone in VOWELS | CONSONANTS - {"R"}}
PHONES |= {name: phones.split() for phones, names in SPELLINGS.items() for name in names.split()}


@dataclass(frozen=True)
class Phone:
    """An English phone; a vowel may carry the stress of its syllable, ``'`` or ``,``."""

    symbol: str
    stress: str = ""


Word = list[Phone]


def parse(spelled: str) -> list[Word]:
    """Words from the spelling of the ``en-us`` voice: phonemes separated by ``_``, words by spaces.

    Raises:
        ValueError: a phoneme that is not in the tables above.
    """
    words = []
    for text in spelled.split():
        word: Word = []
        stress = ""
        for token in text.split("_"):
            marks, name = re.fullmatch(r"([',]*)(.*)", token).groups()
            stress = marks[:1] or stress
            if name and name not in PHONES:
                raise ValueError(f"English phoneme {name!r} in {text!r} is unknown; add it to SPELLINGS in {__file__}")
            for symbol in PHONES[name] if name else ():
                if symbol in VOWELS:
                    word.append(Phone(symbol, stress))
                    stress = ""
                else:
                    word.append(Phone(symbol))
        if word:
            words.append(word)
    return words


@dataclass(frozen=True)
class Place:
    """The phone at ``index`` of ``word``, with its context."""

    word: Sequence[Phone]
    index: int

    def symbol(self, step: int) -> str:
        """The phone ``step`` places later, or None outside the word."""
        place = self.index + step
        return self.word[place].symbol if 0 <= place < len(self.word) else ""


Where = Callable[[Place], bool]


def anywhere(place: Place) -> bool:
    return True


def before(symbols: str) -> Where:
    wanted = frozenset(symbols.split())
    return lambda place: place.symbol(1) in wanted


def after(symbols: str) -> Where:
    wanted = frozenset(symbols.split())
    return lambda place: place.symbol(-1) in wanted


def before_vowel(place: Place) -> bool:
    return place.symbol(1) in VOWELS


def before_consonant(place: Place) -> bool:
    return place.symbol(1) in CONSONANTS


def final(place: Place) -> bool:
    """Whether it is after the last vowel of the word."""
    return not any(phone.symbol in VOWELS for phone in place.word[place.index :])


def stressed(mark: str) -> Where:
    return lambda place: place.word[place.index].stress == mark


def both(first: Where, second: Where) -> Where:
    return lambda place: first(place) and second(place)


def no(where: Where) -> Where:
    return lambda place: not where(place)


@dataclass(frozen=True)
class Rule:
    """``phones`` become ``becomes`` (empty: they are dropped) where ``where`` is true, with probability ``chance``."""

    phones: str
    becomes: str
    where: Where = anywhere
    chance: float = 1.0

    def applies(self, place: Place, strength: float, rng: random.Random) -> bool:
        """Whether the rule matches at ``place`` and is drawn."""
        if place.symbol(0) not in self.phones.split() or not self.where(place):
            return False
        return rng.random() < strength * self.chance


@dataclass(frozen=True)
class Accent:
    """The English accent of speakers of another language.

    Attributes:
        voice: name of the espeak-ng voice, and of its phoneme table.
        vowels: replacements of each English vowel; one of them is drawn.
        rules: rules for consonants; the first that applies is used.
        endings: rules for sounds after a phone; the first that applies is used.
        faster: added words per minute, which compensate for the added sounds.
        setting: articulatory setting of tongue and lips, as a factor on the frequency of formants 1, 2, ...
    """

    voice: str
    vowels: dict[str, tuple[str, ...]]
    rules: tuple[Rule, ...]
    endings: tuple[Rule, ...]
    faster: int
    setting: tuple[float, ...]

    def pronounce(self, words: Sequence[Word], strength: float, rng: random.Random) -> list[list[str]]:
        """Mnemonics of each word, with stress marks, in an accent of ``strength`` in 0..1."""
        return [said for word in words if (said := self.pronounce_word(word, strength, rng))]

    def pronounce_word(self, word: Word, strength: float, rng: random.Random) -> list[str]:
        """Mnemonics of one word."""
        said: list[str] = []
        for index, phone in enumerate(word):
            place = Place(word, index)
            if phone.symbol in VOWELS:
                said += [phone.stress] if phone.stress else []
                said += rng.choice(self.vowels[phone.symbol]).split()
            else:
                itself = "r" if phone.symbol == "R" else phone.symbol
                said += first(self.rules, place, strength, rng, otherwise=itself).split()
            said += first(self.endings, place, strength, rng, otherwise="").split()
        return said


def first(rules: Sequence[Rule], place: Place, strength: float, rng: random.Random, otherwise: str) -> str:
    """The phone at ``place`` after the first of ``rules`` that applies."""
    return next((rule.becomes for rule in rules if rule.applies(place, strength, rng)), otherwise)


def bracket(words: Sequence[Sequence[str]]) -> str:
    """Input for espeak-ng; ``|`` keeps it from reading two mnemonics as one."""
    return "[[" + " ".join("|".join(word) for word in words) + "]]"


STOPS, FRICATIVES, AFFRICATES = "p b t d k g", "f v T D s z S Z h", "tS dZ"
OBSTRUENTS = f"{STOPS} {FRICATIVES} {AFFRICATES}"
FRONT, BACK = before("i: I"), before("U u:")
CLOSED = no(before_vowel)

MANDARIN = Accent(
    voice="cmn",
    vowels={
        "i:": ("i",),
        "I": ("i",),
        "E": ("E",),
        "a": ("E", "E", "a"),
        "A:": ("A",),
        "0": ("A",),
        "O:": ("o",),
        "U": ("u",),
        "u:": ("u",),
        "V": ("a", "a", "A"),
        "@": ("@", "@", "a"),
        "3:": ("@r",),
        "eI": ("ei",),
        "oU": ("ou",),
        "aI": ("ai",),
        "aU": ("Au",),
        "OI": ("o i",),
    },  # fmt: skip
    rules=(
        # consonant clusters at the end are simplified, final stops dropped, final obstruents lose their voice
        Rule(STOPS, "", both(final, before_consonant), 0.7),
        Rule(STOPS, "", final, 0.3),
        Rule("l", "u", CLOSED, 0.3),
        Rule("l", "o-", CLOSED, 0.3),
        Rule("l", "", CLOSED, 0.5),
        Rule("R", ""),
        Rule("b", "p", final, 0.8),
        Rule("d", "t", final, 0.8),
        Rule("g", "k", final, 0.8),
        Rule("z", "s", final, 0.8),
        Rule("v", "f", CLOSED),
        Rule("n", "N", final, 0.3),
        Rule("m", "n", final, 0.5),
        # p t k are aspirated except after s, b d g have no voice
        Rule("p", "ph", no(after("s"))),
        Rule("t", "th", no(after("s"))),
        Rule("k", "kh", no(after("s"))),
        Rule("b", "p"),
        Rule("d", "t"),
        Rule("g", "k"),
        # sounds that Mandarin lacks
        Rule("T", "s"),
        Rule("D", "ts", anywhere, 0.5),
        Rule("D", "z"),
        Rule("v", "w", before_vowel),
        Rule("z", "ts", anywhere, 0.8),
        Rule("r", "z.", anywhere, 0.5),
        Rule("r", "l", anywhere, 0.3),
        Rule("h", "X"),
        Rule("S", "S;", before("i: I eI")),
        Rule("S", "s."),
        Rule("Z", "z."),
        Rule("tS", "tS;h", before("i: I eI")),
        Rule("tS", "ts.h"),
        Rule("dZ", "tS;", before("i: I eI")),
        Rule("dZ", "ts."),
    ),
    endings=(
        Rule(OBSTRUENTS, "@", final, 0.3),
        Rule(OBSTRUENTS, "@", before("l r w"), 0.5),
        # a tone for each stress
        Rule(" ".join(VOWELS), "51", stressed("'"), 0.55),
        Rule(" ".join(VOWELS), "55", stressed("'"), 0.8),
        Rule(" ".join(VOWELS), "55", stressed(","), 0.9),
        Rule(" ".join(VOWELS), "21", stressed(""), 0.35),
    ),
    faster=35,
    setting=(1.06, 0.94, 0.98),
)

JAPANESE = Accent(
    voice="ja",
    vowels={
        "i:": ("i :",),
        "I": ("i",),
        "E": ("e",),
        "a": ("a",),
        "A:": ("a :",),
        "0": ("o",),
        "O:": ("o :",),
        "U": ("u",),
        "u:": ("u :",),
        "V": ("a",),
        "@": ("a", "a", "o", "u", "e"),
        "3:": ("a :",),
        "eI": ("e :",),
        "oU": ("o :",),
        "aI": ("a i",),
        "aU": ("a u",),
        "OI": ("o i",),
    },  # fmt: skip
    rules=(
        # l and r are one sound; r after a vowel is a long vowel
        Rule("l r", "r`"),
        Rule("R", "a", after("E U"), 0.6),
        Rule("R", ":", after("@")),
        Rule("R", ""),
        # sounds that Japanese lacks, and sounds that depend on the next vowel
        Rule("T", "s\\", FRONT),
        Rule("T", "s"),
        Rule("D", "d_z\\", FRONT),
        Rule("D", "z"),
        Rule("v", "b"),
        Rule("f", "p\\"),
        Rule("h", "p\\", BACK, 0.7),
        Rule("s", "s\\", FRONT),
        Rule("z", "d_z\\", FRONT),
        Rule("t", "t_s\\", FRONT, 0.7),
        Rule("t", "t_s", BACK, 0.7),
        Rule("d", "d_z\\", FRONT, 0.7),
        Rule("d", "z", BACK, 0.7),
        Rule("S", "s\\"),
        Rule("Z dZ", "d_z\\"),
        Rule("tS", "t_s\\"),
        Rule("w", "", BACK),
        Rule("j", "", FRONT),
        Rule("n", "N\\", CLOSED),
    ),
    endings=(
        # every consonant except a nasal needs a vowel
        Rule("N", "g u", CLOSED),
        Rule("p b k g f v T D s z h m l r", "", before("p b j w")),
        Rule("t d", "o", CLOSED),
        Rule("tS dZ S Z", "i", CLOSED),
        Rule("p b k g f v T D s z h m l r", "u", CLOSED),
    ),
    faster=20,
    setting=(0.95, 1.05, 1.05),
)

ACCENTS = {"ce": MANDARIN, "je": JAPANESE}
