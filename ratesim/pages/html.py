"""Pieces of a page, as HTML: escaped texts, tables that scroll by themselves, figures with what a screen reader says.

`ratesim/notebook/templates/report/` is the page that they become parts of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape, unescape
from typing import TYPE_CHECKING

from ratesim.formatting import escape_control_chars
from ratesim.pages.style import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HTML", "details", "escape_html", "figure_html", "html_table", "prose", "small_print"]

LONG_NAME = 36  # characters of the name of a row that is kept on one line
LONG_NUMBER = 16  # characters of a cell that is kept on one line


@dataclass(frozen=True, repr=False)
class HTML:
    """A piece of a page, which a notebook shows as it is."""

    data: str

    def _repr_html_(self) -> str:
        return self.data

    def __repr__(self) -> str:
        return f"HTML of {len(self.data):,} characters"


def figure_html(figure: tuple[Figure, str], caption: str) -> HTML:
    """Show a figure and its alt text, with a caption."""
    drawn, alt = figure
    return HTML(f'<figure>{to_svg(drawn, alt)}<figcaption class="small">{escape_html(caption)}</figcaption></figure>')


def small_print(text: str) -> str:
    """Show a paragraph in small print."""
    return f"<p class='small'>{escape_html(text)}</p>"


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], header: bool = True, *, caption: str = "", label: str = ""
) -> HTML:
    """Cells are HTML already. The table scrolls in a box of its own, so that the page never does.

    The first cell of a row says what the row is about. A screen reader names the box by the caption, which everybody sees,
    or else by the label, which nobody does; without either by the head.
    """
    top = f"<thead><tr>{''.join(map(_head, head))}</tr></thead>" if header else ""
    body = "".join(f"<tr>{_about(row[0])}{''.join(map(_cell, row[1:]))}</tr>" for row in rows)
    said = f"<caption>{escape_html(caption)}</caption>" if caption else ""
    name = caption or label or f"Table: {', '.join(filter(None, head))}".removesuffix(": ")
    box = f'<div class="box" role="region" aria-label="{escape_html(name)}" tabindex="0">'
    return HTML(f"{box}<table>{said}{top}<tbody>{body}</tbody></table></div>")


def details(summary: str, inside: str, *, on_paper: bool = True) -> str:
    """HTML that is folded under a line, which opens it. On paper it lies open, or only the line is printed."""
    kind = "more" if on_paper else "more screen"
    return f'<details class="{kind}"><summary>{escape_html(summary)}</summary>{inside}</details>'


def prose(text: str) -> str:
    """Escape sentences for HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape_html(text))


def _head(name: str) -> str:
    return f'<th scope="col">{escape_html(name)}</th>' if name else "<td></td>"


def _about(cell: str) -> str:
    """Keep the name of a row on one line, unless it is so long that it would push the columns out of sight."""
    if not cell:
        return "<td></td>"
    return f'<th scope="row">{cell}</th>' if _width(cell) <= LONG_NAME else f'<th scope="row" class="long">{cell}</th>'


def _cell(cell: str) -> str:
    """Keep a number on one line. A sentence may be broken."""
    return f'<td class="n">{cell}</td>' if _width(cell) <= LONG_NUMBER else f"<td>{cell}</td>"


def _width(cell: str) -> int:
    """Return how many characters the longest line of a cell has."""
    return max(len(unescape(re.sub(r"<[^>]*>", "", line))) for line in cell.split("<br>"))


def escape_html(text: object, lines: bool = False) -> str:
    """Escape text for HTML."""
    said = str(text)
    safe = "\n".join(map(escape_control_chars, said.splitlines())) if lines else escape_control_chars(said)
    return escape(safe, quote=True)
