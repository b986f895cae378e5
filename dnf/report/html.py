"""Stage report: report.html, one page that holds everything: figures, tables, plots, settings, and how to read them.

The page needs no network, no scripts and no other file. It is made from results.tsv, and from config.yaml, env.json and
plots/*.png where they are there. A metric it does not know is listed, never dropped.
"""

from __future__ import annotations

import json
import logging
import os
from html import escape
from pathlib import Path

import yaml

from dnf.experiment import entry
from dnf.experiment.layout import CONFIG_YAML, ENV_JSON, FLOW, PLOTS, REPORT_HTML, RESULTS_TSV, run_again, run_stage
from dnf.experiment.stage import read_marker
from dnf.experiment.tables import read_tsv
from dnf.report import html_breakdowns
from dnf.report.cells import Rows
from dnf.report.detection_lines import warning_lines
from dnf.report.html_page import Html, Section, document, picture, table
from dnf.report.html_tables import (
    accuracy,
    baseline,
    certainty,
    confusions,
    correlations,
    densities,
    detection,
    gaussianity,
    is_detection,
    other,
    training,
)

logger = logging.getLogger(__name__)

COLUMNS = ("metric", "set", "class", "value")
CAPTIONS = {
    "curves": "Training curves. LogLL should rise and level off; dev should follow train, and the gap between them "
    "is overfitting. Vertical lines are spikes and restores: there should be none.",
    "gaussianity": "Shape of each latent dimension. Within-class values should lie on 0; pooled kurtosis of c goes "
    "towards -2 where classes lie far apart, which is separation, not a fault.",
    "scatter": "Latent frames. Left: two dimensions as they come, where classes may overlap although they separate "
    "in others. Right: the plane that separates the training classes most. A class should lie around its training "
    "mean; held-out frames that lie elsewhere show overfitting or another channel.",
    "scatter_r": "The residual part r. Its prior does not know the class, so classes should overlap; a shift is "
    "class (or channel) information that c has not taken up.",
    "tsne": "t-SNE keeps neighbours together and says nothing about distances or sizes. Clusters within a class are "
    "often speakers or recordings.",
    "llr_hist": "Log-likelihood ratios of utterances. Well separated classes lie on both sides of 0; an unseen "
    "class lies where the model puts it.",
    "durations": "Accuracy against the length of a recording, normalized by itself: it should rise and level off. Where it "
    "levels off below 1, more speech of the same speaker does not help: what is wrong is the speaker or the channel, "
    "not the noise of frames.",
    "fisher": "Which dimensions carry class, most first: c should hold it, r none. A steep curve is class in few dims; "
    "the input's curve (x) says what a single dim had before the flow.",
    "detection": "Left, errors of each system at every threshold: lower is better, and a dashed line, the control, "
    "that lies far above its solid one says that channels are told apart. Right, whether posteriors mean what they "
    "say: above the line they are too low, below it too high.",
    "loglik_hist": "Log-likelihood of utterances under a flow that knows no classes. Speech unlike the training "
    "data should lie further left, but a flow may also give it more.",
}
READING = (
    "Accuracy is the share of utterances (or frames) decided as their true class. Intervals are 95 % over "
    "speakers: utterances of a speaker are not independent. Those of shares are of Korn & Graubard, the others by bootstrap, "
    "too narrow below ten speakers of a class and left out below five.",
    "An accuracy on the training corpora's own test set may be that of telling microphones apart. Trust the "
    "control: the same class from another corpus.",
    "LogP is the mean log prior density of the latents, LogDet the mean log|det| of the Jacobian, LogLL = LogP + "
    "LogDet the mean log-likelihood, and NLL = -LogLL the loss, all in nats per frame. Compare them between sets, "
    "not between models of other features.",
    "Skewness and excess kurtosis are 0 for a Gaussian; the table gives means over dimensions. Pooled figures mix "
    "the classes: two separated Gaussians have kurtosis towards -2. Within-class figures, after each class has lost "
    "its mean and scale, say whether the latents are Gaussian. Mardia's test looks at all dimensions together.",
    "A near-tie is an utterance whose margin between the two best classes is within its own standard error: its "
    "decision may as well have been the other one.",
    "Cllr is the cost in bits of using the log-likelihood ratios as they are: 0 if they are right and sure, 1 if they "
    "say nothing, more if they mislead; its minimum is what the best calibration would leave. They are calibrated on "
    "dev; calibrated figures of dev itself are by fits without the utterance's speaker. AUC, EER and minDCF are of the "
    "mean log-likelihood ratio per frame, which knows no duration; what duration alone tells stands beside the AUC.",
    "An unseen class has no right answer: its table says how the model decides when it must.",
)


def pictures(folder: Path) -> Section:
    """All plots, by kind, each with what to look for."""
    html, kinds = Html(""), list(CAPTIONS)

    def kind_of(path: Path) -> str:
        return max((k for k in kinds if path.stem == k or path.stem.startswith(f"{k}_")), key=len, default="")

    paths = sorted(folder.glob("*.png"), key=lambda p: (kinds.index(kind_of(p)) if kind_of(p) else len(kinds), p.name))
    for path in paths:
        html += picture(path.stem, path.read_bytes(), CAPTIONS.get(kind_of(path), path.stem))
    return Section("Plots", html)


def page(exp: Path) -> str:
    """The page as text.

    Raises:
        ValueError: no results.tsv, or a file that is not what it should be.
    """
    path = exp / RESULTS_TSV
    if not path.is_file():
        raise ValueError(f"{path}: not there; {run_stage('report')}, which writes it first")
    read = read_tsv(path)
    for line, row in enumerate(read, start=2):
        if None in row or any(row.get(column) is None for column in (*COLUMNS, *row)):
            raise ValueError(f"{path}: line {line}: not one value for each column of the header; {run_again('report')}")
    settings, environment = exp / CONFIG_YAML, exp / ENV_JSON
    config_text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    try:
        config = yaml.safe_load(config_text) or {}
        facts = json.loads(environment.read_text(encoding="utf-8")) if environment.is_file() else {}
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{exp}: config.yaml or env.json is damaged ({error}); {run_again('train')}") from None
    trained = read_marker(exp / ".done.train")
    facts = {"data": trained["source"], **facts} if trained else facts
    rows = Rows([row for row in read if row.get("system", "") in ("", FLOW)])
    others = {row["system"]: [] for row in read if row.get("system", "") not in ("", FLOW)}
    for row in read:
        others.get(row.get("system", ""), []).append(row)
    all_detection = Rows([row for row in read if is_detection(row["metric"])])
    rows.left = [row for row in rows.left if not is_detection(row["metric"])]
    seed = {"seed": config["seed"]} if "seed" in config else {}
    head = [
        [str(key), value if isinstance(value, str) else json.dumps(value)] for key, value in {**seed, **facts}.items()
    ]
    controls = (config.get("data") or {}).get("controls") or {}
    resamples = (config.get("report") or {}).get("bootstrap", 1000)
    sections = [
        accuracy(rows, controls),
        *detection(all_detection, controls, warning_lines(read, controls), resamples),
        certainty(rows),
        html_breakdowns.open_set_section(rows),
        *html_breakdowns.breakdown_sections(rows, exp),
        correlations(rows),
        *confusions(rows),
        densities(rows),
        gaussianity(rows),
        training(rows),
        *(section for name, own in others.items() for section in baseline(name, own, controls)),
        other(Rows([*rows.left, *all_detection.left])),
        pictures(exp / PLOTS),
        Section("How to read this", Html("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in READING) + "</ul>")),
        Section("Settings", Html(f"<pre>{escape(config_text)}</pre>") if config_text else Html("")),
        Section("Run", table(["", ""], head, keys=1) if head else Html("")),
    ]
    return document(exp.resolve().name, facts_line({**seed, **facts}), [s for s in sections if s.html])


def facts_line(facts: dict) -> str:
    """The few facts that stand under the title."""
    wanted = ("data", "git", "seed", "device_name", "train_seconds")
    return ", ".join(f"{name.replace('_', ' ')} {facts[name]}" for name in wanted if facts.get(name) not in (None, ""))


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("exp", type=Path, help="experiment folder with results.tsv")
    args = parser.parse_args(argv)
    path = args.exp / REPORT_HTML
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(page(args.exp), encoding="utf-8")
    os.replace(temporary, path)
    logger.info("%s: %.1f MB", path, path.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    entry.run(main)
