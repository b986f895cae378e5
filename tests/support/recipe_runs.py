"""Running a recipe with tiny settings: as a user does, and the stages after the frames in this process."""

import base64
import contextlib
import csv
import importlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from dnf.experiment.config import Config, read_yaml

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]
TINY = (
    "flow.blocks=2", "flow.hidden=16", "train.steps=24", "train.eval_steps=8", "train.batch_size=200", "train.warmup_steps=2",
    "train.precision=float32", "latents.save_frames=600", "latents.mardia_frames=600", "plots.tsne_points=60", "plots.tsne_perplexity=5", "plots.dpi=40", "report.bootstrap=50",
    "baselines.enabled=false", "baselines.mlp_epochs=1", "baselines.mlp_hidden=16", "baselines.gmm_components=2", "latents.durations=[]",
)  # fmt: skip


def counts(train: int, dev: int, test: int, other: int, utterances: int) -> tuple[str, ...]:
    """Options of ``egs/mini``: speakers of each set, and utterances of each speaker."""
    sizes = {"train-speakers": train, "dev-speakers": dev, "test-speakers": test, "other-speakers": other}
    return tuple(word for name, n in (sizes | {"utterances": utterances}).items() for word in (f"--{name}", str(n)))


def other_takes(voices: dict[str, list], offset: int) -> dict[str, list]:
    """The same voices in recordings of their own, with an offset that nobody hears: no two corpora share a recording."""
    return {
        name: [
            (speaker, gender, [samples + offset for samples in utterances]) for speaker, gender, utterances in spoken
        ]
        for name, spoken in voices.items()
    }


def stage_arguments(root: Path, exp: Path | None = None) -> list[str]:
    """What stages 3 and 4 are given: ``root/frames``, the experiment (``root/exp``) and ``root/classes.txt``."""
    return [str(root / "frames"), str(exp or root / "exp"), "--classes", str(root / "classes.txt"), "--device", "cpu"]


def write_scores(folder: Path) -> None:
    """Expert scores of all utterances of a data directory, which depend on the speaker and the utterance."""
    utts = [line.split()[0] for line in (folder / "utt2spk").read_text().splitlines()]
    scores = [1 + 7 * (n // 2) % 5 + n % 2 for n in range(len(utts))]
    (folder / "utt2score").write_text("".join(f"{utt} {score}\n" for utt, score in zip(utts, scores)))


def make_frames(root: Path, config: Config) -> None:
    """Stages features and frames of ``root/data``, and the settings where the stages after them read theirs."""
    from dnf.features import collect, extract, frames

    for folder in ("feats", "frames", "exp"):
        config.save(root / folder / "config.yaml")
    assert extract.main(["compute", str(root / "data"), str(root / "feats")]) == 0
    assert collect.main([str(root / "data"), str(root / "feats")]) == 0
    assert frames.main([str(root / "data"), str(root / "frames")]) == 0


def run_stages(root: Path) -> None:
    """Stages 3, 4, 6 and 7 of ``root/exp``, which has its settings."""
    from dnf.decisions import decide
    from dnf.scoring import latents, score
    from dnf.training import train

    for main in (train.main, latents.main):
        assert main(stage_arguments(root)) == 0
    for main in (score.main, decide.main):
        assert main([str(root / "exp")]) == 0


def experiments_on_frames(recipe: str) -> list[str]:
    """The experiments of a recipe that are not on vectors."""
    paths = sorted((ROOT / "egs" / recipe / "conf").glob("*.yaml"))
    return [path.stem for path in paths if read_yaml(path).get("features", {}).get("kind") != "vectors"]


def command(*options: str, tiny: bool = True) -> list[str]:
    """The command line of ``run.sh``; a ``--recipe`` stands first."""
    settings = [word for setting in TINY for word in ("--set", setting)] if tiny else []
    recipe, options = (options[:2], options[2:]) if options[:1] == ("--recipe",) else ((), options)
    return [str(ROOT / "run.sh"), *recipe, "--nj", "2", "--device", "cpu", *settings, *map(str, options)]


def run(folder: Path, *options: str, tiny: bool = True, status: int = 0) -> str:
    """What ``run.sh`` says when it is run in ``folder``; its status must be the one expected."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command(*options, tiny=tiny), cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_recipe(folder: Path, recipe: str, *options: str, tiny: bool = True, status: int = 0) -> str:
    """What a recipe's run says."""
    return run(folder, "--recipe", recipe, *options, tiny=tiny, status=status)


DOT = base64.b64decode(  # a PNG file of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
STAGES = {  # after the frames: what run.sh starts, with {frames}, {exp} and {data} for the folders
    "train": ("dnf.training.train {frames} {exp} --classes {data}/classes.txt --device cpu",),
    "latents": (
        "dnf.scoring.latents {frames} {exp} --classes {data}/classes.txt --device cpu",
        "dnf.scoring.baselines {frames} {exp} --classes {data}/classes.txt --device cpu",
    ),
    "plots": ("dnf.plots.draw {exp}",),
    "score": ("dnf.scoring.score {exp}",),
    "decide": ("dnf.decisions.decide {exp}",),
    "report": ("dnf.report.results {exp}", "dnf.report.html {exp}"),
}


def stage_commands(name: str, exp: str) -> list[str]:
    """The commands of stage ``name`` of an experiment: module and arguments."""
    return [line.format(data="data", frames="exp/frames", exp=f"exp/{exp}") for line in STAGES[name]]


def recipe_words(recipe: str) -> dict[str, list[str]]:
    """The arrays of a recipe's recipe.conf, and each of its options with its default, as lists of words."""
    source = r"""RECIPE_MEANS=(); . "$0"
        for name in RECIPE_SETTINGS RECIPE_MEANS RECIPE_OPTIONS "${RECIPE_OPTIONS[@]}"; do
          declare -n words=$name; printf '%s\0' "$name" "${words[@]}"; printf '\036'
        done"""
    conf = ROOT / "egs" / recipe / "recipe.conf"
    said = subprocess.run(["bash", "-c", source, conf], capture_output=True, text=True, check=True).stdout
    records = (record.removesuffix("\0").split("\0") for record in said.removesuffix("\036").split("\036"))
    return {name: words for name, *words in records}


def stage_options(recipe: str, exp: str, options: Sequence[object], *settings: str) -> list[str]:
    """What run.sh gives ``dnf.experiment.stage`` of an experiment with tiny settings.

    Args:
        recipe: folder below egs/.
        exp: an experiment of its conf/.
        options: of the recipe, in turn the name, as ``--wsj``, and the value.
        settings: more of them, as ``section.key=value``.
    """
    words_of = recipe_words(recipe)
    values = {name: "".join(words_of.get(name, [])) for name in words_of["RECIPE_OPTIONS"]}
    values |= {
        name.removeprefix("--").replace("-", "_"): str(value) for name, value in zip(options[::2], options[1::2])
    }
    given = {name: value for name, value in values.items() if value}
    means = words_of["RECIPE_MEANS"]
    source = [f"--{name.replace('_', '-')} {value}" for name, value in given.items() if name not in means]
    words = [word for setting in words_of["RECIPE_SETTINGS"] for word in ("--set", setting)]
    words += ["--config", str(ROOT / "egs" / recipe / "conf" / f"{exp}.yaml")]
    words += [word for setting in (*TINY, *settings) for word in ("--set", setting)]
    words += ["--data", "data", "--feats", "exp/feats", "--frames", "exp/frames", "--exp", f"exp/{exp}"]
    words += ["--source", " ".join(["recipe", recipe, *source])]
    tables = [value for value in given.values() if "/" in value or Path(value).exists()]
    return [*words, *(word for table in tables for word in ("--source-tables", table))]


def run_here(
    folder: Path, recipe: str, exp: str, options: Sequence[object], *settings: str, last: str = "report"
) -> None:
    """Stages train to ``last`` of an experiment, as run.sh runs them, but in this process, and without painting pictures.

    run.sh has made data and frames in ``folder`` with the same options. Every picture is composed, but neither laid out
    nor drawn: its file is that of a dot; t-SNE gives the first two dims. The arguments are those of ``stage_options``.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from sklearn.manifold import TSNE

    from dnf.experiment import stage

    given = stage_options(recipe, exp, options, *settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        patch.setattr(TSNE, "fit_transform", lambda tsne, x: x[:, :2])
        patch.setattr(Figure, "savefig", lambda figure, file, **given: file.write(DOT))
        stage.hash_tables.cache_clear()
        for name in STAGES:
            with contextlib.redirect_stdout(None):
                assert stage.main(["begin", name, *given]) == 0
            for line in stage_commands(name, exp):
                module, *words = line.split()
                assert importlib.import_module(module).main(words) == 0
            assert stage.main(["finish", name, *given]) == 0
            if name == last:
                break


def results(folder: Path, exp: str) -> list[dict[str, str]]:
    """Rows of an experiment's results.tsv."""
    with (folder / "exp" / exp / "results.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def environment(*folders: Path) -> dict[str, str]:
    """For running modules of the project, and those in ``folders``, directly."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, *folders)))}


def until_it_ends(terminal: int) -> bytes:
    """What a terminal shows until nothing writes to it any more; it is closed then."""
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:
        pass  # the end of a terminal
    os.close(terminal)
    return shown


def on_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Status of a command that has a terminal as its stderr, and what it showed there."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = until_it_ends(ours).decode()
    return process.wait(timeout=60), shown
