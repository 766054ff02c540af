"""The same scenario at model, fake and live gives the same decisions, a linearizable store decides as the oracle does, and
neither the process nor its hash seed changes anything."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import fakeredis
import msgspec
import numpy as np
import psycopg
import pytest
import redis
import simpy
from examples import examples, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim import Scenario, algorithms, run, servers
from ratesim.errors import StorageConnectionError, StorageError
from ratesim.limit import Decision
from ratesim.runtime import SimRuntime
from ratesim.servers import Server, ServerDiedError, ServerError, supervisor
from ratesim.simulation.cost_model.profile import Cost, Profile
from ratesim.simulation.engine import backends
from ratesim.simulation.engine.backends import LoopBackend
from ratesim.simulation.engine.remote_storage import ModelBackend, subject
from ratesim.simulation.results.oracle import exact
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.scenario import EPOCH, Candidate, ScenarioError
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.redis import RedisDriver
from ratesim.storage.remote.operations import Get, Put, Reset
from traffic import Trace

KEYS = ("user:1", "ключ 2", "{three}.3", "w:4", "*")  # also such as a store could take for something else
HYBRIDS = {
    "strong": "consistency=strong&write=write_through",
    "write-back": "write=write_back&sync_interval=0.25&l1_ttl=0.25",
    "write-through": "write=write_through&l1_ttl=1.0",
}
STORAGES = {"redis": "redis://h", "postgres": "postgresql://h"}
STORAGES |= {
    f"{name} over {backend}": f"hybrid+{STORAGES[backend]}?{options}"
    for name, options in HYBRIDS.items()
    for backend in ("redis", "postgres")
}


# The twins hold every algorithm against every store. Here each storage and each algorithm stands once;
# every night all pairs do.
PAIRS = [(storage, algorithm) for storage in STORAGES for algorithm in algorithms.names()]
USUAL_PAIRS = list(zip(STORAGES, itertools.cycle(algorithms.names())))


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.load(Path(str(resources.files("ratesim.simulation.cost_model") / "profiles" / "shipped.json")))


@pytest.fixture
def on(valkey_server: Server, postgres_server: Server) -> Callable[[str], Server]:
    """The server that a storage needs."""
    return lambda storage: postgres_server if "postgres" in storage else valkey_server


def scenario(**changes: dict[str, Any]) -> Scenario:
    data: dict[str, Any] = {
        "workload": {"requests_per_second": 60.0, "keys": 5, "duration": 5.0},
        "limit": {"rate": "12 per 2 seconds"},
        "deployment": {"nodes": 4},
    }
    for part, values in changes.items():
        data[part] = data.get(part, {}) | values if isinstance(values, dict) else values
    return Scenario.of(data)


def demanding(requests: int = 240) -> Trace:
    """A hot key and some others, bursts of one instant, pauses in which states expire, costs of nothing and too much."""
    rng = np.random.default_rng(3)
    gaps = rng.exponential(0.02, requests)
    gaps[rng.random(requests) < 0.3] = 0.0
    gaps[[requests // 3, requests // 2, 3 * requests // 4]] = 1.9, 7.0, 40.0
    key = rng.choice(len(KEYS), requests, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    cost = rng.choice([1.0, 1.0, 1.0, 0.0, 0.5, 2.5, 1.0 / 3.0, 50.0], requests)
    return Trace(EPOCH + 0.3 + np.cumsum(gaps), key, KEYS, cost=cost)


@dataclass
class Heard:
    """What a server answered, whatever that is: operation, identifier, its time and the answer, in turn. stamps: what the
    states among the answers say of when they were made and last used, which decides nothing."""

    answers: list[tuple[str, str, float, object]] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)

    def note(self, operation: Any, answer: object) -> None:
        kind = "Acquire" if type(operation).__name__ == "Asked" else type(operation).__name__
        if isinstance(answer, RateLimitState):
            self.stamps += answer.created_at, answer.last_accessed
            answer = msgspec.structs.replace(answer, created_at=0.0, last_accessed=0.0)
        self.answers.append((kind, *subject(operation), answer))


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Heard]:
    """From each call on, whatever a server answers."""
    heard = Heard()

    def overheard(execute: Callable[..., list[object]]) -> Callable[..., list[object]]:
        def carried_out(backing: Any, batch: Any) -> list[object]:
            answers = execute(backing, batch)
            for operation, answer in zip(batch, answers, strict=True):
                if getattr(operation, "consume", True):  # else a look at who waits for a row, which the model takes unheard
                    heard.note(operation, answer)
            return answers

        return carried_out

    def begin() -> Heard:
        nonlocal heard
        heard = Heard()
        return heard

    for backing in (ModelBackend, LoopBackend):
        monkeypatch.setattr(backing, "execute", overheard(backing.execute))
    return begin


def assert_equal(real: RunResult, model: RunResult) -> None:
    """Request by request, to the bit."""
    for column in ("allowed", "failed", "sequence", "latency", "node"):
        assert np.array_equal(getattr(real, column), getattr(model, column)), column
    assert real.trace == model.trace
    # Sizes may differ a little: how many digits a server prints of when a state was made, what a list keeps in reserve.
    about = [{name: value for name, value in each.row().items() if "bytes" not in name} for each in (real, model)]
    assert repr(about[0]) == repr(about[1])  # in which NaN is equal to NaN
    assert real.bytes_to_store == model.bytes_to_store
    assert real.bytes_from_store == pytest.approx(model.bytes_from_store, rel=1e-3)
    assert real.errors == model.errors


# -- model = fake = live -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("storage", "algorithm"), sample(PAIRS, USUAL_PAIRS))
def test_a_real_server_decides_as_the_model_does(
    algorithm: str, storage: str, profile: Profile, on: Callable[[str], Server], listening: Callable[[], Heard]
) -> None:
    asked = scenario(limit={"algorithm": algorithm})
    candidate, trace = Candidate(name="c", storage=STORAGES[storage]), demanding()
    said = listening()
    model = run(asked, candidate, profile=profile, trace=trace, engine="simpy")  # of which is heard
    assert 0.2 < model.allowed.mean() < 0.8
    assert {type(answer) for *_, answer in said.answers} <= {Decision, RateLimitState, type(None)}
    for fidelity in ("live",) if "postgres" in storage else ("fake", "live"):
        heard = listening()
        server = on(storage) if fidelity == "live" else None
        real = run(asked, candidate, fidelity=fidelity, profile=profile, trace=trace, server=server)
        assert_equal(real, model)
        while heard.answers[-1][0] == "Reset":  # what cleans up after it
            heard.answers.pop()
        assert heard.answers == said.answers
        assert np.allclose(heard.stamps, said.stamps, rtol=0.0, atol=2e-6)  # PostgreSQL rounds microseconds otherwise
        assert (real.fidelity, real.server.split()[0]) == (fidelity, server.kind if server else "fakeredis")


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compression_changes_no_decision_and_fewer_bytes_travel(codec: str, profile: Profile) -> None:
    asked = scenario(
        workload={"keys": 1, "requests_per_second": 200.0},
        limit={"rate": "100 per 4 seconds", "algorithm": "sliding_log"},
        deployment={"nodes": 2},
    )
    storage = "hybrid+redis://h?sync=state&write=write_back&sync_interval=0.1&l1_ttl=0.1&compression="
    plain, model = (run(asked, Candidate(name="c", storage=storage + each), profile=profile) for each in ("none", codec))
    assert 0.2 < model.allowed.mean() < 0.9
    assert model.bytes_to_store < 0.8 * plain.bytes_to_store
    assert model.bytes_from_store < 0.8 * plain.bytes_from_store
    assert np.array_equal(model.allowed, plain.allowed)
    fake = run(asked, Candidate(name="c", storage=storage + codec), fidelity="fake", profile=profile)
    assert np.array_equal(fake.allowed, model.allowed)
    assert fake.bytes_to_store == model.bytes_to_store
    assert fake.bytes_from_store == pytest.approx(model.bytes_from_store, rel=1e-3)


@pytest.mark.parametrize("storage", ["redis://h", *(value for name, value in STORAGES.items() if "write" in name)])
def test_they_agree_also_when_much_goes_wrong(storage: str, profile: Profile, on: Callable[[str], Server]) -> None:
    faults = [
        {"kind": "partition", "start": 0.5, "duration": 1.5, "nodes": [0], "direction": "from_server"},
        {"kind": "partition", "start": 1.0, "duration": 1.2, "nodes": [1], "direction": "to_server"},
        {"kind": "lossy", "start": 0.0, "duration": 4.0, "loss": 0.1},
        {"kind": "slow", "start": 2.0, "duration": 1.0, "factor": 30.0},
        {"kind": "restart", "start": 2.5, "duration": 0.3, "nodes": [2]},
        {"kind": "clock_skew", "start": 0.0, "duration": 4.0, "nodes": [3], "offset": 0.7, "drift": -0.05},
    ]
    asked = scenario(faults=faults)
    short = storage + ("&" if "?" in storage else "?") + "command_timeout=0.3"  # so that clients try again
    candidate = Candidate(name="c", storage=short)
    model = run(asked, candidate, profile=profile)
    assert model.row()["failed"] > 0 or "hybrid" in storage
    real = run(asked, candidate, fidelity="live", profile=profile, server=on(storage))
    assert_equal(real, model)


@pytest.mark.parametrize("strategy", ["hash:4", "time:60s", "identifier:user*,w*"])
def test_partitions_change_no_decision_and_rows_that_are_held_none(
    strategy: str, profile: Profile, postgres_server: Server
) -> None:
    held = msgspec.structs.replace(profile.backends["postgres"], commit=Cost(fixed=0.01), locks=True)
    slow = msgspec.structs.replace(profile, backends={**profile.backends, "postgres": held})
    candidate, trace = Candidate(name="c", storage=f"postgresql://h?partition={strategy}"), demanding()
    for asked in (profile, slow):
        model = run(scenario(), candidate, profile=asked, trace=trace)
        assert 0.2 < model.allowed.mean() < 0.8
        real = run(scenario(), candidate, fidelity="live", profile=asked, trace=trace, server=postgres_server)
        assert_equal(real, model)


@pytest.mark.parametrize(
    ("storage", "server"),
    [
        ("redis+cluster://h", "valkey_cluster_server"),
        ("hybrid+redis+cluster://h?sync_interval=0.1", "valkey_cluster_server"),
        ("redis+sentinel://h/ratesim", "valkey_sentinel_server"),
    ],
)
def test_clusters_and_sentinel_pairs_agree_also_while_slots_move(
    storage: str, server: str, profile: Profile, request: pytest.FixtureRequest
) -> None:
    asked = scenario(faults=[{"kind": "reshard", "start": 1.0, "duration": 2.0, "slots": 16384}])
    candidate = Candidate(name="c", storage=storage)
    model = run(asked, candidate, profile=profile)
    assert bool(model.row()["moved"]) == ("cluster" in storage)
    assert_equal(run(asked, candidate, fidelity="fake", profile=profile), model)
    at = request.getfixturevalue(server)
    live = run(asked, candidate, fidelity="live", profile=profile, server=at)
    assert_equal(live, model)
    assert live.server.startswith(at.kind)


def test_a_cluster_is_started_for_a_run_and_any_redis_decides_for_it(profile: Profile, valkey_server: Server) -> None:
    candidate = Candidate(name="c", storage="redis+cluster://h", primaries=4)
    model = run(scenario(), candidate, profile=profile)
    for server, kind in ((None, "valkey-cluster"), (valkey_server, "valkey ")):
        live = run(scenario(), candidate, fidelity="live", profile=profile, server=server)
        assert_equal(live, model)
        assert live.server.startswith(kind)


@pytest.mark.parametrize("storage", [STORAGES["redis"], STORAGES["write-back over redis"]])
def test_clients_that_wait_as_long_as_they_are_told_are_told_the_same(storage: str, profile: Profile) -> None:
    clients = {"users": 40, "think": 0.3, "retry": "retry_after", "attempts": 3}
    asked = scenario(workload={"clients": clients, "requests_per_second": None, "duration": 3.0})
    candidate = Candidate(name="c", storage=storage)
    model = run(asked, candidate, profile=profile)
    assert 0 < model.allowed.sum() < len(model.allowed)
    assert_equal(run(asked, candidate, fidelity="fake", profile=profile), model)


def test_a_state_that_ends_while_it_is_asked_for_is_still_there_when_it_was_asked() -> None:
    state = RateLimitState(AlgorithmData("fixed_window", {"window_start": EPOCH, "count": 3.0}), EPOCH, EPOCH)
    late = MemoryStorage(runtime=SimRuntime(simpy.Environment(), EPOCH + 5.0))
    fake = RedisDriver(RedisStorageConfig(min_ttl=60.0), fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(), protocol=2))
    real = LoopBackend(fake, lambda: 1, "fakeredis")
    asked = [Get("a", "", EPOCH + 0.5), Get("a", "", EPOCH + 1.5)]
    try:
        for backing in (ModelBackend(late), real):
            backing.execute([Put("a", "", state, EPOCH, 1.0)])
            assert backing.execute(asked) == [state, None]
    finally:
        real.close()


def test_memory_has_no_server_so_every_fidelity_is_the_model(profile: Profile) -> None:
    candidate = Candidate(name="c", storage="memory://")
    model = run(scenario(), candidate, profile=profile)
    live = run(scenario(), candidate, fidelity="live", profile=profile)
    assert_equal(live, model)
    assert live.server == ""


async def test_a_real_server_can_be_asked_where_a_loop_is_running_as_in_a_notebook(profile: Profile) -> None:
    candidate = Candidate(name="c", storage="redis://h")
    assert_equal(run(scenario(), candidate, fidelity="fake", profile=profile), run(scenario(), candidate, profile=profile))


# -- a linearizable store is the oracle --------------------------------------------------------------------------------

# Not `eventual` with write_through: it decides on its last view, and what other nodes admit while that is on its way is not
# in it. Memory is, where each key has one node.
LINEARIZABLE = [("redis://h", None), ("postgresql://h", None), ("memory://", "key_hash")]
LINEARIZABLE += [
    (f"hybrid+{storage}?consistency=strong&write={write}", None)
    for storage in ("redis://h", "postgresql://h")
    for write in ("write_through", "write_back")
]


def limits(algorithm: str) -> st.SearchStrategy[dict[str, Any]]:
    rate = st.builds(
        lambda count, period: {"rate": f"{count} per {period} seconds", "algorithm": algorithm},
        st.sampled_from([1, 3, 10]),
        st.sampled_from([0.1, 1, 7]),
    )
    if algorithms.get(algorithm).rule.BURST:
        return st.builds(lambda limit, burst: limit | {"burst": burst}, rate, st.sampled_from([None, 0.5, 4.0, 20.0]))
    if algorithm == "sliding_window":
        return st.builds(lambda limit, buckets: limit | {"options": {"buckets": buckets}}, rate, st.sampled_from([1, 4]))
    return rate


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    requests = draw(st.integers(1, 200))
    gaps = rng.exponential(draw(st.sampled_from([1e-4, 1e-3, 0.03, 1.0])), requests)
    gaps[rng.random(requests) < draw(st.sampled_from([0.0, 0.5]))] = 0.0
    costs = draw(st.sampled_from([[1.0], [0.0, 1.0, 2.5], [1.0 / 3.0, 0.1, 7.0, 100.0]]))
    key = rng.integers(0, draw(st.integers(1, 5)), requests)
    return Trace(EPOCH + np.cumsum(gaps), key, KEYS, cost=rng.choice(costs, requests))


@pytest.mark.parametrize("algorithm", algorithms.names())
@settings(max_examples=examples(40))
@given(
    data=st.data(),
    competitor=st.sampled_from(LINEARIZABLE),
    trace=traces(),
    nodes=st.integers(1, 16),
    routing=st.sampled_from(["round_robin", "random", "sticky", "key_hash", "least_outstanding"]),
    network=st.sampled_from(["loopback", "cross_zone", "cross_region"]),
    seed=st.integers(0, 100),
)
def test_a_linearizable_store_on_any_number_of_nodes_decides_as_the_oracle(
    algorithm: str,
    data: st.DataObject,
    competitor: tuple[str, str | None],
    trace: Trace,
    nodes: int,
    routing: str,
    network: str,
    seed: int,
    profile: Profile,
) -> None:
    limit = data.draw(limits(algorithm))
    asked = scenario(limit=limit, deployment={"nodes": nodes, "routing": routing, "network": network})
    candidate = Candidate(name="c", storage=competitor[0], routing=competitor[1])
    result = run(asked, candidate, seed, profile=profile, trace=trace)
    assert not result.failed.any()
    order = np.argsort(result.sequence)
    assert (np.diff(result.sequence[order]) > 0).all()
    oracle = exact(asked.limit.limit(), trace.key[order], trace.time[order], trace.cost[order], len(trace.keys))
    assert result.allowed[order].tolist() == oracle.tolist()
    assert (result.accuracy.over_admission, result.accuracy.false_denial) == (0.0, 0.0)


def test_write_through_is_not_linearizable_on_several_nodes(profile: Profile) -> None:
    candidate = Candidate(name="c", storage=STORAGES["write-through over redis"])
    busy = scenario(workload={"requests_per_second": 5000.0, "duration": 1.0}, deployment={"network": "cross_region"})
    assert run(busy, candidate, profile=profile).accuracy.over_admission > 0.0


# -- nothing else matters ----------------------------------------------------------------------------------------------

DIGESTS = """
import hashlib
from importlib import resources
from pathlib import Path
from ratesim import Scenario, run
from ratesim.simulation.cost_model.profile import Cost, Profile
from ratesim.simulation.scenario.candidates import default_candidates

def digests():
    shipped = Profile.load(Path(str(resources.files("ratesim.simulation.cost_model") / "profiles" / "shipped.json")))
    asked = Scenario.of({
        "workload": {"requests_per_second": 100.0, "keys": 20, "duration": 1.5}, "limit": {"rate": "5/second"},
        "faults": [{"kind": "lossy", "start": 0.5, "duration": 0.5}],
    })
    found = {}
    for candidate in default_candidates(asked):
        for fidelity in ("model", "fake") if candidate.name in ("redis", "hybrid eventual 100 ms") else ("model",):
            result = run(asked, candidate, fidelity=fidelity, profile=shipped)
            columns = (result.allowed, result.failed, result.sequence, result.latency, result.node)
            text = repr(sorted(result.row().items())).encode() + b"".join(column.tobytes() for column in columns)
            found[candidate.name, fidelity] = hashlib.sha256(text).hexdigest()
    return found
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", sample(["1", "2"], ["1"]))
def test_a_run_is_equal_to_itself_in_another_process_with_another_hash_seed(seed: str) -> None:
    here: dict[str, Any] = {}
    exec(DIGESTS, here)
    expected = here["digests"]()
    assert len(expected) == len(default_candidates(scenario())) + 2
    found = subprocess.run(
        [sys.executable, "-c", f"{DIGESTS}\nprint(digests())"],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == repr(expected)


# -- what a run leaves -------------------------------------------------------------------------------------------------


class Interrupting:
    """Progress that does something when a run is well on its way."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do: Callable[[], object] | None = do

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.do is not None and done > total / 2:
            do, self.do = self.do, None
            do()


def raising(error: type[BaseException]) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def left_on(server: Server) -> list[str]:
    if server.kind == "postgres":
        with psycopg.connect(server.url) as connection:
            return [row[0] for row in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^ratesim_run'")]
    with redis.Redis.from_url(server.url) as client:
        return [key.decode() for key in client.scan_iter("ratesim:run:*")]


@pytest.mark.parametrize("storage", ["redis://h", "postgresql://h"])
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_on_a_server_of_ones_own(
    storage: str, error: type[BaseException] | None, profile: Profile, on: Callable[[str], Server]
) -> None:
    server, seen = on(storage), list[str]()

    def look() -> None:
        seen.extend(left_on(server))
        if error is not None:
            raise error

    def live() -> RunResult:
        candidate = Candidate(name="c", storage=storage)
        return run(scenario(), candidate, fidelity="live", profile=profile, server=server, progress=Interrupting(look))

    if error is None:
        assert len(live().allowed) > 100
    else:
        with pytest.raises(error):
            live()
    assert len(seen) == (len(KEYS) if "redis" in storage else 1)
    assert left_on(server) == []


@pytest.mark.servers
@pytest.mark.parametrize("storage", ["redis://h", "postgresql://h"])
def test_a_server_that_was_started_for_a_run_stops_with_it(
    storage: str, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def noting(start: Callable[[], AbstractContextManager[Server]]) -> Callable[[], AbstractContextManager[Server]]:
        @contextmanager
        def noted() -> Iterator[Server]:
            with start() as server:
                pids.extend(server.pids)
                yield server

        return noted

    for name in ("valkey", "postgres"):
        monkeypatch.delenv(f"RATESIM_{'REDIS' if name == 'valkey' else 'POSTGRES'}_URL", raising=False)
        monkeypatch.setattr(servers, name, noting(getattr(servers, name)))

    def stop() -> None:
        os.kill(pids[0], 0)  # it runs
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            scenario(),
            Candidate(name="c", storage=storage),
            fidelity="live",
            profile=profile,
            progress=Interrupting(stop),
        )
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_an_interrupted_run_is_partial_at_every_fidelity(profile: Profile, valkey_server: Server) -> None:
    go = Interrupting(lambda: os.kill(os.getpid(), signal.SIGINT))
    candidate = Candidate(name="c", storage="redis://h")
    result = run(
        scenario(), candidate, fidelity="live", profile=profile, server=valkey_server, progress=go, interruptible=True
    )
    assert result.partial
    whole = run(scenario(), candidate, profile=profile)
    assert 0 < len(result.allowed) < len(whole.allowed)
    assert np.array_equal(result.allowed, whole.allowed[: len(result.allowed)])
    assert left_on(valkey_server) == []


def test_keys_outlive_a_run_that_is_slower_than_its_own_time(profile: Profile, valkey_server: Server) -> None:
    lives: list[float] = []

    def look() -> None:
        with redis.Redis.from_url(valkey_server.url) as client:
            lives.extend(client.pttl(key) / 1000 for key in left_on(valkey_server))

    candidate = Candidate(name="c", storage="redis://h?min_ttl=1")
    run(scenario(), candidate, fidelity="live", profile=profile, server=valkey_server, progress=Interrupting(look))
    assert lives
    assert min(lives) > 6 * 86400


# -- a real server's own trouble ---------------------------------------------------------------------------------------


class Troubled:
    """A driver without luck."""

    def __init__(self, trouble: Exception | list[object]) -> None:
        self.trouble = trouble
        self.closed = False

    async def execute(self, batch: Any) -> list[object]:
        if isinstance(self.trouble, list):
            return self.trouble
        raise self.trouble

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    "trouble", [StorageConnectionError("gone"), TimeoutError(), StorageError("odd"), [StorageError("full")]]
)
def test_an_error_of_a_real_server_is_never_taken_for_one_of_the_scenario(trouble: Any) -> None:
    driver = Troubled(trouble)
    backing = LoopBackend(driver, lambda: 1, "valkey 9.9")
    with pytest.raises(ServerError, match=r"^valkey 9\.9: "):
        backing.execute([Reset("a")])
    backing.close()
    assert driver.closed


@pytest.mark.parametrize("storage", ["redis://h", *(value for name, value in STORAGES.items() if "redis" in name)])
def test_it_ends_the_run_also_where_a_hybrid_would_do_without_its_server(
    storage: str, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, left = RedisDriver.execute, iter(range(20))

    async def breaking(driver: RedisDriver, batch: Any) -> list[object]:
        if next(left, None) is None:
            raise StorageConnectionError("it broke")
        return await sound(driver, batch)

    monkeypatch.setattr(RedisDriver, "execute", breaking)
    with pytest.raises(ServerError, match=r"fakeredis .*it broke"):
        run(scenario(), Candidate(name="c", storage=storage), fidelity="fake", profile=profile)
    assert "ratesim-backing" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("kind", ["valkey", "postgres"])
def test_a_run_whose_server_dies_or_freezes_ends_and_names_it(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, kind: str, number: int
) -> None:
    monkeypatch.setattr(backends, "PATIENCE", 2.0)
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.5)
    start = getattr(servers, kind)
    begun: list[Server] = []

    @contextmanager
    def remember() -> Iterator[Server]:
        with start() as server:
            begun.append(server)
            yield server

    monkeypatch.setattr(servers, kind, remember)

    def strike() -> None:
        (pid,) = begun[0].pids
        for one in [pid, *_children(pid)]:
            with suppress(ProcessLookupError):  # without its parent a process of PostgreSQL ends by itself
                os.kill(one, number)

    storage = "redis://h" if kind == "valkey" else "postgresql://h"
    with pytest.raises(ServerDiedError, match=f"^{kind} .*(was ended by SIGKILL|no answer within 2 s)"):
        run(
            scenario(),
            Candidate(name="c", storage=storage),
            fidelity="live",
            profile=profile,
            progress=Interrupting(strike),
        )


def _children(parent: int) -> list[int]:
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(pid) for pid in said.split()]


# -- what is refused ---------------------------------------------------------------------------------------------------

NOBODY = Server("redis://127.0.0.1:1/0", "valkey", "9.9", embedded=False)


@pytest.mark.parametrize(
    ("storage", "options", "said"),
    [
        ("redis://h", {"fidelity": "real"}, "model, fake, live"),
        ("postgresql://h", {"fidelity": "fake"}, "PostgreSQL.*use `live`"),
        ("hybrid+postgresql://h", {"fidelity": "fake"}, "PostgreSQL.*use `live`"),
        ("redis://h", {"fidelity": "fake", "server": NOBODY}, "only the fidelity `live`"),
        ("redis://h", {"server": NOBODY}, "only the fidelity `live`"),
        ("postgresql://h", {"fidelity": "live", "server": NOBODY}, "needs a postgres, and this is a valkey"),
    ],
)
def test_a_fidelity_that_cannot_be_is_refused(storage: str, options: dict[str, Any], said: str, profile: Profile) -> None:
    with pytest.raises(ScenarioError, match=said):
        run(scenario(), Candidate(name="c", storage=storage), profile=profile, **options)


@pytest.mark.parametrize("kind", ["crash", "failover"])
@pytest.mark.parametrize("fidelity", ["fake", "live"])
def test_a_server_that_goes_down_is_the_models(kind: str, fidelity: Any, profile: Profile) -> None:
    asked = scenario(faults=[{"kind": kind, "start": 1.0, "duration": 1.0}])
    with pytest.raises(ScenarioError, match=f"needs the fidelity `model`, not `{fidelity}`"):
        run(asked, Candidate(name="c", storage="redis://h"), fidelity=fidelity, profile=profile, server=None)


@pytest.mark.parametrize("fidelity", ["fake", "live"])
@pytest.mark.parametrize("storage", ["redis://h?clock=server", "hybrid+postgresql://h?clock=server"])
def test_the_clock_of_a_real_server_cannot_be_asked_for(storage: str, fidelity: Any, profile: Profile) -> None:
    with pytest.raises(ScenarioError, match=f"clock=server: .*use fidelity `model`, not `{fidelity}`"):
        run(scenario(), Candidate(name="c", storage=storage), fidelity=fidelity, profile=profile, server=None)


def test_an_imitation_is_not_live(profile: Profile) -> None:
    imitation = Server("redis://127.0.0.1:1/0", "fakeredis", "2", embedded=True)
    with pytest.raises(ServerError, match=r"ratesim\[embedded\].*or use `fake`"):
        run(scenario(), Candidate(name="c", storage="redis://h"), fidelity="live", profile=profile, server=imitation)


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:1/0", "postgresql://me:secret@127.0.0.1:1/db"])
def test_a_server_that_is_not_there_is_named_without_its_password(url: str, profile: Profile) -> None:
    storage, kind = ("postgresql://h", "postgres") if "postgres" in url else ("redis://h", "redis")
    nobody = Server(url, kind, "1", embedded=False)
    with pytest.raises(ServerError) as refused:
        run(scenario(), Candidate(name="c", storage=storage), fidelity="live", profile=profile, server=nobody)
    assert "127.0.0.1" in str(refused.value)
    assert "secret" not in str(refused.value)
