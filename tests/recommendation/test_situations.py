"""Twelve situations with an answer that experts agree on: the choice is theirs, and a novice's answer fails for the reason
that is given.

Each situation is a scenario that ships (`ratesim/scenarios/situations`), whose comment says what is expected and why. It is
run here at a small size: SMALL says what is changed, and what that leaves as it is. An answer is a predicate over a storage
and a routing, never a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from ratesim.recommendation import recommend
from ratesim.recommendation.assess.assessment import Assessment, persistence
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.study import study
from ratesim.simulation.analysis.limit_pressure import limit_pressure
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.grid import variants
from ratesim.simulation.scenario.scenario import Candidate, Scenario, shipped_scenarios
from ratesim.storage import StorageURL

DOCS = Path(__file__).parents[2] / "docs/situations.md"
PROFILE = Profile.load(Path(str(resources.files("ratesim.simulation.cost_model"))) / "profiles/shipped.json")

NEAR = "hybrid+redis://localhost?consistency=eventual&write=write_back"
COMPETE = {
    "memory": ("memory://", "round_robin"),
    "memory, sticky": ("memory://", "sticky"),
    "redis": ("redis://localhost", None),
    "postgres": ("postgresql://localhost", None),
    "lease": ("hybrid+redis://localhost?consistency=lease", None),
    "synced each 100 ms": (f"{NEAR}&sync_interval=0.1", None),
    "synced and read again each second": (f"{NEAR}&sync_interval=1.0&l1_ttl=1.0", None),
    "lease over postgres": ("hybrid+postgresql://localhost?consistency=lease", None),
}

# What is changed to make it small. One replication each: the same requests and the same draws, whoever runs it.
SMALL: dict[str, dict[str, object]] = {
    # As it is, for a few seconds.
    "single-instance": {"workload.duration": 10},
    "audit": {"workload.duration": 30},
    "retries": {"workload.duration": 0.3},
    # Half of the limit, in half of the time: the load stays, and the share that is denied.
    "hot-tenant": {"workload.duration": 0.25, "limit.rate": "2500/second"},
    # Traffic and limit at a tenth: how often the limit binds, and by how much the tenants differ, stays.
    "three-nodes": {"workload.requests_per_second": 30, "limit.rate": "30/minute", "workload.duration": 61},
    # Half of the tenants: what one of them asks for stays, and so does the limit.
    "no-redis": {"workload.requests_per_second": 50, "workload.keys": 50, "workload.duration": 45},
    # A fifth of the nodes and four customers, each node asked about once a second for each (ten times at the full size): the
    # link stays, and the share that is denied, and how old a view is beside the window, so what is admitted too much does.
    "edge": {
        "deployment.nodes": 10,
        "workload.requests_per_second": 40,
        "workload.keys": 4,
        "workload.duration": 45,
        "limit.rate": "480/minute",
    },
    # 20,000 keys, most of which come once or never in this time, and a tenth of the limit. key_count stays.
    "idle-keys": {
        "workload.requests_per_second": 100,
        "workload.keys": 20_000,
        "workload.duration": 20,
        "limit.rate": "50/day",
    },
    # Three customers, and a quarter of what each asks for and may: the link, the outage and its length stay.
    "cross-region": {
        "workload.requests_per_second": 18,
        "workload.keys": 3,
        "workload.duration": 100,
        "limit.rate": "300/minute",
        "faults.0.start": 30,
    },
    # Thirty accounts, attacked as often and as hard.
    "login": {"workload.requests_per_second": 0.33, "workload.keys": 30, "workload.duration": 5400},
    # Four tenants, of whom each asks as much.
    "llm-tokens": {"workload.scale": 4},
    # Three clients, and three minutes: each herd is as large for its client.
    "window-edge": {"workload.requests_per_second": 10, "workload.keys": 3, "workload.duration": 180},
}


@dataclass(frozen=True)
class Answer:
    """A storage as its URL says it, and who is sent to it."""

    url: StorageURL
    persistence: str
    routing: str

    @property
    def decides_in_the_store(self) -> bool:
        """Every request is decided there, one after the other."""
        return self.url.backend != "memory" and (self.url.hybrid is None or self.url.hybrid.consistency == "strong")

    @property
    def lends(self) -> bool:
        return self.url.hybrid is not None and self.url.hybrid.consistency == "lease"

    @property
    def exact(self) -> bool:
        """Shared, and never more than the limit."""
        return self.decides_in_the_store or self.lends

    def decides_near(self, for_seconds: float = 0.0) -> bool:
        """A node decides on its own view without waiting, for so long if the store is away, and syncs in the background."""
        near = self.url.hybrid
        return (
            near is not None
            and near.consistency in ("eventual", "session")
            and near.write in ("write_back", "write_behind")
            and near.read != "read_through"
            and near.l1_ttl > for_seconds
        )


EXPECTED: dict[str, Callable[[Answer], bool]] = {
    "single-instance": lambda it: it.url.backend == "memory",
    "three-nodes": lambda it: it.exact and it.url.backend == "redis",
    "edge": lambda it: it.decides_near(),
    "audit": lambda it: it.exact and it.persistence == "durable",
    "no-redis": lambda it: it.url.backend == "postgres",
    "hot-tenant": lambda it: it.lends,
    "idle-keys": lambda it: it.exact and it.url.backend == "redis",
    "cross-region": lambda it: it.decides_near(for_seconds=30.0),
    "login": lambda it: it.exact and it.url.backend == "redis",
    "llm-tokens": lambda it: it.decides_in_the_store and it.url.backend == "redis",
    "retries": lambda it: it.lends,
    "window-edge": lambda it: it.decides_in_the_store,
}

# What a novice would choose, and the requirement that it fails.
WRONG = [
    ("single-instance", "redis", "p99"),
    ("three-nodes", "memory", "max_over_admission"),
    ("three-nodes", "memory, sticky", "max_over_admission"),
    ("three-nodes", "synced and read again each second", "max_over_admission"),
    ("edge", "redis", "p99"),
    ("edge", "memory", "max_over_admission"),
    ("audit", "redis", "persistence"),
    ("no-redis", "memory", "max_over_admission"),
    ("no-redis", "redis", "allowed"),
    ("hot-tenant", "redis", "p99"),
    ("hot-tenant", "synced each 100 ms", "max_over_admission"),
    ("idle-keys", "memory", "key_count"),
    ("cross-region", "redis", "p99"),
    ("cross-region", "synced and read again each second", "p99"),
    ("login", "memory", "max_over_admission"),
    ("login", "synced and read again each second", "max_over_admission"),
    ("llm-tokens", "synced and read again each second", "max_over_admission"),
    ("retries", "redis", "p99"),
    ("window-edge", "synced each 100 ms", "max_over_admission"),
]


def full(name: str) -> Scenario:
    return Scenario.load(f"situations/{name}")


def small(name: str) -> Scenario:
    """The situation at a size for a test."""
    (variant,) = variants(full(name), {field: [value] for field, value in SMALL[name].items()})
    return variant.scenario.model_copy(update={"replications": 1})


@cache
def recommended(name: str) -> Recommendation:
    """What is recommended in the small situation, of those that compete."""
    candidates = tuple(
        Candidate(name=each, storage=storage, routing=routing) for each, (storage, routing) in COMPETE.items()
    )
    asked = small(name).model_copy(update={"candidates": candidates})
    return recommend(study(asked, profile=PROFILE, live=False, beyond=False, processes=1))


def assessed(name: str, candidate: str) -> Assessment:
    (found,) = (each for each in recommended(name).assessments if each.candidate == candidate)
    return found


def answer(found: Assessment) -> Answer:
    return Answer(StorageURL.parse(found.storage), persistence(found.storage), found.routing)


@cache
def told(name: str) -> dict[str, str]:
    """The comment that a situation begins with: its first paragraph as "Situation", and what follows by its first word."""
    text = shipped_scenarios()[f"situations/{name}"].read_text("utf-8")
    comment = re.match(r"(?:#.*\n)+", text)
    assert comment is not None
    first, *rest = re.split(r"\n(?=[A-Z][a-z]+: )", re.sub(r"^# ?", "", comment[0], flags=re.MULTILINE).split("\n\nThe ")[0])
    parts = {"Situation": first} | dict(line.split(": ", 1) for line in rest)
    return {word: " ".join(part.split()) for word, part in parts.items()}


# The answers -------------------------------------------------------------------------------------------------


def test_there_are_twelve_and_each_has_an_answer() -> None:
    names = {name.removeprefix("situations/") for name in shipped_scenarios() if name.startswith("situations/")}
    assert len(names) == 12
    assert names == set(EXPECTED) == set(SMALL) == {name for name, _, _ in WRONG}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_recommended_is_what_experts_agree_on(name: str) -> None:
    recommendation = recommended(name)
    chosen = recommendation.assessments[0]
    assert recommendation.choice == chosen.candidate, recommendation.verdict
    assert EXPECTED[name](answer(chosen)), recommendation.verdict


@pytest.mark.slow
@pytest.mark.parametrize(("name", "candidate", "requirement"), WRONG)
def test_what_a_novice_would_choose_fails_for_the_reason_that_is_given(name: str, candidate: str, requirement: str) -> None:
    found = assessed(name, candidate)
    failed = {check.requirement for check in found.missed if check.verdict == "fails"}
    assert requirement in failed
    assert not EXPECTED[name](answer(found))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_the_limit_binds_so_that_there_is_something_to_get_wrong(name: str) -> None:
    asked = small(name)
    assert limit_pressure(asked.limit.limit(), asked.trace(), asked.warmup).is_binding


# Where the folklore needs a second look ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_hybrid_that_reads_again_each_second_does_not_ride_out_an_outage() -> None:
    outlives, waits = (
        assessed("cross-region", each) for each in ("synced each 100 ms", "synced and read again each second")
    )
    assert outlives.p99.mean < 0.001
    # All of `max_wait`, which runs while the node wakes up, as the latency does not.
    assert waits.p99.mean == pytest.approx(1.0, abs=1e-3)


def test_a_token_does_not_keep_a_limit_that_many_clients_share() -> None:
    brings = Candidate(name="session", storage=f"{NEAR.replace('eventual', 'session')}&sync_interval=1.0")
    alone, among_many = (
        run(asked, brings, profile=PROFILE).accuracy.over_admission
        for asked in (variants(small("three-nodes"), {"workload.sessions": [count]})[0].scenario for count in (1, 10))
    )
    assert alone == 0 < among_many


@pytest.mark.slow
def test_a_hybrid_asks_more_than_redis_for_keys_that_come_once() -> None:
    hybrid, redis = (assessed("idle-keys", each) for each in ("synced each 100 ms", "redis"))
    assert hybrid.l2_operations_per_request > 1.2 * redis.l2_operations_per_request


@pytest.mark.slow
def test_a_lease_asks_more_than_redis_where_one_request_is_a_large_part_of_the_limit() -> None:
    lease, redis = (assessed("llm-tokens", each) for each in ("lease", "redis"))
    assert lease.l2_operations_per_request > 1.2 * redis.l2_operations_per_request


@pytest.mark.slow
def test_a_lease_denies_much_of_a_herd_that_it_could_admit() -> None:
    assert 0.2 < assessed("window-edge", "lease").false_denial.mean < 0.5
    assert assessed("window-edge", "redis").false_denial.mean == 0


@pytest.mark.parametrize(
    ("algorithm", "times"), [("fixed_window", 2.0), ("sliding_window", 1.0), ("sliding_log", 1.0), ("gcra", 1.0)]
)
def test_around_an_edge_only_a_fixed_window_admits_twice(algorithm: str, times: float) -> None:
    (variant,) = variants(small("window-edge"), {"limit.algorithm": [algorithm]})
    result = run(variant.scenario, Candidate(name="redis", storage="redis://localhost"), profile=PROFILE)
    period = 60.0
    herd = np.floor(result.trace.time[result.allowed] / period + 0.5).astype(int)  # the edge that is nearest
    admitted = np.bincount((herd - herd.min()) * len(result.trace.keys) + result.trace.key[result.allowed])
    assert admitted.max() == times * variant.scenario.limit.limit().rate
    assert result.accuracy.over_admission == 0  # each is exact by its own rule


# The files and the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_says_what_is_expected_and_why(name: str) -> None:
    said = told(name)
    assert list(said) == ["Situation", "Expected", "Because", "Novice", "Misses", "Otherwise"]
    assert all(said.values())
    assert len(re.findall(r"\.(?: |$)", said["Situation"])) == 2, "two sentences"
    assert Scenario.parse(full(name).to_toml()) == full(name)
    assert full(name).name == name


def cells(name: str) -> list[str]:
    """Its row of the table: of the reason the first sentence, which stands without its sources."""
    said = told(name)
    because = re.split(r"(?<=\.) (?=[A-Z])", re.sub(r" \(https:[^)]*\)", "", said["Because"]))[0]
    novice = f"{said['Novice']}. Misses {said['Misses']}"
    file = f"[`situations/{name}`](../ratesim/scenarios/situations/{name}.toml)"
    return [said["Situation"], said["Expected"], because, novice, file]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_table_says_what_the_file_says(name: str) -> None:
    assert f"| {' | '.join(cells(name))} |" in DOCS.read_text("utf-8").splitlines()
