"""What `ratesim calibrate` prints: the costs, what was dropped, how far the model is off, and what differs from before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ratesim.formatting import format_seconds

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import BackendCosts, Profile

__all__ = ["calibration_text", "repeat_text"]

MANY = 16  # operations of a batch beside that of one


def calibration_text(profile: Profile) -> str:
    """Return the table of a profile, the loads that it was held against, and a line for each backend that was forced."""
    sides = [f"{side} {items}" for side in ("client", "server") for items in (1, MANY)]
    rows = [("", "p50 alone", *sides, "commit", "disturbed", "residual")]
    lines = [_table([*rows, *(_row(name, costs) for name, costs in profile.backends.items())])]
    for name, costs in profile.backends.items():
        for check in costs.checks:
            figures = zip(("p50", "p95"), check.live, check.simulated, check.misses, strict=True)
            said = "; ".join(
                f"{quantile} {format_seconds(live)} live, {format_seconds(simulated)} simulated ({miss:+.0%})"
                for quantile, live, simulated, miss in figures
            )
            lines.append(f"{name} at {check.load:.0%} of saturation ({check.rate:,.0f}/s): {said}")
    lines += [
        f"{name} was measured while other programs were at work; measure it again without them"
        for name, costs in profile.backends.items()
        if costs.is_forced
    ]
    return "\n".join(lines)


def _row(name: str, costs: BackendCosts) -> tuple[str, ...]:
    client = [format_seconds(costs.cpu(items)) for items in (1, MANY)]
    server = [format_seconds(costs.seconds(items)) for items in (1, MANY)] if costs.fixed else ["", ""]
    return (
        name,
        format_seconds(costs.latency_p50),
        *client,
        *server,
        format_seconds(costs.commit.of(1)) if costs.commit else "",
        f"{costs.disturbed} of {costs.pieces}" if costs.pieces else "",
        f"{costs.residual:.0%}" if costs.checks else "",
    )


def repeat_text(before: Profile, now: Profile) -> str:
    """Return the figures of two profiles side by side, and which of them differ by more than they should."""
    from ratesim.simulation.cost_model.repeatability import REPEATS, differences, is_comparable

    if not is_comparable(before, now):
        return "not compared with the profile before, which is of another machine or other versions"
    found = differences(before, now)
    rows = [("", "figure", "before", "now", "change", "")]
    for each in found:
        mark = f"above {REPEATS:.0%}" if each.exceeds else ""
        seconds = format_seconds(each.before), format_seconds(each.now)
        rows.append((each.backend, each.figure, *seconds, f"{each.change:+.0%}", mark))
    count = sum(each.exceeds for each in found)
    verdict = f"{count} of {len(found)} figures differ by more than {REPEATS:.0%} from the profile before"
    return f"{_table(rows)}\n{verdict if count else f'all figures are within {REPEATS:.0%} of the profile before'}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
