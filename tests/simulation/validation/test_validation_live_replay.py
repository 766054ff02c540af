"""A live replay measures what its server outlives, and names the server that died."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import psycopg
import pytest
import redis

from ratesim import servers
from ratesim.errors import ServerError
from ratesim.limit import Limit
from ratesim.recommendation.investigate import study as study_module
from ratesim.recommendation.investigate.study import study
from ratesim.servers import Server, watch
from ratesim.simulation.cost_model.profile import BackendCosts
from ratesim.simulation.engine.backends import start_server
from ratesim.simulation.scenario.scenario import Candidate, LimitSpec, Scenario
from ratesim.simulation.validation import live_measurement, live_replay
from ratesim.simulation.validation.covariates import Covariates
from ratesim.simulation.validation.live_measurement import KnownCosts, Measured, Order, measure, quantile_intervals
from ratesim.simulation.validation.live_replay import RecentCosts, live_row, replay_rate
from traffic import Trace
from traffic.live_replay import loop_factory

pytestmark = pytest.mark.servers

FIGURES = ("latency_p50", "latency_p99", "service_p50", "lateness_p99", "operation_p50", "simulated_p50", "simulated_p99")
FIGURES += ("ratio_p50", "ratio_p99", "utilization")
TABLES = """SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname LIKE 'ratesim_live%' AND c.relkind = 'r'"""
QUICK = {"attempts": 1, "effort": 0.02}
ALONE = {"attempts": 1, "effort": 0.0}  # without its simulation
STORAGES = {
    "redis": "redis://localhost",
    "hybrid": "hybrid+redis://localhost?consistency=eventual&sync_interval=0.1",
    "strong": "hybrid+redis://localhost?consistency=strong",
    "postgres": "postgresql://localhost",
}


def scenario(*candidates: Candidate) -> Scenario:
    chosen = [{"name": each.name, "storage": each.storage} for each in candidates]
    asked = {
        "workload": {"requests_per_second": 200.0, "duration": 10.0},
        "limit": {"rate": "20/minute"},
        "deployment": {"nodes": 2},
        "replications": 2,
    }
    return Scenario.of({**asked, "candidates": chosen} if chosen else asked)


def candidate(name: str) -> Candidate:
    return Candidate(name=name, storage=STORAGES.get(name, "memory://"))


def once_under_way(server: servers.Server, strike) -> threading.Thread:
    """Call `strike` in a thread when decisions have been written to the server."""

    def written() -> int:
        if server.kind == "postgres":
            with psycopg.connect(server.url, autocommit=True) as connection:
                names = connection.execute(TABLES).fetchall()
                return sum(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in names)
        with redis.Redis.from_url(server.url) as client:
            return client.dbsize()

    def wait() -> None:
        with suppress(psycopg.Error, redis.RedisError):  # the test ended before
            while written() < 10:
                time.sleep(0.02)
            strike()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("redis", signal.SIGKILL),
        ("hybrid", signal.SIGKILL),
        ("postgres", signal.SIGKILL),
        ("redis", signal.SIGSTOP),
        pytest.param("hybrid", signal.SIGSTOP, marks=pytest.mark.nightly),
        pytest.param("strong", signal.SIGKILL, marks=pytest.mark.nightly),
        pytest.param("strong", signal.SIGSTOP, marks=pytest.mark.nightly),
    ],
)
def test_a_replay_whose_server_dies_has_no_figures_and_says_so(monkeypatch, name, number):
    monkeypatch.setattr(watch, "ANSWER_SECONDS", 1.0)
    with (servers.postgres if name == "postgres" else servers.valkey)() as server:
        striker = once_under_way(server, lambda: os.kill(server.pids[0], number))
        row = live_row(scenario(), candidate(name), scenario().trace(), server)
        striker.join(30)
    said = "was ended by SIGKILL after" if number == signal.SIGKILL else "froze: it gave no answer for 1 s, after"
    assert row["failure"].startswith(f"{server} {said}")
    assert row["failure"].endswith("requests were answered")
    assert all(math.isnan(row[figure]) for figure in FIGURES)
    assert row["requests"] == row["errors"] == row["admitted"] == 0
    assert row["candidate"] == name


def test_a_replay_whose_server_lives_has_figures_its_own_simulation_and_no_failure():
    with servers.valkey() as server:
        row = live_row(scenario(), candidate("redis"), scenario().trace(), server, 200, **QUICK)
        with redis.Redis.from_url(server.url) as client:
            assert [key for key in client.scan_iter() if b"warm-up" not in key] == []
    assert (row["failure"], row["server"], row["store"]) == ("", str(server), "redis")
    assert row["requests"] == 200
    assert row["errors"] == 0
    assert all(row[figure] > 0 for figure in FIGURES if figure != "lateness_p99")
    assert 0 <= row["lateness_p99"] <= row["latency_p99"]  # a part of each of these latencies
    for name in ("p50", "p99"):
        assert row[f"ratio_{name}"] == row[f"simulated_{name}"] / row[f"latency_{name}"]


@pytest.mark.parametrize(("rate", "replayed"), [(0.03, 400.0), (750.0, 750.0), (9000.0, 2000.0)])
def test_a_replay_has_the_rate_of_the_traffic_where_one_process_can_send_it(rate, replayed):
    trace = Trace(np.arange(1001) / rate, np.zeros(1001, np.int64), ["any"])
    assert replay_rate(trace) == pytest.approx(replayed)


def test_a_quantile_has_the_interval_that_so_many_requests_leave():
    found = quantile_intervals(np.arange(1, 1001) / 1e3)
    assert (found["latency_p50_low"], found["latency_p50_high"]) == pytest.approx((0.469, 0.532), abs=2e-3)
    assert (found["latency_p99_low"], found["latency_p99_high"]) == pytest.approx((0.984, 0.996), abs=2e-3)
    few = quantile_intervals(np.ones(100))
    assert (few["latency_p99_low"], few["latency_p99_high"]) == (1.0, math.inf)
    nothing = quantile_intervals(np.zeros(0))
    assert (nothing["latency_p50_low"], nothing["latency_p50_high"]) == (0.0, math.inf)


def test_memory_is_replayed_without_a_server():
    row = live_row(scenario(), candidate("memory"), scenario().trace(), None, 200, **QUICK)
    assert (row["failure"], row["server"], row["errors"]) == ("", "this process", 0)
    assert row["operation_p50"] <= row["latency_p50"]  # hot, one at a time
    assert row["simulated_operation"] > 0


@pytest.mark.parametrize(
    "judged",
    [
        ["", ""],  # the replay, and the replay beside its costs
        ["busy", "busy", "", ""],
        ["", "busy while the costs were measured", "", ""],
        ["busy", "busy", "busy", "busy, the last time"],  # which has its costs all the same
    ],
)
def test_a_replay_that_others_disturb_is_repeated(monkeypatch, tmp_path, judged):
    answers, seen = iter(judged), []

    def judge(*stretches):
        seen.extend(stretches[:2])
        return next(answers)

    monkeypatch.setattr(live_measurement, "disturbance", judge)
    names, files = ("a", "b") * 20, (tmp_path / "answered", tmp_path / "pace")
    order = Order("memory://", None, (), True, "tag", Limit(5, 60.0), names, (1.0,) * 40, 400.0, 3, 0.02, None, *files)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        found = runner.run(measure(order))
    assert (found.disturbed, list(answers)) == (judged[-1], [])
    assert found.costs["memory"].client_cpu > 0
    assert all(each.others >= 0 for each in seen)
    assert order.count.read_text() == "40"


@pytest.mark.parametrize(
    ("judged", "is_known"),
    [
        (["", ""], True),  # the replay, and the replay beside the costs that are known
        (["", "it was faster then", ""], False),  # and beside those that are measured
    ],
)
def test_costs_of_the_same_minute_are_not_measured_again_unless_the_machine_has_changed(
    monkeypatch, tmp_path, judged, is_known
):
    answers, known = iter(judged), KnownCosts({"memory": BackendCosts(client_cpu=1.0)}, Covariates({}))
    monkeypatch.setattr(live_measurement, "disturbance", lambda *_: next(answers))
    names, files = ("a", "b") * 20, (tmp_path / "answered", tmp_path / "pace")
    order = Order("memory://", None, (), True, "tag", Limit(5, 60.0), names, (1.0,) * 40, 400.0, 3, 0.02, known, *files)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        found = runner.run(measure(order))
    assert (found.disturbed, list(answers)) == ("", [])
    assert (found.costs["memory"].client_cpu == 1.0, found.beside is None) == (is_known, is_known)


def test_costs_are_known_of_the_same_server_asked_alike_for_a_minute(monkeypatch):
    def at(storage: str) -> Candidate:
        return Candidate(name="c", storage=storage)

    recent, now = RecentCosts(), [0.0]
    found = Measured(0.0, {}, {"redis": BackendCosts(client_cpu=1.0)}, beside=Covariates({}))
    monkeypatch.setattr(live_replay, "perf_counter", lambda: now[0])
    one, other = (Server(f"redis://h:{port}/0", "valkey", "9.9", embedded=False) for port in (1, 2))
    recent.keep(one, at("redis://h"), found)
    assert recent.known(one, at("hybrid+redis://h?consistency=strong")) == (found.costs, found.beside)
    assert recent.known(other, at("redis://h")) is None
    recent.keep(other, at("redis://h"), dataclasses.replace(found, disturbed="others"))
    assert recent.known(other, at("redis://h")) is None
    recent.keep(other, at("postgresql://h"), found)
    assert recent.known(other, at("postgresql://h?unlogged=true")) is None, "another commit"
    recent.keep(other, at("postgresql://h?synchronous_commit=off"), found)
    assert recent.known(other, at("postgresql://h?unlogged=true")) is None, "tables in no log were not measured"
    now[0] = 61.0
    assert recent.known(one, at("redis://h")) is None


def test_decisions_of_the_replay_and_of_its_simulation_are_the_same():
    binding = scenario().model_copy(update={"limit": LimitSpec(rate="5/minute")})
    trace = binding.trace()
    row = live_row(binding, candidate("memory"), trace, None, 300, **QUICK)
    assert 0 < row["admitted"] < row["requests"]
    assert row["simulated_admitted"] == row["admitted"]


@pytest.mark.parametrize(
    ("storage", "server", "how"),
    [
        ("redis+cluster://localhost", "valkey_cluster_server", QUICK),
        ("hybrid+redis+cluster://localhost?sync_interval=0.1&read_from_replicas=true", "valkey_server", ALONE),
        ("redis+sentinel://localhost/ratesim", "valkey_sentinel_server", QUICK),
    ],
)
def test_a_replay_runs_on_the_topology_of_its_server(storage, server, how, request):
    at = request.getfixturevalue(server)
    row = live_row(scenario(), Candidate(name="c", storage=storage), scenario().trace(), at, 100, **how)
    assert (row["failure"], row["errors"]) == ("", 0)
    assert row["latency_p50"] > 0
    assert (row["simulated_p50"] > 0) is (how is QUICK)


def test_candidates_whose_tables_differ_are_replayed_on_one_postgres_and_leave_nothing(postgres_server):
    for options in ("partition=hash:4", "", "unlogged=true", "partition=time:1d"):
        row = live_row(
            scenario(),
            Candidate(name="c", storage=f"postgresql://h?{options}"),
            scenario().trace(),
            postgres_server,
            50,
            **ALONE,
        )
        assert (row["failure"], row["errors"]) == ("", 0)
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.execute("SELECT FROM pg_namespace WHERE nspname LIKE 'ratesim_live%'").fetchall() == []


def test_a_candidate_that_waits_for_a_standby_has_one_live(monkeypatch):
    monkeypatch.delenv("RATESIM_POSTGRES_URL", raising=False)
    waiting = Candidate(name="c", storage="postgresql://h?synchronous_commit=remote_apply", replicas=1)
    with start_server("postgres", scenario().servers(waiting)) as server:
        assert [member.role for member in server.members] == ["primary", "standby"]
        assert live_row(scenario(), waiting, scenario().trace(), server, 50, **ALONE)["failure"] == ""


def test_a_study_measures_what_can_be_measured(monkeypatch, tmp_path):
    """The Valkey dies under the first of two candidates that need one, and no PostgreSQL starts."""

    def refuse():
        raise ServerError("no PostgreSQL is installed:\nname a running one")

    monkeypatch.setattr(study_module.servers, "postgres", refuse)
    started = []
    valkey = servers.valkey

    def remember():
        started.append(valkey())
        return started[-1]

    monkeypatch.setattr(study_module.servers, "valkey", remember)
    measure = live_row

    def row(scenario, candidate, trace, server, recent):
        if candidate.name == "redis" and len(started) == 1:
            os.kill(server.pids[0], signal.SIGKILL)
            while server.how_ended() is None:
                time.sleep(0.01)
        return measure(scenario, candidate, trace, server, 100, **ALONE) | {"disturbed": ""}

    monkeypatch.setattr(study_module, "live_row", row)
    asked = scenario(*map(candidate, ("memory", "redis", "hybrid", "postgres")))
    options = {"beyond": False, "processes": 1, "runs": tmp_path / "runs", "out": tmp_path}
    found = study(asked, **options)
    assert {row["candidate"] for row in found.live_rows} == {"memory", "hybrid"}
    assert found.live_failures["postgres"] == "no PostgreSQL is installed: name a running one"
    assert found.live_failures["redis"].startswith("valkey ")
    assert len(started) == 2

    assert study(asked, **options).live_failures == found.live_failures  # a page shows what was found
    assert len(started) == 2
    again = study(asked, **options, retry_live=True)
    assert {row["candidate"] for row in again.live_rows} == {"memory", "redis", "hybrid"}
    kept = {row["candidate"]: row["latency_p50"] for row in found.live_rows}
    assert kept.items() <= {row["candidate"]: row["latency_p50"] for row in again.live_rows}.items()
