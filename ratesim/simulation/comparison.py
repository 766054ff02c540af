"""A comparison of what was measured live with what was simulated: the table, and the causes of what it misses."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, field

import numpy as np

from ratesim.simulation.calibrate import machine

__all__ = ["TOLERANCE", "Comparison", "Validation"]

TOLERANCE = 0.15
CROWDED = 0.01  # of the machine: from here on the use by other programs is said


@dataclass(frozen=True)
class Comparison:
    """One figure. live, simulated: by replay, in seconds, requests/s or requests; tolerance: as a share of `live`."""

    candidate: str
    load: str
    figure: str
    live: tuple[float, ...]
    simulated: tuple[float, ...]
    tolerance: float = TOLERANCE

    @property
    def ratio(self) -> float:
        """Simulated over live, both in the same round; the median round's."""
        return float(np.median(np.array(self.simulated) / np.array(self.live)))

    @property
    def noise(self) -> float:
        """How far live replays are from each other: (largest - smallest) / median."""
        return float((max(self.live) - min(self.live)) / np.median(self.live))

    @property
    def within(self) -> bool:
        return abs(self.ratio - 1.0) <= self.tolerance + 1e-12


@dataclass
class Validation:
    """The comparisons, and what was seen of the machine meanwhile: shares of it by candidate (nan where not known)."""

    comparisons: list[Comparison]
    rounds: dict[str, int]
    residual: dict[str, float]  # of a single request, as a share of its p50: what the calibrated parts leave unexplained
    own: dict[str, float] = field(default_factory=dict)  # cores that client and server used at the highest load
    others: dict[str, float] = field(default_factory=dict)  # share of the machine that other programs used
    pace: dict[str, float] = field(default_factory=dict)  # longest over shortest time of the same piece of work
    partial: bool = False

    def markdown(self) -> str:
        """The table, what was measured around it, and the causes of what is not within its tolerance."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        lines = [
            f"`ratesim validate`, {today}, {machine()}.{' Interrupted: partial.' if self.partial else ''}",
            "",
            "| candidate | load | figure | live | simulated | ratio | live replays | differ by | within |",
            "|---|---|---|---:|---:|---:|---:|---:|---|",
        ]
        for each in self.comparisons:
            live, simulated = (_said(each.figure, float(np.median(values))) for values in (each.live, each.simulated))
            within = f"{'yes' if each.within else 'no'} ({each.tolerance:.2%})" if each.figure == "admitted" else ""
            within = within or f"{'yes' if each.within else 'no'} ({each.tolerance:.0%})"
            lines.append(
                f"| {each.candidate} | {each.load} | {each.figure} | {live} | {simulated} | {each.ratio:.2f} "
                f"| {len(each.live)} | {each.noise:.1%} | {within} |"
            )
        lines += ["", *(f"- {line}" for line in self.causes())]
        return "\n".join(lines) + "\n"

    def causes(self) -> list[str]:
        """What was measured that explains a miss, by candidate."""
        said = []
        cores = os.cpu_count() or 1
        for name, count in self.rounds.items():
            missed = [each for each in self.comparisons if each.candidate == name and not each.within]
            noisy = [each for each in missed if each.noise > each.tolerance]
            facts = [f"{count} rounds, {len(missed)} figures not within their tolerance"]
            if noisy:
                facts.append(f"in {len(noisy)} of these the live replays differ from each other by more than it")
            if (others := self.others.get(name, np.nan)) >= CROWDED:
                facts.append(f"other programs used {others:.0%} of the machine")
            if (own := self.own.get(name, np.nan)) > 0.7 * cores:
                facts.append(
                    f"load generator and server together used {own:.1f} of its {cores} cores, so each slows the other"
                )
            if (pace := self.pace.get(name, 1.0)) > 1.0 + TOLERANCE:
                facts.append(f"the same piece of work took {pace:.1f} times as long before one replay as before another")
            facts.append(f"{self.residual[name]:+.0%} of the p50 of a request alone its calibrated parts do not explain")
            said.append(f"{name}: {'; '.join(facts)}.")
        return said


def _said(figure: str, value: float) -> str:
    if figure == "throughput":
        return f"{value:,.0f}/s"
    return f"{value:,.0f}" if figure == "admitted" else f"{value * 1e3:.2f} ms"
