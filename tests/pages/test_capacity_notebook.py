"""The notebook on capacity: executed small, its tables say what was worked out, and nothing from outside steers its page."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from audit import audit

from ratesim.formatting import format_amount, format_bytes, format_money, format_percent
from ratesim.pages.capacity import cells
from ratesim.pages.capacity.analysis import CANDIDATES, MOST_KEYS, Costed, cheapest, second_server
from ratesim.pages.capacity.plots import PARTS
from ratesim.recommendation.assess.prices import PriceError, Prices
from ratesim.simulation.scenario.scenario import ScenarioError

pytestmark = pytest.mark.slow  # whole analyses

SCENARIO = """
name = "small"

[workload]
requests_per_second = 200.0
duration = "5s"
keys = 20

[limit]
rate = "100/minute"

[deployment]
nodes = 4

[requirements]
key_count = 50000
"""
NOTEBOOK = "capacity.ipynb"
HOSTILE = "<script>alert(1)</script>$x^{y$\x1b[2J"


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("asked") / "small.toml"
    path.write_text(SCENARIO, "utf-8")
    return {"scenario": str(path), "keys": 2_000_000, "load": 3.0, "network": "cross_zone", "seed": 5}


@pytest.fixture(scope="module")
def executed(asked, execute_here) -> Path:
    return execute_here(NOTEBOOK, asked)


@pytest.fixture(scope="module")
def found(asked) -> Costed:
    return cells.costed(**asked)


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def everything(found: Costed) -> list[str]:
    """All that the page shows."""
    pieces = [
        *(part(found) for part in (cells.answer, cells.growth, cells.needs, cells.room, cells.turned)),
        cells.formulae(),
        cells.reproduce(found),
    ]
    return [piece.data for piece in pieces]


# What is asked ---------------------------------------------------------------------------------------------------------


def test_load_and_keys_are_as_the_reader_asks(found):
    once = replace(found, load=1.0)
    assert found.peak == pytest.approx(3 * once.peak)
    assert {each.keys for each in found.at().values()} == {2_000_000}
    assert {each.keys for each in found.at(keys=7).values()} == {7}
    assert list(found.at()) == [candidate.name for candidate in CANDIDATES]


@pytest.mark.parametrize("wrong", [{"load": 0.0}, {"load": float("nan")}, {"keys": -1}, {"seeds": 0}])
def test_what_makes_no_sense_is_refused_by_name(asked, wrong):
    with pytest.raises(ScenarioError, match=next(iter(wrong))):
        cells.costed(**{**asked, **wrong})


def test_a_price_list_that_is_not_there_is_named(asked):
    with pytest.raises(PriceError, match=r"nowhere\.toml: cannot be read"):
        cells.costed(**asked, prices="nowhere.toml")


def test_the_cheapest_shares_its_state_and_the_simplest_of_equal_ones_is_named(found):
    assert cheapest(found.at()) == "redis"
    hybrid, redis = found.at()["hybrid strong"], found.at()["redis"]
    assert hybrid.price.store == redis.price.store
    assert hybrid.price.node_processor > redis.price.node_processor, "its node does more beside the question"
    equal = replace(hybrid, price=redis.price)
    assert cheapest({"redis": redis, "hybrid strong": equal}) == "redis"
    alone = {"memory": found.at()["memory"]}
    assert cheapest(alone) == "memory"


def test_one_key_more_takes_the_second_server(found):
    second = second_server(found, "redis")
    assert second is not None
    assert [found.at(keys=keys)["redis"].servers_by_memory for keys in (second - 1, second)] == [1, 2]
    assert second_server(found, "memory") is None
    assert second < MOST_KEYS


# What the page says ----------------------------------------------------------------------------------------------------


def test_the_first_output_is_the_answer_with_a_table_of_all_candidates(shown, found):
    said = words(shown[0])
    capacities = found.at()
    least = capacities[cheapest(capacities)]
    price = format_money(least.price.per_month, "USD")
    assert said.startswith(f"At {least.load.peak:,.10g} requests in the busiest second and 2,000,000 keys on 4 nodes, redis")
    assert f"costs least of the candidates that share state: {price} a month" in said
    for each in capacities.values():
        parts_of = (each.price.store, each.price.node_memory, each.price.node_processor, each.price.network)
        cells = " ".join(format_money(part, "").strip() for part in parts_of)
        assert f"{each.candidate} {format_money(each.price.per_month, 'USD')} {cells}" in said
    assert "memory has no server" in said
    assert f"the example that ships with ratesim, in USD, of {Prices.load().date.isoformat()}" in said


def test_every_need_stands_in_the_table(shown, found):
    said = words(shown[2])
    for each in found.at().values():
        if each.store != "none":
            assert f"{each.candidate} {each.operations:,.4g} {each.connections:,} " in said
            assert f"{format_bytes(each.store_bytes)}" in said
            assert f"{each.server_rate:,.0f} requests/s" in said


def test_what_partitions_take_and_spare_is_that_of_the_capacities(shown, found):
    said = words(shown[5])
    for keys in cells.KEYS:
        each = found.at(keys=keys)["postgres"].partitions
        figures = " ".join(format_percent(value) for value in (each.deleting, each.by_time, each.by_hash))
        least = "by time" if each.by_time < each.deleting else "none"
        assert f"{keys:,} {each.expired:,.4g} {figures} {least}" in said


def test_every_figure_of_capacity_can_be_read_and_heard(shown):
    figures = re.findall(r"<svg .*?</svg>", "\n".join(shown), flags=re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > 80
        assert "USD" in root.get("aria-label")


def test_the_title_of_the_growth_is_what_the_prices_say(shown, found):
    alt = re.search(r'aria-label="([^"]*)"', shown[1])[1]
    first = cheapest(found.at())
    assert alt.startswith(f"{first} costs least")


def test_what_a_price_is_made_of_is_shown_without_controls_as_asked_for(shown):
    assert "3 times the traffic, 2,000,000 keys, wrong decisions cost nothing" in words(shown[4])


def test_the_same_page_comes_of_the_line_that_it_ends_with(shown, asked):
    said = words(shown[-1])
    assert "ratesim notebook capacity -p scenario" in said
    for name, value in {"keys": 2000000, "load": 3, "network": "cross_zone", "seed": 5}.items():
        assert f"-p {name} {value}" in said


# What comes from outside -----------------------------------------------------------------------------------------------


def test_a_hostile_candidate_or_currency_is_only_text(found):
    rows = {HOSTILE if name == "redis" else name: rows for name, rows in found.rows.items()}
    rows[HOSTILE] = [row | {"candidate": HOSTILE} for row in rows[HOSTILE]]
    hostile = replace(found, rows=rows, prices=found.prices.model_copy(update={"currency": HOSTILE}))
    pages = everything(hostile)
    for page in pages:
        assert "<script" not in page
        assert "\x1b" not in page
    assert "&lt;script&gt;" in pages[0]
    for figure in re.findall(r"<svg .*?</svg>", "\n".join(pages), flags=re.DOTALL):
        ElementTree.fromstring(figure)


def test_a_file_of_prices_is_named_as_it_was_given_and_no_more(asked, tmp_path):
    from importlib import resources

    example = (resources.files("ratesim.recommendation.assess") / "example_prices.toml").read_text("utf-8")
    mine = tmp_path / "mine <b>.toml"
    mine.write_text(example.replace('"USD"', '"EUR"'), "utf-8")
    page = cells.answer(cells.costed(**{**asked, "prices": str(mine)})).data
    assert "mine &lt;b&gt;.toml" in page
    assert "EUR" in page
    assert "USD" not in page


def test_every_number_in_the_prose_is_in_a_table_or_of_the_capacities(shown, found):
    capacities = found.at()
    least = capacities[cheapest(capacities)]
    dear = max(capacities.values(), key=lambda each: each.price.per_month)
    parts = [getattr(dear.price, part) for part in PARTS]
    given = [
        f"{format_amount(least.load.peak)} {found.keys:,} {found.scenario.deployment.nodes} nodes, {found.load:g} times",
        *(f"{each.server_end:,.0f}" for each in capacities.values() if each.server_end),
        f"{second_server(found, least.candidate):,}",
        format_percent(max(parts) / dear.price.per_month),
        *(text for _, text in cells.FORMULAE),
        "2 cores",
    ]
    assert audit(shown, given, [each.name for each in CANDIDATES]) > 0.5
