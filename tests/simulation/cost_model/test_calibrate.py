"""Calibration: the fits find what made the numbers, a profile round-trips, a measured server is left as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest
import redis

from ratesim import servers
from ratesim.errors import ConfigurationError, StorageConnectionError
from ratesim.servers import Server, ServerDiedError, watch
from ratesim.simulation.cost_model import calibrate as calibration
from ratesim.simulation.cost_model.calibrate import calibrate
from ratesim.simulation.cost_model.cost_fit import mean_of, measure, spread
from ratesim.simulation.cost_model.postgres_factors import postgres_costs
from ratesim.simulation.cost_model.profile import (
    CLUSTER,
    BackendCosts,
    Check,
    Coldness,
    Cost,
    Profile,
    cluster_costs,
    measured_link,
    with_cluster_client,
    with_slower_server,
)
from ratesim.simulation.cost_model.target_server import open_target
from ratesim.simulation.validation.prediction import predict
from ratesim.storage import StorageURL

SHIPPED = resources.files("ratesim.simulation.cost_model") / "profiles" / "shipped.json"


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    cost = Cost(fixed=1e-4, item=2e-5, factors=spread(np.arange(1.0, 10.0)))
    backend = BackendCosts(
        client_cpu=3e-4,
        fixed=1e-4,
        item=1e-5,
        client=cost,
        operations={"get": cost},
        speedup={1: 1.0, 4: 2.5},
        commit=cost,
        locks=True,
        round_trip=5e-5,
        cold=COLD,
        checks=(Check(load=0.1, rate=100.0, live=(1e-3, 2e-3), simulated=(2e-3, 3e-3)),),
        unlogged=0.8,
        pieces=9,
        disturbed=2,
    )
    backends = dict.fromkeys(("memory", "redis", "postgres"), backend)
    profile = Profile(machine="m", measured="2026-01-01", versions={}, backends=backends, round_trip=4e-4)
    path = tmp_path / "deep" / "profile.json"
    profile.save(path)
    read = Profile.load(path)
    assert msgspec.structs.replace(read, source="shipped") == profile
    assert read.source == str(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["profile.json"]
    assert read.round_trip is not None
    assert measured_link(read.round_trip, read.round_trip_factors).delay(0.5) == pytest.approx(2e-4)


def test_operations_have_costs_of_their_own_and_others_cost_what_an_acquire_does() -> None:
    backend = BackendCosts(client_cpu=1e-4, fixed=1e-4, item=1e-5, operations={"get": Cost(fixed=3e-5, item=1e-6)})
    assert backend.service(10, 0.5, "get") == pytest.approx(4e-5)
    assert backend.service(10, 0.5) == backend.service(10, 0.5, "increment") == pytest.approx(2e-4)


def test_a_profile_from_before_the_client_was_taken_apart_still_serves(tmp_path: Path) -> None:
    costs = {"client_cpu": 2e-4, "fixed": 4e-5, "item": 3e-5, "concurrency": 1, "wake": 1e-4, "residual": -1e-5}
    old = {
        "machine": "m",
        "measured": "2025-01-01",
        "versions": {},
        "backends": dict.fromkeys(("memory", "redis", "postgres"), costs),
    }
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    backend = Profile.load(path).backends["redis"]
    assert backend.cpu(1) == 2e-4
    assert backend.cpu(10) == pytest.approx(2e-3)
    assert backend.commit is None
    assert backend.cold is None
    assert backend.residual == 0.0
    assert not backend.is_forced
    assert Profile.load(path).round_trip is None


async def test_measuring_takes_a_real_redis_apart(valkey_server: Server) -> None:
    async with open_target(valkey_server.url) as opened:
        backend = await measure(opened.target, 1, 0.2)
    assert backend.client is not None
    # A batch costs more than one request, and less than as many alone: on both sides they have a share in common.
    for one, many in ((backend.service(1, 0.5), backend.service(64, 0.5)), (backend.cpu(1), backend.cpu(64))):
        assert one < many < 64 * one
    # A read is measured by itself. Which of the two is faster is not asserted: it would be a race on a busy machine.
    assert backend.service(1, 0.5, "get") not in (0.0, backend.service(1, 0.5))
    assert mean_of(backend.factors) == pytest.approx(1.0)
    assert list(backend.factors) == sorted(backend.factors)
    # A lone request after a pause takes longer on every part of its way than a request among many.
    assert sum(backend.split) == pytest.approx(1.0)
    assert min(backend.split[:2]) > 0.0  # behind the answer a disturbed machine may show nothing
    assert backend.cold is not None
    later = [*backend.cold.ask, *backend.cold.served]
    assert min(later) >= 0.0 < max(later)  # of one round on a busy machine not every part shows it


async def test_measuring_tells_the_commit_of_postgres_from_its_service(postgres_server: Server) -> None:
    async with open_target(postgres_server.url) as opened:
        backend = await measure(opened.target, 1, 0.1)
    assert backend.commit is not None
    assert backend.commit.of(1) > 0
    assert backend.locks
    assert backend.speedup[1] == 1.0
    assert backend.concurrency == max(1, round(max(backend.speedup.values())))


LITTLE: dict[str, Any] = {"rounds": 1, "effort": 0.05, "force": True}  # what is tested is what stays behind


@pytest.fixture
def served_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the server only: what a process has in its memory is measured with the user's Redis."""
    apart = calibration.in_process

    def measured(function: Any, *arguments: Any, **options: Any) -> Any:
        if function is calibration._memory:
            return BackendCosts(client_cpu=3e-6)
        return {} if function is calibration.measure_hybrids else apart(function, *arguments, **options)

    monkeypatch.setattr(calibration, "in_process", measured)


def keys_of(url: str) -> set[bytes]:
    with redis.Redis.from_url(url) as client:
        return set(client.scan_iter())


def objects_of(url: str) -> set[tuple[str, str]]:
    """Every schema, table and function of the database."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'"
            " UNION ALL SELECT 'table', oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'i', 'S')"
            " UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc"
        )
        return {(row[0], row[1]) for row in found}


def test_a_users_redis_is_left_as_it_was(valkey_server: Server, tmp_path: Path) -> None:
    with redis.Redis.from_url(valkey_server.url) as client:
        client.set("theirs", "untouched")
        before = keys_of(valkey_server.url)
        profile = calibrate(tmp_path / "p.json", url=valkey_server.url, predict=predict, **LITTLE)
        assert keys_of(valkey_server.url) == before
        assert client.get("theirs") == b"untouched"
        client.delete("theirs")
    assert "valkey" in profile.versions["redis server"]
    assert profile.backends["memory"].cold is not None
    assert profile.backends["redis"].pieces > 0
    assert [check.load for check in profile.backends["redis"].checks] == [0.1, 0.4]
    assert all(0.0 < p50 <= p95 for check in profile.backends["redis"].checks for p50, p95 in (check.live, check.simulated))
    assert profile.backends["redis"].is_forced == (
        profile.backends["redis"].disturbed > 0.5 * profile.backends["redis"].pieces
    )
    assert profile.round_trip == profile.backends["redis"].round_trip
    # The other backend is the one that was there, and says where it was measured.
    assert profile.backends["postgres"].machine
    assert profile.backends["postgres"].machine in profile.describe()


def test_a_cluster_is_measured_by_primary_and_left_as_it_was(
    valkey_cluster_server: Server, tmp_path: Path, served_only: None
) -> None:
    nodes = [redis.Redis.from_url(member.url) for member in valkey_cluster_server.members]
    try:
        for node in nodes:
            node.flushall()  # keys that another test left would expire meanwhile
        theirs = redis.cluster.RedisCluster.from_url(valkey_cluster_server.members[0].url)
        for number in range(9):
            theirs.set(f"theirs-{number}", "untouched")
        theirs.close()
        before = [set(node.scan_iter()) for node in nodes]
        assert all(before)
        calls = [node.info("commandstats") for node in nodes]
        profile = calibrate(tmp_path / "p.json", url=valkey_cluster_server.url, **{**LITTLE, "rounds": 3})
        assert [set(node.scan_iter()) for node in nodes] == before
        measured = profile.backends["redis"]
        assert "3 primaries" in measured.server
        assert min(measured.bytes_per_key.values()) > 50
        assert 0.0 < measured.item < 0.01
        assert measured.client is not None
        for node, earlier in zip(nodes, calls, strict=True):
            scripts = [name for name in node.info("commandstats") if "eval" in name or "fcall" in name]
            assert scripts, "each primary was measured"
            assert node.info("commandstats") != earlier
    finally:
        for node in nodes:
            node.flushall()
            node.close()


def test_a_users_postgres_is_left_as_it_was(postgres_server: Server, tmp_path: Path, served_only: None) -> None:
    before = objects_of(postgres_server.url)
    profile = calibrate(tmp_path / "p.json", url=postgres_server.url, rtt=4e-4, **LITTLE)
    assert objects_of(postgres_server.url) == before
    assert "postgres" in profile.versions["postgres server"]
    assert profile.round_trip == 4e-4


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_a_calibration_that_is_interrupted_leaves_nothing(
    kind: str, valkey_server: Server, postgres_server: Server, tmp_path: Path
) -> None:
    url = valkey_server.url if kind == "redis" else postgres_server.url
    seen = keys_of if kind == "redis" else objects_of
    before = seen(url)
    code = (
        "from pathlib import Path; from ratesim.simulation.cost_model import calibrate as c;"
        f"c.calibrate(Path({str(tmp_path / 'p.json')!r}), url={url!r}, effort=0.2, force=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=dict(os.environ))
    while seen(url) == before:  # until it is in the middle of it
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert seen(url) == before
    assert not (tmp_path / "p.json").exists()


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    for url in ("redis://:secret@127.0.0.1:1/0", "postgresql://me:secret@127.0.0.1:1/db"):
        with pytest.raises(StorageConnectionError, match=r"127\.0\.0\.1:1") as raised:
            calibrate(tmp_path / "p.json", url=url, **LITTLE)
        assert "secret" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="memory"):
        calibrate(tmp_path / "p.json", url="memory://")
    assert list(tmp_path.iterdir()) == []


def test_a_slower_server_takes_longer_for_all_that_it_does_and_its_clients_do_not() -> None:
    shipped = Profile.load(Path(str(SHIPPED)))
    for name in ("redis", "postgres"):
        before, after = shipped.backends[name], with_slower_server(shipped, name, 3.0).backends[name]
        for operation in ("acquire", *before.operations):
            assert after.service(7, 0.9, operation) == pytest.approx(3.0 * before.service(7, 0.9, operation))
        assert after.cpu(7) == before.cpu(7)
    flushed = msgspec.structs.replace(shipped.backends["postgres"], commit=Cost(fixed=1e-3, item=1e-5))
    late = with_slower_server(msgspec.structs.replace(shipped, backends={"postgres": flushed}), "postgres", 3.0)
    assert late.backends["postgres"].commit == Cost(fixed=3e-3, item=pytest.approx(3e-5))
    assert with_slower_server(shipped, "postgres", 3.0).backends["redis"] == shipped.backends["redis"]


COLD = Coldness(
    idle=(0.0, 1e-3), wake=(0.0, 1e-4), ask=(0.0, 2e-4), answer=(0.0, 3e-4), after=(0.0, 4e-4), served=(0.0, 5e-4)
)


def test_a_slower_server_is_colder_in_its_own_part_only_and_a_cluster_is_as_slow() -> None:
    shipped = Profile.load(Path(str(SHIPPED)))
    costs = msgspec.structs.replace(shipped.backends["redis"], cold=COLD)
    profile = msgspec.structs.replace(shipped, backends={**shipped.backends, "redis": costs, CLUSTER: costs})
    slow = with_slower_server(profile, "redis", 3.0)
    assert slow.backends["redis"].cold == msgspec.structs.replace(COLD, served=(0.0, pytest.approx(1.5e-3)))
    assert slow.backends[CLUSTER] == slow.backends["redis"]
    assert with_slower_server(profile, "postgres", 3.0).backends[CLUSTER] == costs


def test_a_table_in_no_log_has_the_services_that_were_measured_of_one() -> None:
    costs = msgspec.structs.replace(
        Profile.load(Path(str(SHIPPED))).backends["postgres"], unlogged=0.8, cold=COLD, commit=Cost(fixed=1e-3)
    )
    urls = (f"postgresql://h?unlogged={text}" for text in ("false", "true"))
    logged, unlogged = (postgres_costs(costs, StorageURL.parse(url).config, 120.0) for url in urls)
    assert unlogged.service(7, 0.5) == pytest.approx(0.8 * logged.service(7, 0.5))
    assert unlogged.commit is None
    assert logged.commit == costs.commit
    assert unlogged.cold == logged.cold == COLD
    assert logged.service(7, 0.5) == costs.service(7, 0.5)


def test_a_cluster_has_its_own_costs_where_they_were_measured() -> None:
    shipped = Profile.load(Path(str(SHIPPED)))
    without = msgspec.structs.replace(
        shipped, backends={name: costs for name, costs in shipped.backends.items() if name != CLUSTER}
    )
    assert cluster_costs(without) == with_cluster_client(without.backends["redis"])
    own = BackendCosts(client_cpu=5e-4)
    assert cluster_costs(msgspec.structs.replace(without, backends={**without.backends, CLUSTER: own})) == own


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_calibration_whose_server_dies_ends_and_leaves_the_profile(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ANSWER_SECONDS", 1.0)

    @contextmanager
    def dying() -> Iterator[Server]:
        with servers.valkey() as server, redis.Redis.from_url(server.url) as client:

            def strike() -> None:
                while client.dbsize() == 0:  # until it is being measured
                    time.sleep(0.01)
                os.kill(server.pids[0], number)

            thread = threading.Thread(target=strike, daemon=True)
            thread.start()
            yield server

    monkeypatch.setattr(calibration, "_server", lambda kind, url: dying())
    with pytest.raises(ServerDiedError, match=r"^valkey .* (was ended by SIGKILL|froze)"):
        calibrate(tmp_path / "p.json", **LITTLE)
    assert list(tmp_path.iterdir()) == []


def test_a_client_of_a_cluster_takes_longer_unless_that_was_measured() -> None:
    costs = Profile.load(Path(str(SHIPPED))).backends["redis"]
    clustered = with_cluster_client(costs)
    assert clustered.cpu(1) > costs.cpu(1)
    assert clustered.client_cpu > costs.client_cpu
    assert clustered.service(7, 0.9) == costs.service(7, 0.9)
    measured = msgspec.structs.replace(costs, server="valkey 9.1.2, 3 primaries")
    assert with_cluster_client(measured) == measured
