"""How settings do on corpora that the model does not know: figures of ``./run.sh --leave-corpora-out``, to choose settings by.

``python3 -m dnf corpora exp`` prints the table and writes it to ``exp/left_out_corpora.tsv``: AUC and Cllr of each left-out corpus,
and their means. The settings of lowest mean Cllr do best on unknown corpora. Cllr is without doubt, since a left-out
corpus is unlike training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from dnf.experiment import entry
from dnf.experiment.config import Config
from dnf.experiment.layout import BY_CORPUS_TSV, CONFIG_YAML, FLOW, LEFT_OUT_CORPORA_TSV, RESULTS_TSV
from dnf.experiment.sets import name_of
from dnf.experiment.tables import aligned, read_tsv, write_tsv
from dnf.metrics.figures import CONTROL, IN_SAMPLE, LEFT_OUT, WITHOUT_DOUBT

MEAN = "mean"
# Metrics of each column; where there is no row of the first, those of the next
FIGURES = {
    "cllr_dev": (f"cllr{LEFT_OUT}", f"cllr{IN_SAMPLE}"),
    "auc": (f"auc{CONTROL}", f"rank_auc{CONTROL}"),
    "cllr": (f"cllr{WITHOUT_DOUBT}{CONTROL}", f"cllr{CONTROL}"),
}
COLUMNS = ("experiment", "left_out", *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def figure(rows: Sequence[dict[str, str]], metrics: Sequence[str]) -> dict[str, str]:
    """Value and ends of the interval of the first metric that has rows; of several pairs of classes the mean, without an interval."""
    found = next(filter(None, ([row for row in rows if row["metric"] == metric] for metric in metrics)), [])
    pairs = [row for row in found if row["class"].count("+") == 1] or found
    if len(pairs) < 2:
        return {"": pairs[0]["value"], "_low": pairs[0]["low"], "_high": pairs[0]["high"]} if pairs else {}
    return {"": f"{mean([float(row['value']) for row in pairs]):.6f}"}


def rows_of(folder: Path) -> Iterator[dict[str, str]]:
    """A row for each experiment without a corpus below ``folder`` that has figures, by name."""
    for path in sorted(folder.glob(f"*_without_*/{RESULTS_TSV}")):
        exp, config = path.parent, Config.load(path.parent / CONFIG_YAML)
        dev, out = name_of(config.data, "dev"), set(config.data.test)
        of_flow = [row for row in read_tsv(path) if row["set"] == dev and row.get("system") in (None, "", FLOW)]
        figures = {name: figure(of_flow, metrics) for name, metrics in FIGURES.items()}
        corpora = (
            {row["corpus"] for row in read_tsv(exp / BY_CORPUS_TSV) if row["set"] in out} if figures["auc"] else ()
        )
        if len(corpora) == 1:
            (corpus,) = corpora
            names = {"experiment": exp.name.replace(f"_without_{corpus}", "", 1), "left_out": corpus}
            yield names | {f"{name}{end}": text for name, ends in figures.items() for end, text in ends.items()}


def with_means(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of each experiment, and one of their means."""
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        groups[row["experiment"]].append(row)
    return [row for name, group in groups.items() for row in (*group, mean_row(name, group))]


def mean_row(name: str, group: Sequence[dict[str, str]]) -> dict[str, str]:
    """Means of the figures that all rows of a group have."""
    complete = (column for column in FIGURES if all(row.get(column) for row in group))
    means = {column: f"{mean([float(row[column]) for row in group]):.6f}" for column in complete}
    return {"experiment": name, "left_out": MEAN} | means


def cell(row: dict[str, str], name: str) -> str:
    """A figure with its interval."""
    if not row.get(name):
        return "-"
    ends = f" ({float(row[f'{name}_low']):.3f}-{float(row[f'{name}_high']):.3f})" if row.get(f"{name}_low") else ""
    return f"{float(row[name]):.3f}{ends}"


def table(rows: Sequence[dict[str, str]]) -> list[str]:
    heads = ["experiment", "left out", "Cllr, dev", "AUC, left out", "Cllr, left out"]
    return aligned(
        [heads, *([row["experiment"], row["left_out"], *(cell(row, name) for name in FIGURES)] for row in rows)]
    )


def choices(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """A line for each group of experiments without the same corpora: which does best on those, and which on dev."""
    corpora: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        corpora[row["experiment"]].append(row["left_out"])
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if row["left_out"] == MEAN and row.get("cllr"):
            groups[tuple(corpora[row["experiment"]][:-1])].append(row)
    for names, means in groups.items():
        if len(means) > 1:
            best, on_dev = (min(means, key=lambda row: float(row[name])) for name in ("cllr", "cllr_dev"))
            yield (
                f"lowest mean Cllr without {', '.join(names)}: {best['experiment']}, {float(best['cllr']):.3f} "
                f"(on dev: {on_dev['experiment']}, {float(on_dev['cllr_dev']):.3f})"
            )


def main(argv: list[str] | None = None) -> int:
    parser = entry.parser(__spec__, __doc__)
    parser.add_argument("folder", type=Path, help="folder of the experiments")
    args = parser.parse_args(argv)
    rows = with_means(list(rows_of(args.folder)))
    if not rows:
        raise ValueError(
            f"{args.folder}: no experiment *_without_* has figures of a left-out corpus; run ./run.sh --leave-corpora-out"
        )
    write_tsv(args.folder / LEFT_OUT_CORPORA_TSV, rows, COLUMNS)
    print("\n".join([*table(rows), *choices(rows)]))
    return 0


if __name__ == "__main__":
    entry.run(main)
