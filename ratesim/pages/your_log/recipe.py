"""A recipe in the place of the log: the TOML to copy, how far it is from the log, and what it does not carry."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ratesim.formatting import format_length
from ratesim.pages.html import HTML, details, escape_html, figure_html, html_table
from ratesim.pages.style import STYLE
from ratesim.pages.your_log.analysis import LogAnalysis
from ratesim.simulation.scenario.recipe import recipe_toml
from traffic import Comparison, Workload, compare
from traffic.fit import NOT_CARRIED

__all__ = ["recipe"]

CAPTION = (
    "Orange: the log. Blue: samples of the recipe. A burst is the cost of the requests of a client in the window that ends "
    "with a request."
)
MEANING = (
    "A distance of two distributions is Kolmogorov's: the largest difference of their distribution functions. That of ranks "
    "is the total variation, and that of the index of dispersion is the logarithm of the ratio."
)


def recipe(found: LogAnalysis) -> HTML:
    """Show a recipe that can be handed on in the place of the log, and compare it."""
    if not found.trace.duration:
        return HTML("<p>All requests have one time, so the log has no rate that a recipe could have.</p>")
    rng = np.random.default_rng([found.asked.seed, 1])
    learned = Workload.fit(found.trace, rng)
    text = recipe_toml(learned)
    comparison = compare(found.trace, learned, rng)
    said = (
        "This recipe makes requests as the log has them, from quantiles of groups of clients that are alike. It holds no "
        f"name and no line of the log. {NOT_CARRIED} Put it into a scenario in the place of the log. Its keys, its rate "
        "and its duration may be changed."
    )
    rows = [
        [
            escape_html(each.aspect + ("" if each.window is None else f", {format_length(each.window)}")),
            f"{each.distance:.3f}",
            f"{each.between_samples:.3f}",
            each.verdict,
        ]
        for each in comparison.distances
    ]
    head = ["property", "distance to the log", "between two samples", "verdict"]
    return HTML(
        f"<p>{escape_html(said)}</p>"
        + details("The recipe, as TOML", f"<pre>{escape_html(text, lines=True)}</pre>", on_paper=False)
        + figure_html(_figure(comparison), CAPTION).data
        + f"<p>{escape_html(MEANING)}</p>"
        + html_table(head, rows).data
    )


def _figure(comparison: Comparison) -> tuple[Figure, str]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.4), layout="constrained")
        comparison.plot(figure.subplots(2, 2).ravel())
    large = sorted({each.aspect for each in comparison.distances if each.is_large})
    alike = f"they differ in {', '.join(large)}" if large else "they are alike"
    return figure, f"The log and samples of the recipe, by rate over time, gaps, ranks and bursts: {alike}."
