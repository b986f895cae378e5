"""The recordings to classify: named files, and utterances of a Kaldi data directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dnf.data.audio_blocks import Source
from dnf.data.kaldi_files import read_table
from dnf.data.manifests import absolute, number
from dnf.experiment.config import Config
from dnf.experiment.layout import SEGMENTS, UTT2SPK, WAV_SCP


def check_takes_recordings(exp: Path, config: Config) -> None:
    """Raise ``ValueError`` for a model of vectors that came with the data, which cannot classify recordings."""
    if config.reads_vectors:
        raise ValueError(
            f"{exp}: was trained on vectors and cannot read recordings; extract vectors with their front-end, and add them "
            "as a test set of the experiment"
        )


class Item(NamedTuple):
    """A recording to classify: ``name`` is its name in the output; items of a ``group`` are normalized together."""

    name: str
    source: Source
    group: str


def read_items(recordings: Sequence[str], data_dir: Path | None, channel: int | None) -> list[Item]:
    """The named recordings, then the utterances of a data directory.

    Args:
        recordings: paths.
        data_dir: data directory with wav.scp and optionally segments and utt2spk; or None.
        channel: channel of recordings with several, from 0; None: their mean.

    Raises:
        ValueError: wav.scp is missing or empty or contains a command, or a segment has no known recording or no times.
    """
    items = [Item(path, Source(path, channel), f"recording {path}") for path in recordings]
    if data_dir is None:
        return items
    if not (data_dir / WAV_SCP).is_file():
        raise ValueError(f"--data-dir {data_dir}: has no wav.scp; give a Kaldi data directory")
    wavs = read_table(data_dir / WAV_SCP)
    whole = {utt: f"{utt} 0 -1" for utt in wavs}
    segments = read_table(data_dir / SEGMENTS) if (data_dir / SEGMENTS).is_file() else whole
    if not segments:
        raise ValueError(f"--data-dir {data_dir}: has no utterances; give a data directory with recordings")
    utt2spk = read_table(data_dir / UTT2SPK) if (data_dir / UTT2SPK).is_file() else {}
    for utt, text in segments.items():
        fields = text.split()
        if len(fields) != 3:
            raise ValueError(
                f"{data_dir / SEGMENTS}: {utt} {text}: give utterance, recording, start and end in seconds"
            )
        recording, *times = fields
        start, end = (number(text, f"{data_dir / SEGMENTS}: {utt}") for text in times)
        path = wavs.get(recording)
        if path is None:
            raise ValueError(f"{data_dir / SEGMENTS}: recording {recording} of {utt} is not in wav.scp")
        if path.rstrip().endswith("|"):
            raise ValueError(f"{data_dir / WAV_SCP}: {recording} is a command; write its output to a file first")
        source = Source(absolute(path, Path.cwd()), channel, start, None if end == -1 else end)
        items.append(Item(utt, source, f"speaker {utt2spk[utt]}" if utt in utt2spk else f"recording {utt}"))
    return items


def picture_names(items: Sequence[Item]) -> dict[Item, str]:
    """Names of the items' pictures: the file name without its suffix, or the complete path if several files share the name."""
    stems = [Path(item.name).stem if item.group.startswith("recording") else item.name for item in items]
    counts = Counter(stems)
    return {
        item: stem if counts[stem] == 1 else item.name.strip("/").replace("/", "_") for item, stem in zip(items, stems)
    }
