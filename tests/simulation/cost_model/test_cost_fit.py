"""The fits find what made the numbers, also where a round is far off."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import numpy as np
import pytest

from ratesim.simulation.cost_model.cost_fit import fit, fit_client, fit_cold, fit_line, fit_split, mean_of, spread, typical
from ratesim.simulation.cost_model.lone_requests import Lone
from ratesim.simulation.cost_model.profile import QUANTILES, BackendCosts, Cost
from ratesim.simulation.cost_model.survey import (
    BATCHES,
    DEPTHS,
    GAPS,
    PACED,
    UNLOGGED,
    Key,
    Load,
    Samples,
    Survey,
    Target,
)


@pytest.mark.parametrize(("fixed", "item"), [(60e-6, 30e-6), (400e-6, 5e-6), (1e-6, 90e-6)])
def test_a_line_through_batches_gives_the_fixed_and_the_item_cost(fixed: float, item: float) -> None:
    sizes = (1, 8, 64)
    exact = fit_line(sizes, [fixed + size * item for size in sizes])
    assert exact == pytest.approx((fixed, item), rel=1e-6)
    rng = np.random.default_rng(1)
    noisy = [(fixed + size * item) * rng.lognormal(0.0, 0.01) for size in sizes]
    assert sum(fit_line(sizes, noisy)) == pytest.approx(fixed + item, rel=0.05)


def test_a_cost_is_never_negative() -> None:
    fixed, item = fit_line((1, 8, 64), [10e-6, 88e-6, 712e-6])  # the best line would begin below zero
    assert 0 < fixed <= 1e-7
    assert item == pytest.approx(11e-6, rel=0.1)
    fixed, item = fit_line((1, 64), [20e-6, 10e-6])
    assert 0 < item <= 1e-7
    assert 10e-6 <= fixed <= 20e-6


def load(operations: float, by_batch: float, turns: float, cpu: float) -> Load:
    return Load(operations / by_batch, operations, cpu, 0.0, cpu, turns)


def test_the_clients_shares_come_from_runs_that_differ_in_operations_by_batch_and_in_how_they_come() -> None:
    rng = np.random.default_rng(2)
    batch, operation, arrival, turn = 120e-6, 60e-6, 30e-6, 7e-6
    at_once, paced = [], []
    for size, turns in zip(np.repeat([1.0, 2.0, 10.0, 60.0], 3), np.tile([3000.0, 5000.0, 900.0], 4), strict=True):
        for loads, more in ((at_once, 0.0), (paced, arrival)):
            seconds = (batch / size + operation + more) * 3000.0 + turn * turns
            loads.append(load(3000.0, size, turns, seconds * rng.lognormal(0.0, 0.02)))
    assert fit_client(at_once, paced, turn) == pytest.approx((batch, operation, arrival), rel=0.07)
    assert fit_client(at_once, [], turn) == pytest.approx((batch, operation, 0.0), rel=0.07)


def test_no_share_is_negative() -> None:
    at_once = [load(1000.0, size, 0.0, 1000.0 * 50e-6 * size**0.1) for size in (1.0, 10.0, 60.0)]
    batch, operation, arrival = fit_client(at_once, [load(1000.0, 1.0, 0.0, 0.03)], 1e-6)
    assert batch > 0.0
    assert operation > 0.0
    assert arrival == 0.0


def test_the_spread_of_a_lognormal_is_that_of_its_sample() -> None:
    samples = np.random.default_rng(3).lognormal(-9.0, 0.4, 200_000)
    factors = spread(samples)
    assert factors[QUANTILES.index(0.5)] == 1.0
    assert factors[QUANTILES.index(0.95)] == pytest.approx(np.exp(0.4 * 1.6449), rel=0.02)
    cost = Cost(fixed=float(np.median(samples)), factors=factors)
    drawn = [cost.of(1, uniform) for uniform in np.random.default_rng(4).random(20_000)]
    for quantile in (0.25, 0.5, 0.9, 0.95, 0.99):
        assert np.quantile(drawn, quantile) == pytest.approx(np.quantile(samples, quantile), rel=0.05)


def test_the_mean_of_factors_is_that_of_what_is_drawn_from_them() -> None:
    factors = spread(np.random.default_rng(5).lognormal(0.0, 0.8, 50_000))
    drawn = [Cost(fixed=1.0, factors=factors).of(1, uniform) for uniform in np.random.default_rng(6).random(50_000)]
    assert mean_of(factors) == pytest.approx(np.mean(drawn), rel=0.03)


def test_the_split_is_of_the_processor_time_alone() -> None:
    lone = Lone(idle=1e-4, wake=9e-3, ask=45e-6, served=120e-6, answer=22e-6, after=43e-6)
    assert fit_split(lone) == pytest.approx((45 / 110, 22 / 110, 43 / 110))


COSTS = BackendCosts(
    client_cpu=1e-4, client=Cost(fixed=30e-6, item=10e-6), split=(0.5, 0.25, 0.25), round_trip=5e-6, fixed=20e-6, item=15e-6
)


def test_coldness_is_what_a_lone_request_takes_more_than_a_busy_one_and_never_less() -> None:
    lone = [
        Lone(idle=8e-3, wake=300e-6, ask=220e-6, served=340e-6, answer=70e-6, after=5e-6),
        Lone(idle=1e-3, wake=100e-6, ask=70e-6, served=140e-6, answer=30e-6, after=60e-6),
    ]
    cold = fit_cold(COSTS, lone)
    assert cold.idle == (0.0, 1e-3, 8e-3)
    assert cold.wake == pytest.approx((100e-6, 100e-6, 300e-6)), "however short a sleep is, a timer ends it"
    assert cold.ask == pytest.approx((0.0, 50e-6, 200e-6)), "half of 40 us is before the question"
    assert cold.served == pytest.approx((0.0, 100e-6, 300e-6)), "way and service of one are 40 us"
    assert cold.answer == pytest.approx((0.0, 20e-6, 60e-6))
    assert cold.after == pytest.approx((0.0, 50e-6, 0.0))


def test_the_turn_in_which_a_caller_goes_on_is_not_taken_for_coldness() -> None:
    lone = Lone(idle=1e-3, wake=0.0, ask=70e-6, served=140e-6, answer=30e-6, after=60e-6)
    costs = msgspec.structs.replace(COSTS, turn=8e-6)
    assert fit_cold(costs, [lone]).answer == pytest.approx((0.0, 12e-6))


def test_coldness_has_one_entry_for_each_idle_time() -> None:
    one = Lone(idle=1e-3, wake=0.0, ask=70e-6, served=140e-6, answer=30e-6, after=60e-6)
    assert fit_cold(COSTS, [one, one._replace(ask=80e-6), one._replace(idle=0.0)]).idle == (0.0, 1e-3)


def test_what_is_typical_is_the_median_of_each_column() -> None:
    rows = [Lone(*(factor * value for value in range(1, 7))) for factor in (1.0, 1.1, 30.0)]
    assert typical(rows) == pytest.approx([1.1 * value for value in range(1, 7)])


def made(noise: np.random.Generator, slowness: float = 1.0) -> Survey:
    """Make the survey of a server with known costs: Redis-like, or slowed by a neighbor."""

    def off() -> float:
        return slowness * float(noise.lognormal(0.0, 0.01))

    def samples(cpu: float, wait: float, busy: float | None) -> Samples:
        spent = cpu * slowness * noise.lognormal(0.0, 0.05, 50)
        return Samples(spent + wait * slowness * noise.lognormal(0.0, 0.05, 50), spent, busy)

    survey: Survey = {Key("ping"): samples(50e-6, 30e-6, 10e-6), Key("single"): samples(110e-6, 80e-6, 50e-6)}
    survey[Key("turn")] = samples(5e-6, 0.0, None)
    for size in BATCHES:
        survey[Key("acquire", size)] = samples(60e-6, 20e-6 + (20 + 15 * size) * 1e-6, (20 + 15 * size) * 1e-6 * off())
    for name, size in (("get", 1), ("get", 64), ("apply", 1), ("apply", 64)):
        survey[Key(name, size)] = samples(60e-6, 20e-6, (10 + 5 * size) * 1e-6 * off())
    for size in UNLOGGED:
        survey[Key("unlogged", size)] = samples(60e-6, 20e-6, 0.8 * (20 + 15 * size) * 1e-6)
    for depth, batch in zip(DEPTHS, (1, 5, 20, 90), strict=True):
        operations = 2000.0 + 100 * depth
        batches = operations / batch
        turns = 3 * batches
        cpu = (5e-6 * turns + 30e-6 * batches + 10e-6 * operations) * off()
        busy = (20e-6 * batches + 15e-6 * operations) * off()
        survey[Key("load", depth)] = Load(batches, operations, cpu, busy, cpu + busy, turns)
    for share in PACED:
        operations, batches, turns = 1500.0, 1500.0 / (1.0 + share), 4000.0
        cpu = (5e-6 * turns + 30e-6 * batches + (10e-6 + 12e-6) * operations) * off()
        survey[Key("paced", share)] = Load(batches, operations, cpu, 0.05, 0.1, turns)
    survey[Key("lone", 0.0)] = Lone(120e-6, 0.0, *(off() * part for part in (45e-6, 120e-6, 22e-6, 43e-6)))
    for gap in GAPS:
        survey[Key("lone", gap)] = Lone(gap, *(off() * part for part in (gap / 20, 45e-6 + gap / 50, 2e-4, 30e-6, 50e-6)))
    return survey


def target(**options: Any) -> Target:
    return Target(cast("Any", None), cast("Any", None), **options)


def test_fitting_finds_the_costs_although_two_of_five_rounds_are_far_off() -> None:
    noise = np.random.default_rng(8)
    costs = fit(target(), [made(noise, slowness) for slowness in (1.0, 3.0, 1.0, 1.0, 5.0)])
    assert costs.client is not None
    assert costs.turn == pytest.approx(5e-6, rel=0.06)
    assert costs.arrival == pytest.approx(12e-6, rel=0.15)
    assert (costs.client.fixed, costs.client.item) == pytest.approx((30e-6, 10e-6), rel=0.06)
    assert (costs.fixed, costs.item) == pytest.approx((20e-6, 15e-6), rel=0.06)
    assert costs.split == pytest.approx((45 / 110, 22 / 110, 43 / 110), rel=0.02)
    assert costs.unlogged == pytest.approx(0.8, rel=0.05)
    assert costs.operations["get"].of(64) == pytest.approx((10 + 5 * 64) * 1e-6, rel=0.05)
    assert costs.cold is not None
    assert costs.cold.idle == (0.0, 120e-6, *GAPS)
    busy = 45 / 110 * 40e-6
    assert costs.cold.ask[1:] == pytest.approx([45e-6 - busy, *(45e-6 + gap / 50 - busy for gap in GAPS)], rel=0.05)
    least = GAPS[0] / 20
    assert costs.cold.wake == pytest.approx((least, least, *(gap / 20 for gap in GAPS)), rel=0.03)


def test_a_piece_that_was_dropped_from_a_round_is_taken_from_the_others() -> None:
    noise = np.random.default_rng(9)
    whole, part = made(noise), made(noise, 2.0)
    for key in [key for key in part if key.kind in ("load", "lone", "ping", "turn", "paced")]:
        del part[key]
    costs = fit(target(), [part, whole])
    assert costs.client is not None
    assert costs.client.of(1) == pytest.approx(40e-6, rel=0.05)


def test_without_lone_requests_there_is_no_coldness_and_the_split_stays_as_it_is() -> None:
    survey = {key: piece for key, piece in made(np.random.default_rng(10)).items() if key.kind != "lone"}
    costs = fit(target(), [survey])
    assert costs.cold is None
    assert costs.split == BackendCosts(client_cpu=0.0).split
