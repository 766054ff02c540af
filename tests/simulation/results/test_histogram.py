"""Histograms of fixed relative precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim.simulation.results.histogram import PRECISION, Histogram

numbers = st.lists(st.one_of(st.floats(0.0, 1e9), st.sampled_from([0.0, -0.0, 5e-324, 1e-9, 1.0, np.inf])), min_size=1)


@given(numbers, st.floats(0.0, 1.0))
def test_a_quantile_is_the_value_of_that_rank_to_the_stated_precision(values: list[float], share: float) -> None:
    exact = np.sort(np.abs(values))[max(int(np.ceil(share * len(values) - 1e-9)), 1) - 1]
    found = Histogram.of(values).quantile(share)
    assert found == exact or abs(found - exact) <= PRECISION * exact + 1e-300


@given(numbers, numbers)
def test_histograms_of_two_runs_added_are_that_of_both(one: list[float], other: list[float]) -> None:
    added, together = Histogram.of(one) + Histogram.of(other), Histogram.of(one + other)
    assert added.bucket.tolist() == together.bucket.tolist()
    assert added.count.tolist() == together.count.tolist()
    assert len(added) == len(one) + len(other)


def test_a_million_latencies_have_the_quantiles_and_the_mean_that_they_have() -> None:
    values = np.random.default_rng(1).lognormal(-7.0, 1.0, 1_000_000)
    found = Histogram.of(values)
    for share in (0.0, 0.01, 0.5, 0.9, 0.99, 0.9999, 1.0):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=PRECISION)
    assert found.mean == pytest.approx(values.mean(), rel=PRECISION)
    assert len(found.bucket) < 15_000, "however many values"


def test_the_table_says_where_values_lie() -> None:
    table = Histogram.of([1.0, 1.0, 1.0005, 3.0, 0.0]).table()
    assert table["count"].tolist() == [1, 3, 1]
    assert table["share"].tolist() == [0.2, 0.8, 1.0]
    assert table["low"].tolist() == [0.0, 1.0, 3.0]
    assert table["high"].iloc[1] == 1.0 + 2.0**-10


def test_nothing_has_no_quantile_and_what_is_below_zero_no_place() -> None:
    empty = Histogram.of([])
    assert np.isnan(empty.quantile(0.5))
    assert np.isnan(empty.mean)
    for wrong in ([-1.0], [np.nan]):
        with pytest.raises(ValueError, match="from 0 on"):
            Histogram.of(wrong)
