"""A scenario that is written says what was given, with units, and reads back as itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim.durations import parse_duration, write_duration
from ratesim.simulation.scenario.fields import share, write_share
from ratesim.simulation.scenario.scenario import Candidate, Requirements, Scenario, ScenarioError, shipped_scenarios
from ratesim.simulation.scenario.toml_writer import comment_of

numbers = st.floats(0, 1e300)


@given(numbers)
def test_a_number_with_its_unit_reads_back_as_the_same_float(value: float) -> None:
    assert parse_duration(write_duration(value)) == value
    assert share(write_share(value)) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0015, "1.5ms"), (0.0003, "300us"), (0.1, "100ms"), (1.5, "1.5s"), (60.0, "1 minute"), (90.0, "90s"),
        (300.0, "5 minutes"), (3600.0, "1 hour"), (86400.0, "1 day"), (604800.0, "7 days"), (0.0, "0s"),
        (1e-300, "1e-294us"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_written_in_its_natural_unit(seconds: float, text: str) -> None:
    assert write_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("0.3ms", 0.0003), ("0.7 us", 7e-7), ("1e-99999999999999999999s", 0.0), ("1h 30m", 5400.0)]
)
def test_a_length_of_time_is_read_exactly(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


times = st.floats(1e-6, 1e6).flatmap(lambda value: st.sampled_from([value, write_duration(value)]))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
deployments = st.fixed_dictionaries(
    {},
    optional={
        "nodes": st.integers(4, 99),
        "routing": st.sampled_from(["round_robin", "sticky"]),
        "network": st.sampled_from(["same_zone", "loopback"]),
        "rtt": times,
        "loss": st.floats(0, 0.99),
        "shards": st.just(3),
        "node_timeout": times,
    },
)
requirements = st.fixed_dictionaries(
    {},
    optional={
        "p99": times,
        "max_over_admission": st.one_of(st.floats(0, 9), st.just("any")),
        "allow_routing_change": st.booleans(),
        "persistence": st.sampled_from(["none", "durable"]),
        "allowed": st.permutations(["memory", "redis"]),
    },
)
faults = st.one_of(
    st.fixed_dictionaries({"kind": st.just("lossy"), "loss": st.floats(0.01, 0.5), "nodes": st.lists(st.integers(0, 3))}),
    st.fixed_dictionaries({"kind": st.just("clock_skew"), "offset": st.floats(-9, 9), "drift": st.floats(-0.1, 0.1)}),
    st.fixed_dictionaries({"kind": st.just("crash")}, optional={"keeps_memory": st.booleans(), "host_lost": st.booleans()}),
).flatmap(
    lambda fault: st.fixed_dictionaries(
        {**{name: st.just(value) for name, value in fault.items()}, "start": times, "duration": times}
    )
)
workloads = st.one_of(
    st.fixed_dictionaries(
        {"log": names.filter(bool)}, optional={"key": names, "busiest": times, "cost": names, "speed": st.floats(0.1, 9)}
    ),
    st.fixed_dictionaries(
        {"requests_per_second": st.floats(1, 50), "duration": st.floats(1, 1e4)},
        optional={
            "cost": st.floats(0, 1e12),
            "keys": st.integers(1, 99),
            "top_share": st.floats(0.01, 1),
            "lifetime": st.just("100s"),
        },
    ),
    st.fixed_dictionaries({"clients": st.fixed_dictionaries({"users": st.integers(1, 9)}, optional={"think": times})}),
)
limits = st.sampled_from(
    [
        {"rate": "10/minute"},
        {"rate": "5 per 2 seconds", "algorithm": "token_bucket", "burst": 7.5},
        {"rate": "5/s", "algorithm": "adaptive", "options": {"min_rate": 0.5, "increase": 0.125}, "variants": ("gcra",)},
    ]
)
scenarios = st.fixed_dictionaries(
    {"workload": workloads, "limit": limits},
    optional={
        "name": names,
        "seed": st.integers(0, 2**32 - 1),
        "warmup": times,
        "deployment": deployments,
        "requirements": requirements,
        "candidates": st.just(
            [{"name": "a", "storage": "redis://h"}, {"name": "b", "storage": "memory://", "routing": "sticky"}]
        ),
        "faults": st.lists(faults, max_size=3),
    },
)


@given(scenarios)
def test_every_scenario_reads_back_as_itself_and_as_open_as_it_was(data: dict[str, Any]) -> None:
    scenario = Scenario.of(data)
    again = Scenario.parse(scenario.to_toml())
    assert again == scenario
    assert again.to_toml() == scenario.to_toml()
    # What nobody said stays unsaid: a network that a profile has measured, and a routing that the advice may change.
    for part in ("workload", "deployment", "requirements"):
        before, after = getattr(scenario, part), getattr(again, part)
        assert after.model_fields_set - {"nodes"} == before.model_fields_set - {"nodes"}


def test_what_ships_is_written_with_units_and_a_comment_for_each_key() -> None:
    for name in shipped_scenarios():
        scenario = Scenario.load(name)
        assert Scenario.parse(scenario.to_toml()) == scenario
    text = Scenario.load("situations/cross-region").to_toml()
    assert 'duration = "5 minutes"  # How long requests come, of a recipe or a closed loop\n' in text
    assert 'p99 = "10ms"  # ' in text
    assert "# Highest share of the exact total that the storage may add" in text
    assert '\nmax_over_admission = "10%"\n' in text
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        "[workload]", "[limit]", "[deployment]", "[requirements]", "[[faults]]",
    ]  # fmt: skip
    assert "arrivals" not in text  # nobody said, and it is the default
    for line in text.splitlines():
        assert (
            not line or line.startswith(("[", "# ")) or "  # " in line or f"# {comment_of(type(scenario), 'name')}" in text
        )


def test_a_comment_is_said_once_and_above_a_line_that_would_be_long() -> None:
    two = tuple(Candidate(name=name, storage="memory://?max_entries=5000") for name in "ab")
    text = Scenario.load("situations/login").model_copy(update={"candidates": two}).to_toml()
    assert text.count(comment_of(Candidate, "name")) == 1
    assert max(map(len, text.splitlines())) <= 125


def test_what_does_not_print_is_escaped() -> None:
    text = Scenario.load("quickstart").model_copy(update={"name": "a\u202eb\x1b[31m\n"}).to_toml()
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert Scenario.parse(text).name == "a\u202eb\x1b[31m\n"


LIMIT = '[limit]\nrate = "5/s"\n[workload]\nrequests_per_second = 5\n'


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("[requirements]\np99 = 2", 'requirements.p99: 2 has no unit; write "2ms" or "2s"'),
        ("[requirements]\np99 = 0.002", 'requirements.p99: 0.002 has no unit; write "2ms"'),
        ('[requirements]\np99 = "2"', 'requirements.p99: 2 has no unit; write "2ms" or "2s"'),
        ("[requirements]\nmax_over_admission = 1", 'requirements.max_over_admission: 1 has no unit; write "1%"'),
        ("[requirements]\nmax_over_admission = 0.01", 'requirements.max_over_admission: 0.01 has no unit; write "1%"'),
        ("[requirements]\np99 = true", "requirements.p99: true is not a time"),
        ("[deployment]\nloss = 0.02", 'deployment.loss: 0.02 has no unit; write "2%"'),
        (
            "[[faults]]\nkind = 'clock_skew'\nstart = 0\nduration = '1s'\noffset = -2",
            'offset: -2 has no unit; write "-2ms" or "-2s"',
        ),
        (
            "[[faults]]\nkind = 'clock_skew'\nstart = 0\nduration = '1s'\ndrift = -0.001",
            'drift: -0.001 has no unit; write "-0.1%"',
        ),
    ],
)
def test_a_bare_number_is_refused_where_a_unit_is_meant(lines: str, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.parse(LIMIT + lines, "my.toml")
    assert str(caught.value).endswith(says)


def test_zero_needs_no_unit_and_a_number_of_python_is_in_seconds() -> None:
    assert Scenario.parse(f"warmup = 0\n{LIMIT}[requirements]\nmax_over_admission = 0").requirements.max_over_admission == 0
    assert Requirements(p99=0.002, max_over_admission=0.01) == Requirements(p99="2ms", max_over_admission="1%")  # type: ignore[arg-type]


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.parse(f"{LIMIT}rate = 3\n[deployment]\nnodse = 3\nnetwork = 'mars'\n[requirements]\np99 = 2\n", "my.toml")
    assert [each.split(": ", 2)[1] for each in caught.value.problems] == [
        "workload.rate", "deployment.network", "deployment.nodse", "requirements.p99",
    ]  # fmt: skip
    assert "did you mean nodes or node_timeout?" in caught.value.problems[2]
    assert str(caught.value) == caught.value.problems[0]
