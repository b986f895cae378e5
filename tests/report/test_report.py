"""report.html: every figure of results.tsv is in it, nothing is loaded from elsewhere, nothing gets in unescaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import Markup
from result_rows import WORDS, two_class_rows

from dnf.decisions.calibration import Calibration
from dnf.experiment import entry
from dnf.experiment.config import resolve
from dnf.experiment.tables import write_tsv
from dnf.metrics.figure_rows import COLUMNS
from dnf.plots.kinds import KINDS
from dnf.report import html
from dnf.report.html import main
from dnf.report.html_page import table


def png(width: int = 1200, height: int = 8) -> bytes:
    """A grey PNG."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\x00" + b"\x80" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def row(metric: str, **cells) -> dict:
    return {"metric": metric, **{("class" if name == "true" else name): value for name, value in cells.items()}}


def write_results(exp: Path, rows: list[dict]) -> None:
    exp.mkdir(parents=True, exist_ok=True)
    write_tsv(exp / "results.tsv", rows, COLUMNS)


def rows_of_everything() -> list[dict]:
    """One row of each kind; every value is a number that no other row has."""
    shares = {"low": 0.9012, "high": 0.9734, "count": 1116, "total": 1183, "speakers": 17}
    return [
        row("utt_accuracy", set="test", true="en", value=0.9431, **shares),
        row("frame_accuracy", set="test", true="en", value=0.8432, count=8432, total=10000, speakers=17),
        row("utt_accuracy", set="test_mic", true="en", value=0.7433, **shares),
        row("utt_share", set="test", true="en", decided="en", value=0.9434, count=943, total=1000),
        row("utt_share", set="test", true="en", decided="ce", value=0.0566, count=57, total=1000),
        row("frame_share", set="test", true="en", decided="ce", value=0.1567, count=1567, total=10000),
        row("utt_share", set="test", true="je", decided="ce", value=0.6035, low=0.5036, high=0.7037, count=6, total=10),
        row("loglik", set="test", true="en", value=90.1938, total=45678),
        row("logp", set="test", true="en", value=-608.2039, total=45678),
        row("logdet", set="test", true="en", value=698.4041, total=45678),
        row("nll", set="test", true="en", value=-90.1942, total=45678),
        row("skew_c", set="test", true="ce+en", value=0.0043, total=91234),
        row("kurt_c", set="test", true="ce+en", value=-1.5444, total=91234),
        row("kurt_within_c", set="test", true="ce+en", value=0.0345, total=91234),
        row("mardia_kurt_z_c", set="test", true="ce+en", value=12.46, total=91234),
        row("kurt_r", set="test", true="ce+en", value=0.7347, total=91234),
        row("train_eval_difference", value=0.000048),
        row("spikes", value=49),
        row("restores", value=50),
        row("steps", value=80051),
        row("parameters", value=6523452),
        row("an_unknown_metric", set="test", true="en", value=0.5453),
        row("utt_accuracy", set="test", true="en", value=0.1154),  # a second figure for the same place
    ]


@pytest.fixture
def exp(tmp_path) -> Path:
    folder = tmp_path / "exp2"
    write_results(folder, rows_of_everything())
    (folder / "config.yaml").write_text(
        "seed: 7\ndata: {controls: {test: test_mic}}\nnote: '<script>alert(1)</script>'\n"
    )
    (folder / "env.json").write_text(json.dumps({"git": "1a2b3c4", "device_name": "<GPU> & co", "threads": 16}))
    (folder / "plots").mkdir()
    for name in ("curves", "scatter_test", "scatter_r_test", "something_else"):
        (folder / "plots" / f"{name}.png").write_bytes(png())
    return folder


class Reader(HTMLParser):
    """Tags and their attributes, the text outside of style, and whether the tags close in order."""

    VOID = ("meta", "img")

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(page)
        self.close()
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)


def test_every_figure_is_shown(exp):
    read = Reader(html.page(exp))
    assert not read.open
    for value in (r["value"] for r in rows_of_everything()):
        forms = {str(value), f"{value:.3f}", f"{value:.4f}", f"{value:,}", f"{value:.6f}"}
        assert any(re.search(rf"(?<![\d.,-]){re.escape(form)}(?![\d.,])", read.text) for form in forms), value
    for text in (
        "0.901 to 0.973",
        "1,116 / 1,183",
        "0.7433 (test_mic)",
        "6 / 10",
        "943 (0.9434)",
        "an_unknown_metric",
    ):
        assert text in read.text
    others = read.text[read.text.index("Figures that no other table shows") :]
    assert "0.1154" in others and "0.5453" in others


def test_another_system_has_its_figures_against_unseen_classes_in_their_table(tmp_path):
    write_results(tmp_path, [row("auc_unseen", system="gmm", set="test", true="je", decided="en", value=0.6574)])
    text = Reader(html.page(tmp_path)).text
    assert text.index("gmm: Unseen classes against each known class") < text.index("0.6574")
    assert "Figures that no other table shows" not in text


def test_the_page_says_with_results_txt_what_each_calibration_is(exp):
    assert "Calibration" not in html.page(exp)
    counts = {"ce": 4, "en": 5}
    made = Calibration(["ce", "en"], 0.0, [0.0, 0.0], [0.0, 0.0], None, [], counts, counts)
    made.save(exp / "calibration.json")
    assert "calibration dnf carries no information: its scores do not separate the classes of dev" in html.page(exp)
    (exp / "calibration.json").write_text('{"slope": 1}')
    assert "Missing: " in html.page(exp) and "calibration.json: not a calibration; run stage decide again" in html.page(
        exp
    )


def test_speakers_stand_in_the_order_of_the_sets(exp):
    rows = [{"set": name, "class": "en", "speaker": f"s_{name}", "accuracy": 1} for name in ("dev", "test", "train")]
    write_tsv(exp / "speakers.tsv", rows)
    assert re.findall(r"s_(\w+)</th>", html.page(exp)) == ["test", "dev", "train"]


def test_nothing_is_shown_twice_or_under_the_wrong_title(exp):
    text = Reader(html.page(exp)[html.page(exp).index("<details") :].partition("</main>")[0]).text
    assert text.count("0.5453") == 1 and text.count("0.6035") == 1
    unseen = text.index("Unseen classes and their decisions")
    assert unseen < text.index("0.6035") < text.index("LogLL", unseen)


def test_the_page_loads_nothing_and_runs_its_own_script_alone(exp):
    page = html.page(exp)
    read = Reader(page)
    for tag, attributes in read.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), (tag, value[:40])
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp", page)
    script = page[page.index("<script>") + 8 : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in page and f"script-src 'sha256-{digest}'" in page and page.count("<script") == 1


def test_what_files_say_is_escaped(exp):
    rows = [*rows_of_everything(), row("<b>bold</b>", set="a&b", true='"q"', value=1)]
    write_results(exp, rows)
    page = html.page(exp)
    assert "<script>alert" not in page and "<b>bold" not in page and "<GPU>" not in page
    text = Reader(page).text
    assert "<script>alert(1)</script>" in text and "<b>bold</b>" in text and "<GPU> & co" in text and "a&b" in text


def test_plots_are_inside_with_captions_and_size_and_in_order(exp):
    page = html.page(exp)
    images = [attributes for tag, attributes in Reader(page).tags if tag == "img"]
    assert [image["alt"] for image in images] == ["scatter_test", "curves", "scatter_r_test", "something_else"]
    assert page.index('alt="curves"') < page.index("<details") < page.index('alt="scatter_r_test"')
    assert all((image["width"], image["height"]) == ("1200", "8") for image in images)
    caption = re.search(r'alt="curves".*?<figcaption>(.*?)</figcaption>', page, re.DOTALL)[1]
    assert caption.startswith(KINDS["curves"].caption) and caption.endswith("<small>(curves)</small>")
    residual = page[page.index('alt="scatter_r_test"') :]
    assert "residual part r" in residual[: residual.index("</figure>")]


def test_bold_is_better_beyond_chance_and_leads_say_what_a_sentence_is_about(tmp_path):
    for p, system in ((0.01, "mlp"), (0.2, "")):
        rows = two_class_rows(p=p)
        write_results(tmp_path, rows)
        resolve(WORDS).save(tmp_path / "config.yaml")
        top = html.page(tmp_path).partition("<details")[0]
        bold = re.findall(r'data-head="([^"]*)"><b>', top)
        assert bold == (["calibrated, mlp"] if system else []) and ("bold: better" in top) == bool(system)
        assert re.findall(r"<li><b>(\w+)</b>", top) == ["Accuracy", "Best", "Control", "Unseen", "Odd"]
    assert "dnf is the flow; gmm, mlp: other systems on the same frames, mlp the best on dev; en, ce: classes" in top


def test_the_page_is_for_phones_and_for_the_dark(exp):
    page = html.page(exp)
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_head_and_settings(exp):
    text = Reader(html.page(exp)).text
    assert "exp2" in text and "1a2b3c4" in text and "controls: {test: test_mic}" in text


def test_without_a_control_the_page_says_so(exp):
    assert "No control set" not in html.page(exp)
    for config in ("seed: 7\n", "data: {controls: {test: not_scored}}\n"):
        (exp / "config.yaml").write_text(config)
        assert "No control set" in html.page(exp)


def test_only_results_are_needed_and_empty_sections_are_left_out(tmp_path):
    write_results(tmp_path / "nf", [row("nll", set="test", true="en", value=-41.869)])
    text = Reader(html.page(tmp_path / "nf")).text
    assert "-41.869" in text and "confusion" not in text
    assert "Missing: no pictures; run stage plots (--stage 5)" in text


def test_the_file_is_written_whole_and_is_the_same_each_time(exp):
    assert main([str(exp)]) == 0
    first = (exp / "report.html").read_bytes()
    assert main([str(exp)]) == 0
    assert (exp / "report.html").read_bytes() == first
    assert not list(exp.glob(".report*"))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda exp: (exp / "results.tsv").unlink(), r"results.tsv: does not exist; run stage report \(--stage 8\)"),
        (
            lambda exp: (exp / "results.tsv").write_text("metric\tset\tclass\tvalue\nnll\ttest\n"),
            r"line 2: .*stage report again \(--stage 8\)",
        ),
        (
            lambda exp: (exp / "results.tsv").write_text("metric\tvalue\nnll\t3\n"),
            r"line 2: .*stage report again \(--stage 8\)",
        ),
        (
            lambda exp: (exp / "results.tsv").write_text(
                "metric\tset\tclass\tvalue\nnll\ttest\ten\t3\nnll\ttest\ten\t3\t4\n"
            ),
            r"line 3: .*stage report again \(--stage 8\)",
        ),
        (lambda exp: (exp / "env.json").write_text("{"), r"env.json: damaged.*stage train again \(--stage 3\)"),
        (
            lambda exp: (exp / "plots" / "curves.png").write_bytes(b"GIF89a"),
            r"curves.png: not a PNG.*stage plots again \(--stage 5\)",
        ),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(exp, spoil, message):
    spoil(exp)
    with pytest.raises(ValueError, match=message) as caught:
        main([str(exp)])
    assert "\n" not in entry.describe(caught.value)
    assert not (exp / "report.html").exists()


def test_tables_escape_text_and_leave_html_alone():
    made = table(["<h>"], [["a<b"], [Markup("<i>x</i>")]], keys=1, caption="<c>")
    assert "&lt;h&gt;" in made and "a&lt;b" in made and "<i>x</i>" in made and "&lt;c&gt;" in made


def test_detection_of_all_systems_stands_in_one_table_with_its_control(tmp_path):
    def of(system: str, metric: str, value: float, **cells) -> dict:
        ends = {"low": value - 0.01, "high": value + 0.01, "total": 324, "speakers": 84}
        return row(metric, set="test", true="en+ce", value=value, system=system, **(ends | cells))

    figures = [of("dnf", "auc", 0.9712), of("dnf", "auc_control", 0.5713)]
    figures.append(of("dnf", "auc_control_gap", 0.3999, low=0.2871, high=0.5123))
    figures += [of("lda", "auc", 0.9614), of("lda", "cllr", 0.3115)]
    figures.append(of("lda", "auc_difference", 0.0116, p=0.0117))
    figures += [row("utt_accuracy", set="test", true="en", value=0.8118, system="lda", count=81, total=100, speakers=9)]
    exp = tmp_path / "exp"
    write_results(exp, figures)
    (exp / "config.yaml").write_text("data: {controls: {test: test_mic}}\n")
    page = html.page(exp)
    assert "warning: auc test en+ce dnf 0.9712, with control test_mic 0.5713" in page
    assert "<h2>detection</h2> <small>(1 warning)</small>" in page and "<h2>systems</h2></summary>" in page
    assert "test, control test_mic" in page and "lda: Share decided" in page and "(paired)" in page
    figures = ("0.9712", "0.961 to 0.981", "0.5713", "0.9614", "0.3115", "0.0116", "0.0117", "0.8118")
    for figure in (*figures, "0.287 to 0.512"):
        assert figure in page


@pytest.mark.parametrize("module", ("dnf.report.results", "dnf.report.html"))
def test_figures_are_written_without_the_libraries_that_draw_and_train(module):
    code = f"import sys, {module}; print({{'torch', 'matplotlib', 'sklearn', 'scipy.stats'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
