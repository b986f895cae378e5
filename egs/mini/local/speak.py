#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-alone speech synthesis, the only file that loads libespeak-ng (GPL-3.0-or-later): JSON lines in, PCM out.

    python3 speak.py LIBRARY DATA <requests >replies

LIBRARY is the shared library, DATA the path of its ``espeak-ng-data`` directory. A request is a line with one JSON object:

    {"voice": "en-us", "spell": "some text"}                    asks how the voice would pronounce the text
    {"voice": "cmn+f1", "say": "text or [[phonemes]]", "rate": 175, "pitch": 50, "range": 50, "seed": 1}

The reply to the first is a line ``{"phonemes": "..."}``; words are separated by spaces, phonemes by ``_``. The reply to
the second is a line ``{"rate": 22050, "samples": N}`` followed by N little-endian 16-bit samples.

Run one process per speaker. The wave generator keeps its phase, gain and flutter in static variables that seeding does
not reset, so a reply depends on the requests before it. The same requests give the same bytes.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: audio goes to the callback, synthesis returns when it is done
DONT_EXIT = 0x8000  # without it a bad data path ends the process inside the library
CHARACTERS = 1  # espeak_POSITION_TYPE
UTF8 = 1
BRACKETS = 0x100  # read [[...]] as phonemes; it persists for later calls, so every call passes it
SPELLED = 1 | ord("_") << 8  # mnemonics, with "_" between them
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4}
VOLUME = 50  # at 100 the loud vowels reach full scale
PATH_LIMIT = 150  # the library copies the data path into 160 bytes without a check
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Synthesizer:
    """The loaded library; one per process, since its state is global."""

    def __init__(self, library: str, data: str):
        if len(os.fsencode(data)) > PATH_LIMIT:
            raise ValueError(f"data path has {len(os.fsencode(data))} bytes, espeak-ng takes {PATH_LIMIT}: {data}")
        if not os.path.isfile(os.path.join(data, "phontab")):
            raise ValueError(f"{data}: not an espeak-ng-data directory, it has no phontab")
        self.data = data
        self.library = ctypes.CDLL(library)
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
        self.library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p,
        ]  # fmt: skip
        self.library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), DONT_EXIT)
        if self.rate <= 0:
            raise ValueError(f"{library} did not start with the data in {data}")
        self.pieces: list[bytes] = []
        self.callback = CALLBACK(self.hear)  # keep a reference, since ctypes does not
        self.library.espeak_SetSynthCallback(self.callback)
        self.set("volume", VOLUME)

    def hear(self, samples, count: int, events) -> int:
        """Callback of the library for each piece of audio."""
        if samples and count > 0:
            self.pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    def set(self, name: str, value: int) -> None:
        if self.library.espeak_SetParameter(PARAMETERS[name], int(value), 0) != 0:
            raise ValueError(f"espeak-ng refuses {name} {value}")

    def use(self, voice: str) -> None:
        """Change to ``voice``; ``base+variant`` needs the variant's file, which the library itself does not check."""
        variant = voice.partition("+")[2]
        if variant and not os.path.isfile(os.path.join(self.data, "voices", "!v", variant)):
            raise ValueError(f"{self.data}: no voice variant {variant}")
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"{self.data}: no voice {voice}")

    def spell(self, text: str) -> str:
        """The mnemonics of ``text``."""
        buffer = ctypes.create_string_buffer(text.encode())
        position = ctypes.c_void_p(ctypes.addressof(buffer))
        clauses = []
        while position.value:
            clauses.append(self.library.espeak_TextToPhonemes(ctypes.byref(position), UTF8, SPELLED).decode())
        return " ".join(clauses)

    def say(self, text: str, seed: int) -> bytes:
        """The samples of ``text``."""
        self.pieces.clear()
        self.library.espeak_ng_SetRandSeed(seed)
        words = text.encode()
        status = self.library.espeak_Synth(words, len(words) + 1, 0, CHARACTERS, 0, UTF8 | BRACKETS, None, None)
        if status != 0 or not self.pieces:
            raise ValueError(f"espeak-ng says nothing for {text!r} (status {status})")
        return b"".join(self.pieces)


def main() -> int:
    """Answer the requests on standard input until it ends."""
    if len(sys.argv) != 3:
        print("usage: speak.py LIBRARY DATA <requests >replies", file=sys.stderr)
        return 2
    out = sys.stdout.buffer
    try:
        synthesizer = Synthesizer(*sys.argv[1:])
        for line in sys.stdin:
            request = json.loads(line)
            synthesizer.use(request["voice"])
            if "spell" in request:
                out.write(json.dumps({"phonemes": synthesizer.spell(request["spell"])}).encode() + b"\n")
                continue
            for name in ("rate", "pitch", "range"):
                synthesizer.set(name, request[name])
            samples = synthesizer.say(request["say"], request["seed"])
            out.write(json.dumps({"rate": synthesizer.rate, "samples": len(samples) // 2}).encode() + b"\n" + samples)
    except (ValueError, OSError, AttributeError) as error:
        print(f"speak.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
