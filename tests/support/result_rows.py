"""Made-up rows of results.tsv, of an experiment of two classes with a control, an unseen class and two baselines."""

from __future__ import annotations

from dnf.metrics.figure_rows import COLUMNS

WORDS = ("data.classes=[en, ce]", "data.controls={test: mic}", "splice.left=1", "splice.right=1", "prior.cond_dim=100")


def row(metric: str, name: str = "", label: str = "", value: float = 0.0, ends: tuple = (), **cells) -> dict:
    """A row of results.tsv of the flow, as read."""
    low, high = ends or ("", "")
    named = {"system": "dnf", "metric": metric, "set": name, "class": label, "value": value, "low": low, "high": high}
    return {column: str((named | cells).get(column, "")) for column in COLUMNS}


def two_class_rows(gap: tuple = (-0.05, 0.2), difference: tuple = (-0.09, -0.01), p: object = 0.01) -> list[dict]:
    """Figures of train, dev, test with its control mic, and wild; je is unseen, and mlp is better than gmm on dev."""
    rows = []
    for name, labels in {"train": "ce en", "dev": "ce en", "test": "ce en", "mic": "en", "wild": "en"}.items():
        places = labels.split() + (["all"] if name not in ("mic", "wild") else [])
        for n, label in enumerate([*places, "je"]):
            more = {"total": 90, "speakers": 6}
            known = label != "je"
            rows += [row("frame_accuracy", name, label, 0.64 + n / 100, (0.6, 0.7), **more)] if known else []
            right = {"count": 84 - n, "total": 90, "speakers": 6}
            rows += [row("utt_accuracy", name, label, 0.95 - n / 100, (0.87, 0.99), **right)] if known else []
            of_label = (row(m, name, label, -100 - n, total=1000) for m in ("loglik", "logp", "logdet", "nll"))
            rows += of_label
        for system, right in (("dnf", 0.92), ("gmm", 0.95), ("mlp", 0.96)):
            rows.append(row("utt_accuracy_calibrated", name, "all", right, (0.8, 0.99), system=system, total=180))
        rows.append(row("kurt_c", name, labels.replace(" ", "+"), 0.3, total=1000))
    rows.append(row("utt_accuracy_calibrated_difference", "test", "all", -0.04, difference, system="mlp", p=p))
    rows.append(row("utt_accuracy_control_gap", "test", "en", 0.1, gap, fewest=6, speakers=12))
    rows += [row("auc", "test", "en+ce", 0.99, (0.97, 1.0)), row("auc_control", "test", "en+ce", 0.9, (0.8, 0.95))]
    for decided, share in (("en", 0.8), ("ce", 0.2)):
        ends, counts = (share - 0.15, share + 0.15), {"count": round(90 * share), "total": 90}
        rows.append(row("utt_share", "test", "je", share, ends, decided=decided, **counts))
    counted = {"spikes": 0, "restores": 0, "best_step": 1900, "steps": 2000, "train_eval_difference": 0.0}
    return rows + [row(name, value=value, system="") for name, value in counted.items()]
