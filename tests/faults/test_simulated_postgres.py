"""A failover of a real PostgreSQL to its standby, beside the same traffic and fault simulated."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from statistics import median

import psycopg
import pytest
from trial import AT, LAG, TOLERANCE, Effect, Trial

from ratesim import servers
from ratesim.servers import Server
from ratesim.simulation.scenario.topology import PROMOTION

pytestmark = [pytest.mark.servers, pytest.mark.slow]

KEYS = 20
# A client that finds no server repeats soon, so that the end of the outage is that of the server.
OPTIONS = {"command_timeout": 1.0, "breaker_reset": 0.1, "connection_timeout": 0.5}


def trial_of(level: str, election: float) -> Trial:
    storage = f"postgresql://localhost?synchronous_commit={level}"
    deployment = {"election": election}
    return Trial(storage, {"kind": "crash"}, deployment, KEYS, AT + election + 4.0, replicas=1, options=OPTIONS)


def deafen(server: Server) -> None:
    """End the stream to the standby, which then hears nothing more of its primary."""
    with psycopg.connect(server.members[1].url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET primary_conninfo = ''")
        admin.execute("SELECT pg_reload_conf()")


def kill(server: Server) -> None:
    """Kill the primary and all its processes (kill -9)."""
    primary = server.members[0].pid
    left = [int(each) for each in Path(f"/proc/{primary}/task/{primary}/children").read_text().split()]
    for pid in (primary, *left):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def dies(server: Server, level: str, election: float) -> None:
    """Let the primary die and the standby take over after the election, which here is nobody's but the test's."""
    if level == "local":
        await asyncio.to_thread(deafen, server)
    await asyncio.sleep(LAG)
    await asyncio.to_thread(kill, server)
    await asyncio.sleep(election)
    await asyncio.to_thread(servers.promote, server.members[1])


def real(trial: Trial, level: str, election: float) -> Effect:
    settings = {} if level == "local" else {"synchronous_standby_names": "*"}
    with servers.postgres(standbys=1, settings=settings) as server:
        url = f"{server.url}&synchronous_commit={level}"
        return asyncio.run(trial.real(url, AT - LAG, lambda: dies(server, level, election)))


SMALL = [("remote_apply", 1.0, 1), ("local", 1.0, 1)]
FULL = [("remote_apply", 2.0, 3), ("on", 2.0, 3), ("local", 2.0, 3)]


@pytest.mark.parametrize(
    ("level", "election", "rounds"), [*SMALL, *(pytest.param(*each, marks=pytest.mark.nightly) for each in FULL)]
)
def test_a_simulated_failover_to_a_standby_is_as_bad_as_the_real_one(level: str, election: float, rounds: int) -> None:
    trial = trial_of(level, election)
    found = [real(trial, level, election) for _ in range(rounds)]
    model = trial.simulated()
    print(f"{level}, election {election:g} s: simulated {model}, real {found}")
    assert model.seconds >= election - 0.5
    assert all(each.undecided for each in found)
    if level == "local":
        assert model.over == pytest.approx(median(each.over for each in found), rel=TOLERANCE)
    else:  # no round loses what was acknowledged
        assert {model.over, *(each.over for each in found)} == {0.0}
    if rounds > 1:
        assert model.undecided == pytest.approx(median(each.undecided for each in found), rel=TOLERANCE)
        assert model.seconds == pytest.approx(median(each.seconds for each in found), rel=TOLERANCE, abs=2 * PROMOTION)
