"""A live replay measures what its server outlives, and names the server that died."""

from __future__ import annotations

import math
import os
import signal
import threading
import time

import psycopg
import pytest
import redis

from ratesim import servers
from ratesim.errors import ServerError
from ratesim.recommendation.investigate import study as study_module
from ratesim.recommendation.investigate.study import study
from ratesim.servers import watch
from ratesim.simulation.engine.backends import start_server
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.simulation.validation import live_replay
from ratesim.simulation.validation.live_replay import live_row

pytestmark = pytest.mark.servers

FIGURES = ("latency_p50", "latency_p99", "service_p50", "lateness_p99")
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


def once_under_way(monkeypatch: pytest.MonkeyPatch, strike) -> None:
    """Call `strike` in a thread when requests are being sent."""
    even = live_replay._even

    def begin(trace, rate):
        threading.Timer(0.3, strike).start()
        return even(trace, rate)

    monkeypatch.setattr(live_replay, "_even", begin)


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
        once_under_way(monkeypatch, lambda: os.kill(server.pids[0], number))
        row = live_row(scenario(), candidate(name), scenario().trace(), server)
    said = "was ended by SIGKILL after" if number == signal.SIGKILL else "froze: it gave no answer for 1 s, after"
    assert row["failure"].startswith(f"{server} {said}")
    assert row["failure"].endswith("requests were answered")
    assert all(math.isnan(row[figure]) for figure in FIGURES)
    assert row["requests"] == row["errors"] == row["admitted"] == 0
    assert row["candidate"] == name


def test_a_replay_whose_server_lives_has_figures_and_no_failure():
    with servers.valkey() as server:
        row = live_row(scenario(), candidate("redis"), scenario().trace(), server, 200)
        with redis.Redis.from_url(server.url) as client:
            assert [key for key in client.scan_iter() if b"warm-up" not in key] == []
    assert row["failure"] == ""
    assert row["requests"] == 200
    assert row["errors"] == 0
    assert all(row[figure] > 0 for figure in FIGURES)


@pytest.mark.parametrize(
    ("storage", "server"),
    [
        ("redis+cluster://localhost", "valkey_cluster_server"),
        ("hybrid+redis+cluster://localhost?sync_interval=0.1&read_from_replicas=true", "valkey_server"),
        ("redis+sentinel://localhost/ratesim", "valkey_sentinel_server"),
    ],
)
def test_a_replay_runs_on_the_topology_of_its_server(storage, server, request):
    at = request.getfixturevalue(server)
    row = live_row(scenario(), Candidate(name="c", storage=storage), scenario().trace(), at, 100)
    assert (row["failure"], row["errors"]) == ("", 0)
    assert all(row[figure] > 0 for figure in FIGURES)


def test_candidates_whose_tables_differ_are_replayed_on_one_postgres_and_leave_nothing(postgres_server):
    for options in ("partition=hash:4", "", "unlogged=true", "partition=time:1d"):
        row = live_row(
            scenario(), Candidate(name="c", storage=f"postgresql://h?{options}"), scenario().trace(), postgres_server, 50
        )
        assert (row["failure"], row["errors"]) == ("", 0)
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.execute("SELECT FROM pg_namespace WHERE nspname LIKE 'ratesim_live%'").fetchall() == []


def test_a_candidate_that_waits_for_a_standby_has_one_live(monkeypatch):
    monkeypatch.delenv("RATESIM_POSTGRES_URL", raising=False)
    waiting = Candidate(name="c", storage="postgresql://h?synchronous_commit=remote_apply", replicas=1)
    with start_server("postgres", scenario().servers(waiting)) as server:
        assert [member.role for member in server.members] == ["primary", "standby"]
        assert live_row(scenario(), waiting, scenario().trace(), server, 50)["failure"] == ""


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

    def row(scenario, candidate, trace, server):
        if candidate.name == "redis" and len(started) == 1:
            os.kill(server.pids[0], signal.SIGKILL)
            while server.how_ended() is None:
                time.sleep(0.01)
        return measure(scenario, candidate, trace, server, 100)

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
