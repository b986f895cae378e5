"""Where the information is: in how many seconds of a recording, which speakers, expert scores and latent dimensions.

All from what stages 4 and 7 left; the flow is not run again.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dnf.bootstrap import share_row
from dnf.config import Config
from dnf.page import Html, Section, table
from dnf.score import Latents, latent_sets
from dnf.tables import each_row, read_tsv, write_tsv

LEAST = 5  # speakers of a class below which a duration has no row
TOP = 0.1  # share of the dims, those of highest Fisher ratio


def duration_rows(pieces: Sequence[dict], config: Config) -> list[dict]:
    """Rows of ``durations.tsv``: accuracy of pieces of each set and number of seconds, by class and of all.

    A class with fewer than ``LEAST`` speakers has no row, and then there is none of all. Speakers of short pieces need
    not have long ones, so durations are not of the same speakers; ``speakers`` says how many there are.

    Args:
        pieces: rows of ``pieces.tsv``.
        config: resamples and seed of the intervals.
    """
    groups: dict[tuple[str, str], list[dict]] = {}
    for piece in pieces:
        groups.setdefault((piece["set"], piece["seconds"]), []).append(piece)
    rows = []
    for (name, seconds), cut in groups.items():
        present = sorted({piece["class"] for piece in cut})
        enough = [c for c in present if len({p["speaker"] for p in cut if p["class"] == c}) >= LEAST]
        for true in enough + (["all"] if len(enough) == len(present) > 1 else []):
            hits = [(p["speaker"], int(p["decision"] == p["class"]), 1) for p in cut if true in ("all", p["class"])]
            names = {"set": name, "class": true, "seconds": seconds}
            rows.append(share_row("duration_accuracy", hits, config.report.bootstrap, config.seed, **names))
    return rows


def whole_sets(exp: Path, config: Config) -> list[Path]:
    """``latents/<set>`` of the sets that are not cut to pieces already."""
    cut = {name for name, view in config.data.views.items() if view.seconds}
    return [directory for directory in latent_sets(exp) if directory.name not in cut]


def durations(exp: Path, config: Config) -> list[dict]:
    """Rows of ``durations.tsv`` of all sets; none where the model decides nothing."""
    path = exp / "pieces.tsv"
    return duration_rows(read_tsv(path) if path.is_file() else [], config)


class Group:
    """Decisions of utterances that belong together: frames, log-likelihood ratios, and right ones of each speaker."""

    def __init__(self):
        self.frames, self.ratios = 0, array("d")
        self.shares: dict[str, list[int]] = {}  # speaker: right, all

    def add(self, row: dict) -> None:
        """Count a row of ``decisions/<set>.txt``."""
        own = self.shares.setdefault(row["speaker"], [0, 0])
        own[0] += row["decision"] == row["class"]
        own[1] += 1
        self.frames += int(row["frames"])
        self.ratios.append(float(row["llr"]))

    def summary(self, known: bool) -> dict:
        """Accuracy, mean and standard deviation of the log-likelihood ratio (nats per frame), and counts."""
        right, llr = sum(right for right, _ in self.shares.values()), np.array(self.ratios)
        return {
            "accuracy": f"{right / len(llr):.6f}" if known else "",
            "llr_mean": f"{llr.mean():.6f}",
            "llr_std": f"{llr.std():.6f}",
            "utterances": len(llr),
            "frames": self.frames,
        }


def speaker_rows(name: str, decisions: Iterable[dict], known: Sequence[str]) -> list[dict]:
    """Rows of ``speakers.tsv``: accuracy (empty for a class unseen) and log-likelihood ratio of each speaker."""
    groups: dict[tuple[str, str], Group] = {}
    for row in decisions:
        groups.setdefault((row["class"], row["speaker"]), Group()).add(row)
    return [
        {"set": name, "class": true, "speaker": speaker} | of.summary(true in known)
        for (true, speaker), of in sorted(groups.items())
    ]


def score_rows(name: str, decisions: Iterable[dict], known: Sequence[str], config: Config) -> list[dict]:
    """Rows of ``by_score.tsv``: the same for each expert score, rounded to an integer; none where nothing is scored."""
    groups: dict[tuple[str, int], Group] = {}
    for row in decisions:
        if row["score"]:
            groups.setdefault((row["class"], math.floor(float(row["score"]) + 0.5)), Group()).add(row)
    rows = []
    for (true, score), of in sorted(groups.items()):
        hits = [(speaker, right, total) for speaker, (right, total) in of.shares.items()]
        share = share_row("", hits, config.report.bootstrap, config.seed)
        ends = {key: share[key] if true in known else "" for key in ("low", "high")}
        row = {"set": name, "class": true, "score": score} | of.summary(true in known) | ends
        rows.append(row | {"speakers": share["speakers"]})
    return rows


def fisher_summary(exp: Path) -> list[dict]:
    """Rows of ``results.tsv``: mean Fisher ratio of each part, and the share of the sum its top tenth has."""
    path = exp / "fisher.tsv"
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in read_tsv(path) if path.is_file() else ():
        groups.setdefault((row["set"], row["classes"], row["part"]), []).append(float(row["fisher"]))
    rows = []
    for (name, classes, part), values in groups.items():
        ratios = np.nan_to_num(values)
        for metric, value in ((f"fisher_{part}", ratios.mean()), (f"fisher_top_{part}", top_share(ratios))):
            names = {"metric": metric, "set": name, "class": classes}
            rows.append(names | {"value": f"{value:.6g}", "total": len(ratios)})
    return rows


def top_share(ratios: np.ndarray) -> float:
    """What the highest tenth of Fisher ratios ``(D,)`` has of their sum."""
    highest = np.sort(ratios)[::-1][: max(1, round(TOP * len(ratios)))]
    return float(highest.sum() / ratios.sum()) if ratios.any() else 0.0


def information_rows(exp: Path, config: Config) -> list[dict]:
    """Write durations.tsv, speakers.tsv and by_score.tsv; rows of ``accuracy.tsv``, with the seconds as ``decided``."""
    found, speakers, scores = durations(exp, config), [], []
    for directory in whole_sets(exp, config):
        path = exp / "decisions" / f"{directory.name}.txt"
        if path.is_file():
            known = Latents.open(directory).classes
            speakers += speaker_rows(directory.name, each_row(path), known)
            scores += score_rows(directory.name, each_row(path), known, config)
    columns = ("accuracy", "low", "high", "llr_mean", "llr_std", "utterances", "frames", "speakers")
    ends = ("value", "low", "high", "count", "total", "speakers", "fewest")
    write_tsv(
        exp / "durations.tsv",
        [{k: v for k, v in r.items() if k != "metric"} for r in found],
        ("set", "class", "seconds", *ends),
    )
    write_tsv(exp / "speakers.tsv", speakers, ("set", "class", "speaker", "accuracy", *columns[3:7]))
    write_tsv(exp / "by_score.tsv", scores, ("set", "class", "score", *columns))
    return [{k: v for k, v in r.items() if k != "seconds"} | {"decided": f"{r['seconds']}s"} for r in found]


def lines(rows: list[dict]) -> list[str]:
    """Accuracy of recordings of so many seconds, decided by likelihood, a line for each set and class."""
    found: dict[tuple[str, str], list[str]] = {}
    for r in (r for r in rows if r["metric"] == "duration_accuracy"):
        ends = f"{float(r['low']):.4f}-{float(r['high']):.4f}" if r["low"] else "no interval"
        counts = f"[ {r['total']} of {r['speakers']} speakers ]"
        cell = f"{r['decided'].removesuffix('s')} s {float(r['value']):.4f} ({ends}) {counts}"
        found.setdefault((r["set"], r["class"]), []).append(cell)
    return [f"seconds {name} {true} {' | '.join(cells)}" for (name, true), cells in found.items()]


def table_lines(exp: Path) -> list[str]:
    """Each set's and class's speakers of lowest, middle and highest accuracy, and figures by expert score."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in read_tsv(exp / "speakers.tsv") if (exp / "speakers.tsv").is_file() else ():
        if row["accuracy"]:
            groups.setdefault((row["set"], row["class"]), []).append(row)
    found = []
    for (name, true), of in groups.items():
        of = sorted(of, key=lambda row: (float(row["accuracy"]), row["speaker"]))
        cells = (
            f"{word} {float(row['accuracy']):.4f} ({row['speaker']}, llr {float(row['llr_mean']):.3f})"
            for word, row in (("lowest", of[0]), ("median", of[len(of) // 2]), ("highest", of[-1]))
        )
        found.append(f"speakers {name} {true} {' | '.join(cells)} [ {len(of)} speakers ]")
    for row in read_tsv(exp / "by_score.tsv") if (exp / "by_score.tsv").is_file() else ():
        accuracy = f"accuracy {float(row['accuracy']):.4f} " if row["accuracy"] else ""
        counts = f"{row['utterances']} utterances, {row['speakers']} speakers"
        found.append(
            f"score {row['set']} {row['class']} {row['score']} {accuracy}llr {float(row['llr_mean']):.4f} [ {counts} ]"
        )
    return found


def fisher_lines(rows: list[dict]) -> list[str]:
    """Mean Fisher ratio of each part and what the top tenth of its dims has of the sum."""
    top = {(r["set"], r["class"], r["metric"]): r["value"] for r in rows if r["metric"].startswith("fisher_top_")}
    found = []
    for r in rows:
        part = r["metric"].removeprefix("fisher_")
        if r["metric"].startswith("fisher_") and not part.startswith("top_"):
            share = float(top[r["set"], r["class"], f"fisher_top_{part}"])
            found.append(
                f"fisher {r['set']} {r['class']} {part}{r['total']} mean {float(r['value']):.3g} "
                f"| top tenth of the dims {share:.3f} of the sum"
            )
    return found


def sections(rows, exp: Path) -> list[Section]:
    """Tables of ``report.html``; ``rows`` are ``dnf.report_tables.Rows``."""
    found = rows.pivot((r for r in rows.left if r["metric"] == "duration_accuracy"), ("set", "class"), "decided")
    heads = sorted({head for cells in found.values() for head in cells}, key=lambda head: float(head.removesuffix("s")))

    def cell(row: dict | None) -> str:
        if row is None:
            return ""
        ends = f" ({float(row['low']):.2f} to {float(row['high']):.2f})" if row["low"] else ""
        return f"{float(row['value']):.3f}{ends}, {row['speakers']} speakers"

    body = [[*key, *(cell(cells.get(head)) for head in heads)] for key, cells in found.items()]
    words = (
        "<p>Recordings cut to pieces of that length, pauses and all, each normalized by itself and decided by "
        "likelihood. Long pieces may have other speakers than short ones; fewer than 5 of a class are not shown.</p>"
    )
    named = ["set", "class", *(head.replace("s", " s") for head in heads)]
    shown = Html(words) + table(named, body, keys=2) if body else Html("")
    made = [Section("Accuracy against the length of a recording", shown)]
    ratios = rows.pivot((r for r in rows.left if r["metric"].startswith("fisher_")), ("set", "class"))
    body = []
    for key, cells in ratios.items():
        for part in (p for p in "crx" if f"fisher_{p}" in cells):
            row, top = cells[f"fisher_{part}"], cells[f"fisher_top_{part}"]
            body.append([*key, part, row["total"], f"{float(row['value']):.3g}", f"{float(top['value']):.3f}"])
    heads = ["set", "classes", "part", "dims", "mean Fisher ratio", "share of the top tenth"]
    words = "<p>Fisher ratio of a dimension: class variance over variance within class. Part x is the input.</p>"
    made.append(Section("Which dimensions carry class", Html(words) + table(heads, body, keys=3) if body else Html("")))
    for name, title, keys in (("speakers", "By speaker", 3), ("by_score", "By expert score", 3)):
        path = exp / f"{name}.tsv"
        of = read_tsv(path) if path.is_file() else []
        heads = list(of[0]) if of else []
        body = [[short(row[head]) for head in heads] for row in of]
        made.append(Section(title, table([h.replace("_", " ") for h in heads], body, keys=keys) if body else Html("")))
    return made


def short(text: str) -> str:
    """Decimals cut to four."""
    whole, point, decimals = text.partition(".")
    return f"{float(text):.4f}" if point and whole.lstrip("-").isdigit() and decimals.isdigit() else text
