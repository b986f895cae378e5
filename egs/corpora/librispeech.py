"""LibriSpeech: English audio books of LibriVox, read by volunteers, 16 kHz FLAC.

Origin: Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015;
https://www.openslr.org/12. Licence: CC BY 4.0. Most readers are native speakers, but the corpus does not record it.
Size of the parts used here: train-clean-100 28,539 utterances of 251 speakers, 100.6 h; test-other 2,939 of 33, 5.1 h.

    LibriSpeech/SPEAKERS.TXT                                   gender of each reader; may be missing
    LibriSpeech/<part>/<reader>/<chapter>/<reader>-<chapter>-<number>.flac
    LibriSpeech/<part>/<reader>/<chapter>/<reader>-<chapter>.trans.txt      list of utterances; the words are not used
"""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Mapping
from pathlib import Path

from lhotse.recipes.librispeech import download_librispeech

from dnf.data import recipe
from dnf.data.kaldi_files import read_text
from dnf.data.manifests import Utterance, is_visible
from dnf.data.recipe import Manifests
from dnf.experiment import entry

log = logging.getLogger(__name__)

FOLDER = "LibriSpeech"
URL = "https://www.openslr.org/12"
LAYOUT = f"LibriSpeech of {URL} with train-clean-100 and test-other; --download true fetches it"
PUBLISHED = {
    "train-clean-100": {"utterances": 28539, "speakers": 251},
    "test-other": {"utterances": 2939, "speakers": 33},
}


def read(folder: Path, part: str, output_dir: Path, max_rejected: float = 0.01) -> Manifests:
    """One part of LibriSpeech, class en, speakers ``librispeech_<reader>``.

    Args:
        folder: LibriSpeech.
        part: a key of ``PUBLISHED``.
        output_dir: gets ``lists/librispeech_<part>_rejected.txt``.
        max_rejected: share of the recordings that may be missing or unreadable.

    Raises:
        ValueError: the part is missing, or too many of its recordings are missing or unreadable.
    """
    folder = folder.absolute()
    lists = sorted(path for path in (folder / part).rglob("*.trans.txt") if is_visible(path, folder))
    listed = {line.split()[0] for path in lists for line in read_text(path).splitlines() if line.strip()}
    if not listed:
        raise ValueError(f"--librispeech {folder}: no {part}/<reader>/<chapter>/*.trans.txt; expected {LAYOUT}")
    genders = read_genders(folder / "SPEAKERS.TXT")
    spoken = [utterance(folder / part, name, genders) for name in sorted(listed)]
    made = recipe.make(f"librispeech_{part}", spoken, output_dir, max_rejected)
    recipe.expect(f"LibriSpeech {part}", recipe.counts(made), PUBLISHED[part])
    return made


def utterance(folder: Path, name: str, genders: Mapping[str, str]) -> Utterance:
    """The utterance ``<reader>-<chapter>-<number>`` of the part in ``folder``."""
    reader, rest = name.split("-", 1) if "-" in name else (name, "")
    path = folder / Path(*name.split("-")).parent / f"{name}.flac"
    speaker = f"librispeech_{reader}"
    utt = f"{speaker}-{rest}"
    return Utterance(utt, utt, str(path), speaker, "en", gender=genders.get(reader), language="English")


def read_genders(path: Path) -> dict[str, str]:
    """``m`` or ``f`` by reader, from lines ``<reader> | F | ...`` of SPEAKERS.TXT; empty without this file."""
    if not path.is_file():
        log.info("%s: does not exist; no gender is used", path)
        return {}
    lines = (line.split("|") for line in read_text(path).splitlines() if not line.startswith(";"))
    return {fields[0].strip(): fields[1].strip().lower() for fields in lines if len(fields) > 1}


def download(folder: Path) -> None:
    """Download the parts that ``folder`` lacks, 6.6 GB; the archives stay beside it."""
    if folder.name != FOLDER:
        raise ValueError(
            f"--librispeech {folder}: the download creates a folder {FOLDER}; use this name, or omit the option"
        )
    missing = [part for part in PUBLISHED if lacks(folder / part, folder.parent / f"{part}.tar.gz")]
    if not missing:
        return
    try:
        download_librispeech(folder.parent, dataset_parts=missing)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{URL}: {' '.join(missing)} download failed ({entry.describe(error)}); start again to continue, "
            f"or unpack the archives in {folder.parent} yourself"
        ) from None


def lacks(folder: Path, archive: Path) -> bool:
    """Whether ``folder`` does not exist, or unpacking was interrupted."""
    return not folder.is_dir() or archive.is_file() and not (folder / ".completed").is_file()
