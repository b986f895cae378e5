"""card.md of an exported model: what it decides, training data, licence, figures with intervals, and its limits."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import dnf
from dnf.decisions.calibration import Calibration
from dnf.experiment.layout import (
    ACCURACY_TSV,
    CALIBRATION_JSON,
    CHANNEL_JSON,
    ENV_JSON,
    FLOW,
    MODEL_ONNX,
    TRAINING_JSON,
)
from dnf.experiment.tables import read_tsv
from dnf.inference.system import Model
from dnf.inference.taken_model import trained_on
from dnf.metrics.figures import FUSED, METRICS

# metric: the predictor that its rows name
SHOWN = dict.fromkeys(("utt_accuracy_calibrated", "auc", "eer", "cllr", "open_set_detected", "open_set_false"), "")
SHOWN |= dict.fromkeys(("assess_utt_pearson", "assess_speaker_pearson", "assess_utt_rmse", "assess_coverage"), FUSED)
LIMITS = """- Not for decisions about a person: employment, examinations, migration, insurance, police.
- Not as evidence of a person's origin, first language, nationality or identity. It compares sounds with the recordings of
  training, and these are few speakers.
- Not for a mark of pronunciation without a teacher. The posterior of a class is not a quality of speech.
- Not for other classes, languages, ages or channels than those of training without a new evaluation. A warning "unlike
  training" says that the channel differs; the class may then be that of the microphone.
- Not for very short recordings: below a few seconds the figures below do not hold."""


def card(exp: Path, folder: Path, system: Model, licence: str) -> str:
    """The card of the model of experiment ``exp`` that is exported to ``folder``, Markdown.

    Args:
        licence: what the user says of it; empty: not stated.
    """
    config, classes = system.trained.config, ", ".join(system.trained.classes)
    training, environment = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in (TRAINING_JSON, ENV_JSON)
    )
    calibration = Calibration.load(folder / CALIBRATION_JSON)
    speakers = ", ".join(f"{name} {count}" for name, count in calibration.speakers.items())
    files = [MODEL_ONNX, CHANNEL_JSON]
    missing = "".join(f"There is no {name}. " for name in files if not (folder / name).is_file())
    return "\n".join(
        [
            f"# {exp.resolve().name}",
            "",
            f"A discriminative normalization flow that decides which of these classes a recording is of: {classes}; or none.",
            f"{missing}Written by `python3 -m dnf export` of dnf-speech {dnf.__version__}.",
            "",
            "## Use",
            "",
            "    python3 -m dnf classify FOLDER recording.wav",
            "    python3 -m dnf score FOLDER data",
            "",
            f"Recordings at {config.features.sampling_rate} Hz are best; classify resamples others. {MODEL_ONNX} takes samples",
            f"at {config.features.sampling_rate} Hz alone, in -1..1, one recording at a time; model.card.json has its outputs.",
            "",
            "## What it must not be used for",
            "",
            LIMITS,
            "",
            "## Licence",
            "",
            licence or "Not stated. Ask who made the model before you pass it on.",
            "",
            "## Training",
            "",
            f"- Data: {environment['trained_on'] or 'not stated'}. The licences of these corpora apply, too.",
            f"- Sets: train {' '.join(config.data.train)}; dev {' '.join(config.data.dev)}.",
            f"- {training['frames']} vectors of {config.dim} dims, {training['steps']} steps, {training['parameters']} parameters.",
            f"- Flow {config.flow.kind}, {config.flow.blocks} blocks; train.beta {config.train.beta:g}; seed {config.seed}.",
            *(
                [f"- Started from the flow of {Path(start).resolve().name}."]
                if (start := config.train.from_model)
                else []
            ),
            f"- Calibration on dev, speakers: {speakers}.",
            f"- PyTorch {environment['torch']}, program {environment['git']}.",
            "",
            "## Figures",
            "",
            "With 95 % intervals over speakers, as in results.txt. The figures of dev are too good: dev chose the model.",
            "",
            *figures(exp, ("train", *config.data.train), ("dev", *config.data.dev)),
            "",
        ]
    )


def data_words(exp: Path) -> str:
    """The source of the training data as stage data was told, without folders; empty if it is not known."""
    return re.sub(r"\S*/(?=\S)", "", trained_on(exp))


def figures(exp: Path, left_out: Sequence[str], last: Sequence[str]) -> list[str]:
    """The lines of a table of the flow's main figures and predicted scores, on all sets but those left out, ``last`` last."""
    lines = ["| figure | set | class | value | 95 % interval | speakers |", "|---|---|---|---|---|---|"]
    rows = [row for row in read_tsv(exp / ACCURACY_TSV) if row["set"] not in left_out and row["system"] == FLOW]
    rows.sort(key=lambda row: row["set"] in last)
    for metric, decided in SHOWN.items():
        for row in (row for row in rows if (row["metric"], row["decided"]) == (metric, decided)):
            interval = f"{float(row['low']):.3f} to {float(row['high']):.3f}" if row["low"] else ""
            value = f"{float(row['value']):.3f}"
            cells = (METRICS[metric].title, row["set"], row["class"], value, interval, row["speakers"])
            lines.append(f"| {' | '.join(cells)} |")
    return lines
