"""Distances between a trace and a recipe in its place, each beside what two samples of the recipe differ by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from traffic.bursts import burst_windows, bursts, places, sorted_distance, thinned
from traffic.dispersion import dispersion
from traffic.provenance import TraceError
from traffic.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Distance", "Recipe", "compare"]

Reals = NDArray[np.float64]

SAMPLES = 4  # of a recipe
CLOSE = 0.05  # a distance up to which two traces are alike, however little two samples differ

_KOLMOGOROV = "largest difference of the two distribution functions (Kolmogorov)"


class Recipe(Protocol):
    """Anything that draws a trace: `Workload`, `PerKey`, `Tenants`."""

    def trace(self, rng: np.random.Generator) -> Trace:
        """Draw one sample."""


@dataclass(frozen=True, slots=True)
class Distance:
    """One way in which two traces may differ.

    Attributes
    ----------
    aspect : str
        The property that is compared.
    window : float or None
        Length of the window, in seconds.
    distance : float
        Between the trace and samples of the recipe, in the mean.
    between_samples : float
        Between two samples of the recipe, in the mean: what chance alone makes of it.
    meaning : str
        The definition, and its source.
    """

    aspect: str
    window: float | None
    distance: float
    between_samples: float
    meaning: str

    @property
    def is_large(self) -> bool:
        """Whether it is above 0.05, and above twice the distance between samples."""
        return self.distance > max(CLOSE, 2.0 * self.between_samples)

    @property
    def within(self) -> str:
        """The window in words, such as " in 60 s"; empty where there is none."""
        return "" if self.window is None else f" in {self.window:g} s"

    @property
    def verdict(self) -> str:
        """The same as a word, "differs" or "alike"."""
        return "differs" if self.is_large else "alike"


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """The distances between a trace and a recipe, and the samples that were compared.

    Attributes
    ----------
    trace : Trace
        The trace, its coarse stamps spread.
    samples : tuple[Trace, ...]
        Samples of the recipe.
    distances : tuple[Distance, ...]
        One for each aspect and window.
    """

    trace: Trace
    samples: tuple[Trace, ...]
    distances: tuple[Distance, ...]

    def to_frame(self) -> pd.DataFrame:
        """Make a frame of one row for each distance: aspect, window (s), distance, between_samples, is_large, meaning."""
        import pandas as pd

        names = ("aspect", "window", "distance", "between_samples", "is_large", "meaning")
        return pd.DataFrame([{name: getattr(each, name) for name in names} for each in self.distances])

    def plot(self, axes: Any = None) -> Any:
        """Draw the trace over the samples: rate over time, gaps, ranks of keys, bursts of a key.

        Parameters
        ----------
        axes : array of four matplotlib axes, optional
            Those of a new figure by default.

        Returns
        -------
        numpy.ndarray
            The axes.
        """
        from traffic.compare_plot import draw

        return draw(self.trace, self.samples, axes)

    def table(self) -> str:
        """Write a line for each distance, as columns of a terminal."""
        rows = [("", "distance", "between samples", "")]
        for each in self.distances:
            rows.append((each.aspect + each.within, f"{each.distance:.3f}", f"{each.between_samples:.3f}", each.verdict))
        return "\n".join(f"{one:28}{two:>9}{three:>17}  {four}".rstrip() for one, two, three, four in rows)

    def __repr__(self) -> str:
        large = sum(each.is_large for each in self.distances)
        return f"Comparison({len(self.distances)} distances, {large} of them large)"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align: left">{each.aspect}{each.within}</th>'
            f"<td>{each.distance:.3f}</td><td>{each.between_samples:.3f}</td><td>{each.verdict}</td></tr>"
            for each in self.distances
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in ("aspect", "distance", "between samples", ""))
        return f'<div class="ratesim"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def compare(trace: Trace, recipe: Recipe, rng: np.random.Generator | None = None) -> Comparison:
    """Measure how far samples of a recipe are from a trace.

    Parameters
    ----------
    trace : Trace
        The trace; coarse stamps are spread first.
    recipe : Workload, PerKey, Tenants or any Recipe
        The recipe in its place.
    rng : numpy.random.Generator, optional
        Draws the places of coarse stamps and the samples; one of seed 1 by default.

    Raises
    ------
    TraceError
        If the trace or a sample has no two requests at different times.
    """
    rng = np.random.default_rng(1) if rng is None else rng
    trace = trace.spread(rng)
    samples = tuple(recipe.trace(each) for each in rng.spawn(SAMPLES))
    if not all(each.duration for each in (trace, *samples)):
        raise TraceError("compare: a trace of requests at one time has no rate; make it longer")
    costs = len({float(each.cost.min()) for each in (trace, *samples)} | {float(trace.cost.max())}) > 1
    distances = []
    for aspect, windows, draw, measure, meaning in _aspects(trace, samples, costs):
        of_trace, *of_samples = (draw(each) for each in (trace, *samples))
        for i, window in enumerate(windows):
            apart = float(np.mean([measure(of_trace[i], each[i]) for each in of_samples]))
            chance = float(np.mean([measure(one[i], other[i]) for one, other in pairwise(of_samples)]))
            distances.append(Distance(aspect, window, apart, chance, meaning))
    return Comparison(trace, samples, tuple(distances))


Aspect = tuple[str, Sequence[float | None], Callable[[Trace], list[Reals]], Callable[[Reals, Reals], float], str]


def _aspects(trace: Trace, samples: tuple[Trace, ...], costs: bool) -> Iterator[Aspect]:
    """List each aspect with its windows, the values of each that are compared, their distance, and its meaning."""
    windows = burst_windows(min(each.duration for each in (trace, *samples)))
    place = "of the place of a request between the first and the last"
    yield "rate over time", [None], lambda each: [thinned(places(each))], sorted_distance, f"{place}: {_KOLMOGOROV}"
    between = f"between successive requests: {_KOLMOGOROV}"
    yield "gaps", [None], lambda each: [thinned(np.diff(each.time))], sorted_distance, between
    index = "of the index of dispersion for counts in windows, the logarithm of the ratio (Gusella, IEEE JSAC 9, 1991)"
    yield "dispersion", windows, lambda each: [np.array([dispersion(each.time, w)]) for w in windows], _apart, index
    many = max(len(each.keys) for each in (trace, *samples)) > 1
    if many:
        ranked = "half the sum of the differences of the shares of keys of one rank (total variation)"
        yield "ranks of keys", [None], lambda each: [_shares(each)], _unlike_shares, ranked
    before = "in the window that ends with a request; over all limits, the largest difference of the share of requests that"
    for name, whose, per_key in (("bursts of all", "all", False), ("bursts of a key", "its key", True))[: 2 if many else 1]:
        values = partial(bursts, windows=windows, per_key=per_key)
        yield name, windows, values, sorted_distance, f"of the cost of {whose} {before} find more: {_KOLMOGOROV}"
    if costs:
        yield "costs", [None], lambda each: [thinned(each.cost)], sorted_distance, f"of a request: {_KOLMOGOROV}"


def _shares(trace: Trace) -> Reals:
    shares: Reals = np.sort(np.bincount(trace.key) / len(trace))[::-1]
    return shares


def _unlike_shares(one: Reals, other: Reals) -> float:
    n = max(len(one), len(other))
    return float(np.abs(np.pad(one, (0, n - len(one))) - np.pad(other, (0, n - len(other)))).sum() / 2.0)


def _apart(one: Reals, other: Reals) -> float:
    return abs(float(np.log(max(one[0], 1e-12) / max(other[0], 1e-12))))
