"""The house style of figures: Okabe-Ito colors, one for each backend everywhere, and axes without a frame."""

from __future__ import annotations

from typing import Any

__all__ = ["COLORS", "STYLE"]

# Okabe & Ito, Color Universal Design (2008).
COLORS = {"memory": "#E69F00", "redis": "#D55E00", "postgres": "#0072B2", "hybrid": "#009E73"}

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
}
