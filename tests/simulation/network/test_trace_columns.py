"""Draws of a trace are made once, and kept no longer than the trace and no more than is said."""

from __future__ import annotations

import gc

import msgspec
import numpy as np
import pytest

from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.remote_storage import RandomPlan
from ratesim.simulation.network import trace_columns
from ratesim.simulation.network.links import PRESETS
from ratesim.simulation.network.trace_columns import trace_column
from traffic import Trace


def trace() -> Trace:
    return Trace(np.arange(100.0), np.arange(100) % 7, [f"key {i}" for i in range(7)])


def test_candidates_of_one_trace_seed_and_link_share_their_draws_and_no_others() -> None:
    asked, again, link, costs = trace(), trace(), PRESETS["same_zone"], Profile.load().backends["redis"]
    plan = RandomPlan(1, asked, link, costs)
    other = RandomPlan(1, asked, link, msgspec.structs.replace(costs, factors=(1.0,) * 8 + (2.0,)))
    assert other.out is plan.out
    assert other.back is plan.back
    assert other.service != plan.service
    assert RandomPlan(2, asked, link, costs).out != plan.out
    assert RandomPlan(1, asked, PRESETS["cross_zone"], costs).out != plan.out
    assert RandomPlan(1, again.head(50), link, costs).out == plan.out[:50]
    assert RandomPlan(1, again, link, costs).out == plan.out


def test_columns_go_with_their_trace_and_the_oldest_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_columns, "_kept", [])
    monkeypatch.setattr(trace_columns, "MOST", 8 * 250)
    traces, made = [trace()], []

    def column(subject: str, length: int = 100) -> None:
        def make() -> np.ndarray:
            made.append(subject)
            return np.zeros(length)

        trace_column(traces[0], subject, make)

    for subject in ("a", "b", "a", "c", "a", "b"):
        column(subject)
    assert made == ["a", "b", "c", "b"], "c took the place of b, which was used before a"
    column("too long", 251)
    assert [each.subject for each in trace_columns._kept] == []
    column("a")
    assert len(trace_columns._kept) == 1
    traces.clear()
    gc.collect()
    assert trace_columns._kept == []
