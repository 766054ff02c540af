"""Short HTML of a result, for `_repr_html_`. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ratesim.formatting import escape_control_chars
from ratesim.safe_text import redact

__all__ = ["card_html"]

LONGEST = 400  # characters of a text
MOST_ROWS = 12


def card_html(
    title: str,
    facts: Iterable[tuple[str, object]] = (),
    *,
    head: Sequence[str] = (),
    rows: Iterable[Sequence[object]] = (),
    note: str = "",
) -> str:
    """Write a title, a note, named facts, and a table.

    Parameters
    ----------
    title
        The first line.
    facts
        Names and values; those whose value is "" or None are left out.
    head, rows
        A table; of more than `MOST_ROWS` rows the first ones, and how many more there are.
    note
        A sentence below the title.
    """
    pieces = [f"<strong>{_safe(title)}</strong>"]
    if note:
        pieces.append(f"<div>{_safe(note)}</div>")
    named = [(name, value) for name, value in facts if value not in ("", None)]
    if named:
        pieces.append(_table((), named))
    listed = list(rows)
    if listed:
        pieces.append(_table(head, listed[:MOST_ROWS]))
    if len(listed) > MOST_ROWS:
        pieces.append(f"<div>and {len(listed) - MOST_ROWS:,} more; to_frame() has all</div>")
    return f'<div class="ratesim">{"".join(pieces)}</div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    top = "".join(f'<th scope="col" style="text-align: left">{_safe(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row" style="text-align: left">{_safe(row[0])}</th>'
        + "".join(f'<td style="text-align: left">{_safe(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table>{f'<thead><tr>{top}</tr></thead>' if top else ''}<tbody>{body}</tbody></table>"


def _safe(text: object) -> str:
    said = redact(str(text))
    said = said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}..."
    return escape(escape_control_chars(said), quote=True)
