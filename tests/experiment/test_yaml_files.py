"""YAML that does not mean what it says is refused, with the file and the line."""

import pytest

from dnf.experiment.config import Config, resolve
from dnf.experiment.yaml_files import load_yaml, parse_value


def refused(tmp_path, content: str | bytes) -> str:
    path = tmp_path / "exp.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:
        resolve([path])
    message = str(caught.value)
    assert message.startswith(f"{path}") and "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: 1\nseed: 2\n", " line 2: key 'seed' is also in line 1"),
        ("train:\n  lr: 1\n  epochs: 2\n  lr: 3\n", " line 4: key 'lr' is also in line 2"),
        ("train:\n  lr: 1\nseed: 1\ntrain:\n  epochs: 3\n", " line 4: key 'train' is also in line 1"),
        ("plots:\n  colours: {en: red, en: blue}\n", " line 2: key 'en' is also in line 2"),
        (
            "plots:\n  colours:\n    \u00e9: red\n    e\u0301: blue\n",
            " line 4: key 'e\u0301' is also in line 3",
        ),
        ("data:\n  views:\n    a: {sets: [b], sets: [c]}\n", " line 3: key 'sets' is also in line 3"),
        ("seed: 010\n", " line 1: YAML reads 010 as 8"),
        ("train:\n  epochs: 1:30\n", " line 2: YAML reads 1:30 as 90"),
        ("train:\n  lr: 1:30.5\n", " line 2: YAML reads 1:30.5 as 90.5"),
        ("data:\n  classes: [010]\n", " line 2: YAML reads 010 as 8"),
        (b"seed: 1\n# Andr\xe9\n", " line 2: not UTF-8"),
        ("train: {lr: 1\n", ": not YAML: "),
        ("\tseed: 1\n", ": not YAML: "),
    ],
)
def test_what_is_odd_is_refused_with_its_line(tmp_path, content, message):
    assert refused(tmp_path, content).startswith(message)


@pytest.mark.parametrize("text", ("010", "-010", "1:30", "{a: 1, a: 2}", "0_7"))
def test_words_of_the_command_line_are_read_alike(text):
    with pytest.raises(ValueError, match=r"^--set train\.epochs=.*(YAML reads .* as -?\d+|is also in line)"):
        resolve([f"train.epochs={text}"])


def test_what_is_not_odd_stays_what_it_was(tmp_path):
    text = "{a: 0, b: 10, c: 0.5, d: -1, e: 1.0e-3, f: '010', g: 1_000, h: 0x10, i: .inf, j: [1, 1], k: 09, l: '1:30'}"
    wanted = {"a": 0, "b": 10, "c": 0.5, "d": -1, "e": 0.001, "f": "010", "g": 1000, "h": 16, "j": [1, 1], "k": "09"}
    assert parse_value(text) == wanted | {"i": float("inf"), "l": "1:30"}
    (tmp_path / "a.yaml").write_text("base: &b {x: 1, y: 2}\nmore: {<<: *b, x: 3}\n")
    assert load_yaml(tmp_path / "a.yaml")["more"] == {"x": 3, "y": 2}


@pytest.mark.parametrize("share", (0.0, 0.3, 0.5, 0.9))
def test_settings_of_a_stage_that_were_cut_off_are_refused(tmp_path, share):
    path = tmp_path / "config.yaml"
    resolve([]).save(path)
    assert Config.load(path) == resolve([])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: int(share * len(lines))]))
    with pytest.raises(ValueError, match=r"config.yaml: has no section .*truncated"):
        Config.load(path)
