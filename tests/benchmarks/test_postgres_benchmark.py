"""The benchmark of PostgreSQL measures what it says: every contender decides, under every option."""

from __future__ import annotations

import psycopg
import pytest

from ratesim.benchmarks.postgres import OPTIONS, USERS, at_once, batches, ceiling, one_at_a_time, options
from ratesim.servers import Server


async def test_each_contender_is_measured_in_each_round_at_postgresql(postgres_server: Server) -> None:
    for measure in (one_at_a_time, at_once):
        figures = await measure(postgres_server.url, None, rounds=2, requests=100)
        assert all(len(each.rates) == 2 and min(each.rates) > 0 for each in figures.values())
    assert {len(each.rates) for each in (await batches(postgres_server.url, rounds=1, requests=100)).values()} == {1}


async def test_every_strategy_and_durability_is_measured_on_a_table_of_its_own(postgres_server: Server) -> None:
    found = await options(postgres_server.url, rounds=1, requests=100)
    assert [set(figures) for figures in found.values()] == [set(OPTIONS), set(OPTIONS)]
    with psycopg.connect(postgres_server.url) as connection:
        for number in range(len(OPTIONS)):
            assert connection.execute(f"SELECT count(*) FROM bench_{number}".encode()).fetchone() == (len(USERS),)


def test_pgbench_runs_the_statement_of_a_decision(postgres_server: Server) -> None:
    lines = ceiling(postgres_server.url, rounds=1, seconds=1)
    assert sum("ratesim" in line for line in lines) == 2


@pytest.mark.nightly
async def test_a_lone_decision_keeps_most_of_the_speed_of_a_bare_upsert(postgres_server: Server) -> None:
    """A ratio within one run, medians of rounds in turn: other work on the machine meets both."""
    figures = await one_at_a_time(postgres_server.url, None)
    assert figures["ratesim, prepared_statements"].rate >= 0.6 * figures["bare upsert, psycopg"].rate
