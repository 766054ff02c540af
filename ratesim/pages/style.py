"""The house style of every figure: Okabe-Ito colors, one for each backend everywhere, direct labels, units on the axes.

Figures come out as inline SVG whose ink is `currentColor`, so they follow a light or dark page and print sharply. Their text
is drawn as paths: labels were placed by the width that they have in this font.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ratesim.formatting import escape_control_chars
from ratesim.views.style import COLORS
from ratesim.views.style import STYLE as PLAIN

__all__ = ["COLORS", "INK", "STYLE", "figure_text", "to_svg"]

INK = "#123456"  # a stand-in that no palette has, replaced by currentColor

STYLE: Any = {
    **PLAIN,
    "svg.fonttype": "path",
    "svg.hashsalt": "ratesim",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def figure_text(text: str) -> str:
    """Make a text from outside safe to draw: a dollar sign in it begins no formula, and no control character is left."""
    return escape_control_chars(text).replace("$", r"\$")


def to_svg(figure: Figure, alt: str) -> str:
    """Draw the figure as one inline <svg> element with `alt` as its accessible name.

    The element takes the focus: on a narrow page figures scroll, and a reader without a mouse must be able to scroll them.
    Any two figures may stand on one page: their ids differ unless they are the same figure.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 width="100%"', text, count=1)
    text = _own_ids(text).replace(INK, "currentColor")
    label = html.escape(escape_control_chars(alt), quote=True)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" tabindex="0" ', 1)


def _own_ids(svg: str) -> str:
    """Only ids that something refers to (glyphs, markers, clip paths), under names that no other figure has."""
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    own = f"f{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    names = {name: f"{own}{number}" for number, name in enumerate(sorted(used))}
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{names[found[1]]}"' if found[1] in names else "", svg)
    return re.sub(r'(href="|url\()#([^")]+)', lambda found: f"{found[1]}#{names[found[2]]}", svg)
