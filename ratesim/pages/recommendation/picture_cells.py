"""The pictures of a report, a function for each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.pages.chart import Chart
from ratesim.pages.html import HTML, escape_html, figure_html
from ratesim.pages.recommendation.chart import chart_spec
from ratesim.pages.recommendation.pictures import curves_of, keys_with_too_much, latency_by_percentile, over_the_run
from ratesim.pages.style import to_svg

if TYPE_CHECKING:
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.recommendation.investigate.study import Study

__all__ = ["keys", "over_time", "percentiles"]

COLORS = "Colors: memory in orange, redis in vermilion, postgres in blue, hybrid in green."


def percentiles(study: Study, recommendation: Recommendation) -> Chart | HTML:
    """Show latency by percentile, and where a script may run, with the trade-off as a chart that answers to the pointer."""
    drawn = latency_by_percentile(study, recommendation)
    if drawn is None:
        return HTML("<p>No contender answered a request, so there is no latency to show.</p>")
    caption = (
        "Each line is the mean over the seeds, as in the table. It ends where no request of a run lies beyond, and is thin "
        f"where only a few of all do. Bold: the choice. Lines that nearly coincide share a name. {COLORS}"
    )
    figure, alt = drawn
    wants = study.scenario.requirements
    curves = curves_of(study, recommendation)
    spec = chart_spec(curves, recommendation.assessments, recommendation.choice, (wants.p99, wants.max_over_admission), alt)
    return Chart(spec | {"usermeta": {"caption": caption}}, to_svg(figure, alt))


def over_time(study: Study, recommendation: Recommendation) -> HTML:
    """Show latency and denials over time, of the choice and its rival."""
    drawn = over_the_run(study, recommendation)
    if drawn is None:
        return HTML("<p>No request came after the warm-up.</p>")
    caption = (
        "The choice beside its rival, the best candidate of another backend, in the run of the first seed. Above: p99 bold, "
        "p50 thin. Below: the requests that it denied, over those that an exact limiter denies of the same requests."
    )
    return figure_html(drawn, caption)


def keys(study: Study, recommendation: Recommendation) -> HTML:
    """Show which keys were admitted too much, by the choice and its rival."""
    drawn = keys_with_too_much(study, recommendation)
    if isinstance(drawn, str):
        return HTML(f"<p>{escape_html(drawn)}</p>")
    caption = (
        "Over-admission by key in the run of the first seed: the cost admitted beyond an exact limiter, which is what the "
        "storage adds. Where neither the choice nor its rival adds any, the contender that adds most stands beside it."
    )
    return figure_html(drawn, caption)
