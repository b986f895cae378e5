"""Make the table of docs/doubt.md: copies of test recordings with other channels, and what a model says of them.

    python3 docs/doubt.py copies data/librispeech_test data/speechocean_test --out copies
    python3 -m dnf score exp/hybrid copies --out scored
    python3 docs/doubt.py table scored

Each kind of copy is a set. Codecs are those of libsndfile, at 8 kHz; all copies are written with the rate of the recording.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

from dnf.data.kaldi_files import read_table, write_table
from dnf.decisions.calibration import Calibration
from dnf.decisions.doubt import Doubt
from dnf.decisions.doubt_sets import density_of, set_doubt
from dnf.decisions.evidence import evidence
from dnf.decisions.utterance_summary import read
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import CALIBRATION_JSON, CHANNEL_JSON, CHANNEL_NPY, CONFIG_YAML, DOUBT_JSON, LATENTS
from dnf.metrics.detection import auc, cllr
from dnf.scoring.channel_model import ChannelModel
from dnf.scoring.latent_store import mapped

DRAWS, DRAWN = 200, 20
FACTORS = np.geomspace(0.02, 1.5, 60)
NARROW = 8000  # Hz
Change = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def by_codec(subtype: str, container: str) -> Change:
    def change(x: np.ndarray, rate: int, _: np.random.Generator) -> np.ndarray:
        file = io.BytesIO()
        soundfile.write(file, resample_poly(x, NARROW, rate), NARROW, subtype, format=container)
        file.seek(0)
        return resample_poly(soundfile.read(file)[0], rate, NARROW)

    return change


def telephone(x: np.ndarray, rate: int, _: np.random.Generator) -> np.ndarray:
    return sosfilt(butter(6, [300, 3400], "bandpass", fs=rate, output="sos"), x)


def noise(decibels: float) -> Change:
    def change(x: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return x + rng.standard_normal(len(x)) * x.std() * 10 ** (-decibels / 20)

    return change


def quieter(x: np.ndarray, rate: int, _: np.random.Generator) -> np.ndarray:
    return x * 10**-0.5


def tilted(x: np.ndarray, rate: int, _: np.random.Generator) -> np.ndarray:
    spectrum, frequencies = np.fft.rfft(x), np.fft.rfftfreq(len(x), 1 / rate)
    return np.fft.irfft(spectrum * 10 ** (-2 / 20 * np.log2(np.maximum(frequencies, 50) / 1000)), len(x))


def reverberant(seconds: float) -> Change:
    def change(x: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        times = np.arange(int(seconds * rate)) / rate
        response = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
        response *= 0.7 / np.linalg.norm(response)
        response[0] = 1.0
        return fftconvolve(x, response)[: len(x)]

    return change


KINDS: dict[str, Change] = {
    "unchanged": lambda x, rate, rng: x,
    "telephone_band": telephone,
    "mu_law": by_codec("ULAW", "WAV"),
    "gsm": by_codec("GSM610", "WAV"),
    "mp3": by_codec("MPEG_LAYER_III", "MP3"),
    "noise_20_dB": noise(20),
    "noise_10_dB": noise(10),
    "10_dB_quieter": quieter,
    "tilt_2_dB": tilted,
    "reverberation_0.3_s": reverberant(0.3),
    "reverberation_0.6_s": reverberant(0.6),
}


def make_copies(directories: Sequence[Path], out: Path) -> None:
    """Write one data directory of each kind with the recordings of all ``directories``."""
    for kind, change in KINDS.items():
        folder, tables = out / kind, {"wav.scp": {}, "utt2spk": {}, "utt2class": {}}
        (folder / "wav").mkdir(parents=True, exist_ok=True)
        for directory in directories:
            for utt, path in read_table(directory / "wav.scp").items():
                x, rate = soundfile.read(path)
                y = change(x, rate, np.random.default_rng(len(tables["wav.scp"])))
                y = y / max(1.0, np.abs(y).max())
                soundfile.write(folder / f"wav/{utt}.wav", y, rate)
                tables["wav.scp"][utt] = str((folder / f"wav/{utt}.wav").absolute())
            for name in ("utt2spk", "utt2class"):
                tables[name] |= read_table(directory / name)
        for name, table in tables.items():
            write_table(folder / name, table)


def print_table(exp: Path) -> None:
    """Print the table from the folder that ``dnf score`` has written."""
    config, calibration = Config.load(exp / CONFIG_YAML), Calibration.load(exp / CALIBRATION_JSON)
    model, channels = Doubt.load(exp / DOUBT_JSON), ChannelModel.load(exp / CHANNEL_JSON)
    print("| data | 20 | AUC | Cllr | least | with doubt | least |\n|---|---|---|---|---|---|---|")
    home = np.zeros(0)
    for kind in KINDS:
        folder = exp / LATENTS / kind
        latents, summary = read(folder)
        vectors, heard = mapped(folder / CHANNEL_NPY), evidence(latents)
        speakers, rng = np.array([utt["speaker"] for utt in latents.utts]), np.random.default_rng(0)
        draws = [rng.choice(len(vectors), DRAWN, replace=False) for _ in range(DRAWS)]
        foreign = np.mean([channels.compare_set(vectors[rows], speakers[rows].tolist()).is_foreign for rows in draws])
        scores = model.score(channels.distances(vectors), density_of(summary), summary.frames)
        home = home if len(home) else scores
        apart = auc(np.concatenate([scores, home]), np.arange(len(scores) + len(home)) < len(scores))
        loglik = calibration.loglik(heard)
        columns = np.array(heard.columns([utt["class"] for utt in heard.utts]))
        doubt = set_doubt(folder, model, channels, config)[0]
        doubted = doubt.factor[:, None] * calibration.loglik(heard.without(doubt.bias))
        costs = [(cllr(of, columns), min(cllr(f * of, columns) for f in FACTORS)) for of in (loglik, doubted)]
        figures = (foreign, apart, *costs[0], *costs[1])
        print(f"| {kind.replace('_', ' ')} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 docs/doubt.py", description=__doc__.split("\n\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    copies = verbs.add_parser("copies", help="write the copies")
    copies.add_argument(
        "directories", type=Path, nargs="+", help="data directories with wav.scp, utt2spk and utt2class"
    )
    copies.add_argument("--out", type=Path, required=True, help="folder of the copies")
    table = verbs.add_parser("table", help="print the table")
    table.add_argument("exp", type=Path, help="folder that dnf score has written")
    args = parser.parse_args()
    if args.verb == "copies":
        make_copies(args.directories, args.out)
    else:
        print_table(args.exp)
    return 0


if __name__ == "__main__":
    entry.run(main)
