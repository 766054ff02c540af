"""The figure of a comparison: a trace over samples of a recipe, in four pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traffic.bursts import preceding
from traffic.trace import BINS, Trace

__all__ = ["draw"]

Reals = NDArray[np.float64]
TRACE, SAMPLE = "#D55E00", "#0072B2"
BURST = 60.0  # seconds: the window of the fourth picture, or a hundredth of a shorter trace


def draw(trace: Trace, samples: tuple[Trace, ...], axes: Any = None) -> Any:
    """Draw a trace over samples on four axes, or on those of a new figure, and return them."""
    if axes is None:
        from matplotlib import pyplot

        axes = pyplot.subplots(2, 2, figsize=(7.2, 5.4), layout="constrained")[1].ravel()
    width = min(BURST, trace.duration / BINS)
    pictures: list[tuple[str, str, str, Callable[[Trace], tuple[Reals, Reals]], str, str]] = [
        ("Rate over time", "share of the duration", "requests per second", _rate, "linear", "linear"),
        ("Gaps", "seconds between requests", "share that are longer", lambda each: _above(np.diff(each.time)), "log", "log"),
        ("Keys by rank", "rank", "share of the requests", _ranks, "log", "log"),
        (
            f"Bursts of a key in {width:.3g} s",
            "cost in the window before a request",
            "share that find more",
            lambda each: _above(preceding(each, width)),
            "log",
            "log",
        ),
    ]
    for ax, (title, x, y, points, x_scale, y_scale) in zip(axes, pictures, strict=True):
        for sample in samples:
            ax.plot(*points(sample), color=SAMPLE, lw=0.8, alpha=0.6, label=None if sample is not samples[0] else "recipe")
        ax.plot(*points(trace), color=TRACE, lw=1.2, label="log")
        ax.set(title=title, xlabel=x, ylabel=y, xscale=x_scale, yscale=y_scale)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    return axes


def _rate(trace: Trace) -> tuple[Reals, Reals]:
    counts, edges = np.histogram(trace.time, BINS)
    return (edges[:-1] - edges[0]) / trace.duration, counts * BINS / trace.duration


def _ranks(trace: Trace) -> tuple[Reals, Reals]:
    counts = np.sort(np.bincount(trace.key))[::-1]
    counts = counts[counts > 0]
    return np.arange(1.0, len(counts) + 1), counts / len(trace)


def _above(values: Reals) -> tuple[Reals, Reals]:
    """Return distinct values but the largest, and the share that is above each; at most 300 of them."""
    at, counts = np.unique(values[values > 0], return_counts=True)
    above = 1.0 - np.cumsum(counts) / max(len(values), 1) - np.count_nonzero(values <= 0) / max(len(values), 1)
    kept = np.unique(np.linspace(0, max(len(at) - 2, 0), 300).astype(int))
    return at[kept], np.maximum(above[kept], 1e-12)
