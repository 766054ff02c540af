"""A wrong name gets one line with the names that are close to it, and never a list of a hundred."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ratesim.safe_text import redact, shorten_repr

__all__ = ["close_names", "unknown_name"]

FEW = 12  # names that are all listed where none is close
MOST_CLOSE = 4
CLOSE = 0.65  # share of the letters that agree, from 0 to 1
NEARLY = 0.1  # by which a name may be less close than the closest
LONGEST = 100  # characters of a name that is compared


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are close to a name, the closest first; none for a name that is far too long."""
    if len(name) > LONGEST:
        return []
    text = name.casefold()
    matcher = difflib.SequenceMatcher(b=text)
    scored: list[tuple[float, str]] = []
    for each in known:
        # A name whose beginning is close counts too: "hybird" is meant for "hybrid lease 1 s".
        for weight, part in ((1.0, each), (0.9, each[: len(name)])):
            matcher.set_seq1(part.casefold())
            scored.append((-weight * matcher.ratio(), each))
    scored.sort()
    least = max(CLOSE, -scored[0][0] - NEARLY) if scored else CLOSE
    close = [each for score, each in scored if score <= -least]
    return list(dict.fromkeys(close))[:MOST_CLOSE]


def unknown_name(kind: str, name: object, known: Iterable[str], remedy: str = "") -> str:
    """Write the one line about a name that is not known.

    Parameters
    ----------
    kind
        The noun, such as "candidate".
    name
        The name as it was given. Passwords in it are not repeated.
    known
        The names that there are.
    remedy
        The rest of the line, where no name is close and there are too many to list.
    """
    known = list(known)
    text = str(name)
    shown = f"{kind} {shorten_repr(redact(text, text))}"
    close = close_names(text, known)
    listed = f"known are {', '.join(known)}" if len(known) <= FEW or not (close or remedy) else ""
    if not close:
        return f"{shown}: {listed or remedy}"
    others = f"close as well: {'; '.join(close[1:])}" if close[1:] else ""
    return " ".join(filter(None, [f"{shown}: did you mean {close[0]}?", listed or others]))
