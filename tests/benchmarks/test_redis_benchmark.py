"""The benchmark of Redis measures what it says: every contender decides, and what the server spends is counted."""

from __future__ import annotations

import pytest

from ratesim.benchmarks.redis import at_once, batches, one_at_a_time, server_time
from ratesim.servers import Server


async def test_each_contender_is_measured_in_each_round(valkey_server: Server) -> None:
    for measure in (one_at_a_time, at_once):
        figures = await measure(valkey_server.url, [], rounds=2, requests=100)
        assert all(len(each.rates) == 2 and min(each.rates) > 0 for each in figures.values())
    assert set(await batches(valkey_server.url, rounds=1, requests=100)) == {"raw pipeline", "ratesim"}


async def test_latency_is_of_the_rounds_that_count(valkey_server: Server) -> None:
    figures = await one_at_a_time(valkey_server.url, [], rounds=2, requests=50)
    assert all(len(each.latency) == 100 and 0 < each.p99 < 60 for each in figures.values())


async def test_the_server_spends_time_on_every_algorithm(valkey_server: Server) -> None:
    spent = await server_time(valkey_server.url, [], rounds=1, requests=200)
    assert spent
    assert all(each > 0 for each in spent.values())


@pytest.mark.nightly
async def test_a_lone_decision_keeps_most_of_the_speed_of_the_raw_command(valkey_server: Server) -> None:
    """A ratio within one run, medians of rounds in turn: other work on the machine meets both."""
    figures = await one_at_a_time(valkey_server.url, [])
    assert figures["ratesim"].rate >= 0.6 * figures["raw evalsha"].rate
