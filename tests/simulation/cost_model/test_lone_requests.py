"""Lone requests are taken apart by the moments at which their parts ended."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ratesim.simulation.cost_model.lone_requests import Lone, Walk, take_walk
from ratesim.simulation.cost_model.survey import _paces
from traffic.live_replay import loop_factory


def walk(apart: bool = True, many: int = 9, **changes: float) -> tuple[Walk, np.ndarray, np.ndarray]:
    """Make a walk at a gap of 1 ms; the first calls are far slower. Returns it, and when questions and answers passed."""
    slow = np.where(np.arange(many) < 5, 50.0, 1.0)
    due = 1e-3 * np.arange(many)
    begun = due + 1e-4 * slow
    ended = begun + 3e-4
    rested = changes.get("rested", 5e-5) * np.ones(many)
    return Walk(begun, ended, 1e-4 * slow, rested, changes.get("cpu", 2e-4), apart), begun + 6e-5 * slow, ended - 4e-5


def test_the_parts_of_calls_at_a_gap() -> None:
    made, written, arrived = walk()
    lone = made.lone(written, arrived)
    assert lone.wake == pytest.approx(1e-4)
    assert lone.ask == pytest.approx(6e-5)
    assert lone.served == pytest.approx(2e-4)
    assert lone.answer == pytest.approx(4e-5)
    assert lone.after == pytest.approx(5e-5)
    # Of the millisecond, the loop works for the question, the answer and what follows; it wakes up in a tenth of it.
    assert lone.idle == pytest.approx(1e-3 - 6e-5 - 4e-5 - 5e-5 - 1e-4)


def test_what_follows_is_the_rest_of_the_processor_time_where_there_is_no_gap() -> None:
    made, written, arrived = walk(apart=False, cpu=1.8e-4)
    lone = made.lone(written, arrived)
    assert lone.after == pytest.approx(1.8e-4 - 6e-5 - 4e-5)
    assert lone.idle == lone.served, "the loop is idle only while it awaits an answer"


def test_on_a_loop_that_nobody_watches_nothing_follows() -> None:
    made, written, arrived = walk(rested=np.nan)
    assert made.lone(written, arrived).after == 0.0


@pytest.mark.parametrize("gap", [0.0, 0.002])
def test_calls_are_made_one_after_the_other(gap: float) -> None:
    under_way, most = 0, 0

    async def call() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        taken = runner.run(take_walk([call] * 12, gap))
    assert len(taken.begun) == len(taken.ended) == 12
    assert (np.diff(taken.begun) > 0.0).all()
    assert (taken.late >= 0.0).all()
    lone = taken.lone(taken.ended, taken.ended)
    assert isinstance(lone, Lone)
    assert lone.served == lone.answer == 0.0
    assert lone.ask > 0.0
    assert np.isnan(taken.rested).all() == (gap == 0.0)


def test_a_call_that_fails_ends_the_walk() -> None:
    async def call() -> None:
        raise OSError("gone")

    for gap in (0.0, 0.001):
        with pytest.raises(OSError, match="gone"):
            asyncio.run(take_walk([call], gap))


def test_requests_that_overlapped_tell_nothing_of_the_pace() -> None:
    made, written, arrived = walk()
    alone = _paces(made, written, arrived)
    written[6], arrived[6] = written[5], arrived[5]  # those of the request before, as on a busy machine
    found = _paces(made, written, arrived)
    assert (len(alone.cpu), len(found.cpu)) == (4, 3)
    assert found.cpu.min() > 0.0
    assert _paces(made, made.begun - 1.0, arrived) is None
