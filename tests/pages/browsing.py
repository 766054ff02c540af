"""A page in the system's own Chromium: what it says on the console, what it asks the network for, where it is too wide, and
what axe-core finds. Each check returns what is wrong, in words; nothing is right.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
REMEDY = "no Chromium here, so no page was opened in a browser: apt-get install chromium"
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"


def chromium() -> str | None:
    """Where the system's Chromium is; None where there is none. Playwright's own is never downloaded."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def required() -> str:
    """Where it is. Without it a test is skipped and says so; with RATESIM_BROWSER=required it fails."""
    found = chromium()
    if found is None and os.environ.get("RATESIM_BROWSER") == "required":
        pytest.fail(REMEDY)
    if found is None:
        pytest.skip(REMEDY)
    return found


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program)
        try:
            yield started
        finally:
            started.close()


@dataclass
class Opened:
    """A page in a tab of its own, and what it did since it was opened."""

    page: Page
    said: list[str] = field(default_factory=list)  # errors and warnings on its console, and what it never caught
    asked: list[str] = field(default_factory=list)  # whatever it wanted but itself


@contextmanager
def opened(
    browser: Browser, file: Path, *, width: int = 1280, scheme: str = "light", media: str = "screen"
) -> Iterator[Opened]:
    """A page of `width` CSS pixels, in the color scheme light or dark, for the media screen or print."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        tab = Opened(context.new_page())
        itself = file.resolve().as_uri()
        tab.page.on("console", lambda told: tab.said.append(told.text) if told.type in ("error", "warning") else None)
        tab.page.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.page.on("request", lambda request: tab.asked.append(request.url) if request.url != itself else None)
        tab.page.emulate_media(media=media, color_scheme=scheme)
        tab.page.goto(itself, wait_until="load")
        yield tab
    finally:
        context.close()


def unquiet(tab: Opened) -> list[str]:
    """What the page said on its console, and what it asked the network for."""
    return [*(f"console: {text}" for text in tab.said), *(f"asks for {url}" for url in tab.asked)]


def too_wide(tab: Opened) -> list[str]:
    """By how much the page scrolls sideways, and what makes it; what scrolls in a box of its own does not."""
    return tab.page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth, wide = document.scrollingElement.scrollWidth;
            if (wide <= width) return [];
            const scrolls = e => e && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
            const outside = [...document.body.querySelectorAll('*')].filter(
                e => e.getBoundingClientRect().right > width + 0.5 && !scrolls(e.parentElement));
            const named = outside.slice(0, 5).map(e => e.outerHTML.slice(0, 80));
            return [`${wide} pixels wide in a window of ${width}: ${named.join(', ')}`];
        }"""
    )


def unfolded(tab: Opened) -> Opened:
    """The same page with everything unfolded."""
    tab.page.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = true })")
    return tab


def hidden_sideways(tab: Opened) -> list[str]:
    """What scrolls sideways in a box of its own, and how much of it is out of sight."""
    return tab.page.evaluate(
        """() => [...document.querySelectorAll('main *')]
            .map(e => [e.scrollWidth - e.clientWidth, e])
            .filter(([more, e]) => more > 1 && getComputedStyle(e).overflowX === 'auto')
            .map(([more, e]) => `${more} pixels of ${e.getAttribute('aria-label') || e.outerHTML.slice(0, 80)}`)"""
    )


def out_of_order(tab: Opened) -> list[str]:
    """Headings that a screen reader would stumble over: not one h1 at the top, or a level left out."""
    levels = tab.page.evaluate("() => [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => Number(h.tagName[1]))")
    if levels[:1] != [1] or levels.count(1) != 1:
        return [f"the headings are of the levels {levels}"]
    return [f"h{after} follows h{before}" for before, after in pairwise(levels) if after > before + 1]


def inaccessible(tab: Opened) -> list[str]:
    """What axe-core calls serious or critical, with everything unfolded and in the color scheme that is on.

    Of a text before a gradient it cannot tell the contrast, so the shades at the edges of what scrolls are taken away first.
    What it cannot tell on a wide page counts too; on a narrow one that is only what has scrolled out of sight.
    """
    unfolded(tab)
    tab.page.add_style_tag(content="* { background-image: none !important }")
    tab.page.evaluate(AXE.read_text("utf-8"))
    found = tab.page.evaluate("() => axe.run(document)")
    assert found["passes"], "axe-core looked at nothing"
    unsure = found["incomplete"] if tab.page.viewport_size["width"] >= 1000 else []
    return [
        f"{each['impact']}, {each['id']}: {each['help']}: {node['html'][:120]}"
        for each in [*found["violations"], *unsure]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]


def kept(scratch: Path) -> Path:
    """The directory for screenshots: RATESIM_SCREENSHOTS, or else `scratch`."""
    folder = Path(os.environ.get("RATESIM_SCREENSHOTS") or scratch)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
