"""The README's picture: the top of a report, as Chromium shows it.

    python tests/pages/picture.py reports/quickstart/report.html docs/report.png

It ends where a piece of the report ends, and has few enough colors to be small.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from browsing import REMEDY, browser, chromium
from PIL import Image

WIDTH = 1000  # CSS pixels
HEIGHT = 1500  # at most
SCALE = 1.2  # pixels of the picture for each
COLORS = 192

# The bottom of what ends last of all that fits: the verdict, a table, a figure, a paragraph.
ENDS = f"""() => {{
    const pieces = document.querySelectorAll('main > *, main > section > :not(h2)');
    const ends = [...pieces].map(piece => piece.getBoundingClientRect().bottom);
    return Math.max(...ends.filter(end => end <= {HEIGHT - 16}), 0) + 16 || {HEIGHT};
}}"""


def take(report: Path, picture: Path) -> tuple[int, int]:
    """Write the picture of a report; its width and height in pixels."""
    program = chromium()
    if program is None:
        raise SystemExit(REMEDY)
    if not report.is_file():
        raise SystemExit(f"{report} is not there: make report")
    with browser(program) as started:
        page = started.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=SCALE, color_scheme="light")
        page.goto(report.resolve().as_uri())
        taken = page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": page.evaluate(ENDS)})
    image = (
        Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    image.save(picture, optimize=True)
    return image.size


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    wide, high = take(source, target)
    print(f"{target}: {wide} x {high} pixels, {target.stat().st_size:,} bytes")
