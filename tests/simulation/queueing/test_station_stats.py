"""What a station's account says, by hand and at random, and that a station that is no queue is found out."""

from __future__ import annotations

from math import inf

import msgspec
import numpy as np
import pytest

from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.queueing import station_account, station_stats
from ratesim.simulation.queueing.fifo_station import FifoStation, lindley_waits, record_batch
from ratesim.simulation.queueing.station_stats import BINS, SharedStationStats, StationStats
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario


def of(station: FifoStation, customers: list[tuple[float, float]], until: float = inf) -> FifoStation:
    for arrival, service in customers:
        station.serve(arrival, service)
    station.close(until)
    return station


def test_an_account_by_hand() -> None:
    """Two come at 0 s and 1 s and need 2 s each: one is inside for 2 s, the other waits 1 s of his 3 s."""
    account = of(FifoStation(), [(0.0, 2.0), (1.0, 2.0)]).stats
    assert (account.arrivals, account.until, account.inside, account.served) == (2, 4.0, 5.0, 4.0)
    assert (account.stays, account.services, account.peak) == (5.0, 4.0, 2)
    width, inside, served, peak = account.bins
    assert width == 1 / 64, "the narrowest of which 512 reach beyond 4 s"
    assert inside[:256].reshape(4, 64).sum(axis=1).tolist() == [1.0, 2.0, 1.0, 1.0]
    assert served[:256].reshape(4, 64).sum(axis=1).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert peak[:256].reshape(4, 64).max(axis=1).tolist() == [1, 2, 2, 1], "at 2 s the first one leaves"


def test_who_is_still_inside_at_the_end_counts_for_as_long_as_he_was_there() -> None:
    account = of(FifoStation(), [(0.0, 2.0), (1.0, 2.0)], until=3.0).stats
    assert (account.inside, account.stays, account.served, account.services) == (4.0, 4.0, 3.0, 3.0)


def test_a_crash_ends_the_stays_of_those_inside() -> None:
    station = FifoStation()
    station.serve(0.0, 2.0)
    station.serve(0.5, 2.0)
    station.restart(10.0, down=1.0)
    assert station.serve(10.0, 1.0) == 11.0
    station.close(inf)
    account = station.stats
    assert (account.lost, account.arrivals, account.inside, account.stays) == (2, 3, 2.5, 2.5)
    assert station.busy == account.served == 2.0
    assert station.served == 3


def test_the_books_of_many_customers_balance_whatever_the_station() -> None:
    """More than are noted at once, in and out of overload, with gaps, and cut off in the middle."""
    rng = np.random.default_rng(5)
    for servers in (1, 3, 16):
        n = 30_000
        gaps = rng.exponential(1.0 / servers, n) * np.repeat(rng.choice([0.2, 1.5, 50.0], 30), n // 30)
        arrival, service = np.cumsum(gaps), rng.exponential(1.0, n) * (rng.random(n) < 0.9)
        station = FifoStation(servers)
        ends = np.array([station.serve(a, s) for a, s in zip(arrival.tolist(), service.tolist(), strict=True)])
        until = float(arrival[-1])
        station.close(until)
        account = station.stats
        assert account.inside == pytest.approx(np.clip(np.minimum(ends, until) - arrival, 0.0, None).sum(), rel=1e-9)
        begin = np.minimum(ends - service, until)
        assert account.served == pytest.approx((np.minimum(ends, until) - begin).sum(), rel=1e-9)
        number = np.arange(1, n + 1) - np.searchsorted(np.sort(ends), arrival, "right")
        assert account.peak == number.max()
        width, inside, _, peak = account.bins
        assert len(inside) <= BINS
        assert width * len(inside) >= until
        assert inside[-2] <= peak[-2] * width * (1 + 1e-9)


def test_no_bit_of_an_account_depends_on_how_its_customers_are_cut_or_whether_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(6)
    arrival, service = np.cumsum(rng.exponential(0.3, 2000)), rng.exponential(0.7, 2000)
    station = FifoStation(3)
    ends = [station.serve(*each) for each in zip(arrival.tolist(), service.tolist(), strict=True)]
    rows = np.column_stack((arrival, service, ends))
    moves = sorted([(at, -1.0, 0.0) for at in arrival] + [(end, end - at, took) for at, took, end in rows])

    def state(chunk: int) -> tuple[object, ...]:
        queue, shared = StationStats(3), SharedStationStats()
        for first in range(0, len(rows), chunk):
            queue.add(rows[first : first + chunk])
        for first in range(0, len(moves), chunk):
            some = np.array(moves[first : first + chunk])
            shared.advance(float(some[-1, 0]), some)
        shared.end(0.0)
        queue.close(inf)
        bins = (queue.by_bin.tolist(), shared.by_bin.tolist())
        return queue.summary(), shared.summary(), queue.account.tolist(), shared.account.tolist(), bins

    at_once = state(len(moves))
    assert at_once[0]["customers"] == at_once[1]["customers"] == 2000
    assert at_once[0]["inside"] == pytest.approx(at_once[1]["inside"])
    assert state(1) == at_once
    monkeypatch.setattr(station_stats, "compiled", lambda _: station_account)
    assert state(700) == at_once


def test_customers_that_were_known_beforehand_are_accounted_for_as_those_that_came_one_by_one() -> None:
    rng = np.random.default_rng(3)
    arrival, queue = np.cumsum(rng.exponential(0.3, 20_000)), rng.integers(0, 3, 20_000)
    together, met = [FifoStation() for _ in range(4)], [FifoStation() for _ in range(4)]
    service = rng.exponential(0.7, 20_000)
    record_batch(together, arrival, queue, service, lindley_waits(arrival, queue, service)[1])
    for at, which, seconds in zip(arrival.tolist(), queue.tolist(), service.tolist(), strict=True):
        met[which].serve(at, seconds)
    for one, other in zip(together, met, strict=True):
        one.close(inf)
        other.close(inf)
        assert one.served == other.served
        assert one.busy == pytest.approx(other.busy)
        assert one.stats.inside == pytest.approx(other.stats.inside)
    assert together[3].stats.arrivals == 0


def test_short_services_after_a_long_time_are_no_defect() -> None:
    """A microsecond each, over a month: an end is rounded to a ten-thousandth of the service."""
    rng = np.random.default_rng(2)
    arrival = np.sort(rng.uniform(0.0, 30 * 86400.0, 20_000))
    station = of(FifoStation(), [(at, 1e-6) for at in arrival.tolist()])
    assert station.stats.inside == pytest.approx(0.02, rel=1e-3)
    with pytest.raises(AssertionError):
        of(Slow(), [(at, 1e-4) for at in arrival.tolist()])


class Forgetful(FifoStation):
    """Serves everybody at once."""

    def serve(self, arrival: float, service: float) -> float:
        end = super().serve(arrival, service)
        self._free = [0.0] * len(self._free)
        return end


class Lazy(FifoStation):
    """Rests a little after each customer, whoever waits."""

    def serve(self, arrival: float, service: float) -> float:
        end = super().serve(arrival, service)
        self._free[-1] += 1e-6
        return end


class Hasty(FifoStation):
    """Lets the customer who came last go first, now and then."""

    def serve(self, arrival: float, service: float) -> float:
        before = list(self._free)
        end = super().serve(arrival, service)
        if self.served % 7 == 0:
            self._free = before
        return end


class Slow(FifoStation):
    """Keeps its customers longer than they need, and says nothing."""

    def serve(self, arrival: float, service: float) -> float:
        end = super().serve(arrival, service * 1.001)
        self._noted[-2] = service
        return end


@pytest.mark.parametrize("defective", [Forgetful, Lazy, Hasty, Slow])
@pytest.mark.parametrize("servers", [1, 3])
def test_a_station_that_is_no_queue_is_found_out(defective: type[FifoStation], servers: int) -> None:
    rng = np.random.default_rng(1)
    arrival = np.cumsum(rng.exponential(1.0 / servers, 200)).tolist()
    customers = list(zip(arrival, rng.exponential(0.8, 200).tolist(), strict=True))
    of(FifoStation(servers), customers)
    with pytest.raises(AssertionError, match=r"Work conservation|before one who came earlier"):
        of(defective(servers), customers)


def test_a_lost_entry_breaks_little_s_law() -> None:
    station = of(FifoStation(), [(0.0, 2.0), (1.0, 2.0)], until=3.0)
    station.stats.account.stays -= 1.0
    with pytest.raises(AssertionError, match="Little's law"):
        station.close(3.0)


def test_a_customer_out_of_order_is_refused() -> None:
    with pytest.raises(AssertionError, match="in order of time"):
        of(FifoStation(), [(1.0, 1.0), (0.5, 1.0)])


@pytest.mark.parametrize("storage", ["memory://", "redis://h", "postgresql://h"])
def test_every_run_proves_its_stations(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for it: a simulator with a defective station does not get to the end of a run."""
    asked = Scenario.of(
        {
            "workload": {"requests_per_second": 4000.0, "keys": 50, "duration": 0.5},
            "limit": {"rate": "10/second"},
            "deployment": {"nodes": 2, "network": "loopback", "routing": "least_outstanding"},
        }
    )
    profile = Profile.load()
    slow = {name: msgspec.structs.replace(each, client_cpu=4e-4) for name, each in profile.backends.items()}
    profile = msgspec.structs.replace(profile, backends=slow)
    run(asked, Candidate(name="sound", storage=storage), profile=profile, engine="simpy")
    for module in ("queueing.event_loop_cpu", "engine.store_server"):
        monkeypatch.setattr(f"ratesim.simulation.{module}.FifoStation", Forgetful)
    with pytest.raises(AssertionError, match="Work conservation"):
        run(asked, Candidate(name="defective", storage=storage), profile=profile, engine="simpy")
