"""Fuse systems: logistic regression of their calibrated log-likelihoods on dev, and all figures of the fused system.

    python3 -m dnf fuse exp/hybrid exp/hybrid/baselines/mlp exp/vectors --out exp/fused

The systems may be of other features, but have the same classes, sets and utterances. The folder has the layout of an
experiment: ``dnf results``, ``compare`` and ``status`` read it. Figures of dev are by fits without the speaker. A second run
does only what is out of date.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dnf.decisions import decide
from dnf.decisions.evidence import Evidence, evidence
from dnf.decisions.fusion import Fusion
from dnf.experiment import entry, stage
from dnf.experiment.classes import reference_first
from dnf.experiment.config import Config, add_arguments, resolve
from dnf.experiment.environment import describe_environment
from dnf.experiment.files import replace_file, write_json
from dnf.experiment.layout import (
    ACCURACY_TSV,
    CALIBRATION_JSON,
    CONFIG_YAML,
    ENV_JSON,
    FITTED_TSV,
    FUSION_JSON,
    LATENTS,
    MEMBERS_JSON,
    MODEL_JSON,
    PAIRS_TSV,
    Layout,
    done_marker,
    experiment_of,
    is_fused,
    is_taken,
    run_stage,
)
from dnf.experiment.markers import read_marker
from dnf.experiment.plan import check_out
from dnf.experiment.sets import fitted_sets, name_of
from dnf.experiment.tables import read_tsv, write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.report import html, results
from dnf.scoring import score
from dnf.scoring.latent_store import Latents, latent_sets
from dnf.scoring.latent_writer import write_utterances

log = logging.getLogger(__name__)


class Member(NamedTuple):
    """A system that is fused.

    Attributes:
        folder: of the system, an experiment or a baseline.
        config: settings of its experiment.
        sets: its latents by set.
        run: of stages latents and decide, by their markers: the second fits the doubt about recordings.
    """

    folder: Path
    config: Config
    sets: dict[str, Latents]
    run: str

    @classmethod
    def open(cls, folder: Path) -> Member:
        """Read a system.

        Raises:
            ValueError: it has no latents, or is fused itself.
        """
        exp = experiment_of(folder)
        if is_fused(exp):
            raise ValueError(f"{folder}: is a fused system; name its members instead")
        if not (exp / CONFIG_YAML).is_file():
            raise ValueError(f"{folder}: no experiment and none of its baselines; name a folder with {CONFIG_YAML}")
        sets = {directory.name: Latents.open(directory) for directory in latent_sets(folder)}
        markers = [read_marker(done_marker(exp, name)) for name in ("latents", "decide")]
        if markers[0] is None:
            raise ValueError(f"{exp}: stage latents is not done; {run_stage('latents')}")
        return cls(folder, resolve([exp / CONFIG_YAML]), sets, "-".join(marker["run"] for marker in markers if marker))

    @property
    def classes(self) -> list[str]:
        """Its classes, the reference class first."""
        return reference_first(next(iter(self.sets.values())).classes, self.config.data.classes)


def utterances(latents: Latents) -> list[tuple[str, str, str]]:
    """Utterance, speaker and class of each row of a set."""
    return [(utt["utt"], utt["speaker"], utt["class"]) for utt in latents.utts]


def check_alike(first: Member, other: Member) -> None:
    """Raise ``ValueError`` if two systems differ in classes, sets or utterances."""
    for what, of_system in (
        ("classes", lambda member: member.classes),
        ("sets", lambda member: sorted(member.sets)),
        ("dev", lambda member: [name_of(member.config.data, "dev")]),
    ):
        one, two = of_system(first), of_system(other)
        if one != two:
            raise ValueError(
                f"{first.folder} and {other.folder}: {what} {' '.join(one)} and {' '.join(two)} differ; "
                "fuse systems of the same data"
            )
    for name in first.sets:
        one, two = (utterances(member.sets[name]) for member in (first, other))
        if one != two:
            odd = next(iter(sorted({*one} ^ {*two})), one[0])
            raise ValueError(
                f"{first.folder} and {other.folder}: the utterances of {name} differ, such as {odd[0]}; "
                "score both on the same data"
            )


def open_members(folders: Sequence[Path]) -> list[Member]:
    """The systems, checked.

    Raises:
        ValueError: there are fewer than two, or they differ in classes, sets or utterances.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise ValueError(f"{' '.join(map(str, folders))}: name two or more different systems")
    members = [Member.open(folder) for folder in folders]
    for member in members[1:]:
        check_alike(members[0], member)
    if len(members[0].classes) < 2:
        raise ValueError(f"{folders[0]}: its flow has no classes, so it makes no decisions to fuse")
    return members


def evidence_of(members: Sequence[Member], name: str, *, fit: bool) -> list[Evidence]:
    """Evidence of each system on a set; with the autocovariance of frames if it is to ``fit`` on."""
    return [evidence(member.sets[name], None if fit else np.zeros(0)) for member in members]


def fuse(members: Sequence[Member], config: Config, exp: Path) -> None:
    """Write ``fusion.json``, fitted on dev unless it is copied, and the fused log-likelihoods of each set to ``latents/<set>/``."""
    of_dev = {}
    if is_taken(exp):
        fusion = Fusion.load(exp / FUSION_JSON)
    else:
        dev = evidence_of(members, name_of(config.data, "dev"), fit=True)
        fusion = Fusion.fit(dev, config.calibrate)
        fusion.save(exp / FUSION_JSON)
        fusion.calibration().save(exp / CALIBRATION_JSON)
        left_out = Fusion.left_out(dev, config.calibrate)
        if left_out is None:
            raise ValueError(
                f"{members[0].folder}: a class has only one speaker in dev, and a fusion is fitted without each speaker in turn; "
                "add speakers to dev"
            )
        of_dev = {name_of(config.data, "dev"): left_out}
    shutil.rmtree(exp / LATENTS, ignore_errors=True)
    for name, latents in members[0].sets.items():
        loglik = of_dev[name] if name in of_dev else fusion.loglik(evidence_of(members, name, fit=False))
        write_utterances(exp / LATENTS / name, latents.classes, latents.utts, loglik)
    write_json(exp / ENV_JSON, describe_environment(torch.device("cpu")))


def take(model: Path, out: Path) -> None:
    """Copy the fits of a fused system, with its figures of the sets that it was fitted on, and write ``model.json``.

    Raises:
        ValueError: it is no fused system, or not complete.
    """
    if not is_fused(model):
        raise ValueError(f"--model {model}: no fused system; name a folder of dnf fuse")
    marker = read_marker(done_marker(model, "decide"))
    if marker is None:
        raise ValueError(f"--model {model}: its fusion is not finished; run dnf fuse again")
    files = {
        name: (model / name).read_bytes()
        for name in (FUSION_JSON, CALIBRATION_JSON, PAIRS_TSV)
        if (model / name).is_file()
    }
    for name, content in files.items():
        replace_file(out / name, content)
    fitted = fitted_sets(Config.load(model / CONFIG_YAML).data)
    write_tsv(out / FITTED_TSV, [row for row in read_tsv(model / ACCURACY_TSV) if row["set"] in fitted], COLUMNS)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_json(out / MODEL_JSON, {"model": str(model.absolute()), "trained_on": marker["source"], "files": hashes})


def run_stages(members: Sequence[Member], config: Config, out: Path, *, force: bool) -> None:
    """Run the stages of the fused system that are out of date."""
    layout = Layout.read(experiment_of(members[0].folder))
    source = "fusion of " + " ".join(str(member.folder) for member in members)
    made_from = config, Layout(layout.data, layout.feats, layout.frames, out), source, ()
    stages: Mapping[str, Callable] = {
        "latents": lambda: fuse(members, config, out),
        "score": lambda: score.main([str(out)]),
        "decide": lambda: decide.main([str(out)]),
        "report": lambda: (results.main([str(out)]), html.main([str(out)])),
    }
    for name, run in stages.items():
        if stage.begin(name, *made_from, force=force) is None:
            log.info("%s: stage %s is up to date", out, name)
            continue
        run()
        stage.finish(name, *made_from)


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", type=Path, nargs="+", help="folders of experiments, or of their baselines")
    parser.add_argument("--out", type=Path, required=True, help="folder for the fused system, such as exp/fused")
    text = "apply the weights and the calibration of this fused system to its members' scores on other data; nothing is fitted"
    parser.add_argument("--model", type=Path, help=text)
    parser.add_argument("--force", action="store_true", help="also run stages that are up to date")
    add_arguments(parser)
    args = parser.parse_args(argv)
    check_out(args.out, "fusion", is_own=is_fused(args.out) and is_taken(args.out) == bool(args.model))
    members = open_members(args.systems)
    config = resolve([(args.model or experiment_of(members[0].folder)) / CONFIG_YAML, *args.layers])
    args.out.mkdir(parents=True, exist_ok=True)
    if args.model:
        take(args.model, args.out)
        config = dataclasses.replace(config, data=members[0].config.data)
    noted = {os.path.relpath(member.folder, args.out): member.run for member in members}
    write_json(args.out / MEMBERS_JSON, noted)
    run_stages(members, config, args.out, force=args.force)
    print("weight  system")
    for member, weight in zip(members, Fusion.load(args.out / FUSION_JSON).weights):
        print(f"{weight:.4f}  {member.folder}")
    return 0


if __name__ == "__main__":
    entry.run(main)
