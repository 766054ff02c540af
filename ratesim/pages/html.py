"""Pieces of a page, as HTML: escaped texts, tables that scroll by themselves, figures with what a screen reader says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from ratesim.pages.style import to_svg
from ratesim.wording import harmless

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HTML", "escaped", "html_table", "shown", "small"]


@dataclass(frozen=True, repr=False)
class HTML:
    """A piece of a page, which a notebook shows as it is."""

    data: str

    def _repr_html_(self) -> str:
        return self.data

    def __repr__(self) -> str:
        return f"HTML of {len(self.data):,} characters"


def shown(figure: tuple[Figure, str], caption: str) -> HTML:
    """A figure and its alt text, with a caption."""
    drawn, alt = figure
    return HTML(f'<figure>{to_svg(drawn, alt)}<figcaption class="small">{escaped(caption)}</figcaption></figure>')


def small(text: str) -> str:
    """A paragraph in small print."""
    return f"<p class='small'>{escaped(text)}</p>"


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], header: bool = True) -> HTML:
    """Cells are HTML already. The table scrolls in a box of its own, so that the page never does."""
    top = f"<thead><tr>{''.join(f'<th>{escaped(name)}</th>' for name in head)}</tr></thead>" if header else ""
    body = "".join(f"<tr>{''.join(f'<td{_short(cell)}>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return HTML(f'<div class="box" tabindex="0"><table>{top}<tbody>{body}</tbody></table></div>')


def _short(cell: str) -> str:
    """A figure is not broken over two lines; a sentence may be."""
    return ' class="n"' if len(cell) <= 14 else ""


def escaped(text: object, lines: bool = False) -> str:
    said = str(text)
    safe = "\n".join(map(harmless, said.splitlines())) if lines else harmless(said)
    return escape(safe, quote=True)
