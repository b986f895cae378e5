"""Settings: which are known, what they may be, which source wins."""

import argparse
import dataclasses
import itertools
import re
import typing

import pytest
import yaml

from dnf.experiment.config import Config, add_arguments, from_saved, from_tree, read_yaml, resolve
from dnf.experiment.layout import DEFAULTS


def with_yaml(tmp_path, text: str, *words: str) -> Config:
    path = tmp_path / "exp.yaml"
    path.write_text(text)
    return resolve([path, *words])


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_are_those_of_the_notes():
    config = resolve([])
    assert config.dim == 440 and config.prior.cond_dim == 440
    assert config.features.dither == 0 and config.features.num_filters == 40
    assert resolve(["splice.left=1", "splice.right=1", "prior.cond_dim=120"]).dim == 120


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("train:\n  epoch: 3\n", "train.epoch", "train.epochs"),
        ("train:\n  ecpohs: 3\n", "train.ecpohs", "train.epochs"),
        ("train:\n  learning: 3\n", "train.learning", "train."),
        ("trian:\n  lr: 3\n", "trian", "train"),
        ("prior:\n  conddim: 3\n", "prior.conddim", "prior.cond_dim"),
        ("sed: 3\n", "sed", "seed"),
        ("42: 3\n", "42", ""),
    ],
)
def test_an_unknown_setting_names_the_nearest_known_one(tmp_path, text, unknown, nearest):
    with pytest.raises(ValueError) as caught:
        with_yaml(tmp_path, text)
    assert re.search(rf"exp.yaml: unknown setting {unknown}; the nearest known one is {nearest}\S*$", one_line(caught))


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("train.batchsize=3", "train.batch_size"),
        ("flows.hidden=3", "flow"),
        ("train.learning_rate=3", "train.lr"),
        ("train.learningrate_final=3", "train.lr_final"),
    ],
)
def test_an_unknown_word_names_the_nearest_known_one(word, nearest):
    with pytest.raises(ValueError) as caught:
        resolve([word])
    assert one_line(caught).startswith(f"--set {word}: unknown setting") and one_line(caught).endswith(f"is {nearest}")


@pytest.mark.parametrize(
    "name", ("train.lr\u200b", "train.\ufefflr", "train.lr ", "train. lr", "tr\u00adain.lr", "train.l\u200dr")
)
def test_a_hidden_character_is_shown(name):
    with pytest.raises(ValueError) as caught:
        resolve([f"{name}=0.5"])
    said = one_line(caught).split(": unknown setting ")[1]
    assert said.isascii() and "except for hidden characters" in said and not said.startswith("train.lr;")


def test_the_settings_of_a_model_are_whole(tmp_path):
    path = tmp_path / "config.yaml"
    config = resolve(["seed=3", "train.lr=0.5"])
    config.save(path)
    assert Config.load(path) == config
    text = path.read_text()
    for part in ("", "seed: 3\n", text[: len(text) // 2].rpartition("\n")[0], text.replace("seed: 3\n", "")):
        path.write_text(part)
        with pytest.raises(ValueError, match=r"config.yaml: has no section \w+; it is truncated"):
            Config.load(path)


@pytest.mark.parametrize("word", ("train.lr", "=3", "train.=3", ".lr=3", "plots.colours.en=red", "train..lr=3"))
def test_a_word_of_another_form_is_refused(word):
    with pytest.raises(ValueError, match=re.escape(f"--set {word}: write section.key=value")):
        resolve([word])


@pytest.mark.parametrize(
    "word",
    [
        "train.epochs=2.5",
        "train.epochs=ten",
        "train.epochs=true",
        "train.epochs=null",
        "train.epochs=[3]",
        "train.lr=fast",
        "train.lr=true",
        "train.lr=null",
        "train.lr=[1.0]",
        "train.steps=many",
        "features.dither=",
        "features.resample=1",
        "features.resample=yes please",
        "features.channel=left",
        "data.train=3",
        "data.test={a: 1}",
        "data.test=[1]",
        "data.train=[2]",
        "data.dev=null",
        "data.shared_speakers=some",
        "data.controls=[a]",
        "data.controls={a: 1}",
        "plots.colours=blue",
        "flow.mask=checker",
        "cmvn.scope=global",
        "cmvn.scope=null",
        "train.precision=float16",
        "seed=one",
        "seed=1.0",
    ],
)
def test_a_value_of_another_type_names_its_setting(word):
    name, value = word.split("=")
    with pytest.raises(ValueError, match=rf"^{name}: ") as caught:
        resolve([word])
    assert value.strip("[]{}") in one_line(caught) or value in ("null", "true", "", "{a: 1}")


@pytest.mark.parametrize(
    "word",
    [
        "train.lr=0",
        "train.lr=-1e-3",
        "train.lr=nan",
        "train.epochs=0",
        "train.steps=0",
        "train.batch_size=-5",
        "train.lr_final=-0.1",
        "train.warmup_steps=-1",
        "plots.colours={en: blurple}",
        "features.max_rejected=1.5",
        "train.grad_clip=0",
        "flow.blocks=0",
        "flow.hidden=0",
        "flow.log_scale_bound=0",
        "prior.cond_dim=-1",
        "prior.var_c=0",
        "prior.var_r=-1000",
        "splice.left=-1",
        "splice.hop=0",
        "features.sampling_rate=0",
        "report.bootstrap=0",
        "latents.save_frames=-1",
        "latents.max_difference=0",
        "cmvn.window=1",
        "cmvn.window=511",
        "train.pieces=-1",
        "train.pieces=3",  # without normalization the length changes nothing
    ],
)
def test_a_value_out_of_range_names_its_setting(word):
    with pytest.raises(ValueError, match=word.split("=")[0]) as caught:
        resolve([word])
    one_line(caught)


@pytest.mark.parametrize(
    "word",
    [
        "vad.frames_context=-1",
        "vad.energy_threshold=nan",
        "train.lr_final=nan",
        "train.weight_decay=nan",
        "features.max_rejected=nan",
        "features.min_duration=-1",
        "seed=-1",
        "plots.dpi=0",
        "features.num_filters=3",
    ],
)
def test_values_that_would_fail_a_later_stage_are_refused_here(word):
    with pytest.raises(ValueError, match=word.split("=")[0]) as caught:
        resolve([word])
    one_line(caught)


@pytest.mark.parametrize("text", ("1e-3", "1E-3", ".001", "0.001", "1.0e-3", "'0.001'"))
def test_a_float_may_be_written_as_people_write_it(tmp_path, text):
    assert resolve([f"train.lr={text}"]).train.lr == 1e-3
    config = with_yaml(tmp_path, f"train:\n  lr: {text}\n")
    assert config.train.lr == 1e-3 and isinstance(config.train.lr, float)
    assert isinstance(resolve(["train.lr=1"]).train.lr, float)


def test_a_number_that_may_be_null_may_be_either():
    assert resolve(["train.steps=80000"]).train.steps == 80000
    assert resolve(["train.steps=80000", "train.steps=null"]).train.steps is None
    assert resolve(["features.channel=1"]).features.channel == 1


def test_later_and_stronger_sources_win(tmp_path):
    recipe, experiment = tmp_path / "recipe.yaml", tmp_path / "exp.yaml"
    recipe.write_text("train: {lr: 0.1, epochs: 11, batch_size: 12}\nseed: 5\n")
    experiment.write_text("train: {epochs: 21, batch_size: 22}\n")
    config = resolve([recipe, experiment, "train.batch_size=32", "train.batch_size=33"])
    default = resolve([])
    assert (config.train.lr, config.train.epochs, config.train.batch_size) == (0.1, 21, 33)
    assert config.seed == 5
    assert config.train.grad_clip == default.train.grad_clip and config.flow == default.flow
    assert resolve([experiment, recipe]).train.epochs == 11


def test_options_of_settings_win_in_the_order_they_are_given(tmp_path):
    """--config and --set, mixed: whichever comes last, as for recipe.conf, conf/<exp>.yaml and the command line."""
    for name, number in (("one", 1), ("two", 2)):
        (tmp_path / name).write_text(f"train: {{epochs: {number}}}\n")
    options = {
        1: ["--config", str(tmp_path / "one")],
        2: ["--config", str(tmp_path / "two")],
        3: ["--set", "train.epochs=3"],
        4: ["--set=train.epochs=4"],
    }
    for size in (1, 2, 3, 4):
        for order in itertools.permutations(options, size):
            parser = argparse.ArgumentParser()
            add_arguments(parser)
            layers = parser.parse_args([word for n in order for word in options[n]]).layers
            assert resolve(layers).train.epochs == order[-1], order
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args([]).layers == [] and resolve([]) == resolve(iter(()))


def test_a_map_and_a_list_are_replaced_as_a_whole(tmp_path):
    path = tmp_path / "exp.yaml"
    path.write_text("plots: {colours: {en: 'tab:blue', zh: red}}\ndata: {test: [a, b], controls: {a: b}}\n")
    config = resolve([path, "plots.colours={ja: pink}", "data.test=[c]"])
    assert config.plots.colours == {"ja": "pink"} and config.data.test == ["c"] and config.data.controls == {"a": "b"}


def test_sources_do_not_leak_into_the_defaults(tmp_path):
    before = resolve([])
    with_yaml(tmp_path, "train: {lr: 0.5}\ndata: {test: [x]}\n", "seed=9")
    assert resolve([]) == before


@pytest.mark.parametrize("text", ("", "# nothing\n", "---\n"))
def test_an_empty_file_changes_nothing(tmp_path, text):
    assert with_yaml(tmp_path, text) == resolve([])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b\n", "expected 'section:'"),
        ("train\n", "expected 'section:'"),
        ("train: [1\n", "not YAML"),
        ("train:\n  lr: 1\n bad: 2\n", "not YAML"),
        ("train: 3\n", "train is a section; set one of its keys: epochs"),
        ("train:\n", "train is a section"),
    ],
)
def test_a_file_that_is_no_tree_of_settings_is_named(tmp_path, text, words):
    with pytest.raises(ValueError, match=words) as caught:
        with_yaml(tmp_path, text)
    assert "exp.yaml" in str(caught.value)


def test_a_word_cannot_replace_a_section():
    with pytest.raises(ValueError, match="train is a section"):
        resolve(["train=3"])


def test_cond_dim_fits_into_the_vector():
    with pytest.raises(
        ValueError, match=r"prior.cond_dim 441 is more than the 440 dims of a vector \(5 \+ 1 \+ 5 frames of 40\)"
    ):
        resolve(["prior.cond_dim=441"])
    assert resolve(["prior.cond_dim=440"]).prior.cond_dim == 440


def test_warping_refuses_what_it_cannot_go_with():
    words = ["cmvn.scope=window", "train.pieces=3"]
    assert resolve(words).cmvn.reach == 150
    assert resolve([*words, "features.kind=vectors", "vectors.dim=440"]).cmvn.scope == "none"
    with pytest.raises(ValueError, match=r"^cmvn.variance: warped frames have variance 1 already"):
        resolve([*words, "cmvn.variance=true"])
    with pytest.raises(
        ValueError, match=r"^augment: the windows .* too short to be warped again, as cmvn.scope window"
    ):
        resolve([*words, "augment.probability=0.8", "augment.noise=[5, 30]"])


def test_pieces_are_no_shorter_than_a_vector():
    words = ["cmvn.scope=utterance", "train.pieces=0.1"]
    with pytest.raises(ValueError, match=r"train.pieces 0.1 s is shorter than a vector of 11 frames \(0.11 s\)"):
        resolve(words)
    assert resolve([*words, "splice.left=4", "prior.cond_dim=0"]).train.pieces == 0.1
    assert resolve([*words, "features.kind=vectors", "vectors.dim=440"]).train.pieces == 0


@pytest.mark.parametrize(
    "words", [("features.high_freq=9000",), ("features.low_freq=-1",), ("features.low_freq=7700",)]
)
def test_the_band_of_the_filters_lies_below_half_the_rate(words):
    with pytest.raises(ValueError, match="leave no band up to 8000"):
        resolve(words)
    assert resolve(["features.high_freq=0"]).features.high_freq == 0
    assert resolve(["features.sampling_rate=8000", "features.high_freq=-200"]).features.high_freq == -200


def test_what_is_saved_is_loaded_again(tmp_path, small_config):
    config = small_config(
        "seed=7", "train.lr=1e-5", "train.steps=123", "features.channel=1", "data.test=[a, b]", "data.controls={a: b}"
    )
    config.save(tmp_path / "made" / "config.yaml")
    loaded = Config.load(tmp_path / "made" / "config.yaml")
    assert loaded == config
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["config.yaml"]
    loaded.save(tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == (tmp_path / "made" / "config.yaml").read_bytes()
    assert from_tree(dataclasses.asdict(config)) == config


def test_a_checkpoint_of_before_a_setting_has_its_default_and_one_of_unknown_ones_is_refused(small_config):
    tree = dataclasses.asdict(small_config("train.lr=0.5"))
    del tree["data"]["views"], tree["train"]["select"]
    assert from_saved(tree) == small_config("train.lr=0.5")
    tree["train"]["momentum"] = 0.9
    with pytest.raises(ValueError, match="the checkpoint: unknown setting train.momentum"):
        from_saved(tree)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve([]).train.lr = 3.0


def fields() -> dict[str, type]:
    found = {}
    for section, hint in typing.get_type_hints(Config).items():
        names = typing.get_type_hints(hint) if dataclasses.is_dataclass(hint) else {}
        found |= {f"{section}.{name}": of for name, of in names.items()} or {section: hint}
    return found


def test_every_setting_has_its_default_and_every_default_its_setting():
    tree = read_yaml(DEFAULTS)
    written = {f"{s}.{k}" for s, v in tree.items() if isinstance(v, dict) for k in v} | {
        s for s, v in tree.items() if not isinstance(v, dict)
    }
    assert written == set(fields())


def test_defaults_are_of_their_fields_own_type():
    """So that yaml.safe_load and dnf.experiment.config read conf/default.yaml alike: 1.0e-3, not 1e-3."""
    tree = read_yaml(DEFAULTS)
    for name, hint in fields().items():
        section, _, key = name.partition(".")
        value = tree[section][key] if key else tree[section]
        if hint in (int, float, bool, str):
            assert type(value) is hint, name


def test_every_choice_stands_in_the_defaults_file():
    """A setting with a fixed set of values lists the others in its comment."""
    lines = DEFAULTS.read_text().splitlines()
    section = ""
    comments = {}
    for line in lines:
        section = line.split(":")[0] if line[:1].isalpha() else section
        if match := re.match(r"  (\w+): ([^#]*)(#.*)?$", line):
            comments[f"{section}.{match[1]}"] = match[2] + (match[3] or "")
    for name, hint in fields().items():
        if typing.get_origin(hint) is typing.Literal:
            for choice in typing.get_args(hint):
                assert re.search(rf"\b{choice}\b", comments[name]), f"{name}: {choice}"


def test_defaults_file_is_plain_yaml():
    assert yaml.safe_load(DEFAULTS.read_text()) == read_yaml(DEFAULTS)
