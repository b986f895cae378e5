"""Corpora: their column in a table of recordings, figures by corpus, and the line that class and corpus are one."""

import numpy as np

from dnf.data.recordings_table import read_recordings_table
from dnf.decisions.breakdowns import corpus_rows
from dnf.decisions.open_set_rows import known_pools
from dnf.experiment.config import resolve
from dnf.metrics.trials import Trials
from dnf.report.lines import corpus_lines


def test_a_table_may_name_the_corpus_of_each_recording(tmp_path):
    table = tmp_path / "recordings.tsv"
    table.write_text("recording\tspeaker\tclass\tset\tcorpus\na.wav\ta\ten\ttrain\tmy corpus\nb.wav\tb\ten\ttrain\t\n")
    assert [u.corpus for u in read_recordings_table(table)["train"]] == ["my_corpus", None]


def decisions(name: str, corpora: dict[str, tuple[str, float]]) -> list[dict]:
    """Rows of by_corpus.tsv: of each corpus, ten utterances of a class, of which a share is right."""
    rows, of_corpora = [], []
    for corpus, (label, share) in corpora.items():
        for n in range(10):
            decision = label if n < 10 * share else "other"
            rows.append({"class": label, "speaker": f"{corpus}{n % 5}", "decision": decision, "frames": 7, "llr": 0.1})
            of_corpora.append(corpus)
    return corpus_rows(name, rows, of_corpora, ["en", "ce"], resolve(["report.bootstrap=50"]))


def test_figures_by_corpus_and_whether_class_and_corpus_can_be_separated():
    train = decisions("train", {"read": ("en", 1.0), "ocean": ("ce", 1.0)})
    test = decisions("test", {"read": ("en", 0.8), "phone": ("en", 0.3), "ocean": ("ce", 0.9)})
    lines = corpus_lines([*test, *train], "train")
    assert lines[0] == (
        "# class and corpus cannot be separated here: each class of train has one corpus (ce of ocean, en of read)"
    )
    assert any(line.startswith("corpus test en phone accuracy 0.3000 [ 10 utterances, 95% ") for line in lines)
    several = decisions("train", {"read": ("en", 1.0), "phone": ("en", 1.0), "ocean": ("ce", 1.0)})
    assert not corpus_lines([*test, *several], "train")[0].startswith("#")
    assert corpus_rows("train", [{"class": "en"}], [""], ["en"], resolve([])) == []


def test_unseen_utterances_are_compared_with_known_ones_of_their_corpus():
    def trials(labels):
        names = [str(n) for n in range(len(labels))]
        return Trials(names, names, labels, {"open_set": np.zeros(len(labels))}, ("en", "ce"))

    sets = {"test": trials(["en", "ce", "je"]), "other": trials(["en", "en"])}
    corpora = {"test": np.array(["a", "b", "a"], dtype=object), "other": np.array(["a", "b"], dtype=object)}
    pools = known_pools(sets, resolve([]).data, corpora)
    assert {name: len(pool) for name, pool in pools["test"].items() if name.startswith("corpus")} == {"corpus a": 2}
    assert not any(name.startswith("corpus") for name in pools["other"])
