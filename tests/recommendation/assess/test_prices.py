"""Unit prices: what a file may say, and how a mistake in it is told."""

from __future__ import annotations

import datetime
import re
import tomllib
from importlib import resources

import pytest

from ratesim.formatting import format_money
from ratesim.recommendation.assess.prices import PriceError, Prices
from ratesim.simulation.network.links import PRESETS
from ratesim.simulation.scenario.deployment import Deployment

EXAMPLE = (resources.files("ratesim.recommendation.assess") / "example_prices.toml").read_text("utf-8")


def test_without_a_file_the_example_that_ships_is_loaded_and_says_that_it_is_one():
    assert Prices.load() == Prices.parse(EXAMPLE)
    assert "example" in EXAMPLE.splitlines()[0]
    assert "no vendor" in EXAMPLE
    assert isinstance(Prices.load().date, datetime.date)


def test_the_example_has_a_price_for_every_network_and_every_type_of_deployment():
    example = Prices.load()
    assert set(example.network) == set(PRESETS)
    types = Deployment.model_fields["type"].annotation.__args__
    assert {name: getattr(example.replicas, name) for name in types} == {
        "single_instance": 0,
        "clustered": 0,
        "high_availability": 1,
    }
    assert example.network["same_zone"] == 0.0
    assert example.over_admitted_request == 0.0


def test_a_file_of_ones_own_is_read(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(EXAMPLE.replace('currency = "USD"', 'currency = "EUR"'), "utf-8")
    assert Prices.load(mine).currency == "EUR"
    assert Prices.load(str(mine)) == Prices.load(mine)


def test_a_server_costs_its_processors_its_memory_and_its_disk_for_all_hours_of_a_month():
    example = Prices.load()
    assert example.server("redis").month(730) == pytest.approx(730 * (1 * 0.03 + 2 * 0.015))
    assert example.server("postgres").month(730) == pytest.approx(730 * (2 * 0.04 + 8 * 0.007) + 20 * 0.15)


def test_redis_decides_on_one_thread_however_many_processors_are_paid_for():
    large = Prices.parse(EXAMPLE.replace("processors = 1\n", "processors = 8\n"))
    assert large.redis.deciding == 1.0
    assert large.redis.month(730) > Prices.load().redis.month(730)
    assert large.postgres.deciding == 2.0


def test_keys_must_fit_into_the_memory_and_onto_the_disk():
    assert Prices.load().redis.room == pytest.approx(0.7 * 2e9)
    assert Prices.load().postgres.room == pytest.approx(0.7 * 8e9)
    small = Prices.parse(EXAMPLE.replace("disk_gb = 20", "disk_gb = 3"))
    assert small.postgres.room == pytest.approx(3e9)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("hours_per_month = 730", "hours_a_month = 730", "hours_a_month: unknown key; known here: currency, date"),
        ("disk_gb = 20", "disc_gb = 20", "postgres.disc_gb: unknown key; known here: processors"),
        ("currency", "[", "not valid TOML"),
        ("memory_gb = 2\n", "", "redis.memory_gb: Field required"),
        ("memory_gb = 2\n", "memory_gb = 0\n", "redis.memory_gb"),
        ("most_processor = 0.6\n", "most_processor = 60\n", "redis.most_processor"),
        ("processor_hour = 0.04", "processor_hour = -1", "api_node.processor_hour"),
        ("processor_hour = 0.04", "processor_hour = inf", "api_node.processor_hour"),
        ("date = 2026-11-28", 'date = "some day"', "date"),
        ("cross_zone = 0.01", "cross_zones = 0.01", "network: 'cross_zones' is no network; known are loopback"),
        ("cross_zone = 0.01\n", "", "network: cross_zone missing"),
        ("high_availability = 1", "high_availability = 1.5", "replicas.high_availability"),
        ("node_hour = 0.1", "node_month = 70", "managed_redis.node_month: unknown key; known here: node_hour"),
        ("node_hour = 0.1", "node_hour = -1", "managed_redis.node_hour"),
        ("processors = 0.25", "processors = 0", "sentinel.processors"),
    ],
)
def test_a_mistake_is_told_in_one_line_that_names_the_file_and_the_key(old, new, told, tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(EXAMPLE.replace(old, new, 1) if old != "currency" else "[", "utf-8")
    with pytest.raises(PriceError) as raised:
        Prices.load(wrong)
    assert told in str(raised.value)
    assert str(wrong) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(content, tmp_path):
    path = tmp_path / "prices.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PriceError, match=r"prices\.toml: (cannot be read|not valid)"):
        Prices.load(path)


def test_the_file_stays_small():
    lines = [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")]
    assert len(lines) < 45
    assert set(tomllib.loads(EXAMPLE)) == set(Prices.model_fields)


def test_what_is_no_question_is_left_out():
    short = re.sub(r"\[(sentinel|managed_redis)\]\n(\w.*\n)+", "", EXAMPLE)
    found = Prices.parse(short)
    assert found.sentinel is found.managed_redis is None
    assert Prices.parse(found.to_toml()) == found
    assert Prices.parse(Prices.load().to_toml()) == Prices.load()


def test_a_sentinel_is_a_small_machine():
    assert Prices.load().sentinel.month(730) == pytest.approx(730 * (0.25 * 0.03 + 0.5 * 0.015))


def test_an_amount_is_said_to_two_significant_digits():
    assert [format_money(value, "USD") for value in (0.0, 0.001, 0.0149, 43.8, 1288.0, 1.5e6)] == [
        "0 USD",
        "less than 0.01 USD",
        "0.015 USD",
        "44 USD",
        "1,300 USD",
        "1,500,000 USD",
    ]
    assert format_money(float("nan"), "USD") == "unknown"
