"""PostgreSQL in the model: partitions, a standby that answers wait for, and what the server does by itself."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ratesim import Scenario, run
from ratesim.simulation.cost_model.postgres_factors import CLEANED, DROPPED, INSERTED, STALLS, STANDBY, postgres_costs
from ratesim.simulation.cost_model.profile import BackendCosts, Cost, Profile, Stall
from ratesim.simulation.runner import RunResult
from ratesim.simulation.scenario.scenario import Candidate
from ratesim.simulation.scenario.topology import PROMOTION, UNFLUSHED
from ratesim.storage import StorageURL

SHIPPED = Profile.load(Path(str(resources.files("ratesim.simulation.cost_model") / "profiles" / "shipped.json")))
FLUSH = 1e-3
CALM = {"client_cpu": 1e-5, "fixed": 1e-4, "item": 1e-5, "stalls": {}}


def played(
    options: str = "",
    costs: dict | None = None,
    *,
    rate: float = 100.0,
    duration: float = 4.0,
    keys: int = 50,
    limit: str = "1000/second",
    faults: list[dict] | None = None,
    deployment: dict | None = None,
    seed: int = 1,
    **candidate: object,
) -> RunResult:
    profile = msgspec.structs.replace(
        SHIPPED, backends={**SHIPPED.backends, "postgres": BackendCosts(**{**CALM, **(costs or {})})}
    )
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": rate, "duration": duration, "keys": keys, "popularity": "uniform"},
            "limit": {"rate": limit, "algorithm": "fixed_window"},
            "deployment": {"nodes": 2, **(deployment or {})},
            "faults": faults or [],
        }
    )
    storage = f"postgresql://localhost{'?' if options else ''}{options}"
    return run(scenario, Candidate(name="c", storage=storage, **candidate), seed, profile=profile)


def p50(result: RunResult) -> float:
    return float(np.median(result.latency))


# -- the disk -------------------------------------------------------------------------------------------------------------


def test_only_who_says_so_waits_for_the_disk_and_a_denial_never_does() -> None:
    costs = {"commit": Cost(fixed=FLUSH), "locks": True}
    waits = p50(played("", costs))
    for weaker in ("synchronous_commit=off", "unlogged=true"):
        assert p50(played(weaker, costs)) == pytest.approx(waits - FLUSH, rel=0.05)
    assert p50(played("synchronous_commit=local", costs)) == waits
    denied = played("", costs, limit="1/day")
    assert denied.latency[~denied.allowed].mean() < denied.latency[denied.allowed].mean() - 0.9 * FLUSH


def test_who_is_denied_waits_for_no_row() -> None:
    costs = {"commit": Cost(fixed=0.02), "locks": True}
    admitted = played("", costs, keys=1, rate=200, limit="10000/second")
    denied = played("", costs, keys=1, rate=200, limit="1/day")
    # Services of half of the time of a hot key would not queue; its flushes do.
    assert np.quantile(admitted.latency, 0.9) > 0.1
    assert np.quantile(denied.latency[~denied.allowed], 0.99) < 0.005


def test_a_request_alone_has_a_cost_of_its_own() -> None:
    costs = BackendCosts(**{**CALM, "alone": 3e-5})
    assert (costs.service(1, 0.5), costs.service(2, 0.5)) == (3e-5, pytest.approx(1.2e-4))
    assert p50(played()) - p50(played("", {"alone": 3e-5})) == pytest.approx(1.1e-4 - 3e-5, rel=0.05)
    cut = postgres_costs(costs, StorageURL.parse("postgresql://h?partition=hash:16").config, 120.0)
    plain = BackendCosts(**CALM)
    assert cut.service(1, 0.5) - 3e-5 == pytest.approx(
        postgres_costs(plain, StorageURL.parse("postgresql://h?partition=hash:16").config, 120.0).service(1, 0.5)
        - plain.service(1, 0.5)
    )


# -- partitions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["hash:4", "hash:64", "time:1d", "time:60s", "identifier:a-*,b-*"])
def test_partitions_cost_what_they_were_measured_to(more: str) -> None:
    plain = BackendCosts(**CALM, operations={"apply": Cost(fixed=1e-4, item=1e-5)})
    config = StorageURL.parse(f"postgresql://h?partition={more}").config
    cut = postgres_costs(plain, config, 120.0)
    assert cut.service(1, 0.5) > plain.service(1, 0.5)
    assert cut.service(64, 0.5) > plain.service(64, 0.5)
    assert cut.service(1, 0.5, "apply") - plain.service(1, 0.5, "apply") == pytest.approx(
        cut.service(1, 0.5) - plain.service(1, 0.5)
    )
    assert p50(played(f"partition={more}")) > p50(played())


def test_more_partitions_cost_more_and_none_costs_nothing() -> None:
    plain = BackendCosts(**CALM)

    def service(strategy: str) -> float:
        return postgres_costs(plain, StorageURL.parse(f"postgresql://h?partition={strategy}").config, 120.0).service(1, 0.5)

    assert service("none") == plain.service(1, 0.5)
    assert service("none") < service("hash:4") < service("hash:16") < service("hash:256")
    assert service("identifier:a-*") < service("identifier:a-*,b-*,c-*")
    assert service("time:1d") < service("time:60s"), "two ended minutes may have rows that live, and no ended day has"


def test_what_is_not_cut_is_simulated_as_before() -> None:
    plain, none = played(), played("partition=none")
    assert (plain.latency == none.latency).all()
    assert not none.slow_phases


def test_a_row_of_a_new_key_takes_longer_by_time_and_no_other() -> None:
    def busy(strategy: str, keys: int) -> float:
        result = played(f"partition={strategy}", keys=keys)
        return result.store_busy_seconds / len(result.trace)

    assert busy("time:1d", 10_000) - busy("time:1d", 5) == pytest.approx(INSERTED, rel=0.1)
    assert busy("hash:4", 10_000) == pytest.approx(busy("hash:4", 5), rel=0.01)


def removed(options: str, duration: float = 150.0) -> RunResult:
    return played(options, keys=20_000, duration=duration, rate=80, limit="1000/minute")


def test_expired_rows_are_deleted_in_batches_and_partitions_are_dropped() -> None:
    kept, deleted = removed("cleanup_interval=0"), removed("cleanup_interval=20")
    spent = deleted.store_busy_seconds - kept.store_busy_seconds
    assert 3000 * CLEANED < spent < len(deleted.trace) * CLEANED
    dropped, whole = removed("cleanup_interval=20&partition=time:60s"), removed("cleanup_interval=0&partition=time:60s")
    # Whoever comes while a partition is dropped waits for that.
    assert whole.latency.max() < DROPPED / 2 < dropped.latency.max() < DROPPED + 0.01


def test_a_run_shorter_than_the_interval_removes_nothing() -> None:
    assert (removed("cleanup_interval=60", 30.0).latency == removed("cleanup_interval=0", 30.0).latency).all()


# -- slow phases ----------------------------------------------------------------------------------------------------------

STALL = Stall(every=2.0, lasts=0.5, commit=5.0, service=2.0)


def test_slow_phases_come_again_and_again_and_say_what_they_did() -> None:
    costs = {"commit": Cost(fixed=FLUSH), "stalls": {"checkpoint": STALL}}
    stalled, calm = played("", costs, duration=20), played("", {**costs, "stalls": {}}, duration=20)
    table = stalled.stalls().set_index("cause")
    assert table.loc["checkpoint", "seconds"] == pytest.approx(5.0, rel=0.05)
    assert table.loc["none", "seconds"] == pytest.approx(15.0, rel=0.05)
    assert table["requests"].sum() == len(stalled.trace)
    assert table.loc["checkpoint", "latency_p50"] > table.loc["none", "latency_p50"] + 3.5 * FLUSH
    assert stalled.row()["stalled_requests"] == table.loc["checkpoint", "requests"]
    assert stalled.row()["stalled_latency_p99"] == table.loc["checkpoint", "latency_p99"]
    slow = stalled.slow_phases[0].holds(stalled.trace.time - stalled.start_time - 0.01)
    slow |= stalled.slow_phases[0].holds(stalled.trace.time - stalled.start_time + 0.01)
    assert (stalled.latency == calm.latency)[~slow].mean() > 0.9
    assert calm.row()["stalled_requests"] == 0
    assert list(calm.stalls()["cause"]) == ["none"]


def test_phases_belong_to_the_seed() -> None:
    costs = {"stalls": {"checkpoint": STALL, "autovacuum": msgspec.structs.replace(STALL, every=3.0)}}
    first, again, other = played("", costs), played("", costs), played("", costs, seed=2)
    assert first.slow_phases == again.slow_phases != other.slow_phases
    assert (first.latency == again.latency).all()


def test_a_profile_that_has_not_measured_them_has_those_of_the_package() -> None:
    assert SHIPPED.backends["postgres"].stalls is None
    assert [phase.cause for phase in played("", {"stalls": None}).slow_phases] == list(STALLS)


# -- standbys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", [None, Cost(fixed=FLUSH)])
@pytest.mark.parametrize("level", list(STANDBY))
def test_a_commit_waits_for_the_standby_and_the_way_there_and_back(level: str, commit: Cost | None) -> None:
    costs, deployment = {"commit": commit}, {"rtt": "2ms"}
    alone = played("", costs, deployment=deployment)
    waits = played(f"synchronous_commit={level}", costs, deployment=deployment, replicas=1)
    expected = 2e-3 + STANDBY[level].fixed
    assert p50(waits) - p50(alone) == pytest.approx(expected, rel=0.05)
    assert (waits.row()["standby"], waits.row()["replicas"]) == (level, 1)
    own = {**costs, "standby": {level: Cost(fixed=5e-3)}}
    measured = played(f"synchronous_commit={level}", own, deployment=deployment, replicas=1)
    assert p50(measured) - p50(alone) == pytest.approx(7e-3, rel=0.05)


def test_nobody_waits_for_a_standby_that_is_not_there_or_not_synchronous() -> None:
    assert p50(played("synchronous_commit=remote_apply")) == p50(played())
    for level in ("local", "off"):
        assert p50(played(f"synchronous_commit={level}", replicas=1)) == p50(played())
    available = {"type": "high_availability"}
    assert p50(played("", deployment=available)) == p50(played())
    assert p50(played("synchronous_commit=remote_write", deployment=available)) > p50(played())


def test_a_denial_waits_for_no_standby() -> None:
    result = played("synchronous_commit=remote_apply", limit="1/day", deployment={"rtt": "2ms"}, replicas=1)
    assert result.latency[~result.allowed].mean() < result.latency[result.allowed].mean() - 1.9e-3


def lost(options: str, fault: dict, **more: object) -> float:
    """Return the cost that was admitted beyond the limit of a day."""
    costs = {"commit": Cost(fixed=FLUSH)}
    result = played(options, costs, rate=400, keys=20, limit="30/day", faults=[{"start": 2, **fault}], duration=8, **more)
    assert result.failed.any()
    return result.accuracy.over_admission


FAILOVER = {"kind": "failover", "duration": 0.5, "lag": 1.5}
CRASH = {"kind": "crash", "duration": 3.0}


@pytest.mark.parametrize("level", list(STANDBY))
def test_a_failover_to_a_synchronous_standby_loses_nothing(level: str) -> None:
    synchronous = f"synchronous_commit={level}"
    assert lost(synchronous, FAILOVER, replicas=1) == 0.0
    available = {"type": "high_availability", "election": "0.5s", "replica_lag": "1.5s"}
    assert lost(synchronous, CRASH, replicas=1, deployment=available) == 0.0


@pytest.mark.parametrize("level", ["local", "off"])
def test_a_failover_to_another_loses_what_had_not_arrived(level: str) -> None:
    available = {"type": "high_availability", "election": "0.5s", "replica_lag": "1.5s"}
    assert lost(f"synchronous_commit={level}", FAILOVER, replicas=1) > 0.1
    assert lost(f"synchronous_commit={level}", CRASH, replicas=1, deployment=available) > 0.1


def test_a_crash_leaves_what_is_in_the_log() -> None:
    assert lost("", CRASH) == 0.0
    late = lost("synchronous_commit=off", CRASH)
    assert 0.0 < late < lost("unlogged=true", CRASH)
    # Who says what is kept has that.
    assert lost("", {**CRASH, "keeps_memory": False}) == lost("unlogged=true", CRASH)
    assert lost("synchronous_commit=off", {**CRASH, "keeps_memory": True}) == 0.0


def test_a_standby_has_no_rows_of_unlogged_tables() -> None:
    assert lost("unlogged=true", FAILOVER, replicas=1) == lost("unlogged=true", {"kind": "crash", "duration": 0.5})


def test_the_faults_of_a_candidate_are_those_of_its_standby() -> None:
    def faults(options: str, deployment: dict, **fields: int) -> list[tuple[str, float, float, bool | None]]:
        candidate = Candidate(name="c", storage=f"postgresql://h?{options}", **fields)
        data = {"workload": {"requests_per_second": 10}, "limit": {"rate": "10/minute"}, "deployment": deployment}
        fault = {"kind": "crash", "start": 5, "duration": 100}
        found = Scenario.of({**data, "faults": [fault]}).effective_faults(candidate)
        return [(each.kind, each.duration, each.lag, each.keeps_memory) for each in found]

    assert faults("synchronous_commit=remote_apply", {}, replicas=1) == [("failover", 30 + PROMOTION, 0.0, None)]
    assert faults("synchronous_commit=local", {}, replicas=1) == [("failover", 30 + PROMOTION, 0.1, None)]
    assert faults("synchronous_commit=off", {}, replicas=1) == [("failover", 30 + PROMOTION, 0.1 + UNFLUSHED, None)]
    available = {"type": "high_availability"}
    assert faults("", available) == [("failover", 30 + PROMOTION, 0.1, None)]
    assert faults("", {}) == [("crash", 100, 0.1, True)]
    assert faults("synchronous_commit=off", {}) == [("failover", 100, UNFLUSHED, None)]
    assert faults("unlogged=true", {}) == [("crash", 100, 0.1, None)]
