"""Stage frames: the frame store of each set has its 40-d frames once, in utterance order, for memory mapping.

A training vector is gathered from it by index arithmetic (``dnf.features.windows``), so spliced vectors are not stored.
``exp/frames/<set>/`` holds

    frames.bin    (T, F) float16 or float32, flat
    offsets.npy   (U + 1,) int64, first frame of each utterance
    centres.bin   (S,) int64, flat: the frames that the VAD calls speech
    spoken.npy    (U + 1,) int64, first of each utterance's centres
    stats.bin     (U, 2, F + 1) float64, flat: CMVN statistics of each utterance's speech frames
    utts.tsv      utterance, speaker, class, expert score and, where it is known, corpus, in the order of ``offsets``
    meta.json     the counts, to open the rest by

An utterance of ``features.kind`` vectors is one frame: its vector after the steps of ``dnf.features.vectors``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dnf.data.data_dir import sets_below
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import (
    CENTRES_BIN,
    CLASSES_TXT,
    CONFIG_YAML,
    FEATS_SCP,
    FRAMES_BIN,
    META_JSON,
    OFFSETS_NPY,
    SPOKEN_NPY,
    STATS_BIN,
    UTT2CLASS,
    UTT2CORPUS,
    UTT2NUM_FRAMES,
    UTT2SCORE,
    UTT2SPK,
    UTTS_TSV,
    VAD_SCP,
    run_again,
)
from dnf.experiment.progress import progress
from dnf.features.arks import read_array
from dnf.features.statistics import cmvn_stats

log = logging.getLogger(__name__)

TABLES = (FEATS_SCP, VAD_SCP, UTT2NUM_FRAMES, UTT2SPK, UTT2CLASS, UTT2SCORE, UTT2CORPUS)
PARTIAL = (UTT2SCORE, UTT2CORPUS)  # may lack some utterances, or not exist


def utterances(directory: Path) -> Iterator[dict[str, str]]:
    """Utterances that have features, with their value in every table of ``TABLES``; tables are read side by side.

    Raises:
        ValueError: a table lacks an utterance that has features.
    """
    present = [name for name in TABLES if name not in PARTIAL or (directory / name).is_file()]
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((directory / name).open(encoding="utf-8")) for name in present}
        lines = {name: (line.split(maxsplit=1) for line in file) for name, file in files.items()}
        ahead = {name: next(rest, None) for name, rest in lines.items()}
        while ahead[FEATS_SCP]:
            row = {"utt": ahead[FEATS_SCP][0]}
            for name, rest in lines.items():
                while ahead[name] and ahead[name][0] < row["utt"]:
                    ahead[name] = next(rest, None)
                if ahead[name] and ahead[name][0] == row["utt"]:
                    row[name] = ahead[name][1].strip() if ahead[name][1:] else ""
                elif name not in PARTIAL:
                    raise ValueError(
                        f"{directory / name}: no utterance {row['utt']}, which has features; {run_again('data')}"
                    )
            yield row
            ahead[FEATS_SCP] = next(lines[FEATS_SCP], None)


def build(directory: Path, out: Path, dtype: str, dim: int | None = None) -> dict:
    """Write the frame store of data directory ``directory`` at ``out`` and return its counts.

    Raises:
        ValueError: a table or archive is damaged or contradicts another one, or the frames have other than ``dim`` dims.
    """
    with (directory / FEATS_SCP).open("rb") as file:
        total = sum(1 for _ in file)
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    offsets, spoken = np.zeros(total + 1, np.int64), np.zeros(total + 1, np.int64)
    with (
        (temporary / FRAMES_BIN).open("wb") as frames_file,
        (temporary / CENTRES_BIN).open("wb") as centres_file,
        (temporary / STATS_BIN).open("wb") as stats_file,
        (temporary / UTTS_TSV).open("w", encoding="utf-8") as names_file,
    ):
        has_corpora = (directory / UTT2CORPUS).is_file()
        names_file.write("utt\tspeaker\tclass\tscore" + ("\tcorpus\n" if has_corpora else "\n"))
        for i, row in enumerate(
            progress(utterances(directory), what=f"frames {directory.name}", unit="utterances", total=total)
        ):
            utt = row["utt"]
            if not row[UTT2NUM_FRAMES].isdecimal():
                raise ValueError(
                    f"{directory / UTT2NUM_FRAMES}: {utt} has {row[UTT2NUM_FRAMES]!r}, not a number; {run_again('features')}"
                )
            frames, speech = (read_array(row[name], directory / name, utt) for name in (FEATS_SCP, VAD_SCP))
            length, dim = int(row[UTT2NUM_FRAMES]), dim or frames.shape[-1]
            if frames.ndim == 2 and len(frames) and frames.shape[1] != dim:
                raise ValueError(
                    f"{directory / FEATS_SCP}: utterance {utt} has {frames.shape} features: expected {dim} dims "
                    f"(features.num_filters), found {frames.shape[1]}; {run_again('features')}"
                )
            if frames.shape != (length, dim) or len(speech) != length:
                raise ValueError(
                    f"{directory}: utterance {utt} has {frames.shape} features and {len(speech)} VAD marks, "
                    f"not {length} frames of {dim}; {run_again('features')}"
                )
            frames = frames.astype(dtype)
            if not np.isfinite(frames).all():
                raise ValueError(f"{directory}: utterance {utt} has NaN or infinite features; {run_again('features')}")
            centres = offsets[i] + np.flatnonzero(speech)
            offsets[i + 1], spoken[i + 1] = offsets[i] + length, spoken[i] + len(centres)
            frames_file.write(frames.tobytes())
            centres_file.write(centres.astype(np.int64).tobytes())
            stats_file.write(cmvn_stats(frames[speech > 0]).tobytes())
            names_file.write(f"{utt}\t{row[UTT2SPK]}\t{row[UTT2CLASS]}\t{row.get(UTT2SCORE, '')}")
            names_file.write(f"\t{row.get(UTT2CORPUS, '')}\n" if has_corpora else "\n")
    np.save(temporary / OFFSETS_NPY, offsets)
    np.save(temporary / SPOKEN_NPY, spoken)
    meta = {
        "dtype": dtype,
        "dim": dim,
        "frames": int(offsets[-1]),
        "speech": int(spoken[-1]),
        "utterances": total,
    }
    (temporary / META_JSON).write_text(json.dumps(meta) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)
    return meta


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("data", type=Path, help="folder of the data directories")
    parser.add_argument("frames", type=Path, help="output folder of the stores; its config.yaml has the settings")
    parser.add_argument("--feats", type=Path, help="folder of stage features, where a front-end makes vectors")
    args = parser.parse_args(argv)
    config, directories = Config.load(args.frames / CONFIG_YAML), sets_below(args.data)
    wanted = {directory.name for directory in directories}
    for path in args.frames.glob(f"*/{META_JSON}"):
        if path.parent.name not in wanted:
            shutil.rmtree(path.parent)  # a set of an earlier run, or stage latents would score it
    if config.has_vectors:
        from dnf.features import vectors  # it imports PyTorch, which is slow

        vectors.build(directories, args.frames, config, args.data / CLASSES_TXT, args.feats)
        return 0
    for directory in directories:
        out = args.frames / directory.name
        meta = build(directory, out, config.frames.dtype, config.features.dim)
        log.info(
            "%s: %d utterances, %d frames, %d of them speech", out, meta["utterances"], meta["frames"], meta["speech"]
        )
    return 0


if __name__ == "__main__":
    entry.run(main)
