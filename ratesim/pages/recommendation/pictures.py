"""The pictures of a report that need more than one row for each run, each titled with its finding, with its alt text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.run_figures import Curve, KeyBar, Panel, excess_by_key, over_time, percentile_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ratesim.recommendation.assess.assessment import Assessment
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.recommendation.investigate.contender_detail import ContenderDetail
    from ratesim.recommendation.investigate.study import Study

__all__ = ["curves_of", "keys_with_too_much", "latency_by_percentile", "leaders", "over_the_run", "percent"]

TOLD = (0.5, 0.9, 0.99, 0.999, 0.9999)


def leaders(recommendation: Recommendation) -> tuple[Assessment, Assessment | None]:
    """Return the choice, or the nearest, and its rival: the best candidate of another backend; else the next one.

    Contenders are in the order of rank, those that pass first, so the rival is one that passes where there is one.
    """
    first, *others = recommendation.assessments
    other_backend = [each for each in others if each.backend != first.backend]
    return first, next(iter([*other_backend, *others]), None)


def curves_of(study: Study, recommendation: Recommendation) -> list[Curve]:
    """Return the latencies of each contender that takes any time to answer, in the order of rank."""
    found = []
    for each in recommendation.assessments:
        detail = study.findings.details[each.candidate]
        if detail.latency and detail.latency[0] > 0:  # a log axis has no zero
            found.append(
                Curve(
                    each.candidate,
                    each.backend,
                    detail.shares,
                    detail.latency,
                    detail.beyond,
                    each.candidate == recommendation.choice,
                )
            )
    return found


def latency_by_percentile(study: Study, recommendation: Recommendation) -> tuple[Figure, str] | None:
    """Draw latency by percentile of all contenders; None where no request of any was answered."""
    curves = curves_of(study, recommendation)
    if not curves:
        return None
    lead = next((each for each in curves if each.is_emphasized), curves[0])
    title = f"{lead.name} answers {_percentiles(lead)}"
    if recommendation.assessments[0].p99.is_lower_bound:
        title += " in simulation, which is a lower bound here"
    told = "; ".join(f"{each.name} {_percentiles(each)}" for each in curves)
    allowed = study.scenario.requirements.p99
    required = f" Allowed at 99 %: {format_seconds(allowed)}." if allowed else ""
    alt = f"{title}. Latency by percentile, simulated: {told}.{required}"
    return percentile_curves(curves, title, allowed), alt


def over_the_run(study: Study, recommendation: Recommendation) -> tuple[Figure, str] | None:
    """Draw latency and denials over time, of the choice and its rival; None where a run has no request."""
    shown = [(each, study.findings.details[each.candidate].first) for each in leaders(recommendation) if each is not None]
    panels = [Panel(each.candidate, each.backend, run.series) for each, run in shown if run.series["begin"]]
    if not panels:
        return None
    seconds = shown[0][1].bin_seconds
    told = [f"{name} {denied}" for name, denied, _ in map(_denials, panels)]
    title = f"An exact limiter denies {_denials(panels[0])[2]} of the requests, {', '.join(told)}"
    parts = [
        f"{each.name}: p99 of a bin of {format_seconds(seconds)} from {format_seconds(min(each.series['latency_p99']))} to "
        f"{format_seconds(max(each.series['latency_p99']))}, p50 from {format_seconds(min(each.series['latency_p50']))} to "
        f"{format_seconds(max(each.series['latency_p50']))}; {sum(each.series['denied']):,.0f} of "
        f"{sum(each.series['offered']):,.0f} requests denied ({_denials(each)[1]}), {sum(each.series['exact_denied']):,.0f} "
        f"({_denials(each)[2]}) by an exact limiter"
        + (f", {sum(each.series['failed']):,.0f} without a decision" if sum(each.series["failed"]) else "")
        for each in panels
    ]
    alt = f"{title}. Latency and denied requests over the run of the first seed. {'. '.join(parts)}."
    return over_time(panels, seconds, title, study.scenario.requirements.p99), alt


def keys_with_too_much(study: Study, recommendation: Recommendation) -> tuple[Figure, str] | str:
    """Draw the keys that the choice and its rival admitted too much; a sentence where no contender did.

    Where neither of them did, the contender that did most stands beside the choice.
    """
    details = study.findings.details
    first, rival = leaders(recommendation)
    shown = [each for each in (first, rival) if each is not None]
    if not any(details[each.candidate].first.keys for each in shown):
        most = max(recommendation.assessments, key=lambda each: _surplus(details[each.candidate]))
        if not details[most.candidate].first.keys:
            return "No contender admitted more to any key than an exact limiter, in the run of the first seed."
        shown = [first, most]
    runs = {each.candidate: (each.backend, details[each.candidate].first) for each in shown}
    bars = {
        name: (backend, [KeyBar(key.key, key.exact, key.over_admitted) for key in run.keys])
        for name, (backend, run) in runs.items()
    }
    told = {
        name: "to no key"
        if not run.keys_over
        else "to the only key"
        if run.keys_asked == 1
        else f"to {run.keys_over:,} of {run.keys_asked:,} keys"
        for name, (_, run) in runs.items()
    }
    title = "; ".join(f"{name} admits too much {over}" for name, over in told.items())
    named = "; ".join(
        f"{name} {told[name]}{''.join(f', {key.key} {key.text}' for key in keys[:3])}" for name, (_, keys) in bars.items()
    )
    alt = f"{title}. Cost admitted beyond an exact limiter by key, in the run of the first seed: {named}."
    return excess_by_key(bars, title), alt


def percent(share: float) -> str:
    """Format the share of a percentile: 99.9 %."""
    return f"{share * 100:.6g} %"


def _percentiles(curve: Curve) -> str:
    """Say within which times these shares are answered: of those that read the same the largest."""
    known = dict(zip(curve.shares, curve.latency, strict=True))
    within = {format_seconds(known[share]): percent(share) for share in TOLD if share in known}
    return ", ".join(f"{share} within {time}" for time, share in within.items())


def _surplus(detail: ContenderDetail) -> float:
    return sum(detail.first.series["over_admitted"])


def _denials(panel: Panel) -> tuple[str, str, str]:
    """Return the name of a run, its share of denied requests, and that of an exact limiter."""
    asked = sum(panel.series["offered"])
    denied, exact = (format_percent(sum(panel.series[name]) / asked) for name in ("denied", "exact_denied"))
    return panel.name, denied, exact
