"""What keeps a batch waiting at a server."""

from __future__ import annotations

import pytest
import simpy

from ratesim.limit import Limit
from ratesim.runtime import SimRuntime
from ratesim.simulation.cost_model.profile import BackendCosts, Coldness, Cost
from ratesim.simulation.engine.remote_storage import ModelBackend
from ratesim.simulation.engine.store_server import GroupCommit, RowLocks, Standby, StoreServer, changes, wrote
from ratesim.simulation.network.wire_size import MeteredBackend, wire_protocol
from ratesim.storage import MemoryStorage, StorageURL
from ratesim.storage.remote.operations import Acquire, Get

LIMIT = Limit(1.0, 60.0)


def test_who_comes_during_a_flush_shares_the_next_one() -> None:
    commit = GroupCommit()
    assert commit.take(0.0, 1.0) == 1.0
    assert [commit.take(at, 1.0) for at in (0.1, 0.5, 0.9)] == [2.0, 2.0, 2.0]
    assert commit.take(1.5, 1.0) == 3.0, "the shared flush is under way: it began at 1"
    assert commit.take(9.0, 1.0) == 10.0, "nothing to wait for"


def test_a_row_is_had_in_the_order_in_which_it_was_asked_for() -> None:
    runtime = SimRuntime(simpy.Environment())
    locks, told = RowLocks(runtime), []

    async def transaction(name: str, rows: list[str], seconds: float) -> None:
        mine, earlier = locks.queue(rows)
        for each in earlier:
            await each
        await runtime.sleep(seconds)
        locks.release(rows, mine)
        told.append((name, runtime.time()))

    for name, rows, seconds in (
        ("first", ["a", "b"], 1.0),
        ("second", ["b"], 1.0),
        ("other", ["c"], 0.5),
        ("third", ["b"], 1.0),
    ):
        runtime.spawn(transaction(name, rows, seconds))
    runtime.env.run()
    assert told == [("other", 0.5), ("first", 1.0), ("second", 2.0), ("third", 3.0)]
    assert locks.queue(["a", "b", "c"])[1] == [], "nothing is left behind"


def test_a_row_passes_over_one_that_gave_up_waiting_for_it() -> None:
    runtime = SimRuntime(simpy.Environment())
    locks, told = RowLocks(runtime), []

    async def transaction(name: str) -> None:
        mine = await locks.take(["a"])
        told.append((name, runtime.time()))
        await runtime.sleep(1.0)
        locks.release(["a"], mine)

    tasks = [runtime.spawn(transaction(name)) for name in ("holds", "gives up", "waits")]
    runtime.env.run(until=0.5)
    tasks[1].cancel()
    runtime.env.run()
    assert told == [("holds", 0.0), ("waits", 1.0)]
    assert locks.queue(["a"])[1] == []


def server(**costs: object) -> tuple[SimRuntime, StoreServer]:
    runtime = SimRuntime(simpy.Environment(), 1.7e9)
    meter = MeteredBackend(ModelBackend(MemoryStorage(runtime=runtime)), wire_protocol(StorageURL.parse("redis://h")))
    return runtime, StoreServer(meter, BackendCosts(client_cpu=1e-4, **costs), runtime)  # type: ignore[arg-type]


def test_a_server_that_was_idle_takes_longer_and_one_at_work_does_not() -> None:
    nothing = (0.0, 0.0, 0.0)
    cold = Coldness(
        idle=(0.0, 1e-3, 4e-3), wake=nothing, ask=nothing, answer=nothing, after=nothing, served=(0.0, 0.0, 1e-3)
    )
    _, slow = server(cold=cold)
    work = 1e-4
    extra = {"long": (0.7 * 4e-3 - 1e-3) / 3, "behind it": 0.0, "again": (0.7 * 4e-3 + 0.3 * 0.3 * 0.7 * 4e-3 - 1e-3) / 3}
    end = slow.take(1.0, work)
    assert end == pytest.approx(1.0 + work + extra["long"]), "no pause is longer than the longest that was measured"
    assert slow.take(1.0001, work) == pytest.approx(end + work + extra["behind it"]), "who waits finds it at work"
    assert slow.take(2.0, work) == pytest.approx(2.0 + work + extra["again"])


@pytest.mark.parametrize("costs", [{}, {"speedup": {1: 1.0, 2: 2.0}}], ids=["station", "cores"])
def test_what_is_not_done_when_the_server_goes_down_was_not_done(costs: dict[str, object]) -> None:
    runtime, lost = server(**costs)
    done = []

    async def ask(outage: float) -> None:
        done.append(await lost.spend(1.0, outage))

    runtime.spawn(ask(0.5))
    runtime.env.run()
    runtime.spawn(ask(99.0))
    runtime.env.run()
    assert done == [False, True]


def test_only_what_is_admitted_reaches_the_disk() -> None:
    _, about = server(commit=Cost(fixed=1e-3), locks=True)
    asked = Acquire("a", (LIMIT,), 1.0, 1.7e9, True)
    answers = [about.meter.execute([asked])[0] for _ in range(2)]
    assert [wrote(asked, answer) for answer in answers] == [True, False]
    assert not changes(Get("a", "", 1.7e9))
    assert not changes(Acquire("a", (LIMIT,), 1.0, 1.7e9, False))


def test_commits_that_come_while_one_waits_at_the_standby_wait_together() -> None:
    standby = Standby(0.2, Cost(fixed=1.0))
    assert standby.take(0.0, 0.5) == pytest.approx(1.2)
    assert [standby.take(at, 0.5) for at in (0.1, 0.5, 0.9)] == [pytest.approx(2.2)] * 3
    standby.begin_anew()
    assert standby.take(0.95, 0.5) == pytest.approx(2.15), "who waited at the server that died waits no more"


def test_a_row_is_held_until_it_is_freed() -> None:
    locks = RowLocks(SimRuntime(simpy.Environment()))
    mine, _ = locks.queue(["a", "b"])
    assert locks.held(["c", "b"])
    assert not locks.held(["c"])
    locks.release(["a", "b"], mine)
    assert not locks.held(["a", "b"])
