"""The interactive chart in a real Chromium: quiet, by itself, for the keyboard too, and gone where no script runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from browsing import browser, inaccessible, opened, required, too_wide, unquiet
from made_contenders import made
from playwright.sync_api import Browser

from ratesim.notebook import render
from ratesim.pages.recommendation.picture_cells import percentiles

NAMES = ["</script><img src=x onerror=alert(1)>", "redis", "hybrid strong", "postgres", "memory"]  # of made contenders


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser(required()) as started:
        yield started


@pytest.fixture(scope="module")
def chart_page(tmp_path_factory) -> Path:
    """A page with nothing but a chart of these contenders."""
    folder = tmp_path_factory.mktemp("chart")
    notebook = nbformat.v4.new_notebook()
    bundle = percentiles(*made(choice=NAMES[0]))._repr_mimebundle_()
    notebook.cells = [nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data=bundle)])]
    nbformat.write(notebook, folder / "chart.ipynb")
    (folder / "chart.html").write_text(render(folder / "chart.ipynb", "chart"), "utf-8")
    return folder / "chart.html"


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 400)])
def test_a_script_adds_a_chart_below_its_picture_in_the_ink_of_the_page(chrome, chart_page, scheme, width):
    with opened(chrome, chart_page, scheme=scheme, width=width) as tab:
        tab.page.locator(".chart canvas").wait_for()
        assert tab.page.locator("figure svg").is_visible()
        assert tab.page.title() == "ratesim: chart"
        assert unquiet(tab) == []
        assert too_wide(tab) == []
        assert inaccessible(tab) == []
        has_dark_ink = tab.page.evaluate(
            """() => { const of = document.querySelector('.chart canvas');
                const dots = of.getContext('2d').getImageData(0, 0, of.width, of.height).data;
                for (let i = 0; i < dots.length; i += 4)
                    if (dots[i + 3] === 255 && Math.max(dots[i], dots[i + 1], dots[i + 2]) < 64) return true;
                return false; }"""
        )
        assert has_dark_ink == (scheme == "light")


def test_a_contender_is_selected_by_the_keyboard_and_told_under_the_pointer(chrome, chart_page):
    with opened(chrome, chart_page) as tab:
        canvas, picture = tab.page.locator(".chart canvas"), "document.querySelector('.chart canvas').toDataURL()"
        canvas.wait_for()
        assert tab.page.locator(".chart option").all_text_contents() == ["all contenders", *NAMES]
        before = tab.page.evaluate(picture)
        tab.page.get_by_label("Show").select_option(label=NAMES[0])
        tab.page.wait_for_function(f"{picture} !== {before!r}")
        canvas.hover(position={"x": 300, "y": 150})
        told = tab.page.locator("#vg-tooltip-element.visible")
        told.wait_for()
        assert NAMES[0] in told.text_content()
        assert told.locator("img").count() == 0
        assert unquiet(tab) == []


def test_without_a_script_the_picture_is_all_and_on_paper_too(chrome, chart_page):
    context = chrome.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(chart_page.as_uri())
        assert page.locator("figure svg").is_visible()
        assert page.locator("canvas").count() == 0
    finally:
        context.close()
    with opened(chrome, chart_page, media="print") as tab:
        assert tab.page.locator("figure svg").is_visible()
        assert not tab.page.locator(".chart").is_visible()
