"""Scenarios that nobody means: each runs to its end, or is refused in one line that names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from ratesim import Scenario, run
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError

NAN = float("nan")
KINDS = ("crash", "failover", "reshard", "partition", "restart", "slow", "lossy", "clock_skew")
STORAGES = ("memory://", "redis://h", "postgresql://h", "hybrid+redis://h?sync_interval=0.1")


def scenario(**parts: Any) -> Scenario:
    data: dict[str, Any] = {
        "workload": {"requests_per_second": 50.0, "keys": 5, "duration": 4.0},
        "limit": {"rate": "5/second"},
        "deployment": {"nodes": 3},
    }
    for part, values in parts.items():
        data[part] = data[part] | values if part in data else values
    return Scenario.of(data)


def faults(start: float, duration: float) -> list[dict[str, Any]]:
    return [{"kind": kind, "start": start, "duration": duration} for kind in KINDS]


RUNS: dict[str, dict[str, Any]] = {
    "one request": {"workload": {"head": 1}},
    "one key": {"workload": {"keys": 1}},
    "1000 nodes and 10 requests": {"workload": {"head": 10}, "deployment": {"nodes": 1000}},
    "1000 shards and 10 requests": {"workload": {"head": 10}, "deployment": {"shards": 1000}},
    "a day there and back": {"deployment": {"rtt": "1d"}},
    "all messages but a few lost": {"deployment": {"loss": 0.999}},
    "faults beyond the end": {"faults": faults(1e9, 1e9)},
    "faults that are over at once": {"faults": faults(1.0, 1e-12)},
    "every fault at once, from the beginning to after the end": {"faults": faults(0.0, 100.0)},
    "outages within outages": {
        "faults": [
            {"kind": "crash", "start": 1, "duration": 2},
            {"kind": "failover", "start": 1.5, "duration": 0.3, "lag": 3600},
            {"kind": "crash", "start": 1.6, "duration": 0.1},
            {"kind": "partition", "start": 1, "duration": 1.5},
            {"kind": "restart", "start": 1.2, "duration": 1},
            {"kind": "restart", "start": 1.3, "duration": 1},
            {"kind": "clock_skew", "start": 0.5, "duration": 3, "offset": -86400},
        ]
    },
    "outages within those of a replicated store": {
        "deployment": {"type": "high_availability", "election": 0.4},
        "faults": [
            {"kind": "crash", "start": 1, "duration": 2},
            {"kind": "failover", "start": 1.1, "duration": 0.3},
            {"kind": "crash", "start": 1.2, "duration": 2, "shard": 0},
            {"kind": "crash", "start": 1.35, "duration": 0.1},
        ],
    },
}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("parts", RUNS.values(), ids=RUNS)
def test_it_runs_to_its_end_and_every_view_of_it_can_be_seen(parts: dict[str, Any], storage: str) -> None:
    asked = scenario(**parts)
    result = run(asked, Candidate(name="c", storage=storage))
    row = result.row()
    assert row["admitted"] + row["denied"] + row["failed"] == len(asked.trace())
    assert sum(result.phases()["requests"]) >= len(asked.trace())
    for view in (result.queues(), result.by_node(), result.by_key(), result.series(1.0), result.worst(), result.histogram()):
        assert view is not None


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"deployment": {"nodes": 0}}, r"deployment\.nodes"),
        ({"workload": {"duration": 0}}, r"workload\.duration"),
        ({"workload": {"requests_per_second": NAN}}, r"workload\.requests_per_second"),
        ({"workload": {"cost": NAN}}, r"workload\.cost: Input should be less than or equal"),
        ({"workload": {"zipf": NAN}}, r"workload\.zipf"),
        ({"limit": {"options": {"buckets": NAN}}}, r"limit\.options\.buckets"),
        ({"limit": {"algorithm": "gcra", "burst": NAN}}, r"limit: burst nan"),
        ({"deployment": {"rtt": NAN}}, r"deployment\.rtt"),
        ({"requirements": {"p99": NAN}}, r"requirements\.p99"),
        ({"faults": [{"kind": "clock_skew", "start": NAN, "duration": 1}]}, r"faults\.0\.start"),
        ({"faults": [{"kind": "clock_skew", "start": 0, "duration": 1, "offset": NAN}]}, r"faults\.0\.offset"),
        ({"faults": {"kind": "crash"}}, r"faults"),
    ],
)
def test_it_is_refused_in_one_line_that_names_the_place(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said) as caught:
        scenario(**parts)
    assert "\n" not in str(caught.value)


def test_a_recipe_of_which_no_request_comes_is_refused() -> None:
    for workload in ({"duration": 1e-9}, {"duration": 1.0, "requests_per_second": 1e-9}):
        with pytest.raises(ScenarioError, match="workload: no request comes of it with seed 1"):
            run(scenario(workload=workload), Candidate(name="c", storage="memory://"))
    with pytest.raises(ScenarioError, match="seed -1: must be a whole number, 0 or more"):
        run(scenario(), Candidate(name="c", storage="memory://"), -1)
