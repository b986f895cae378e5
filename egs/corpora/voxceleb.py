"""VoxCeleb1 and VoxCeleb2: speech of celebrities from interview videos, mostly English, "in the wild", 16 kHz.

Origin: Nagrani et al., "VoxCeleb: a large-scale speaker identification dataset", Interspeech 2017; Chung et al.,
"VoxCeleb2: deep speaker recognition", Interspeech 2018; https://www.robots.ox.ac.uk/~vgg/data/voxceleb/.
Licence: Creative Commons Attribution 4.0 for the dataset; the copyright of the videos remains with their owners.
Size: VoxCeleb1 1,251 speakers, 153,516 utterances, 352 h; VoxCeleb2 6,112 speakers, 1,128,246 utterances, 2,442 h.

Layout: ``vox1_meta.csv`` (``vox2_meta.csv``) and, in the same folder or up to two below it,
``idNNNNN/<video>/NNNNN.wav``, as in ``wav/id10001/1zcIwhmdeo4/00001.wav``, or ``dev/wav/...`` and ``test/wav/...``.
VoxCeleb2 is published as AAC in .m4a, which no library of this project reads: convert it to .wav or .flac first.

``lhotse.recipes.voxceleb.prepare_voxceleb`` (lhotse 1.33.0) is not used: for VoxCeleb1 it downloads a list of verification
trials, so it fails without a network, and it searches a list for each of 153,516 recordings; for VoxCeleb2 it reads only
.m4a, so it finds nothing in a converted tree. The division is that of this recipe and of Kaldi's: the test speakers of
VoxCeleb1 are the test set; its other speakers and all of VoxCeleb2 are for training.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from dnf.data import recipe
from dnf.data.kaldi_files import read_text
from dnf.data.manifests import Utterance, is_visible
from dnf.data.recordings_table import gender_of

READABLE = (".wav", ".flac")
SPEAKER = "id" + 5 * "[0-9]"
URL = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta"
PUBLISHED = {
    "vox1": {"speakers": 1251, "utterances": 153516},
    "vox2": {"speakers": 6112, "utterances": 1128246},
}


class Speaker(NamedTuple):
    """A line of a meta file. VoxCeleb2 has no nationalities; ``part`` is dev or test."""

    gender: str | None
    nationality: str
    part: str


def read(
    vox1: Path | None, vox2: Path | None = None, name: str = "en", nationalities: Collection[str] = ()
) -> dict[str, list[Utterance]]:
    """Utterances of VoxCeleb1 and VoxCeleb2, as far as given; no recording is opened.

    Args:
        vox1: folder of VoxCeleb1.
        vox2: folder of VoxCeleb2, converted to wav or flac.
        name: class of all of them.
        nationalities: keep only speakers of these, such as USA and UK; empty: all.

    Returns:
        ``train`` and ``test``; ``test`` has the test speakers of VoxCeleb1. All speakers are called ``vox_idNNNNN``.

    Raises:
        ValueError: no meta file, a speaker who is not in it, a nationality without speakers, or files in .m4a.
    """
    if vox2 and nationalities:
        raise ValueError("VoxCeleb2 has no nationalities: omit --vox2 or --nationalities")
    sets: dict[str, list[Utterance]] = {"train": [], "test": []}
    for corpus, root in (("vox1", vox1), ("vox2", vox2)):
        if root is None:
            continue
        meta = read_meta(root / f"{corpus}_meta.csv")
        unknown = sorted(set(nationalities) - {speaker.nationality for speaker in meta.values()})
        if unknown:
            raise ValueError(f"{root / f'{corpus}_meta.csv'}: no speaker of nationality {', '.join(unknown)}")
        found = {"speakers": 0, "utterances": 0}
        for speaker, folders in sorted(speaker_folders(root).items()):
            if speaker not in meta:
                raise ValueError(
                    f"{folders[0]}: speaker {speaker} is not in {root / f'{corpus}_meta.csv'}; correct one of the two"
                )
            recordings = recordings_of(folders)
            found["speakers"] += 1
            found["utterances"] += len(recordings)
            if nationalities and meta[speaker].nationality not in nationalities:
                continue
            part = "test" if corpus == "vox1" and meta[speaker].part == "test" else "train"
            for rest, path in sorted(recordings.items()):
                utt = f"vox_{speaker}-{rest}"
                sets[part].append(Utterance(utt, utt, path, f"vox_{speaker}", name, gender=meta[speaker].gender))
        if not found["utterances"]:
            raise ValueError(
                f"--{corpus} {root}: no idNNNNN/<video>/NNNNN.wav or .flac in it or up to two folders below"
            )
        recipe.expect(f"--{corpus} {root}", found, PUBLISHED[corpus])
    return sets


def read_meta(path: Path) -> dict[str, Speaker]:
    """Speakers by id from ``vox1_meta.csv`` (tabs) or ``vox2_meta.csv`` (commas, no nationality)."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; download it from {URL}/{path.name} into {path.parent}")
    speakers, seen = {}, {}
    rows = csv.reader(
        io.StringIO(read_text(path, "utf-8-sig"), newline=""), delimiter="\t" if path.name.startswith("vox1") else ","
    )
    for line, row in enumerate(rows, start=1):
        fields = [field.strip() for field in row]
        if line == 1 or not fields:
            continue
        if len(fields) not in (4, 5) or fields[-1] not in ("dev", "test"):
            raise ValueError(
                f"{path}: line {line}: not '<id> <name> <gender> [<nationality>] dev|test'; download it again"
            )
        speaker = Speaker(
            gender_of(fields[2], f"{path}: line {line}"), fields[3] if len(fields) == 5 else "", fields[-1]
        )
        if speakers.setdefault(fields[0], speaker) != speaker:
            raise ValueError(f"{path}: line {line}: {fields[0]} differs from line {seen[fields[0]]}; download it again")
        seen[fields[0]] = line
    return speakers


def speaker_folders(root: Path) -> dict[str, list[Path]]:
    """Folders of speakers by name, in ``root`` or up to two folders below it."""
    folders: dict[str, list[Path]] = {}
    for above in ("", "*/", "*/*/"):
        for path in sorted(root.glob(above + SPEAKER)):
            folders.setdefault(path.name, []).append(path)
    return folders


def recordings_of(folders: Sequence[Path]) -> dict[str, str]:
    """Paths of a speaker's recordings by ``<video>-<number>``; ``ValueError`` for an .m4a without a converted file."""
    found: dict[str, str] = {}
    encoded = {}
    for path in sorted(path for folder in folders for path in folder.glob("*/*.*") if is_visible(path, folder)):
        key = f"{path.parent.name}-{path.stem}"
        if path.suffix == ".m4a":
            encoded[key] = path
        elif path.suffix in READABLE:
            found.setdefault(key, str(path.absolute()))
    left = sorted(encoded.keys() - found.keys())
    if left:
        raise ValueError(
            f"{encoded[left[0]]}: AAC in .m4a cannot be read here; convert VoxCeleb2 to 16 kHz mono .wav or .flac, "
            f"e.g. ffmpeg -i x.m4a -ac 1 -ar 16000 x.flac for each file, and give that folder"
        )
    return found
