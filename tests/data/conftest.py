"""Fixtures: a folder of the user's own recordings."""

import csv
import zlib

import pytest
import soundfile
from own_speakers import CLASS, RATE, SPEAKERS

from dnf.data import own_data
from dnf.data.kaldi_files import read_table


@pytest.fixture
def own(tmp_path, speech_like):
    """A folder of the user's, to be filled with wav files and tables, and where stage 0 puts its sets."""

    class Own:
        folder, out = tmp_path / "own", tmp_path / "data" / "own"

        def wav(self, name: str, seconds: float = 0.5, **options) -> str:
            (self.folder / "wav").mkdir(parents=True, exist_ok=True)
            soundfile.write(
                self.folder / "wav" / name,
                speech_like(seconds, zlib.crc32(name.encode())),
                options.pop("rate", RATE),
                **options,
            )
            return f"wav/{name}"

        def table(self, rows: list[dict], name: str = "recordings.tsv", columns=None) -> None:
            self.folder.mkdir(exist_ok=True)
            with (self.folder / name).open("w", newline="") as file:
                delimiter = "," if name.endswith(".csv") else "\t"
                writer = csv.DictWriter(
                    file, columns or list(rows[0]), delimiter=delimiter, lineterminator="\n", restval=""
                )
                writer.writeheader()
                writer.writerows(rows)

        def prepare(self, config, *options: str) -> int:
            config.save(self.out / "config.yaml")
            return own_data.main([str(self.folder), str(self.out), *options])

        def utts(self, name: str) -> dict[str, str]:
            return read_table(self.out / name / "utt2spk")

    return Own()


@pytest.fixture
def rows(own) -> list[dict]:
    """Two recordings of each of four speakers for train, one of each of two for test."""
    train = [(speaker, n, "train") for speaker in SPEAKERS for n in (1, 2)]
    return [
        {"recording": own.wav(f"{speaker}_{n}.wav"), "speaker": speaker, "class": CLASS[speaker], "set": name}
        for speaker, n, name in [*train, ("eve", 1, "test"), ("flo", 1, "test")]
    ]


@pytest.fixture
def kaldi(own):
    """Write the Kaldi data directory of a set; ``tables`` replace or add files, None leaves one out."""

    def write(name: str, speakers=SPEAKERS, **tables) -> None:
        directory = own.folder / name
        directory.mkdir(parents=True, exist_ok=True)
        utts = {f"{speaker}-{n}": speaker for speaker in sorted(speakers) for n in (1, 2)}
        files = {
            "wav.scp": {utt: own.wav(f"{utt}.wav") for utt in utts},
            "utt2spk": utts,
            "spk2utt": {speaker: f"{speaker}-1 {speaker}-2" for speaker in sorted(speakers)},
            "utt2class": {utt: CLASS[speaker] for utt, speaker in utts.items()},
        } | {key.replace("__", "."): value for key, value in tables.items()}
        for file, table in files.items():
            if table is not None:
                (directory / file).write_text("".join(f"{key} {value}\n" for key, value in table.items()))

    return write
