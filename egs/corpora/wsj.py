"""WSJ: read sentences of the Wall Street Journal by American speakers, 16 kHz, two microphones, 1991 to 1993.

WSJ0 is LDC93S6A (or the Sennheiser half of it, LDC93S6B), WSJ1 is LDC94S13A (Sennheiser half LDC94S13B); both come
under the licence of the Linguistic Data Consortium. Used here: the short-term speaker-independent training material
``si_tr_s`` of both, Sennheiser channel (``.wv1``): SI-84 in WSJ0 (7138 utterances, 15 h), SI-284 in both (37416
utterances, 81 h).

Layouts. Names may be in upper or lower case, as the discs were published.

    PATH/11-1.1/wsj0/si_tr_s/01i/01ic0201.wv1 ... PATH/13-34.1/wsj1/doc/indices/si_tr_s.ndx    the discs
    PATH/wsj0/si_tr_s/01i/01ic0201.wv1        ... PATH/wsj1/doc/indices/si_tr_s.ndx            merged

Discs can have any name (``disk1``) and can be in folders of their own (``csr_1``, ``LDC94S13A``): every folder wsj0
or wsj1 up to ``DEPTH`` folders below PATH counts. Files converted to wav or flac under the same names are preferred.

Which utterances: the si_tr_s folders are listed, and the index files of the corpus, ``tr_s_wv1.ndx`` and ``si_tr_s.ndx``,
select among them by utterance name, which is unique in WSJ. That is more robust than the paths of the index, which have
the published names of discs, upper and lower case and ``.wv1``, and more exact than the folders alone, which also have
adaptation sentences that are in no training set. Without an index all files except adaptation sentences are used.

An utterance is called SSSTEEUU: speaker, type of speech (``a`` is adaptation), session, number.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

from dnf.data import recipe, sphere
from dnf.data.manifests import Utterance, is_visible
from dnf.data.recipe import Manifests

log = logging.getLogger(__name__)

LAYOUT = "WSJ0 and WSJ1, LDC93S6A and LDC94S13A: the discs 11-1.1 ... 13-34.1, or merged wsj0/ and wsj1/"
SETS = ("wsj_train", "wsj_dev", "wsj_test")
INDEX = {"wsj0": "tr_s_wv1.ndx", "wsj1": "si_tr_s.ndx"}
MATERIAL = {
    "wsj0": ("SI-84", 7138),
    "wsj1": ("SI-284", 37416),
}  # published sets and their utterances, by the last corpus of each
SUFFIXES = ("wav", "flac", "wv1")  # the first that exists is used
ADAPTATION = "a"
NOT_ON_DISC = "401"  # speaker in the index of WSJ0 without recordings on the disc; not in the 7138 utterances
DEPTH = 4  # largest depth of folders wsj0 and wsj1 below PATH
OTHER_SPEECH = re.compile(r"s[id]_|doc$|trans", re.IGNORECASE)

HOURS = 50.0
DEV_HOURS = 0.05  # share of the hours of the subset
TEST_SHARE = 0.1


def read(directory: Path) -> list[Utterance]:
    """The training material below ``directory``; ids are ``wsj_<speaker>-<utterance>``, the class is en.

    Raises:
        ValueError: no such material, a damaged index, or compressed speech without a program that reads it.
    """
    corpora = corpus_folders(directory)
    paths, documents = {}, []
    for corpus, folders in corpora.items():
        recordings = list_recordings([child(folder, "si_tr_s") for folder in folders])
        about = [file for folder in folders for file in files_below(child(folder, "doc"))]
        if recordings:
            paths |= choose(recordings, [file for file in about if file.name.lower() == INDEX[corpus]], corpus)
        documents += about
        name, count = MATERIAL[corpus]
        recipe.expect(f"{directory}: {name}", {"utterances": len(paths)}, {"utterances": count})
    if not paths:
        raise ValueError(f"{directory}: no recording in a folder wsj0/si_tr_s or wsj1/si_tr_s; expected {LAYOUT}")
    first = paths[min(paths)]
    if reason := sphere.refusal(first):
        raise ValueError(f"{first}: {reason}")
    genders = read_genders([*documents, *(path for path in directory.iterdir() if is_visible(path, directory))])
    return [
        Utterance(f"wsj_{name[:3]}-{name}", f"wsj_{name[:3]}-{name}", str(path), f"wsj_{name[:3]}", "en",
                  gender=genders.get(name[:3]))
        for name, path in sorted(paths.items())
    ]  # fmt: skip


def corpus_folders(directory: Path) -> dict[str, list[Path]]:
    """Folders wsj0 and wsj1 at or below ``directory``, one per disc, by corpus."""
    found: dict[str, list[Path]] = {corpus: [] for corpus in INDEX}

    def visit(folder: Path, depth: int) -> None:
        if folder.name.lower() in found:
            found[folder.name.lower()].append(folder)
        if depth:
            for below in sorted(folder.iterdir()):
                if below.is_dir() and not OTHER_SPEECH.match(below.name):
                    visit(below, depth - 1)

    visit(directory.absolute(), DEPTH)
    return found


def child(folder: Path, name: str) -> Path | None:
    """The folder ``name`` in ``folder``, in upper or lower case, or None."""
    return next((below for below in sorted(folder.iterdir()) if below.name.lower() == name and below.is_dir()), None)


def files_below(folder: Path | None) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and is_visible(path, folder)) if folder else []


def list_recordings(folders: list[Path | None]) -> dict[str, Path]:
    """Sennheiser recordings in ``folders/<speaker>/`` by utterance name, which is in lower case."""
    found: dict[str, tuple[int, Path]] = {}
    for path in (path for folder in folders if folder for path in sorted(folder.glob("*/*"))):
        match = re.fullmatch(r"(\w{8})(?:\.wv1)?\.(wv1|wav|flac)", path.name.lower())
        if match:
            rank = SUFFIXES.index(match[2])
            if match[1] not in found or rank < found[match[1]][0]:
                found[match[1]] = rank, path
    return {name: path for name, (_, path) in found.items()}


def choose(recordings: dict[str, Path], indexes: list[Path], corpus: str) -> dict[str, Path]:
    """The ``recordings`` in the index, with a warning for each disc with missing ones; without an index, the read sentences."""
    if not indexes:
        log.warning("%s: no index %s; using all of its si_tr_s except adaptation sentences", corpus, INDEX[corpus])
        return {name: path for name, path in recordings.items() if name[3] != ADAPTATION}
    listed = {name: disc for index in indexes for name, disc in read_index(index).items()}
    missing = Counter(disc for name, disc in listed.items() if name not in recordings)
    for disc, count in sorted(missing.items()):
        of_disc = sum(disc == other for other in listed.values())
        log.warning(
            "%s: %d of the %d utterances that %s lists on disc %s are missing; copy this disc into the folder",
            corpus, count, of_disc, INDEX[corpus], disc,
        )  # fmt: skip
    return {name: recordings[name] for name in listed if name in recordings}


def read_index(path: Path) -> dict[str, str]:
    """Disc by utterance name from lines such as ``11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1``; ``;`` starts a remark.

    Raises:
        ValueError: a line has another form.
    """
    listed = {}
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        match = re.fullmatch(r"(\d+)_(\d+)_(\d+):\s*\S*?(\w{8})(?:\.wv\d)?\s*", line.lower())
        if not match:
            raise ValueError(f"{path}: line {number}: {line!r} is not '<disc>:<path>'; restore or remove the index")
        major, disc, edition, name = match.groups()
        if not name.startswith(NOT_ON_DISC):
            listed[name] = f"{major}-{disc}.{edition}"
    return listed


def read_genders(files: list[Path]) -> dict[str, str]:
    """Gender by speaker, ``m`` or ``f``, from the files called ``spkrinfo.txt``, ``wsj0-train-spkrinfo.txt`` ..."""
    genders: dict[str, dict[str, Path]] = {}
    for path in files:
        if path.name.lower().endswith("spkrinfo.txt"):
            for line in path.read_text(encoding="latin-1").lower().splitlines():
                if match := re.match(r"(\w{3})\s+([mf])\b", line):
                    genders.setdefault(match[1], {})[match[2]] = path
    for speaker, of_speaker in sorted(genders.items()):
        if len(of_speaker) > 1:
            log.warning("speaker %s: m in %s, f in %s; no gender is used", speaker, of_speaker["m"], of_speaker["f"])
    return {speaker: min(of_speaker) for speaker, of_speaker in genders.items() if len(of_speaker) == 1}


def divide(
    manifests: Manifests, output_dir: Path, seed: int, hours: float = HOURS, split: str = "speaker"
) -> dict[str, Manifests]:
    """A subset of ``hours`` in nine parts ``wsj_train`` and one ``wsj_test``, and ``wsj_dev`` from speakers outside it.

    Speakers fill, in an order that depends on their ids and the seed, first the subset and then dev, which has a twentieth
    of its hours; the other speakers are not used. With too little speech, both shrink by the same factor, so dev
    always has a speaker. The lists are written to ``output_dir/lists/wsj_{subset,dev,train,test}.txt``.

    Args:
        manifests: the training material.
        output_dir: such as ``data``.
        seed: seed of the order of speakers.
        hours: size of the subset.
        split: ``speaker``: no speaker of wsj_train is in wsj_test; ``utterance``: the subset is divided by utterance.
    """
    seconds = recipe.seconds_by(manifests, "speaker")
    total = sum(seconds.values())
    share = min(3600 * hours / total, 1 / (1 + DEV_HOURS))
    shares = {"subset": share, "dev": share * DEV_HOURS}
    if sum(shares.values()) < 1 - 1e-9:
        shares["rest"] = 1 - sum(shares.values())
    speakers = recipe.divide(seconds, shares, seed)
    subset = recipe.of_speakers(manifests, speakers["subset"])
    if share * total < 3600 * hours:
        log.warning("%.2f h of speech: the subset has %.2f h, not %g", total / 3600, share * total / 3600, hours)

    by, pick = ("speaker", recipe.of_speakers) if split == "speaker" else ("id", recipe.of_utterances)
    parts = recipe.divide(recipe.seconds_by(subset, by), {"train": 1 - TEST_SHARE, "test": TEST_SHARE}, seed)
    for name, ids in {"subset": speakers["subset"], "dev": speakers["dev"], **parts}.items():
        recipe.write_list(output_dir, f"wsj_{name}", ids)
    return {
        "wsj_train": pick(subset, parts["train"]),
        "wsj_dev": recipe.of_speakers(manifests, speakers["dev"]),
        "wsj_test": pick(subset, parts["test"]),
    }
