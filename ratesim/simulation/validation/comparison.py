"""The comparison of live measurements with the simulation: the table, and the causes of its misses."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.cost_model.calibrate import machine

__all__ = ["TOLERANCE", "Comparison", "Validation"]

TOLERANCE = 0.15
CROWDED = 0.01  # of the machine: from here on the use by other programs is said


@dataclass(frozen=True)
class Comparison:
    """One figure of several rounds, live and simulated, in seconds, requests/s or requests.

    Attributes
    ----------
    candidate, load, figure : str
        What was compared.
    live, simulated : tuple[float, ...]
        The values by round.
    tolerance : float
        Tolerance of the ratio.
    """

    candidate: str
    load: str
    figure: str
    live: tuple[float, ...]
    simulated: tuple[float, ...]
    tolerance: float = TOLERANCE

    @property
    def ratio(self) -> float:
        """Simulated over live, the median of the rounds."""
        return float(np.median(self._ratios))

    @property
    def middle_half(self) -> tuple[float, float]:
        """Bounds of the middle half of the rounds."""
        low, high = np.quantile(self._ratios, [0.25, 0.75])
        return float(low), float(high)

    @property
    def is_within(self) -> bool:
        """Whether the ratio is within its tolerance."""
        return abs(self.ratio - 1.0) <= self.tolerance + 1e-12

    @property
    def is_noisy(self) -> bool:
        """Whether the rounds are further apart than the tolerance, so that they cannot tell."""
        low, high = self.middle_half
        return high - low > 2.0 * self.tolerance

    @property
    def _ratios(self) -> NDArray[np.float64]:
        return np.divide(self.simulated, self.live)


@dataclass
class Validation:
    """The comparisons, and observations of the machine meanwhile: shares of it by candidate (nan where not known)."""

    comparisons: list[Comparison]
    rounds: dict[str, int]
    residual: dict[str, float]  # the part of a single request's p50 that the calibrated parts do not explain, as a share
    own: dict[str, float] = field(default_factory=dict)  # cores that client and server used at the highest load
    others: dict[str, float] = field(default_factory=dict)  # share of the machine that other programs used
    pace: dict[str, float] = field(default_factory=dict)  # longest over shortest time of the same piece of work
    partial: bool = False
    failures: dict[str, str] = field(default_factory=dict)  # why a candidate was not compared, such as a server that died

    def markdown(self) -> str:
        """Write the table, the measurements around it, and the causes of the figures outside their tolerance."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        lines = [
            f"`ratesim validate`, {today}, {machine()}.{' Interrupted: partial.' if self.partial else ''}",
            "",
            "Medians of rounds, each of which is simulated with its own costs; of the ratio also the middle half of them.",
            "",
            "| candidate | load | figure | live | simulated | ratio | middle half | within |",
            "|---|---|---|---:|---:|---:|---:|---|",
        ]
        for each in self.comparisons:
            live, simulated = (_said(each.figure, float(np.median(values))) for values in (each.live, each.simulated))
            low, high = each.middle_half
            tolerance = f"{each.tolerance:.2%}" if each.figure == "admitted" else f"{each.tolerance:.0%}"
            lines.append(
                f"| {each.candidate} | {each.load} | {each.figure} | {live} | {simulated} | {each.ratio:.2f} "
                f"| {low:.2f} to {high:.2f} | {'yes' if each.is_within else 'no'} ({tolerance}) |"
            )
        lines += ["", *(f"- {line}" for line in self.causes())]
        return "\n".join(lines) + "\n"

    def causes(self) -> list[str]:
        """List the measurements that explain a miss, by candidate."""
        said = [f"{name}: not compared: {why.rstrip('.')}." for name, why in self.failures.items()]
        cores = os.cpu_count() or 1
        for name, count in self.rounds.items():
            missed = [each for each in self.comparisons if each.candidate == name and not each.is_within]
            noisy = [each for each in missed if each.is_noisy]
            facts = [f"{count} rounds, {len(missed)} figures not within their tolerance"]
            if noisy:
                facts.append(f"in {len(noisy)} of these the rounds are further apart than that")
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
