"""Sets of the experiment ``speakers``: the speakers are the classes, and test sets have the published lists of trials.

    set             content
    train, dev      speakers with 10 utterances or more, 85 and 15 % of the utterances of each
    voxceleb_test   test speakers of VoxCeleb1; trials of VoxCeleb1-O, veri_test2.txt (cleaned) or veri_test.txt
    cnceleb_test    test speakers of CN-Celeb1, with the enrolment recordings of eval/enroll; trials of eval/lists/trials.lst

The lists of VoxCeleb are at https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/ and belong beside ``vox1_meta.csv``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from dnf.data import recipe
from dnf.data.kaldi_files import read_text
from dnf.data.manifests import Utterance
from dnf.data.recipe import Manifests
from dnf.experiment.files import replace_file
from dnf.experiment.layout import TRIALS
from egs.corpora import cnceleb, speakers, voxceleb

log = logging.getLogger(__name__)

LEAST = 10  # utterances of a training speaker, as in arXiv:2004.04095
VOXCELEB_LISTS = ("veri_test2.txt", "veri_test.txt")


def make(corpus_dirs: Mapping[str, Path], output_dir: Path, seed: int, max_rejected: float) -> dict[str, Manifests]:
    """Manifests by set of the corpora that are given.

    Raises:
        ValueError: no training speaker has enough utterances.
    """
    given, tests = corpus_dirs.get, {}
    train: list[Utterance] = []
    if corpus_dirs.keys() & {"vox1", "vox2"}:
        parts = voxceleb.read(given("vox1"), given("vox2"))
        train, tests["voxceleb_test"] = train + parts["train"], parts["test"]
    if corpus_dirs.keys() & {"cnceleb1", "cnceleb2"}:
        parts = cnceleb.read(given("cnceleb1"), given("cnceleb2"))
        enrolled = cnceleb.enrolments(corpus_dirs["cnceleb1"]) if "cnceleb1" in corpus_dirs else []
        train, tests["cnceleb_test"] = train + parts["train"], parts["test"] + enrolled
    made = {
        name: recipe.make(name, part, output_dir, max_rejected)
        for name, part in {"train": train, **tests}.items()
        if part
    }
    sets = speakers.train_and_dev(made.pop("train"), LEAST, seed)
    return sets | {name: speakers.unlabelled(of_set) for name, of_set in made.items()}


def write_trials(corpus_dirs: Mapping[str, Path], output_dir: Path) -> None:
    """Write ``trials`` of each test set whose corpus has its list."""
    if "vox1" in corpus_dirs:
        found = [corpus_dirs["vox1"] / name for name in VOXCELEB_LISTS if (corpus_dirs["vox1"] / name).is_file()]
        if found:
            write(output_dir / "voxceleb_test" / TRIALS, (vox_trial(*line) for line in lines(found[0])))
        else:
            log.warning("%s: no %s: voxceleb_test has no trials", corpus_dirs["vox1"], " or ".join(VOXCELEB_LISTS))
    if "cnceleb1" in corpus_dirs:
        path = corpus_dirs["cnceleb1"] / "eval" / "lists" / "trials.lst"
        if path.is_file():
            write(output_dir / "cnceleb_test" / TRIALS, (cn_trial(*line) for line in lines(path)))
        else:
            log.warning("%s: no such file: cnceleb_test has no trials", path)


def lines(path: Path) -> list[list[str]]:
    """Lines of three fields.

    Raises:
        ValueError: a line has other fields.
    """
    rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or not {row[0], row[2]} & {"0", "1"}:
            raise ValueError(f"{path}: line {number}: {' '.join(row)[:80]!r} is not a trial; download the list again")
    return rows


def write(path: Path, trials) -> None:
    text = "".join(f"{first} {second} {'target' if label == '1' else 'nontarget'}\n" for first, second, label in trials)
    replace_file(path, text)


def vox_trial(label: str, *paths: str) -> tuple[str, str, str]:
    """``1 id10270/x6uYqmx31kE/00001.wav ...`` with the ids of ``egs.corpora.voxceleb``."""
    first, second = (f"vox_{path.rsplit('.', 1)[0].replace('/', '-')}" for path in paths)
    return first, second, label


def cn_trial(enrolment: str, path: str, label: str) -> tuple[str, str, str]:
    """``id00800-enroll test/id00800-singing-01-002.wav 1`` with the ids of ``egs.corpora.cnceleb``."""
    return f"cn_{enrolment}", f"cn_{Path(path).stem}", label
