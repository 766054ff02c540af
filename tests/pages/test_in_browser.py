"""Every page in a real Chromium: quiet, by itself, as wide as its window, and read by who cannot see it; and the proof that
each of these checks finds what it is for.

Where there is no Chromium these tests are skipped and say so; with RATESIM_BROWSER=required in the environment they fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import crowded_report
import nbformat
import pytest
import specimen
from browsing import (
    REMEDY,
    browser,
    hidden_sideways,
    inaccessible,
    kept,
    opened,
    out_of_order,
    required,
    too_wide,
    unfolded,
    unquiet,
)
from examples import sample
from playwright.sync_api import Browser

from ratesim.pages.recommendation.build import render

PAGES = ["report", "consistency", "specimen"]


@pytest.fixture(scope="session")
def program() -> str:
    return required()


@pytest.fixture(scope="module")
def pages(program, tmp_path_factory, tiny_report, consistency_notebook) -> dict[str, Path]:
    """A small report, one with a hundred candidates, another notebook, and a page with one of everything."""
    folder = tmp_path_factory.mktemp("pages")
    specimen.write(folder / "specimen.ipynb")
    for name, notebook in (("consistency", consistency_notebook), ("specimen", folder / "specimen.ipynb")):
        (folder / f"{name}.html").write_text(render(notebook, name), "utf-8")
    crowded = crowded_report.write(tiny_report, folder)
    reports = {"report": tiny_report.out / "report.html", "crowded": crowded}
    return reports | {name: folder / f"{name}.html" for name in PAGES[1:]}


@pytest.fixture(scope="module")
def chrome(program, pages) -> Iterator[Browser]:
    """Started after the pages are made: notebooks and Playwright each bring an event loop."""
    with browser(program) as started:
        yield started


# The specimen has one of everything, so it is looked at every way, and the other pages one way each; every night all are.
LOOKS = [(name, *look) for name in PAGES for look in (("light", 1280), ("dark", 1280), ("light", 400))]
USUAL_LOOKS = [*LOOKS[6:], ("report", "dark", 1280), ("consistency", "light", 400)]

# The pages --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_says_nothing_on_the_console_and_asks_nobody_for_anything(chrome, pages, name, scheme):
    with opened(chrome, pages[name], scheme=scheme) as tab:
        assert tab.page.title().startswith("ratesim: ")
        assert unquiet(tab) == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 400, 1280])
def test_a_page_never_scrolls_sideways(chrome, pages, name, width):
    with opened(chrome, pages[name], width=width) as tab:
        assert too_wide(tab) == []
        assert tab.page.evaluate("document.scrollingElement.scrollWidth") <= width


FIRST = ["candidate", "verdict", "p50", "p99", "over-admission", "busiest window", "a month", "blast radius"]
SECOND = ["candidate", "servers", "on the front", "false denials", "model's error, p99"]


@pytest.mark.parametrize(("name", "contenders"), [("crowded", [FIRST, SECOND]), ("consistency", [])])
def test_at_1280_pixels_no_column_and_no_figure_lies_behind_a_scroll(chrome, pages, name, contenders):
    with opened(chrome, pages[name]) as tab:
        heads = [table.locator("thead th").all_text_contents() for table in unfolded(tab).page.locator("table").all()]
        assert heads
        assert [head for head in heads if head in (FIRST, SECOND)] == contenders
        assert hidden_sideways(tab) == []


@pytest.mark.parametrize("name", ["report", "crowded"])
def test_on_a_small_phone_the_choice_and_its_numbers_need_no_scroll(chrome, pages, name):
    with opened(chrome, pages[name], width=400) as tab:
        choice = tab.page.locator(".verdict .choice").bounding_box()
        numbers = [number.bounding_box() for number in tab.page.locator(".verdict .numbers li").all()]
        assert len(numbers) == 4
        for box in (choice, *numbers):
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 400
            assert box["y"] + box["height"] <= 667  # the smallest screen that phones still have


def test_nothing_moves_by_itself_where_its_reader_wants_that(chrome, pages):
    with opened(chrome, pages["specimen"]) as tab:
        seen = {}
        for motion in ("no-preference", "reduce"):
            tab.page.emulate_media(reduced_motion=motion)
            seen[motion] = tab.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior")
        assert seen == {"no-preference": "smooth", "reduce": "auto"}


@pytest.mark.parametrize(("name", "scheme", "width"), sample(LOOKS, USUAL_LOOKS))
def test_axe_finds_nothing_serious(chrome, pages, name, scheme, width):
    with opened(chrome, pages[name], scheme=scheme, width=width) as tab:
        assert inaccessible(tab) == []


@pytest.mark.parametrize("name", PAGES)
def test_the_headings_are_an_outline_and_the_links_on_the_page_lead_to_them(chrome, pages, name):
    with opened(chrome, pages[name]) as tab:
        assert out_of_order(tab) == []
        links = tab.page.locator("nav a")
        told = [link.text_content() for link in links.all()]
        assert told
        assert told == tab.page.locator("h2").all_text_contents()
        for link in links.all():
            assert tab.page.locator(link.get_attribute("href")).text_content() == link.text_content()


def test_the_keyboard_skips_to_the_answer(chrome, pages):
    with opened(chrome, pages["report"]) as tab:
        tab.page.keyboard.press("Tab")
        assert tab.page.evaluate("document.activeElement.textContent") == "Skip to the answer"
        tab.page.keyboard.press("Enter")
        assert tab.page.evaluate("document.activeElement.tagName") == "MAIN"


def test_the_keyboard_reaches_all_that_scrolls_on_a_narrow_screen(chrome, pages):
    with opened(chrome, pages["report"], width=400) as tab:
        scrolling = tab.page.evaluate(
            """() => [...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1
                && getComputedStyle(e).overflowX === 'auto')
                .map(e => [e.tagName, e.matches('[tabindex="0"], :has([tabindex="0"])')])"""
        )
        assert {tag for tag, _ in scrolling} == {"DIV", "FIGURE"}
        assert all(reached for _, reached in scrolling)


def test_the_three_numbers_stand_side_by_side_and_on_a_phone_below_each_other(chrome, pages):
    for width, same in ((1280, "y"), (400, "x")):
        with opened(chrome, pages["specimen"], width=width) as tab:
            boxes = [number.bounding_box() for number in tab.page.locator(".verdict .numbers").first.locator("li").all()]
            assert len(boxes) == 3
            assert len({box[same] for box in boxes}) == 1


def test_a_page_is_dark_where_its_reader_wants_it_and_light_on_paper(chrome, pages):
    paper = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        with opened(chrome, pages["report"], scheme=scheme, media=media) as tab:
            seen[scheme, media] = tab.page.evaluate(paper)
    assert seen["light", "screen"] == seen["dark", "print"] == "rgb(255, 255, 255)"
    assert max(map(int, re.findall(r"\d+", seen["dark", "screen"]))) < 64


# On paper ---------------------------------------------------------------------------------------------------------------

TEXT_OF_A4 = 688  # CSS pixels: 210 mm less two margins of 14 mm, at 96 pixels per inch


@pytest.mark.parametrize("name", [*PAGES, "crowded"])
def test_on_paper_nothing_is_cut_off(chrome, pages, name):
    with opened(chrome, pages[name], width=TEXT_OF_A4, media="print") as tab:
        assert too_wide(tab) == []


def test_on_paper_what_is_folded_lies_open_and_the_ways_about_the_page_are_gone(chrome, pages):
    with opened(chrome, pages["specimen"], media="print") as tab:
        assert tab.page.locator("details.more td").last.is_visible()
        assert not tab.page.locator("nav").is_visible()
        assert not tab.page.locator(".skip").is_visible()
    with opened(chrome, pages["specimen"]) as tab:
        assert not tab.page.locator("details.more td").last.is_visible()


def test_a_report_on_a_hundred_candidates_has_at_most_eight_pages(chrome, pages, tmp_path):
    with opened(chrome, pages["crowded"], scheme="dark", media="print") as tab:
        tab.page.pdf(path=tmp_path / "crowded.pdf", prefer_css_page_size=True, print_background=True)
    sheets = re.findall(rb"/Type\s*/Page\b", (tmp_path / "crowded.pdf").read_bytes())
    assert 2 < len(sheets) <= 8


def test_on_paper_what_is_for_the_screen_is_named_by_its_line_alone(chrome, pages):
    with opened(chrome, pages["crowded"], media="print") as tab:
        folded = tab.page.locator("details.screen")
        assert folded.count() >= 2
        for each in folded.all():
            assert each.locator("summary").is_visible()
            assert not each.locator("summary + *").is_visible()


@pytest.mark.parametrize("name", PAGES)
def test_what_it_looks_like_is_kept_to_be_looked_at(chrome, pages, name, tmp_path):
    folder = kept(tmp_path)
    for scheme in ("light", "dark"):
        for width in (400, 1280):
            with opened(chrome, pages[name], scheme=scheme, width=width) as tab:
                tab.page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
    with opened(chrome, pages[name], media="print") as tab:
        tab.page.pdf(path=folder / f"{name}.pdf", prefer_css_page_size=True, print_background=True)
    with opened(chrome, pages[name], width=TEXT_OF_A4, media="print") as tab:
        tab.page.screenshot(path=folder / f"{name}-print.png", full_page=True)
    sheets = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", (folder / f"{name}.pdf").read_bytes())
    assert sheets
    for wide, high in sheets:  # points
        assert (float(wide), float(high)) == pytest.approx((595.3, 841.9), abs=1.0)


# The checks -------------------------------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>ratesim: a page</title>
<link rel="icon" href="data:,"></head><body><main><h1>A page</h1>{defect}</main></body></html>"""

SEEDED = [
    (inaccessible, '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" width="9">', "image-alt"),
    (inaccessible, '<p style="color: #999; background: #fff">Hardly to be seen.</p>', "color-contrast"),
    (inaccessible, '<p style="color: #999; background: linear-gradient(#fff, #fff)">Nor this.</p>', "color-contrast"),
    (inaccessible, '<svg role="img" width="9" height="9"></svg>', "svg-img-alt"),
    (inaccessible, "<details><summary>More</summary><p style='color: #999'>Folded.</p></details>", "color-contrast"),
    (too_wide, '<div style="width: 900px">wide</div>', "900px"),
    (unquiet, '<img src="https://pages.invalid/x.png" alt="Elsewhere">', "asks for https://pages.invalid/x.png"),
    (unquiet, '<link rel="stylesheet" href="beside.css">', "beside.css"),
    (unquiet, "<script>console.error('it broke')</script>", "console: it broke"),
    (unquiet, "<script>console.warn('it may break')</script>", "console: it may break"),
    (unquiet, "<script>throw new Error('nobody caught it')</script>", "nobody caught it"),
    (out_of_order, "<h3>Deep</h3>", "h3 follows h1"),
    (out_of_order, "<h1>Once more</h1>", "[1, 1]"),
]


@pytest.mark.parametrize(("check", "defect", "told"), SEEDED)
def test_a_check_finds_what_it_is_for(chrome, tmp_path, check, defect, told):
    (tmp_path / "page.html").write_text(PAGE.format(defect=defect))
    with opened(chrome, tmp_path / "page.html", width=400) as tab:
        assert told in "\n".join(check(tab))


@pytest.mark.parametrize("check", [inaccessible, too_wide, unquiet, out_of_order])
def test_a_check_finds_nothing_where_nothing_is_wrong(chrome, tmp_path, check):
    (tmp_path / "page.html").write_text(PAGE.format(defect="<h2>A part</h2><p>Nothing is wrong.</p>"))
    with opened(chrome, tmp_path / "page.html", width=400) as tab:
        assert check(tab) == []


def test_the_browser_itself_keeps_a_page_from_loading_and_running_anything(chrome, tmp_path):
    """What would get past the template all the same: the policy in the page's head stops it, and the console says so."""
    notebook = nbformat.v4.new_notebook()
    evil = '<script>document.title = "taken over"</script><img src="https://pages.invalid/x.png" alt="Elsewhere">'
    notebook.cells = [nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data={"text/html": evil})])]
    nbformat.write(notebook, tmp_path / "evil.ipynb")
    (tmp_path / "evil.html").write_text(render(tmp_path / "evil.ipynb", "evil"), "utf-8")
    with opened(chrome, tmp_path / "evil.html") as tab:
        assert tab.page.title() == "ratesim: evil"
        assert len([text for text in tab.said if "Content Security Policy" in text]) == 2


@pytest.mark.parametrize(("wanted", "outcome"), [("", pytest.skip.Exception), ("required", pytest.fail.Exception)])
def test_without_a_browser_the_tests_say_so_and_where_it_is_required_they_fail(monkeypatch, tmp_path, wanted, outcome):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RATESIM_BROWSER", wanted)
    with pytest.raises(outcome, match=f"^{REMEDY}$"):
        required()
