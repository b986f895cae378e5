"""Done-markers: what runs, what is up to date, and what is refused."""

import dataclasses
import functools
import gzip
import json
import os
import re
import shutil

import pytest

from dnf.experiment import stage
from dnf.experiment.config import Config, resolve
from dnf.experiment.layout import STAGES
from dnf.experiment.stage import UP_TO_DATE

NAMES = list(STAGES)


class Run:
    """One run in a folder: its stages begun and finished as run.sh does, each time with the settings ``words``."""

    def __init__(self, folder):
        self.folder = folder
        self.source, self.tables = "recipe mini", []
        self.write("data/train/utt2spk", "a-1 a\n")
        self.write("data/train/utt2class", "a-1 en\n")
        self.write("data/classes.txt", "en\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def options(self, words) -> list[str]:
        places = ("data", "exp/feats", "exp/frames", "exp/one")
        options = [f"--{name}={self.folder / place}" for name, place in zip(("data", "feats", "frames", "exp"), places)]
        options += [f"--set={word}" for word in words] + ["--source", self.source]
        return options + [f"--source-tables={table}" for table in self.tables]

    def main(self, *argv) -> int:
        getattr(stage.hash_tables, "cache_clear", lambda: None)()  # every stage is a process of its own
        return stage.main(list(map(str, argv)))

    def begin(self, name: str, *words: str, force: bool = False) -> bool:
        status = self.main("begin", name, *self.options(words), *(["--force"] if force else []))
        assert status in (0, UP_TO_DATE)
        return status == 0

    def go(self, *words: str, first: int = 0, last: int = 8, force: bool = False) -> list[str]:
        """Numbers of the stages that ran, joined."""
        ran = []
        for name, of in STAGES.items():
            if first <= of.number <= last and self.begin(name, *words, force=force):
                assert self.main("finish", name, *self.options(words)) == 0
                ran.append(str(of.number))
        return "".join(ran)

    def marker(self, name: str):
        place = {"data": "data", "feats": "exp/feats", "frames": "exp/frames", "exp": "exp/one"}[STAGES[name].place]
        return self.folder / place / f".done.{name}"


resolve_once = functools.cache(resolve)  # parsing YAML is slow


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "resolve", lambda layers: resolve_once(tuple(layers)))
    return Run(tmp_path)


@pytest.fixture
def done(run):
    assert run.go() == "012345678"
    return run


def test_stages_are_numbered_in_order_and_come_after_what_they_read():
    assert [of.number for of in STAGES.values()] == list(range(9))
    for name, of in STAGES.items():
        assert all(NAMES.index(before) < NAMES.index(name) for before in of.after)
        assert of.after or name == "data"


def test_a_stage_that_is_done_is_skipped(done):
    markers = {name: done.marker(name).read_bytes() for name in NAMES}
    assert done.go() == ""
    assert {name: done.marker(name).read_bytes() for name in NAMES} == markers


def test_what_follows_and_is_up_to_date_is_named(done, capsys):
    def named(*words):
        capsys.readouterr()
        assert not done.begin("data", *words)
        return capsys.readouterr().out.split()

    assert named() == NAMES
    assert named("flow.hidden=5") == NAMES[:3]
    assert named("plots.dpi=50") == NAMES[:5]


def test_spliced_vectors_are_made_when_frames_or_splicing_changed(done):
    def spliced(*words):
        ran = done.begin("spliced", *words)
        assert not ran or done.main("finish", "spliced", *done.options(words)) == 0
        return ran

    assert spliced() and not spliced() and not spliced("flow.hidden=5")
    assert spliced("splice.hop=3") and not spliced("splice.hop=3")
    assert Config.load(done.folder / "exp/one/config.yaml").splice.hop != 3  # that of the model
    assert done.go() == "" and spliced()
    assert done.go("frames.dtype=float32") and spliced("frames.dtype=float32")


def test_begin_removes_the_marker_and_finish_writes_it(done):
    assert done.begin("frames", "frames.dtype=float32")
    assert not done.marker("frames").exists()
    done.main("finish", "frames", *done.options(["frames.dtype=float32"]))
    record = json.loads(done.marker("frames").read_text())
    assert record["settings"] == {"frames.dtype": "float32"} and record["seconds"] >= 0
    left = [path.name for path in done.marker("frames").parent.iterdir()]
    assert sorted(left) == [".done.frames", "config.yaml"]


def test_begin_first_finishes_the_stage_before(run):
    run.go(last=2)
    run.begin("train")
    assert run.main("begin", "latents", "--finish", "train", *run.options([])) == 0
    assert run.marker("train").is_file() and not run.marker("latents").exists()
    assert run.main("begin", "train", "--finish", "latents", *run.options([])) == UP_TO_DATE


def test_a_stage_is_finished_even_if_the_next_one_cannot_begin(run):
    run.go(last=0)
    run.begin("features")
    with pytest.raises(ValueError, match="stage 2 .frames. is not done"):
        run.main("begin", "train", "--finish", "features", *run.options([]))
    assert run.marker("features").is_file()


def test_a_stage_that_was_killed_runs_again(run):
    run.go(last=2)
    assert run.begin("train")
    assert run.begin("train")
    run.main("finish", "train", *run.options([]))
    assert not run.begin("train")


def test_what_was_left_unfinished_is_gone_on_with_unless_something_changed(run, capsys):
    def work(*words, **more):
        capsys.readouterr()
        assert run.begin("train", *words, **more)
        return capsys.readouterr().out.strip()

    run.go(last=2)
    first = work()
    assert first and work() == first
    other = work("train.lr=0.5")
    assert other != first and work("train.lr=0.5") == other
    assert work("train.lr=0.5", force=True) != other
    run.main("finish", "train", *run.options(["train.lr=0.5"]))
    assert work() not in (first, other)


def test_a_stage_killed_while_it_ran_again_is_not_done(done):
    assert done.begin("train", force=True)
    with pytest.raises(ValueError, match=r"stage 3 \(train\) is not done; start with --stage 3"):
        done.begin("latents")
    assert done.go().startswith("3")


@pytest.mark.parametrize(("number", "after"), [(1, "2345678"), (3, "45678"), (6, "78")])
def test_what_follows_a_stage_that_was_forced_runs_again(done, number, after):
    """Forced because a recording or the code changed: figures of the old output must not stay."""
    assert done.go(first=number, last=number, force=True) == str(number)
    assert done.go() == after


def test_begin_leaves_the_settings_beside_the_output(run):
    run.go("features.num_filters=30", "prior.cond_dim=330", last=3)
    for folder in ("data", "exp/feats", "exp/frames", "exp/one"):
        assert Config.load(run.folder / folder / "config.yaml").features.num_filters == 30


@pytest.mark.parametrize(
    ("word", "ran"),
    [
        ("features.low_freq=30", "12345678"),
        ("vad.energy_threshold=4", "12345678"),
        ("frames.dtype=float32", "2345678"),
        ("cmvn.scope=speaker", "345678"),
        ("splice.hop=3", "345678"),
        ("data.train=other", "345678"),
        ("data.classes=[en]", "345678"),
        ("flow.hidden=5", "345678"),
        ("prior.var_r=1000", "345678"),
        ("train.lr=0.1", "345678"),
        ("data.test=[a]", "45678"),
        ("latents.save_frames=5", "45678"),
        ("plots.dpi=50", "578"),
        ("plots.enabled=false", "578"),
        ("score.frame_scores=false", "678"),
        ("report.bootstrap=10", "578"),
        ("open_set.false_alarm=0.1", "78"),
        ("data.controls={a: b}", "45678"),
        ("data.views={a: {sets: [b]}}", "45678"),
        ("data.dev=[dev, other]", "345678"),
        ("data.shared_speakers=true", "45678"),
        ("decide.near_tie=1.5", "78"),
        ("seed=5", "012345678"),
    ],
)
def test_a_changed_setting_reruns_its_stage_and_what_follows(done, word, ran):
    assert done.go(word) == ran
    assert done.go(word) == ""
    assert done.go() == ran  # and back


def test_every_setting_belongs_to_a_stage():
    config = resolve([])
    words = (["features.kind=vectors", "prior.cond_dim=0", f"vectors.front_end={name}"] for name in stage.front_ends())
    configs = [config, *map(resolve, words)]
    owned = set(stage.WHERE).union(*(stage.settings_of(name, c) for name in NAMES for c in configs))
    tree = dataclasses.asdict(config)
    assert owned == {f"{section}.{key}" for section, keys in tree.items() if section != "seed" for key in keys} | {
        "seed"
    }


def test_settings_are_checked_against_the_dims_of_vectors_only_while_these_are_up_to_date(run, capsys):
    few, many = (
        ("features.kind=vectors", "vectors.project=lda", f"vectors.project_to={dim}", f"prior.cond_dim={dim}")
        for dim in (10, 20)
    )
    run.write("exp/frames/train/meta.json", '{"dim": 10}')
    run.go(*few, last=3)
    with pytest.raises(ValueError, match="prior.cond_dim 11 is more than the 10 dims"):
        run.begin("train", *few[:-1], "prior.cond_dim=11")
    assert outlook(run, capsys, *many) == "uurrrrrrr"
    assert run.begin("frames", *many)
    run.write("exp/frames/train/meta.json", '{"dim": 20}')
    assert run.main("finish", "frames", *run.options(many)) == 0
    assert run.go(*many, first=3, last=3) == "3"
    assert Config.load(run.folder / "exp/one/config.yaml").vectors.dim == 20


@pytest.mark.parametrize("word", [f"{name}=2" for name in stage.WHERE])
def test_what_was_made_in_another_place_is_up_to_date(done, word):
    assert done.go(word) == "" and done.go() == ""


def test_force_runs_what_is_up_to_date(done):
    assert done.go(force=True) == "012345678"
    assert done.go(force=True, first=5, last=5) == "5"
    assert done.go() in ("", "8")


def test_starting_in_the_middle_with_the_same_settings_goes_on(done):
    assert done.go("train.lr=0.1", first=3) == "345678"
    assert done.go("train.lr=0.1", first=4) == ""


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("latents", ["train.lr=0.5"], r"stage 3 \(train\) was made with other settings \(train.lr was 0.001, is 0.5\)"),
        ("frames", ["features.low_freq=30"], r"stage 1 \(features\) .*features.low_freq was 20.0, is 30.0"),
        ("report", ["vad.energy_threshold=4"], r"stage 1 \(features\) .*vad.energy_threshold was 5.0, is 4.0"),
        ("decide", ["score.frame_scores=false"], r"stage 6 \(score\) .*score.frame_scores was True, is False"),
        ("train", ["frames.dtype=float32"], r"stage 2 \(frames\) .*frames.dtype was float16, is float32"),
        ("latents", ["flow.hidden=5", "flow.blocks=4"], "flow.blocks was 10, is 4; flow.hidden was 512, is 5"),
    ],
)
def test_starting_in_the_middle_with_other_settings_names_them(done, name, words, message):
    with pytest.raises(ValueError, match=message) as caught:
        done.begin(name, *words)
    number = re.search(r"stage (\d)", str(caught.value))[1]
    assert f"start with --stage {number}" in str(caught.value) and "\n" not in str(caught.value)
    assert all(done.marker(other).exists() for other in NAMES)  # nothing was touched


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_missing_stage_is_named(run, name):
    with pytest.raises(ValueError, match=r"stage 0 \(data\) is not done; start with --stage 0"):
        run.begin(name)
    first = STAGES[name].after[0]
    run.go(last=STAGES[first].number - 1)
    with pytest.raises(ValueError, match=rf"stage {STAGES[first].number} \({first}\) is not done"):
        run.begin(name)


def test_score_decide_and_report_need_no_plots(run, capsys):
    run.go(last=4)
    assert run.go(first=6) == "678" and run.go(first=6) == ""
    assert run.go("plots.dpi=50") == "578"  # the page takes them in
    assert run.go("plots.dpi=50") == ""


def test_plots_of_other_settings_or_broken_off_are_not_shown(done):
    with pytest.raises(ValueError, match=r"stage 5 \(plots\) was made with other settings \(plots.max_points was"):
        done.begin("report", "plots.max_points=5")
    assert done.go("plots.enabled=false", first=6) == "78"
    assert done.go() == "78"
    done.begin("plots", force=True)
    with pytest.raises(ValueError, match=r"stage 5 \(plots\) is not done"):
        done.begin("report")


def test_a_changed_table_reruns_features_and_what_follows(done):
    done.write("data/train/utt2class", "a-1 zh\n")
    assert done.go() == "12345678"
    done.write("data/dev/utt2spk", "b-1 b\n")
    assert done.go() == "12345678"
    shutil.rmtree(done.folder / "data" / "dev")
    assert done.go() == "12345678"


@pytest.mark.parametrize("table", ("wav.scp", "segments", "utt2spk", "utt2class", "utt2score"))
def test_every_table_that_a_stage_reads_counts(done, table):
    done.write(f"data/train/{table}", "a-1 other\n")
    with pytest.raises(ValueError, match=r"stage 1 \(features\) was made with other inputs"):
        done.begin("train")
    assert done.go() == "12345678"


def write_manifest(run, start: float, written: int) -> None:
    line = json.dumps({"id": "a-1", "recording_id": "a-1", "start": start, "duration": 1.0}) + "\n"
    path = run.folder / "data/train/supervisions.jsonl.gz"
    path.write_bytes(gzip.compress(line.encode(), mtime=written))


def test_the_manifests_that_features_are_made_from_count(run):
    """Stage 1 reads recordings and utterances from the manifests, so another manifest is another input."""
    write_manifest(run, 0.0, written=1)
    run.go()
    write_manifest(run, 0.0, written=2)  # the same, made again
    assert run.go() == ""
    write_manifest(run, 0.5, written=2)
    assert run.go() == "12345678"


def test_tables_that_stage_1_writes_do_not_count(done):
    for table in ("feats.scp", "vad.scp", "cmvn.scp", "utt2num_frames", "rejected.txt"):
        done.write(f"data/train/{table}", "a-1 x:1\n")
    assert done.go() == ""


def test_another_model_to_start_at_reruns_training_and_what_follows(run):
    word = f"train.from_model={run.folder / 'first'}"
    run.write("first/best.pt", "one")
    run.go(word)
    assert run.go(word) == ""
    run.write("first/best.pt", "another")
    assert run.go(word) == "345678"


def test_another_source_reruns_everything(done):
    done.source = "recipe mini --speakers 5"
    assert done.go() == "012345678"


def test_a_changed_table_of_the_users_reruns_everything(done):
    done.source, done.tables = "own data", [done.folder / "own"]
    done.write("own/recordings.tsv", "recording\tspeaker\tclass\tset\n")
    assert done.go() == "012345678"
    assert done.go() == ""
    done.write("own/recordings.tsv", "recording\tspeaker\tclass\tset\na.wav\ta\ten\ttrain\n")
    with pytest.raises(ValueError, match=r"stage 0 \(data\) was made with other inputs"):
        done.begin("features")
    assert done.go() == "012345678"


def test_every_table_of_the_recipe_counts(done):
    """Options of a recipe that name tables of recordings: each is hashed, a file or a folder, in its order."""
    done.write("one.csv", "recording,speaker,class\n")
    done.write("two/recordings.csv", "recording,speaker,class\n")
    done.tables = [done.folder / "one.csv", done.folder / "two"]
    assert done.go() == "012345678" and done.go() == ""
    for name in ("one.csv", "two/recordings.csv"):
        done.write(name, "recording,speaker,class\na.wav,a,en\n")
        assert done.go() == "012345678", name
    done.write("two/notes.txt", "no table")
    assert done.go() == ""


@pytest.mark.parametrize("name", ("meta.csv", "dev/dev.lst", "train/spk2age", "resource/scores.json"))
def test_lists_and_scores_of_a_corpus_count(done, name):
    done.tables = [done.folder / "corpus"]
    done.write("corpus/train/utt2spk", "a-1 a\n")
    assert done.go() == "012345678" and done.go() == ""
    done.write(f"corpus/{name}", "something\n")
    assert done.go() == "012345678"
    done.tables.pop()
    assert done.go() == "012345678"


@pytest.mark.parametrize("name", ("train", "latents"))
@pytest.mark.parametrize("text", ("", "{", "null", "[]", "{}", '{"key": 1}', "3"))
def test_a_damaged_marker_is_named(done, text, name):
    done.marker("train").write_text(text)
    with pytest.raises(ValueError, match=r"\.done\.train: not a done-marker; delete it"):
        done.begin(name)


def test_training_does_not_depend_on_which_class_comes_first():
    one, other, less = (resolve([f"data.classes={classes}"]) for classes in ("[en, zh]", "[zh, en]", "[en]"))
    for name, alike in (("train", True), ("decide", False)):
        assert (stage.settings_of(name, one) == stage.settings_of(name, other)) is alike
    assert stage.settings_of("train", one) != stage.settings_of("train", less)


def outlook(run, capsys, *words, first=0, last=8, force=False) -> str:
    """State of each stage, as one letter: r(un), u(p to date), n(ot asked for), x for any other."""
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    capsys.readouterr()
    argv = ["outlook", *run.options(words), "--first", first, "--last", last, *(["--force"] if force else [])]
    status = run.main(*argv)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before  # it only looks
    lines = capsys.readouterr().out.splitlines()
    assert status == (stage.OTHER_DATA if "would run" in lines[0] else 0)
    assert [line.split()[1] for line in lines] == [str(number) for number in range(9)]
    letters = {"would run": "r", "up to date": "u", "not asked for": "n"}
    return "".join(next((letter for words, letter in letters.items() if words in line), "x") for line in lines)


def test_outlook_says_what_a_run_would_do(run, capsys):
    assert outlook(run, capsys) == "rrrrrrrrr"
    run.go(last=4)
    assert outlook(run, capsys) == "uuuuurrrr"
    run.go()
    assert outlook(run, capsys) == "uuuuuuuuu"
    assert outlook(run, capsys, "train.lr=0.1") == "uuurrrrrr"
    assert outlook(run, capsys, "plots.dpi=50") == "uuuuururr"
    assert outlook(run, capsys, "plots.dpi=50", first=3, last=5) == "nnnuurnnn"
    assert outlook(run, capsys, first=3, last=5, force=True) == "nnnrrrnnn"


@pytest.mark.parametrize(("words", "first"), [((), 3), (("vad.energy_threshold=4",), 3)])
def test_outlook_does_not_promise_what_begin_refuses(run, capsys, words, first):
    """Not asked for and not done, or made with other settings: the stages after it cannot run."""
    if words:
        run.go()
    with pytest.raises(ValueError):
        run.begin(NAMES[first], *words)
    try:
        told = outlook(run, capsys, *words, first=first)
    except ValueError:
        return
    assert "r" not in told


def test_finish_without_begin_is_an_error(run):
    run.go(last=1)
    with pytest.raises((ValueError, OSError)):
        run.main("finish", "frames", *run.options([]))
    assert not run.marker("frames").exists()


def test_a_verb_without_its_stage_is_bad_usage(run):
    with pytest.raises(SystemExit) as caught:
        run.main("begin", *run.options([]))
    assert caught.value.code == 2


def test_two_experiments_share_the_stages_before_training(done):
    other = Run(done.folder)
    other.options = lambda words: [w.replace("exp/one", "exp/two") for w in Run.options(other, words)]
    assert other.go("flow.hidden=5") == "345678"
    assert done.go() == ""
    assert (done.folder / "exp/two/.done.train").exists() and os.path.exists(done.marker("train"))


def test_settings_of_another_front_end_do_not_count():
    def stage_1(*words):
        return stage.settings_of("features", resolve(["features.kind=vectors", "prior.cond_dim=null", *words]))

    for front_end, own, other in (
        ("ubm", "vectors.ubm_ceps=9", "vectors.encoder_hop=2"),
        ("encoder", "vectors.encoder_hop=2", "vectors.ubm_ceps=9"),
    ):
        mine = f"vectors.front_end={front_end}"
        assert stage_1(mine) == stage_1(mine, other) != stage_1(mine, own)
    assert stage_1("vectors.front_end=ubm") == stage_1("vectors.front_end=ubm", "vectors.ubm_relevance=2")
