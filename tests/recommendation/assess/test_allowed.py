"""Backends that may not be used: how a scenario says it, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ratesim.cli.options import UsageError, scenario_from_options, with_round_trip
from ratesim.recommendation.assess.assessment import allowance, uses
from ratesim.simulation.scenario.scenario import Candidate, Requirements, Scenario, ScenarioError

EVERYTHING = ("memory", "redis", "postgres", "hybrid")


@pytest.mark.parametrize(
    ("storage", "needed"),
    [
        ("memory://", ("memory",)),
        ("rediss://h", ("redis",)),
        ("postgresql://h", ("postgres",)),
        ("hybrid+redis://h?consistency=lease", ("hybrid", "redis")),
        ("hybrid+postgresql://h", ("hybrid", "postgres")),
    ],
)
def test_a_hybrid_needs_itself_and_what_is_behind_it(storage: str, needed: tuple[str, ...]) -> None:
    assert uses(storage) == needed
    without = [kind for kind in EVERYTHING if kind != needed[-1]]
    for barred in (without, [kind for kind in EVERYTHING if kind != needed[0]]):
        check = allowance(storage, barred)
        assert check is not None
        assert (check.verdict, check.requirement, check.margin) == ("fails", "allowed", None)
    assert allowance(storage, EVERYTHING) is None, "where everything may be used there is nothing to say"
    met = allowance(storage, needed)
    assert met is not None
    assert met.verdict == "passes"


def test_what_is_missing_is_said_in_words() -> None:
    check = allowance("hybrid+redis://h", ["memory", "postgres"])
    assert check is not None
    assert check.evidence == "needs a hybrid and Redis"
    assert check.required == "without Redis and a hybrid, as required"
    met = allowance("memory://", ["memory", "postgres", "hybrid"])
    assert met is not None
    assert met.measured == "without Redis"


def test_all_are_allowed_unless_a_scenario_says_otherwise() -> None:
    text = '[workload]\nrequests_per_second = 1\n[limit]\nrate = "1/second"\n[requirements]\n'
    assert Scenario.parse(text).requirements.allowed == EVERYTHING == Requirements().allowed
    some = Scenario.parse(f'{text}allowed = ["memory", "postgres"]')
    assert some.requirements.allowed == ("memory", "postgres")
    assert Scenario.parse(some.to_toml()) == some
    for wrong in ('["mysql"]', "[]", '"memory"'):
        with pytest.raises(ScenarioError, match=r"requirements\.allowed"):
            Scenario.parse(f"{text}allowed = {wrong}")


def asked(**given: Any) -> dict[str, Any]:
    """Every option of a question, those that are given and None."""
    names = "scenario log workload limit algorithm key format time time_unit cost busiest speed scale nodes routing network"
    names += " rtt loss p99 max_over_admission persistence without seed replications"
    return dict.fromkeys(names.split()) | given


def test_an_option_takes_backends_from_those_that_the_scenario_allows() -> None:
    recipe = {"workload": ["requests_per_second=9"], "limit": "9/minute"}
    assert scenario_from_options(asked(**recipe)).requirements.allowed == EVERYTHING
    assert scenario_from_options(asked(**recipe, without=["redis", "hybrid"])).requirements.allowed == ("memory", "postgres")
    fewer = scenario_from_options(asked(scenario="situations/no-redis", without=["hybrid"]))
    assert fewer.requirements.allowed == ("memory", "postgres")
    with pytest.raises(UsageError, match="--without 'mysql': known are memory, redis, postgres, hybrid"):
        scenario_from_options(asked(**recipe, without=["mysql"]))
    with pytest.raises(UsageError, match="no backend is left"):
        scenario_from_options(asked(**recipe, without=list(EVERYTHING)))


@pytest.mark.parametrize("given", ["", "keeps_memory = false", "keeps_memory = true"])
@pytest.mark.parametrize("deployment", ["", '[deployment]\nnetwork = "same_zone"\n', "[deployment]\nnodes = 3\n"])
def test_what_a_scenario_leaves_open_stays_open_on_its_way_to_a_run(tmp_path: Path, given: str, deployment: str) -> None:
    """A default that is written is not what nobody has written: a store's own crash, a profile's own network."""
    file = tmp_path / "scenario.toml"
    recipe = '[workload]\nrequests_per_second = 1\n[limit]\nrate = "1/second"\n'
    file.write_text(f'{recipe}{deployment}[[faults]]\nkind = "crash"\nstart = "1s"\nduration = "1s"\n{given}\n')
    written = Scenario.load(file)
    replayed = Scenario.parse(written.to_toml())
    for same in (scenario_from_options(asked(scenario=str(file))), replayed, with_round_trip(str(file), None)):
        assert same.faults == written.faults
        assert "network" in same.deployment.model_fields_set or "network" not in deployment
        assert "network" not in same.deployment.model_fields_set or "network" in deployment
        for storage in ("postgresql://h", "postgresql://h?synchronous_commit=off", "redis://h"):
            candidate = Candidate(name="c", storage=storage)
            assert same.effective_faults(candidate) == written.effective_faults(candidate)
    further = with_round_trip(str(file), "5ms")
    assert (further.deployment.rtt, further.faults) == (0.005, written.faults)
