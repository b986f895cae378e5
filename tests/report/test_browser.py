"""report.html and comparison.html in a real Chromium: widths, sections, sorting, filter, print, dark mode, accessibility.

They need Debian's ``chromium``, the extra ``page`` and, for accessibility, axe-core, all of which ``.ci/run`` installs.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from whole_results import write_experiment

from dnf.report import html, html_comparison

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[page]'")
CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parents[1] / ".browser" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: apt-get install chromium")

WIDTHS = (1280, 1040, 390)
OPEN = "document.querySelectorAll('details').forEach((section) => { section.open = true; })"
ODD = "a<b>&\"'</script>"  # name of a set
WIDE = """() => [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => `${e.tagName} ${e.textContent.slice(0, 40)}`)"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def show(browser) -> Iterator[Callable]:
    """Open a file at a width and in a colour scheme; afterwards there were no errors, and nothing else was loaded."""
    contexts, errors, loaded = [], [], []

    def open_page(path: Path, width: int = 1280, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: loaded.append(request.url[:200]))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert len([url for url in loaded if not url.startswith("data:image/png")]) == len(contexts)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory, small_config) -> Path:
    """Folder ``exp/`` of a usual experiment, one of 200 classes, one with odd names, and an old one; with their pages."""
    folder = tmp_path_factory.mktemp("pages") / "exp"
    write_experiment(folder / "usual", small_config("data.controls={test: mic}"))
    classes = ["class" * 12 + f"{n:03d}" for n in range(200)]
    write_experiment(folder / "many", small_config(), classes, ["test"], 0.7)
    write_experiment(folder / "x<y", small_config(), ["<i>en", "c&e"], [ODD], 0.65)
    (folder / "old").mkdir()
    (folder / "old" / "config.yaml").write_text("data: {train: [train]}\n")
    plots = folder / "usual" / "plots"
    plots.mkdir()
    for name in ("llr_hist_test", "detection_test", "detection_mic", "scatter_test", "curves", "fisher"):
        Image.new("RGB", (1200, 600), "#8899aa").save(plots / f"{name}.png")
    for name in ("usual", "many", "x<y"):
        assert html.main([str(folder / name)]) == 0
    html_comparison.write(folder)
    return folder


PAGES = ("usual/report.html", "many/report.html", "x<y/report.html", "comparison.html")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_page(show, experiments, name):
    page = show(experiments / name)
    for sections in ("closed", "open"):
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width, (sections, width)
            assert page.evaluate(WIDE) == [], (sections, width)
        page.evaluate(OPEN)


def test_the_answer_and_four_pictures_come_first_and_sections_open(show, experiments):
    page = show(experiments / "usual/report.html")
    assert page.locator("h1").inner_text() == "usual"
    top = page.locator("main > *").evaluate_all("parts => parts.map((part) => part.tagName)")
    assert top[:4] == ["UL", "TABLE", "TABLE", "DIV"] and set(top[4:]) == {"DETAILS"}
    pictures = page.locator(".pictures img").evaluate_all("images => images.map((image) => image.alt)")
    assert pictures == ["llr_hist_test", "detection_test", "scatter_test", "curves"]
    section = page.locator("details", has=page.get_by_role("heading", name="density"))
    assert not section.locator("table").is_visible()
    section.locator("summary").click()
    assert section.locator("table").is_visible() and "LogDet" in section.inner_text()


def test_long_tables_are_sorted_by_a_click_and_by_keyboard(show, experiments):
    page = show(experiments / "usual/report.html")
    page.locator("summary", has_text="accuracy").first.click()
    table = page.locator("details table").first
    head, cells = table.locator("thead th").nth(2), table.locator("tbody tr > :nth-child(3)")

    def values() -> list[float]:
        return [float(text.split()[0]) for text in cells.all_inner_texts()]

    before = values()
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and values() == sorted(before) != before
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending" and values() == sorted(before, reverse=True)
    table.locator("thead button").first.press("Space")
    names = table.locator("tbody tr > :nth-child(1)").all_inner_texts()
    assert head.get_attribute("aria-sort") is None and names == sorted(names)


def test_sections_are_open_in_print_on_white_paper(show, experiments):
    page = show(experiments / "usual/report.html", scheme="dark")
    text = page.locator("details", has_text="LogDet").first
    height = text.bounding_box()["height"]
    page.emulate_media(media="print")
    assert text.bounding_box()["height"] > height + 50
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_rows_of_the_comparison_are_filtered_and_columns_chosen(show, experiments):
    page = show(experiments / "comparison.html")
    rows = page.locator("#compared tbody tr:visible")
    assert rows.count() == 10 and page.locator("#count").inner_text() == "10 of 10"
    page.locator("#filter").fill("X<Y gmm")
    assert rows.count() == 1 and page.locator("#count").inner_text() == "1 of 10"
    assert rows.first.locator("th").all_inner_texts() == ["x<y", "gmm"]
    page.locator("#filter").fill("")
    old = page.locator("#compared tr", has_text="old")
    assert "results.tsv: does not exist; run stage report (--stage 8)" in old.inner_text()
    head = page.locator("#compared thead th", has_text="NLL dev")
    assert not head.is_visible()
    page.locator("#columns summary").click()
    page.get_by_label("NLL dev").check()
    assert head.is_visible() and "-120.5" in rows.first.inner_text()
    bar = page.locator("#compared .bar").first
    assert bar.get_attribute("title").count("0.") == 2 and bar.bounding_box()["width"] > 40


def test_links_of_the_comparison_lead_to_pages(show, experiments):
    page = show(experiments / "comparison.html")
    links = page.locator("#compared a").evaluate_all("links => links.map((link) => decodeURI(link.href))")
    assert {Path(link).parent.name for link in links} == {"usual", "many", "x<y"}
    assert all(Path(link.removeprefix("file://")).is_file() for link in links)


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: .ci/run puts it into tests/.browser")
@pytest.mark.parametrize(
    "name, width, scheme",
    [
        ("usual/report.html", 1280, "light"),
        ("usual/report.html", 390, "dark"),
        ("comparison.html", 1280, "dark"),
        ("comparison.html", 390, "light"),
    ],
)
def test_the_rules_of_screen_readers_and_contrast_are_kept(show, experiments, name, width, scheme):
    page = show(experiments / name, width, scheme)
    page.evaluate(OPEN)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    broken = page.evaluate("async () => (await axe.run()).violations")
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in broken] == []


def test_a_picture_of_the_page_is_dark_at_night(show, experiments):
    shades = [
        Image.open(io.BytesIO(show(experiments / "usual/report.html", scheme=scheme).screenshot())).convert("L")
        for scheme in ("light", "dark")
    ]
    light, dark = (sum(image.resize((40, 30)).get_flattened_data()) / 1200 for image in shades)
    assert dark < 80 < 180 < light
