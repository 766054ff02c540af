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
    """One figure: live, by replay, and simulated; in seconds, requests/s or requests. tolerance: a share of `quietest`."""

    candidate: str
    load: str
    figure: str
    live: tuple[float, ...]
    simulated: float
    tolerance: float = TOLERANCE

    @property
    def quietest(self) -> float:
        """The live figure that counts. Other work only slows: the lowest latency, the highest throughput; as for requests
        admitted, the median."""
        if self.figure == "admitted":
            return float(np.median(self.live))
        return max(self.live) if self.figure == "throughput" else min(self.live)

    @property
    def ratio(self) -> float:
        """Simulated over live."""
        return self.simulated / self.quietest

    @property
    def noise(self) -> float:
        """How far the median live replay is from the quietest, as a share of that."""
        return abs(float(np.median(self.live)) / self.quietest - 1.0)

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
            "Of the live replays the quietest, figure by figure; the median one is so much further.",
            "",
            "| candidate | load | figure | live | simulated | ratio | live median | within |",
            "|---|---|---|---:|---:|---:|---:|---|",
        ]
        for each in self.comparisons:
            live, simulated = (_said(each.figure, value) for value in (each.quietest, each.simulated))
            tolerance = f"{each.tolerance:.2%}" if each.figure == "admitted" else f"{each.tolerance:.0%}"
            lines.append(
                f"| {each.candidate} | {each.load} | {each.figure} | {live} | {simulated} | {each.ratio:.2f} "
                f"| {each.noise:.0%} | {'yes' if each.within else 'no'} ({tolerance}) |"
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
                facts.append(f"in {len(noisy)} of these the median live replay is further than that from the quietest")
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
