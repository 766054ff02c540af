"""The comparison of live replays with their simulation: which rounds are kept, the tables, and the verdict."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ratesim.formatting import format_seconds
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.validation.hybrid_processes import HybridFigure, hybrid_table
from ratesim.simulation.validation.segments import SEGMENTS
from ratesim.simulation.validation.verdict import LATENCIES, LEAST_ROUNDS, TOLERANCES, Estimate, Verdict, estimate, judge

__all__ = ["SATURATION", "Figures", "Observation", "Validation"]

SATURATION = 1.0  # the load that is all at once


@dataclass(frozen=True)
class Figures:
    """Figures of a replay, live or simulated: seconds, requests/s, requests, and how busy the simulated busiest part was."""

    p50: float
    p95: float
    p99: float
    throughput: float
    admitted: int
    utilization: float = float("nan")


@dataclass(frozen=True)
class Observation:
    """One live replay beside its simulation.

    Attributes
    ----------
    candidate, load, round : str, float, int
        Which; the load is a share of the saturation throughput, SATURATION for all at once.
    live, simulated : Figures
        Measured, and simulated with the costs of the same round.
    foreseen : Figures or None
        Simulated with the costs of the even rounds alone, see `Validation.split`; None where there are none.
    dropped : tuple[str, ...]
        What was wrong with the machine; empty for a replay that is kept.
    swapped : float
        Share of admissions that may differ because requests of one key overtook each other.
    residual : float
        The part of the p50 of a lone request that the costs of the round do not explain, as a share.
    segments, parts : dict[str, float]
        Medians of the segments, live and simulated, see `segments.SEGMENTS`.
    """

    candidate: str
    load: float
    round: int
    live: Figures
    simulated: Figures
    foreseen: Figures | None = None
    dropped: tuple[str, ...] = ()
    swapped: float = 0.0
    residual: float = 0.0
    segments: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)


@dataclass
class Validation:
    """What a validation has found.

    Attributes
    ----------
    observations : list[Observation]
        All replays, the dropped ones too.
    failures : dict[str, str]
        Why a candidate was compared no longer, such as a server that died.
    hybrids : list[HybridFigure]
        Figures of hybrids in processes of their own.
    partial : bool
        Whether it was interrupted.
    """

    observations: list[Observation] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    hybrids: list[HybridFigure] = field(default_factory=list)
    partial: bool = False

    @property
    def candidates(self) -> list[str]:
        """Names of the candidates that were compared, in their order."""
        return list(dict.fromkeys(each.candidate for each in self.observations))

    def verdicts(self, kept: bool = True) -> list[Verdict]:
        """Judge every candidate, by the kept replays or by all."""
        chosen = [each for each in self.observations if not (kept and each.dropped)]
        found = []
        for name in self.candidates:
            own = [each for each in chosen if each.candidate == name]
            throughput = _ratios([each for each in own if each.load == SATURATION], "throughput")
            ratios = {
                load: {figure: _ratios([each for each in own if each.load == load], figure) for figure in LATENCIES}
                for load in _loads(self.observations, name)
                if load != SATURATION
            }
            busy = {load: _busy([each for each in own if each.load == load]) for load in ratios}
            found.append(judge(name, ratios, throughput, busy))
        return found

    def split(self) -> list[tuple[str, float, str, Estimate, Estimate]]:
        """Compare how the costs of the even rounds foresee these, and the odd ones: the kept replays, by load and figure."""
        rows = []
        for name, load, figure, _ in self._groups():
            kept = [each for each in self._kept(name, load) if each.foreseen is not None]
            halves = ([each for each in kept if each.round % 2 == odd] for odd in (0, 1))
            fitted, other = (estimate(_ratios(half, figure, "foreseen"), TOLERANCES[figure]) for half in halves)
            rows.append((name, load, figure, fitted, other))
        return rows

    def markdown(self) -> str:
        """Write the tables, and at the end the verdict."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        lines = [f"`ratesim validate`, {today}, {machine()}.{' Interrupted: partial.' if self.partial else ''}", ""]
        if self.hybrids:
            lines += [*hybrid_table(self.hybrids), ""]
        failures = [f"- {name}: not compared to the end: {why.rstrip('.')}." for name, why in self.failures.items()]
        if not self.observations:
            return "\n".join([*lines, *failures]) + "\n"
        lines += [*self._ratio_table(), "", *self._dropped_table(), "", *self._segment_table(), "", *self._split_table(), ""]
        lines += [*failures, *self._counts(), "", "Verdict, by the kept rounds:", ""]
        verdicts = self.verdicts()
        lines += [f"- {each.describe()}." for each in verdicts]
        if any(load.rounds < LEAST_ROUNDS for each in verdicts for load in each.loads):
            lines += [
                "",
                "Where too few rounds were kept, stop other programs, or give `ratesim validate` a larger `--budget`.",
            ]
        lines += ["", "By all rounds, the dropped ones too:", ""]
        lines += [f"- {each.describe()}." for each in self.verdicts(kept=False)]
        return "\n".join(lines) + "\n"

    def _kept(self, name: str, load: float) -> list[Observation]:
        return [each for each in self.observations if (each.candidate, each.load) == (name, load) and not each.dropped]

    def _groups(self) -> Iterator[tuple[str, float, str, list[Observation]]]:
        for name in self.candidates:
            for load in _loads(self.observations, name):
                for figure in ("throughput",) if load == SATURATION else LATENCIES:
                    yield name, load, figure, self._kept(name, load)

    def _ratio_table(self) -> list[str]:
        lines = [
            "Simulated beside measured: medians of the kept rounds, each simulated at its own pace, and the ratio with "
            "its 90 % interval.",
            "",
            "| candidate | load | figure | rounds | measured | simulated | ratio | interval | within |",
            "|---|---|---|---:|---:|---:|---:|---|---|",
        ]
        for name, load, figure, kept in self._groups():
            ratio = estimate(_ratios(kept, figure), TOLERANCES[figure])
            live, simulated = (_median(figure, [getattr(each, side) for each in kept]) for side in ("live", "simulated"))
            within = ("yes" if ratio.is_within else "no") if ratio.is_known else "cannot tell"
            lines.append(
                f"| {name} | {_at(load)} | {figure} | {ratio.rounds} | {live} | {simulated} | {_number(ratio.ratio)} "
                f"| {_interval(ratio)} | {within} ({100 * TOLERANCES[figure]:.0f} %) |"
            )
        return lines

    def _dropped_table(self) -> list[str]:
        """Say how many replays were dropped by what; one may have several causes."""
        found = sorted({cause for each in self.observations for cause in each.dropped})
        lines = [
            "Replays that were dropped, by what was wrong with the machine; one may have several causes.",
            "",
            f"| candidate | load | busiest part, simulated | replays | kept |{''.join(f' {cause} |' for cause in found)}",
            f"|---|---|---:|---:|---:|{'---:|' * len(found)}",
        ]
        for name in self.candidates:
            for load in _loads(self.observations, name):
                own = [each for each in self.observations if (each.candidate, each.load) == (name, load)]
                counted = Counter(cause for each in own for cause in each.dropped)
                numbers = [len(own), len(self._kept(name, load)), *(counted[cause] for cause in found)]
                busy = "" if load == SATURATION else f"{100 * _busy(own):.0f} % busy"
                lines.append(f"| {name} | {_at(load)} | {busy} | {' | '.join(map(str, numbers))} |")
        return lines

    def _segment_table(self) -> list[str]:
        lines = [
            "Segments of a request, medians of the kept rounds. late: from due until a handler begins (not in the latency). "
            "wait: until the client's code begins; simulated, all waiting in queues. ask: until the question is written. "
            "served: until the answer is read. answer: until the caller has it. The simulated parts are computed for "
            "requests that travel alone.",
            "",
            f"| candidate | load | side |{''.join(f' {name} |' for name in SEGMENTS)}",
            f"|---|---|---|{'---:|' * len(SEGMENTS)}",
        ]
        for name in self.candidates:
            for load in _loads(self.observations, name):
                kept = self._kept(name, load)
                if load == SATURATION or not kept:
                    continue
                for side, field_name in (("measured", "segments"), ("simulated", "parts")):
                    rows = [getattr(each, field_name) for each in kept]
                    cells = [_middle([row.get(each, np.nan) for row in rows]) for each in SEGMENTS]
                    lines.append(f"| {name} | {_at(load)} | {side} | {' | '.join(cells)} |")
        return lines

    def _split_table(self) -> list[str]:
        lines = [
            "Honest split: costs of the even rounds alone, with every other of their idle gaps, beside the replays of these "
            "rounds and of the odd ones. No replay enters a cost. Ratios simulated / measured with their intervals.",
            "",
            "| candidate | load | figure | even rounds | ratio | interval | odd rounds | ratio | interval |",
            "|---|---|---|---:|---:|---|---:|---:|---|",
        ]
        apart: dict[str, tuple[float, str]] = {}
        for name, load, figure, *halves in self.split():
            said = " | ".join(f"{half.rounds} | {_number(half.ratio)} | {_interval(half)}" for half in halves)
            lines.append(f"| {name} | {_at(load)} | {figure} | {said} |")
            if all(half.rounds for half in halves):
                ratios = sorted(half.ratio for half in halves)
                apart[name] = max(apart.get(name, (0.0, "")), (ratios[1] / ratios[0] - 1.0, f"{figure} at {_at(load)}"))
        said = "; ".join(f"{name} {100 * most:.0f} % ({where})" for name, (most, where) in apart.items())
        return [*lines, "", f"The ratios of both halves differ by at most: {said}."] if said else lines

    def _counts(self) -> list[str]:
        """Say of every candidate how the admissions compare, and what its costs leave unexplained."""
        said = []
        for name in self.candidates:
            own = [each for each in self.observations if each.candidate == name]
            off = [abs(each.simulated.admitted / max(each.live.admitted, 1) - 1.0) > each.swapped + 1e-12 for each in own]
            residual = float(np.median([each.residual for each in own]))
            same = f"{len(own) - sum(off)} of {len(own)} replays admit the same"
            said.append(
                f"- {name}: {same}, but for requests of one key that overtook each other; "
                f"{100 * residual:+.0f} % of the p50 of a lone request its costs do not explain."
            )
        return said


def _loads(observations: Sequence[Observation], name: str) -> list[float]:
    """Return the loads of a candidate: saturation first, then ascending."""
    loads = {each.load for each in observations if each.candidate == name}
    return sorted(loads, key=lambda load: (load != SATURATION, load))


def _ratios(observations: Sequence[Observation], figure: str, side: str = "simulated") -> list[float]:
    return [getattr(getattr(each, side), figure) / getattr(each.live, figure) for each in observations]


def _busy(observations: Sequence[Observation]) -> float:
    return float(np.median([each.simulated.utilization for each in observations])) if observations else float("nan")


def _median(figure: str, values: Sequence[Figures]) -> str:
    middle = float(np.median([getattr(each, figure) for each in values])) if values else np.nan
    if np.isnan(middle):
        return "-"
    return f"{middle:,.0f}/s" if figure == "throughput" else format_seconds(middle)


def _at(load: float) -> str:
    return "saturation" if load == SATURATION else f"{100 * load:.0f} %"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _interval(ratio: Estimate) -> str:
    return f"{_number(ratio.low)} to {_number(ratio.high)}" if ratio.rounds else "-"


def _middle(seconds: Sequence[float]) -> str:
    """Format the median of the durations that are known."""
    known = [each for each in seconds if not np.isnan(each)]
    return format_seconds(float(np.median(known))) if known else ""
