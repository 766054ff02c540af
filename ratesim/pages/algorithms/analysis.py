"""When each algorithm is worth choosing, worked out from what it admitted and what it cost: no result is assumed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ratesim.algorithms import bind
from ratesim.formatting import format_amount, format_bytes, format_percent, format_seconds
from ratesim.limit import Limit

if TYPE_CHECKING:
    from ratesim.simulation.analysis.algorithm_comparison import AlgorithmSummary

__all__ = ["TWICE", "choices", "kept", "listed", "times_the_memory"]

KEPT = 1.0 + 1e-9  # times the limit: sums of costs that are not whole are rounded
GROWS = 1.5  # times the memory of a key that has asked once: more is growing
BURSTS = 1.25  # times the limit in a tenth of a period: more is a burst
AS_FAST = 1.15  # times the least: what is measured of a decision varies by as much
TWICE = 1.9


def choices(standings: Mapping[str, AlgorithmSummary]) -> dict[str, list[str]]:
    """For each algorithm that is worth choosing, the best first, when; worked out from the numbers."""
    found: dict[str, list[str]] = {}

    def choose(name: str, when: str) -> None:
        found.setdefault(name, []).append(when)

    small = {name: it for name, it in standings.items() if it.bytes_full <= GROWS * it.bytes_once and not _learns(name)}
    if small:
        smooth = {name: it for name, it in small.items() if it.worst_tenth <= BURSTS} or small
        name = min(smooth, key=lambda each: (smooth[each].off, smooth[each].bytes_full))
        choose(
            name,
            "the state must stay small: of the algorithms whose state hardly grows and that admit no burst, it is closest "
            f"to an exact limiter ({format_percent(smooth[name].off)} off)",
        )
    strict = kept(standings)
    if strict:
        name = min(strict, key=lambda each: strict[each].bytes_full)
        rivals = "it alone meets that" if len(strict) == 1 else f"it is the smallest of {len(strict)} that meet that"
        size = format_bytes(strict[name].bytes_full)
        when = f"no period, wherever it begins, may hold more than the limit: {rivals}"
        choose(name, f"{when}; a key that uses up its limit takes {size}")
    catching_up = {name: it for name, it in small.items() if it.worst_tenth <= BURSTS and it.after_pause > 1.05}
    if catching_up:
        name = min(catching_up, key=lambda each: (-catching_up[each].after_pause, catching_up[each].bytes_full))
        it = catching_up[name]
        alike = f" ({listed(it.alike)} made the same decisions)" if it.alike else ""
        choose(
            name,
            f"a client that paused may catch up: such clients got {format_percent(it.after_pause - 1.0)} more than from an "
            f"exact limiter, yet no key was admitted more than {it.worst_tenth:.2f} times the limit in a tenth of a "
            f"period{alike}",
        )
    least = min(it.time_ratio for it in standings.values())
    fast = {name: it for name, it in standings.items() if it.time_ratio <= AS_FAST * least}
    name = min(fast, key=lambda each: (round(fast[each].worst_tenth, 2), fast[each].bytes_full))
    others = [other for other in fast if other != name]
    rivals = f"; {listed(others)} took about as long" if others else ""
    choose(name, f"a decision must cost least: it takes {format_seconds(fast[name].seconds)} of processor time here{rivals}")
    for name in filter(_learns, standings):
        alike = listed(standings[name].alike)
        same = f"it made the same decisions as {alike}, with more memory" if alike else "its limit never moves"
        choose(name, f"the backend can report its state: without reports (observe), {same}")
    return found


def kept(standings: Mapping[str, AlgorithmSummary]) -> dict[str, AlgorithmSummary]:
    """Those that never admitted more than the limit in any period."""
    return {name: it for name, it in standings.items() if it.worst_period <= KEPT}


def times_the_memory(it: AlgorithmSummary, beside: AlgorithmSummary) -> str:
    """Write the memory of a key that uses up its limit as a multiple of another algorithm's: "16.5 times the memory"."""
    return f"{format_amount(it.bytes_full / beside.bytes_full)} times the memory"


def _learns(name: str) -> bool:
    return bind(Limit(1.0, 1.0, name)).algorithm.feedback is not None


def listed(names: Sequence[str]) -> str:
    """Join names to a list in a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
