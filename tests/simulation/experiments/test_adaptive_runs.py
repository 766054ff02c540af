"""Inquiries: jobs that are asked for as what was found demands, each made once, by whoever is there."""

from __future__ import annotations

import pandas as pd
import pytest

from ratesim import Scenario
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments import adaptive
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row, RunFailedError, gather, run_adaptive
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError

MEMORY = Candidate(name="memory", storage="memory://")


def jobs(seeds: list[int], **workload: object) -> list[Job]:
    recipe = {"requests_per_second": 100, "keys": 5, "duration": 1, **workload}
    scenario = Scenario.of({"workload": recipe, "limit": {"rate": "10/second"}})
    return jobs_of(scenario, [MEMORY], seeds, None, Profile.load())


def same(one: dict[str, Row], other: dict[str, Row]) -> bool:
    """Also where both are nan."""
    return one.keys() == other.keys() and pd.DataFrame(one).equals(pd.DataFrame(other)[list(one)])


def bisection(low: int, high: int, wanted: int) -> AdaptiveRuns[tuple[int, int]]:
    """The first seed that is at least `wanted`: a question whose runs depend on what was found."""
    asked = 0
    while low < high:
        middle = (low + high) // 2
        (row,) = yield jobs([middle])
        asked += 1
        low, high = (low, middle) if row["seed"] >= wanted else (middle + 1, high)
    return low, asked


def test_an_inquiry_gets_the_rows_of_what_it_asks_in_its_order():
    def ask() -> AdaptiveRuns[list[int]]:
        rows = yield jobs([3, 1, 2])
        again = yield jobs([2, 3])
        return [row["seed"] for row in rows + again]

    found = run_adaptive(ask(), processes=1)
    assert found.result == [3, 1, 2, 2, 3]
    assert len(found.rows) == 3


def test_several_go_on_together_and_end_when_they_like():
    def together_twice() -> AdaptiveRuns[list[tuple[int, int]]]:
        return (yield from gather(bisection(1, 64, 50), bisection(1, 4, 3), bisection(7, 7, 7)))

    assert run_adaptive(together_twice(), processes=1).result == [(50, 6), (3, 2), (7, 0)]


def test_nothing_that_is_known_is_made_again(tmp_path):
    first = run_adaptive(bisection(1, 64, 20), processes=1, out=tmp_path / "kept")
    said: list[str] = []
    again = run_adaptive(
        bisection(1, 64, 20), processes=1, out=tmp_path / "kept", progress=lambda done, total, what: said.append(what)
    )
    assert same(again.rows, first.rows)
    assert (
        run_adaptive(bisection(1, 64, 20), processes=1, known=first.rows, progress=lambda *told: said.append("x")).result[0]
        == 20
    )
    assert said == []


@pytest.mark.slow
def test_processes_stay_while_the_inquiry_goes_on_and_give_the_same():
    two, one = run_adaptive(bisection(1, 8, 5), processes=2), run_adaptive(bisection(1, 8, 5), processes=1)
    assert same(two.rows, one.rows)


def test_what_cannot_be_run_is_said_as_if_it_had_been_asked_alone():
    def ask() -> AdaptiveRuns[None]:
        yield jobs([1]) + jobs([2], requests_per_second=1e-6)

    with pytest.raises(ScenarioError, match=r"^workload: no request comes of it with seed 2"):
        run_adaptive(ask(), processes=1)


def test_a_run_that_fails_ends_the_inquiry_and_is_named(monkeypatch):
    def fail(job: Job, progress: object) -> Row:
        raise RuntimeError("out of luck")

    def ask() -> AdaptiveRuns[None]:
        yield jobs([2])

    monkeypatch.setattr(adaptive, "work", fail)
    with pytest.raises(RunFailedError, match=r"^memory, seed 2: RuntimeError: out of luck"):
        run_adaptive(ask(), processes=1)
