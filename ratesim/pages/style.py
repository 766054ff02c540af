"""The house style of every figure: Okabe-Ito colours, one for each backend everywhere, direct labels, units on the axes.

Figures come out as inline SVG whose ink is `currentColor`, so they follow a light or dark page and print sharply.
"""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    pass

__all__ = ["COLOURS", "INK", "STYLE", "to_svg"]

# Okabe & Ito, Color Universal Design (2008).
COLOURS = {"memory": "#E69F00", "redis": "#D55E00", "postgres": "#0072B2", "hybrid": "#009E73"}
INK = "#123456"  # a stand-in that no palette has, replaced by currentColor

STYLE: Any = {
    "svg.fonttype": "path",
    "svg.hashsalt": "ratesim",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
}


def to_svg(figure: Figure, alt: str) -> str:
    """The figure as one inline <svg> element with `alt` as what a screen reader says."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 width="100%"', text, count=1)
    text = text.replace(INK, "currentColor")
    label = html.escape(alt, quote=True)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
