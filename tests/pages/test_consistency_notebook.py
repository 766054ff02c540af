"""The notebook on consistency: executed small, its map is what theory says of it, and it says what its numbers say."""

from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree

import pandas as pd
import pytest
from audit import audit

from ratesim.formatting import format_amount, format_percent, format_seconds
from ratesim.pages.consistency import cells
from ratesim.pages.consistency.analysis import POLICIES, Map, cheapest, trial

pytestmark = pytest.mark.slow  # whole analyses

SMALL = {"limit": "40/second", "requests": 600.0, "keys": 8, "skew": 1.0, "nodes": 4, "seed": 3, "seeds": 1, "duration": 2.0}
NOTEBOOK = "consistency.ipynb"


@pytest.fixture(scope="module")
def found() -> Map:
    return cells.mapped(**SMALL)


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def of(found: Map, policy: str) -> pd.Series:
    rows = found.part("policies")
    return rows[rows["policy"] == policy].iloc[0]


# What was simulated ----------------------------------------------------------------------------------------------------


def test_redis_strong_and_leases_admit_nothing_too_much_and_all_others_do(found):
    rows = found.part("policies")
    assert set(rows["policy"]) == {policy.name for policy in POLICIES}
    exact = set(rows[rows["over"] == 0.0]["policy"])
    assert {"Redis", "strong", "lease"} <= exact
    assert not exact & {"memory alone", "eventual, 1 s", "eventual, 100 ms"}


def test_the_longer_the_interval_the_more_is_admitted_and_the_less_is_asked(found):
    rows = [of(found, f"eventual, {interval}") for interval in ("10 ms", "100 ms", "1 s")]
    assert rows[0]["over"] < rows[1]["over"] < rows[2]["over"]
    assert rows[0]["operations"] > rows[1]["operations"] > rows[2]["operations"]


def test_leases_answer_as_fast_as_memory_and_ask_less_than_for_every_request(found):
    lease, redis = of(found, "lease"), of(found, "Redis")
    assert lease["p50"] < 0.1 * redis["p50"]
    assert lease["operations"] < redis["operations"]
    assert lease["denied"] < 0.03


def test_memory_alone_admits_most_and_asks_nothing(found):
    rows, alone = found.part("policies"), of(found, "memory alone")
    assert alone["operations"] == 0.0
    assert alone["over"] == rows["over"].max()


def test_more_nodes_ask_more_for_the_same_traffic(found):
    for _, rows in found.part("nodes", "nodes").groupby("policy", sort=False):
        assert rows["operations"].is_monotonic_increasing


def test_the_cheapest_is_the_one_that_asks_least_of_those_that_fit():
    rows = pd.DataFrame(
        {
            "policy": ["a", "b", "c"],
            "over": [0.0, 0.0, 0.5],
            "p99": [1e-3, 1e-3, 1e-6],
            "operations": [1.0, 0.5, 0.1],
        }
    )
    assert cheapest(rows, 0.0, 1e-2) == "b"
    assert cheapest(rows, 1.0, 1e-2) == "c"
    assert cheapest(rows, 0.0, 1e-6) is None


# What the page says ----------------------------------------------------------------------------------------------------


def test_the_first_output_is_the_answer_to_the_readers_requirements(shown, found):
    said = words(shown[0])
    chosen = cheapest(found.part("policies"), 0.01, 0.002)
    assert said.lower().startswith("no policy" if chosen is None else chosen.lower())
    lease, slow = of(found, "lease"), of(found, "eventual, 1 s")
    assert f"It needs {lease['operations']:.2g} operations at Redis per request." in said
    assert f"At a sync interval of 1 s, it needs {slow['operations']:.2g} operations per request" in said
    assert f"its over-admission is {format_percent(slow['over'])}. At a sync interval of 10 ms" in said
    assert f"asks Redis for every request. Its median latency is {format_seconds(of(found, 'strong')['p50'])}." in said


def test_every_policy_stands_in_the_table_with_what_it_costs(shown, found):
    said = words(shown[1])
    for row in found.part("policies").itertuples():
        assert (
            f"{row.policy} {format_percent(row.over)} {format_percent(row.denied)} {format_seconds(row.p50)} "
            f"{format_seconds(row.p99)}" in said
        )


def test_every_figure_of_consistency_can_be_read_and_heard(shown):
    figures = re.findall(r"<svg .*?</svg>", "\n".join(shown), flags=re.DOTALL)
    assert len(figures) == 5
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > 80


def test_a_reader_finds_the_cheapest_policy_for_what_is_bearable(shown, found):
    said = words(shown[6])
    rows = found.part("policies")
    for bearable in (0.0, 0.01, 1.0):
        assert (cheapest(rows, bearable, 0.01) or "none") in said
    assert f"nothing {cheapest(rows, 0.0, 1e-4) or 'none'}" in said


# The knobs ---------------------------------------------------------------------------------------------------------------


def test_the_longer_the_interval_the_more_the_busiest_key_gets(found):
    seldom, often = (trial(found.traffic, interval, found.seed) for interval in (1.0, 0.003))
    assert 1.0 <= often.times < seldom.times
    assert len(seldom.asked) == len(often.asked) > len(seldom.admitted)
    assert f"{format_seconds(1.0)} at 4 nodes: the busiest key gets {seldom.times:.2f} times its limit" in turned(
        found, interval=1.0
    )


def test_one_node_gives_nobody_more_than_the_limit(found):
    assert "at 1 node: the busiest key gets 1.00 times" in turned(found, nodes=1)


def turned(found: Map, **values: object) -> str:
    """What the picture says when a knob is turned."""
    return unescape(cells.turn(found).turn(**values).data)


def test_every_number_in_the_prose_is_in_a_table_or_a_figure(shown, found):
    rows, tried = found.part("policies"), trial(found.traffic, 0.1, found.seed)
    given = [
        f"{SMALL['requests']:g} {SMALL['keys']} {SMALL['nodes']} {SMALL['limit']} {SMALL['skew']:g}",
        f"{(rows['p50'] < 1e-4).sum()} of {len(rows)} policies",
        *(f"{tried.times:.2f}", f"{format_percent(tried.row['over_admission'])}", format_seconds(tried.row["latency_p50"])),
        format_amount(tried.row["l2_operations_per_request"], 2),
        f"{found.part('nodes', 'nodes')['nodes'].max()} nodes",
    ]
    assert audit(shown, given) > 0.5  # Redis is a policy and the store of all others, so that its name tells no row
