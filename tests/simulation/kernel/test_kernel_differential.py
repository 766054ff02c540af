"""The compiled kernel finds in every column and figure what SimPy finds, for each kind of candidate that it covers."""

from __future__ import annotations

import pytest
from differential import compared
from examples import examples
from hypothesis import HealthCheck, settings

VIEWS = "states that overwrite those of the store are not compiled", "views whose states grow are not compiled"
# The kinds that the kernel has to play, with what it may refuse of each. A kind that is not here is left to SimPy.
COVERED: dict[str, tuple[str, ...]] = {
    "memory": (),
    "redis": (),
    "redis cluster": (),
    "postgres": (),
    "strong": (),
    "eventual": VIEWS,
    "session": VIEWS,
    "lease": (),
}
GIVEN_UP = 0.25  # the share of runs, at most, that may have to begin again in SimPy
RUNS, RUNS_AT_NIGHT = 20, 300  # of about 400 requests
REQUESTS = 200  # of a run, at least in the mean


@pytest.mark.parametrize("kind", COVERED)
def test_both_engines_find_the_same_in_every_column(kind: str) -> None:
    runs = examples(RUNS, RUNS_AT_NIGHT)
    played = compared(kind, settings(max_examples=runs, suppress_health_check=list(HealthCheck)))
    assert set(played.refused) <= set(COVERED[kind])
    assert played.given_up.total() <= GIVEN_UP * runs, played
    assert played.runs + played.refused.total() + played.given_up.total() >= runs
    assert played.requests >= REQUESTS * played.runs > 0, played


@pytest.mark.parametrize("kind", ["strong", "eventual", "session", "lease"])
def test_both_engines_find_the_same_where_much_happens_at_once(kind: str) -> None:
    runs = examples(RUNS, RUNS_AT_NIGHT)
    played = compared(kind, settings(max_examples=runs, suppress_health_check=list(HealthCheck)), busy=True)
    assert not played.refused
    assert played.given_up.total() <= GIVEN_UP * runs, played
