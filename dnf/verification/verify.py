"""Verify speakers: score trials by back-ends on the vectors and on the latents of an experiment.

``python3 -m dnf verify exp/speakers --set test`` scores the trials of the set, or all pairs of its utterances; ``--trials FILE``
reads others, and ``--enrolments MAP`` gives enrolments of several utterances. Back-ends are fitted on the training sets. Cllr is of
scores calibrated on pairs of the dev set. Writes ``exp/<experiment>/verify/<name>/``: ``results.txt``, ``results.tsv``,
``det.png`` and, if asked, ``scores.tsv``.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnf.data.kaldi_files import read_table
from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.files import replace_file
from dnf.experiment.layout import (
    CONFIG_YAML,
    DET,
    LATENTS,
    LISTS,
    META_JSON,
    REJECTED_TXT,
    RESULTS_TSV,
    RESULTS_TXT,
    SCORES_TSV,
    TRIALS,
    UTT2SESS,
    UTT2SPK,
    UTTS_TSV,
    VERIFY,
    Z_MEAN_NPY,
    Layout,
    run_stage,
)
from dnf.experiment.sets import fitted_sets, name_of
from dnf.experiment.settings import SET_NAME
from dnf.experiment.tables import aligned, write_tsv
from dnf.metrics.figure_rows import COLUMNS, row_of, share_row
from dnf.metrics.figures import METRICS
from dnf.metrics.verification import Scored, affine, figures, identified, intervals, thinned
from dnf.models.backends import Cosine, Groups, LengthNormalized, Plda, normalized_likelihood
from dnf.plots.style import write_figures
from dnf.plots.verification_figure import det_figure
from dnf.scoring.latent_store import UtteranceRows, mapped
from dnf.verification.scores import Backend, Features, as_norm, trial_scores
from dnf.verification.trial_list import (
    Enrolments,
    TrialList,
    Utterances,
    all_trials,
    drawn_pairs,
    numbered,
    read_trials,
    warn_of_single,
)

log = logging.getLogger(__name__)

RAW, INPUT, OF_FLOW = (
    "raw",
    "vectors",
    "latents",
)  # what is scored: vectors before stage frames, after it, after the flow
BACKENDS = {
    "uncentred": Cosine.uncentred,
    "cosine": Cosine.fit,
    "lda": Cosine.lda,
    "plda": Plda.fit,
    "plda_norm": LengthNormalized.fit,
    "nl": normalized_likelihood,
}
OFFERED = {  # back-ends of each
    RAW: ("uncentred", "cosine"),
    INPUT: ("cosine", "lda", "plda", "plda_norm"),
    OF_FLOW: ("cosine", "plda", "plda_norm", "nl"),
}
CALIBRATION_PAIRS = 50  # target pairs of each speaker of dev for the calibration, and as many others
SHOWN = ("eer", "min_dcf_01", "min_dcf_05", "cllr", "identification")


class VectorSet(NamedTuple):
    """One vector of each utterance of a set.

    Attributes:
        names, speakers: of U utterances.
        x: ``(U, D)``; may be mapped from disk.
    """

    names: list[str]
    speakers: list[str]
    x: np.ndarray


def read_set(exp: Path, name: str, kind: str) -> VectorSet:
    """The vectors of a set as they came or were made, as stage frames left them, or its latents, means over frames.

    Raises:
        ValueError: the set has none.
    """
    layout = Layout.read(exp)
    folder = exp / LATENTS / name if kind == OF_FLOW else layout.frames / name
    if not (folder / META_JSON).is_file():
        present = sorted(path.parent.name for path in folder.parent.glob(f"*/{META_JSON}"))
        remedy = f"there are {', '.join(present)}" if present else run_stage("latents" if kind == OF_FLOW else "frames")
        what = OF_FLOW if kind == OF_FLOW else INPUT
        raise ValueError(f"{folder}: set {name} has no {what}; {remedy}")
    if kind == RAW:
        from dnf.features.front_ends import make_front_end  # torch is slow to import
        from dnf.features.vectors import Vectors

        made = Vectors.read(layout.data / name, make_front_end(Config.load(exp / CONFIG_YAML), layout.feats))
        return VectorSet(made.utts, made.speakers, made.x)
    if kind == OF_FLOW:
        rows = list(UtteranceRows(folder / UTTS_TSV))
        return VectorSet([row["utt"] for row in rows], [row["speaker"] for row in rows], mapped(folder / Z_MEAN_NPY))
    from dnf.features.frame_store import FrameStore

    store = FrameStore(folder)
    return VectorSet(store.utterances, store.speakers, store.frames.numpy())


def joined(sets: Sequence[VectorSet]) -> VectorSet:
    """The utterances of all sets."""
    if len(sets) == 1:
        return sets[0]
    names, speakers = ([name for part in sets for name in part[column]] for column in (0, 1))
    return VectorSet(names, speakers, np.concatenate([part.x for part in sets]))


def read_role(exp: Path, config: Config, role: str, kind: str) -> VectorSet:
    """Vectors of the training or dev sets together."""
    if kind == OF_FLOW:
        return read_set(exp, name_of(config.data, role), kind)
    return joined([read_set(exp, name, kind) for name in getattr(config.data, role)])


def prior_variances(config: Config, z: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """Variances ``(D,)`` of latents within class: those of the prior, or those measured if the prior has learned them."""
    prior = config.prior
    if prior.variances == "fixed":
        cond = z.shape[1] if prior.cond_dim is None else prior.cond_dim
        return np.where(np.arange(z.shape[1]) < cond, prior.var_c, prior.var_r)
    return (z - Groups.of(z, speaker).means[speaker]).var(0)


def fitted(names: Sequence[str], train: VectorSet, kind: str, config: Config) -> Iterator[tuple[str, Backend]]:
    """Those of the back-ends that are offered for vectors of this kind, fitted to the training vectors."""
    x, speaker = np.asarray(train.x, np.float64), numbered(train.speakers)
    for name in names:
        if name in OFFERED[kind]:
            more = (prior_variances(config, x, speaker),) if name == "nl" else ()
            yield name, BACKENDS[name](x, speaker, *more)


def speaker_means(of_set: VectorSet) -> np.ndarray:
    """Mean vector ``(S, D)`` of each speaker, the cohort of as-norm."""
    return Groups.of(of_set.x, numbered(of_set.speakers)).means


class Task(NamedTuple):
    """What is verified.

    Attributes:
        name: of the trials.
        set: name of the set of the utterances.
        utterances, enrolments, trials: of the set.
        pairs: whether enrolments are the utterances of the set, and the score does not depend on the order.
    """

    name: str
    set: str
    utterances: Utterances
    enrolments: Enrolments
    trials: TrialList
    pairs: bool


def prepared_utterances(data: Path, name: str) -> set[str]:
    """Utterances of a set before stages data and features rejected some; the lists of a recipe have those of its other sets, too."""
    tables = [data / name / UTT2SPK, data / name / REJECTED_TXT, *data.glob(f"{LISTS}/*_{REJECTED_TXT}")]
    return {utt for path in tables if path.is_file() for utt in read_table(path)}


def make_task(args: argparse.Namespace, name: str, of_set: VectorSet, seed: int) -> Task:
    """The trials of the arguments.

    Raises:
        ValueError: trials, enrolments or sessions are wrong.
    """
    data = Layout.read(args.exp).data
    sessions = args.sessions or data / name / UTT2SESS
    table = read_table(sessions) if args.sessions or sessions.is_file() else {}
    utterances = Utterances.of(name, of_set.names, of_set.speakers, table)
    utterances = utterances._replace(rejected=prepared_utterances(data, name).difference(of_set.names))
    pairs = args.enrolments is None
    enrolments = Enrolments.each(utterances) if pairs else Enrolments.read(args.enrolments, utterances)
    published = data / name / TRIALS
    path = args.trials or (published if published.is_file() and not args.per_speaker and pairs else None)
    if path is not None:
        trials = read_trials(path, enrolments, utterances)
    else:
        if pairs:
            warn_of_single(utterances, sorted(set(of_set.speakers)))
        if args.per_speaker is not None:
            trials = drawn_pairs(utterances, args.per_speaker, seed)
        else:
            trials = all_trials(enrolments, utterances, pairs=pairs)
    stem = path.stem if path is not None else TRIALS
    label = args.name or (name if stem in (name, TRIALS) else f"{name}_{stem}")
    return Task(label, name, utterances, enrolments, trials, pairs)


def scored(task: Task, x: np.ndarray, backend: Backend, cohort: np.ndarray | None) -> Scored:
    """The trials of a task with their scores."""
    features = Features(backend, x, task.enrolments)
    scores = trial_scores(features, task.trials)
    if cohort is not None:
        scores = as_norm(scores, features, task.trials, cohort)
    speakers = task.enrolments.speakers[task.trials.enrolled], task.utterances.speakers[task.trials.tested]
    return Scored(scores, task.trials.target, *speakers)


def calibrated(trials: Scored, dev: Scored | None) -> Scored:
    """The trials with log-likelihood ratios by a map fitted on those of dev, where there are some."""
    if dev is None:
        return trials
    slope, offset = affine(dev.scores, dev.target)
    return trials._replace(llr=slope * trials.scores + offset)


def dev_task(exp: Path, config: Config, name: str | None, kind: str, seed: int) -> tuple[Task, VectorSet] | None:
    """Pairs of the dev set, or of set ``name``, for the calibration; None, with a message, if it has none of both kinds."""
    of_set = read_set(exp, name, kind) if name else read_role(exp, config, "dev", kind)
    label = name or name_of(config.data, "dev")
    try:
        utterances = Utterances.of(label, of_set.names, of_set.speakers, {})
        trials = drawn_pairs(utterances, CALIBRATION_PAIRS, seed)
    except ValueError as error:
        log.warning("no Cllr: scores cannot be calibrated: %s", error)
        return None
    return Task(label, label, utterances, Enrolments.each(utterances), trials, True), of_set


def rows_of(system: str, task: Task, trials: Scored, config: Config) -> list[dict]:
    """Rows of ``results.tsv`` of a system, with intervals over speakers."""
    draw, speakers = (config.report.bootstrap, config.seed), np.union1d(trials.enrolled, trials.tested).tolist()
    sample = trials.sample(config.seed)
    ends = intervals(sample, *draw)
    names = {"system": system, "set": task.set, "class": task.name}
    counts = {"total": len(trials.target), "count": int(trials.target.sum()), "fewest": ""}
    rows = [
        row_of(value, ends.get(metric), speakers, metric=metric, **names) | counts
        for metric, value in figures(trials).items()
    ]
    sides = [task.trials.tested]
    if task.pairs:  # each utterance of a pair is tested against the other
        sides.append(task.enrolments.members[task.trials.enrolled])
    repeated = (np.tile(array, len(sides)) for array in (trials.scores, trials.target))
    found, right = identified(*repeated, np.concatenate(sides), len(task.utterances.names))
    if len(found):
        who = (str(number) for number in task.utterances.speakers[found])
        shares = [(speaker, float(hit), 1.0) for speaker, hit in zip(who, right)]
        rows.append(share_row("identification", shares, *draw, **names))
    return rows


def text_of(task: Task, rows: Iterable[dict], lines: Sequence[str]) -> str:
    """``results.txt``: the lines of the head, and a row of figures for each system."""
    systems: dict[str, dict[str, dict]] = {}
    for row in rows:
        systems.setdefault(row["system"], {})[row["metric"]] = row
    metrics = [metric for metric in SHOWN if any(metric in of_system for of_system in systems.values())]
    table = [["system", *(METRICS[metric].title for metric in metrics)]]
    for system, of_system in systems.items():
        cells = []
        for metric in metrics:
            row = of_system.get(metric)
            ends = f" ({float(row['low']):.4f}-{float(row['high']):.4f})" if row and row["low"] else ""
            cells.append(f"{float(row['value']):.4f}{ends}" if row else "-")
        table.append([system, *cells])
    return "".join(f"{line}\n" for line in [*lines, "", *aligned(table)])


def write_trial_scores(path: Path, task: Task, scores: dict[str, np.ndarray]) -> None:
    """Write ``scores.tsv``: enrolment, test, kind, and the score of each system."""
    trials = task.trials
    write_tsv(
        path,
        (
            {
                "enrolment": task.enrolments.names[trials.enrolled[n]],
                "test": task.utterances.names[trials.tested[n]],
                "kind": "target" if trials.target[n] else "nontarget",
            }
            | {system: f"{values[n]:.6f}" for system, values in scores.items()}
            for n in range(len(trials.target))
        ),
    )


def head(task: Task, config: Config, calibration: str) -> list[str]:
    """What was done, in lines."""
    targets, total = int(task.trials.target.sum()), len(task.trials.target)
    speakers = np.union1d(task.enrolments.speakers[task.trials.enrolled], task.utterances.speakers[task.trials.tested])
    lines = [
        f"trials: {task.name}, set {task.set}: {targets} target, {total - targets} nontarget, {len(speakers)} speakers, "
        f"{len(task.enrolments.names)} enrolments",
        f"back-ends are fitted on {name_of(config.data, 'train')}; Cllr: {calibration}",
        "intervals: 95 %, over speakers",
    ]
    if task.set in fitted_sets(config.data):
        lines.append(f"set {task.set} has speakers of the training: its figures are no test")
    return lines


def verify(args: argparse.Namespace) -> Path:
    """Score the trials by all systems and write the results; returns their folder."""
    config = Config.load(args.exp / CONFIG_YAML)
    kinds = args.of or [kind for kind in OFFERED if kind == OF_FLOW or config.has_vectors]
    name = args.set or only_test_set(args.exp, config)
    task, rows, curves, kept, calibration = None, [], {}, {}, "none"
    for kind in kinds:
        train, of_set = read_role(args.exp, config, "train", kind), read_set(args.exp, name, kind)
        task = task or make_task(args, name, of_set, config.seed)
        if of_set.names != task.utterances.names:
            raise ValueError(f"{args.exp}: vectors and latents of set {name} differ; {run_stage('latents')}")
        dev = None if args.calibrate == "none" else dev_task(args.exp, config, args.calibrate, kind, config.seed)
        calibration = f"scores calibrated on pairs of {dev[0].set}" if dev else calibration
        cohort = speaker_means(read_set(args.exp, args.as_norm, kind)) if args.as_norm else None
        for backend_name, backend in fitted(args.backends, train, kind, config):
            system = f"{kind}_{backend_name}"
            of_dev = scored(dev[0], dev[1].x, backend, cohort) if dev else None
            trials = calibrated(scored(task, of_set.x, backend, cohort), of_dev)
            rows += rows_of(system, task, trials, config)
            eer = float(next(row["value"] for row in rows if (row["system"], row["metric"]) == (system, "eer")))
            curves[system] = *thinned(trials.scores, trials.target), eer
            if args.write_scores:
                kept[system] = trials.scores
            log.info("%s: EER %.4f", system, eer)
    return write_results(args, task, rows, curves, kept, head(task, config, calibration))


def write_results(
    args: argparse.Namespace, task: Task, rows: list[dict], curves: dict, kept: dict, lines: list[str]
) -> Path:
    """Write the files of a verification; returns their folder."""
    out = args.exp / VERIFY / task.name
    out.mkdir(parents=True, exist_ok=True)
    if args.as_norm:
        lines.append(f"scores are normalized (as-norm) with the speakers of {args.as_norm} as cohort")
    write_tsv(out / RESULTS_TSV, rows, COLUMNS)
    replace_file(out / RESULTS_TXT, text := text_of(task, rows, lines))
    targets = int(task.trials.target.sum())
    least = 0.5 / min(targets, len(task.trials.target) - targets)
    config = Config.load(args.exp / CONFIG_YAML)
    title = f"{args.exp.resolve().name}: trials {task.name}"
    write_figures(((name, det_figure(title, curves, least)) for name in (DET,)), out, config.plots.dpi)
    if kept:
        write_trial_scores(out / SCORES_TSV, task, kept)
    print(text, end="")
    return out


def only_test_set(exp: Path, config: Config) -> str:
    """The test set of an experiment that has one.

    Raises:
        ValueError: it has none or several.
    """
    names = sorted(path.parent.name for path in (exp / LATENTS).glob(f"*/{META_JSON}"))
    tests = [name for name in names if name not in fitted_sets(config.data)]
    if len(tests) != 1:
        raise ValueError(f"{exp}: test sets are {', '.join(tests) or 'none'}; give one with --set")
    return tests[0]


def whole_number(text: str) -> int:
    """A number of 1 or more, for an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="folder of the experiment, with latents/<set>/ of stage latents")
    parser.add_argument("--set", help="set of the utterances (the test set, if there is one)")
    parser.add_argument(
        "--trials", type=Path, help=f"file of trials ({TRIALS} of the set, else all pairs of utterances)"
    )
    parser.add_argument(
        "--enrolments",
        type=Path,
        metavar="MAP",
        help="file '<enrolment> <utterance> ...'; without it each is an utterance",
    )
    parser.add_argument(
        "--per-speaker", type=whole_number, metavar="N", help="draw N target and N nontarget pairs of a speaker"
    )
    parser.add_argument(
        "--sessions", type=Path, metavar="UTT2SESS", help=f"no trial is made within a session ({UTT2SESS} of the set)"
    )
    parser.add_argument(
        "--of", nargs="+", choices=OFFERED, help="vectors as they came, after stage frames, after the flow (all)"
    )
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="(%(default)s)")
    parser.add_argument("--as-norm", metavar="SET", help="normalize scores with the speakers of this set as cohort")
    parser.add_argument("--calibrate", metavar="SET", help="set whose pairs calibrate the scores for Cllr; none (dev)")
    parser.add_argument("--name", help="folder below verify/ (name of the set, and of the file of trials)")
    parser.add_argument("--write-scores", action="store_true", help=f"write {SCORES_TSV}")
    args = parser.parse_args(argv)
    if args.per_speaker and (args.trials or args.enrolments):
        parser.error("--per-speaker draws pairs of utterances; leave out --trials and --enrolments")
    if args.name and not SET_NAME.fullmatch(args.name):
        parser.error(f"--name {args.name}: use letters, digits, _ . + -")
    if not (args.exp / CONFIG_YAML).is_file():
        raise ValueError(
            f"{args.exp / CONFIG_YAML}: does not exist; name the folder of an experiment, or {run_stage('train')}"
        )
    log.info("results: %s", verify(args))
    return 0


if __name__ == "__main__":
    entry.run(main)
