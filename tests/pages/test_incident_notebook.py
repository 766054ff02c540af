"""The notebook on the incident: executed small, its curves have the shape that is expected of them, and it says so."""

from __future__ import annotations

import math
import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest
from audit import audit

from ratesim.formatting import format_amount, format_percent, format_seconds
from ratesim.limit import Limit
from ratesim.pages.incident import advice_cells, cells
from ratesim.pages.incident.analysis import MIDDLE, GatewaySetup, simulated
from ratesim.pages.incident.rule import bends, expected, interval_for, most, operations, rule
from ratesim.pages.incident.sources import ASSUMED, GATEWAY, KONG_FLOOR, KONG_LEAST, PUBLISHED, PUBLISHED_LIMIT, RECORD

pytestmark = pytest.mark.slow  # whole analyses

SMALL = {"limit": "200/second", "offered": 3.0, "seed": 3, "seeds": 1, "windows": 2, "points": 5, "load_seconds": 2}
NOTEBOOK = "incident.ipynb"
LIMIT = Limit(1000.0, 1.0, "fixed_window")


@pytest.fixture(scope="module")
def found():
    return cells.replayed(**SMALL)


def words(html):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


# What was simulated ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["replicas", "offered"])
def test_between_its_bends_the_overshoot_is_what_the_rule_says(found, part):
    rows = found.beside(part)
    within = rows[rows["holds"]]
    assert len(within) >= 4
    # A window admits whole requests, at random times: the standard deviation is about that of a Poisson count.
    slack = 3.0 * np.sqrt(within["rule"] / SMALL["windows"]) + 2.0
    assert ((within["overshoot"] - within["rule"]).abs() <= 0.15 * within["rule"] + slack).all()


@pytest.mark.parametrize("part", ["replicas", "offered", "phases"])
def test_the_overshoot_is_what_is_expected_on_both_sides_of_the_lower_bend(found, part):
    rows = found.beside(part)
    rows = rows[rows["interval"] <= 0.6 * rows["high"]]
    slack = 3.0 * np.sqrt(rows["expected"] / SMALL["windows"]) + 2.0
    assert ((rows["overshoot"] - rows["expected"]).abs() <= 0.15 * rows["expected"] + slack).all()


def test_below_the_lower_bend_every_replica_admits_about_one_request_too_much(found):
    rows = found.beside("replicas")
    shortest = rows.loc[rows.groupby("replicas")["interval"].idxmin()]
    for row in shortest[shortest["replicas"] >= 8].itertuples():
        assert row.overshoot > 2.0 * row.rule
        assert 0.5 * (row.replicas - 1) < row.overshoot < 2.0 * (row.replicas - 1)


def test_above_the_upper_bend_the_overshoot_is_all_that_is_asked_or_a_limit_for_each_other_replica(found):
    for part in ("replicas", "offered"):
        rows = found.beside(part)
        longest = rows.loc[rows.groupby(["replicas", "offered"])["interval"].idxmax()]
        for row in longest.itertuples():
            limit = Limit(row.rate, row.period, "fixed_window")
            end = most(limit, row.replicas, row.offered)
            assert row.rule > 1.5 * end
            assert row.overshoot == pytest.approx(end, abs=0.1 * end + 4.0 * math.sqrt(row.offered / SMALL["windows"]))


def test_no_window_is_admitted_more_than_views_of_two_intervals_and_an_answer_allow(found):
    rows = found.beside("phases")
    rows = rows[rows["holds"] & (rows["network"] == "same_zone")]
    assert set(rows["spread"]) == {True, False}
    oldest = 2.0 * rows["interval"] + found.answers["same_zone"]
    seen = rows["slope"] * oldest
    assert (rows["worst"] <= seen + 4.0 * np.sqrt(seen)).all()


def test_far_from_redis_no_interval_helps(found):
    rows = found.beside("phases")
    far = rows[rows["network"] == "cross_region"].iloc[0]
    assert far["interval"] < 0.1 * found.answers["cross_region"]
    assert far["overshoot"] / far["slope"] == pytest.approx(2.0 * found.answers["cross_region"], rel=0.2)


def test_asking_for_every_request_never_admits_too_much_and_never_syncing_costs_redis_nothing(found):
    rows = found.part("replicas")
    assert (rows[rows["interval"] == 0.0]["excess"] == 0.0).all()
    assert (rows[np.isinf(rows["interval"])]["operations"] == 0.0).all()


def test_a_fixed_window_repeats_its_overshoot_and_a_bucket_pays_it_back(found):
    debt = found.part("debt").pivot_table(index="window", columns="algorithm", values="excess")
    total = debt.sum()
    assert total["fixed_window"] > 1.2 * total["sliding_window"] > 2.0 * total["token_bucket"]
    first = rule(8, found.offered, 0.1)
    assert debt["fixed_window"].mean() == pytest.approx(first, rel=0.25)
    assert abs(total["token_bucket"]) < 1.5 * first


def test_the_load_on_redis_falls_with_the_interval_and_bends_at_one_request_per_interval(found):
    load = found.part("load")
    synced = load[load["interval"] > 0.0]
    for (keys, reads), of in synced.groupby(["keys", "reads"]):
        of = of.sort_values("interval")
        assert (np.diff(of["operations"]) <= 0.0).all()
        assert of["operations"].iloc[-1] < 0.9 * of["operations"].iloc[0]
        if not reads:
            asked = of["offered"] / of["replicas"] / keys
            gathered = [operations(rate, d) for rate, d in zip(asked, of["interval"], strict=True)]
            # Beside the flushes a replica reads each key once, and its last flush is of an interval that is not over.
            requests = of["offered"] * SMALL["load_seconds"]
            once = 2.0 * of["replicas"] * keys / requests
            assert (of["operations"] >= 0.9 * np.array(gathered)).all()
            assert (of["operations"] <= 1.1 * np.array(gathered) + once).all()
    reading = synced[synced["reads"]].sort_values("interval")
    assert reading["operations"].iloc[0] > 1.7


def test_the_chosen_interval_keeps_what_was_allowed(found):
    rows = found.beside("chosen")
    assert len(rows) >= 6
    slack = 3.0 * np.sqrt(rows["expected"] / SMALL["windows"]) + 2.0
    assert ((rows["overshoot"] - rows["expected"]).abs() <= 0.15 * rows["expected"] + slack).all()
    allowed = (rows["expected"] / found.limit.rate).round(6)
    assert set(allowed) <= {0.01, 0.05, 0.2}


def test_one_published_number_is_fitted_and_the_other_predicted(found):
    rows = found.beside("published")
    (fitted, much), (predicted, little) = PUBLISHED.items()
    at = {d: rows[rows["interval"] == d]["overshoot"].to_numpy() / 1000.0 for d in PUBLISHED}
    assert at[fitted] == pytest.approx(much, rel=0.25)
    assert (at[predicted] < at[fitted] / 2.5).all()
    assert (at[predicted] > little / 2.0).all()


def test_the_same_seed_gives_the_same_decisions_and_another_does_not():
    setting = GatewaySetup(part="", limit=LIMIT, replicas=3, offered=1500.0, interval=0.05)
    once, again, other = (simulated([setting], [seed], 2) for seed in (1, 1, 2))
    assert once.equals(again)
    assert once["excess"].to_list() != other["excess"].to_list()


# What is expected ------------------------------------------------------------------------------------------------------


def test_the_rule_knows_whose_rate_it_is():
    assert rule(2, 3000.0, 0.1) == pytest.approx(150.0)
    assert rule(16, 3000.0, 0.1) == pytest.approx(15 * 187.5 * 0.1)


def test_expected_is_the_rule_between_the_bends_and_its_ends_beyond():
    low, high = bends(LIMIT, 8, 3000.0, 0.001)
    middle = math.sqrt(low * high)
    assert expected(LIMIT, 8, 3000.0, middle, 0.001) == pytest.approx(rule(8, 3000.0, middle), rel=0.05)
    assert expected(LIMIT, 8, 3000.0, 1e-6, 0.001) == pytest.approx(rule(8, 3000.0, low), rel=0.01)
    assert expected(LIMIT, 8, 3000.0, 10 * high, 0.001) == most(LIMIT, 8, 3000.0) == 2000.0


def test_nobody_admits_more_than_is_asked_nor_more_than_his_own_count_of_the_limit():
    assert most(LIMIT, 8, 1100.0) == pytest.approx(100.0)
    assert most(LIMIT, 4, 20_000.0) == 3000.0
    assert most(LIMIT, 8, 900.0) == 0.0


def test_an_interval_is_chosen_from_the_overshoot_that_is_allowed():
    chosen = interval_for(LIMIT, 8, 3000.0, 200.0, 0.001)
    assert expected(LIMIT, 8, 3000.0, chosen, 0.001) == pytest.approx(200.0)
    assert interval_for(LIMIT, 8, 3000.0, 5.0, 0.001) is None
    assert interval_for(LIMIT, 8, 1100.0, 150.0, 0.001) == math.inf


def test_a_key_costs_an_operation_per_interval_until_it_costs_one_per_request():
    assert operations(100.0, 10.0) == pytest.approx(1e-3)
    assert operations(100.0, 1e-6) == pytest.approx(1.0, rel=1e-3)
    assert operations(100.0, 0.01) == pytest.approx(1.0 - math.exp(-1.0))


# What the page says ----------------------------------------------------------------------------------------------------


def test_the_first_output_is_the_answer_and_says_what_the_numbers_say(shown, found):
    said = words(shown[0])
    rows = found.beside("replicas")
    off = (rows["overshoot"] / rows["rule"] - 1.0)[rows["holds"]].abs().max()
    low, high = bends(found.limit, 8, found.offered, found.answers["same_zone"])
    assert (
        f"From {format_seconds(3 * low)} to {format_seconds(0.6 * high)} this rule is right within "
        f"{format_percent(off)} here." in said
    )
    assert "tolerable overshoot / ((replicas − 1) × requests per second at one replica)" in said


def test_every_fact_has_its_address_and_what_is_assumed_is_said(shown):
    for _, name, where in RECORD:
        assert f'href="{where}"' in shown[1]
        assert name in shown[1]
    assert "no user's report of an outage" in words(shown[1])
    assert "Assumed here" in words(shown[1])


def test_every_figure_of_the_incident_can_be_read_and_heard(shown):
    figures = re.findall(r"<svg .*?</svg>", "\n".join(shown), flags=re.DOTALL)
    assert len(figures) == 5
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > 80


def test_the_published_numbers_stand_beside_ours(shown):
    said = words(shown[4])
    assert "published not stated 13.1 % 3.7 %" in said
    assert "2,350 requests per second asked of the other replicas" in said


def test_the_page_names_every_interval_that_it_chose(shown, found):
    said = words(shown[8])
    assert said == words(advice_cells.choose(found).data)
    for row in found.beside("chosen").itertuples():
        assert format_seconds(row.interval) in said
    assert "no interval suffices" in said


def test_every_number_in_the_prose_is_in_a_table_or_of_the_replay(shown, found):
    rows, debt, phase = found.beside("replicas"), found.part("debt"), found.beside("phases")
    middle = rows[rows["replicas"] == MIDDLE]
    within, shortest, longest = rows[rows["holds"]], middle.iloc[0], middle.iloc[-1]
    many = rows[(rows["replicas"] == rows["replicas"].max()) & rows["holds"]].iloc[0]
    far = phase[phase["network"] != cells.NEAR].iloc[0]
    near = phase[(phase["network"] == cells.NEAR) & phase["holds"]]
    over_the_rule = near.assign(mean=near["overshoot"] / near["rule"], most=near["worst"] / near["rule"]).groupby("spread")
    synced = found.part("load")[found.part("load")["interval"] > 0.0]
    reading = synced[synced["reads"]].iloc[0]
    always = found.part("load")[found.part("load")["interval"] == 0.0]["utilization"].mean()
    chosen = found.beside("chosen")
    allowed = chosen["expected"].round(6)
    (first, much), (second, little) = PUBLISHED.items()
    slope = (much - little) * PUBLISHED_LIMIT.rate / (first - second)
    runs = found.part("published").groupby(["replicas", "interval"])["excess"]
    seconds = [3 * middle["low"].iloc[0], 0.6 * middle["high"].iloc[0], MIDDLE / found.offered, shortest["interval"]]
    seconds += [middle["high"].iloc[0], middle["low"].iloc[0], longest["interval"], many["interval"], far["interval"]]
    seconds += [
        *found.answers.values(),
        much * PUBLISHED_LIMIT.rate / slope - first,
        reading["interval"],
        reading["latency"],
    ]
    seconds += [GATEWAY, KONG_FLOOR, KONG_LEAST, *PUBLISHED, debt["interval"].iloc[0]]
    requests = [shortest["overshoot"], shortest["rule"], longest["overshoot"], longest["rule"], many["rule"]]
    requests += [many["overshoot"], far["overshoot"], far["rule"]]
    requests += [(many["replicas"] - 1) * rate * many["interval"] for rate in (found.limit.rate, found.offered)]
    requests += [rule(int(debt["replicas"].iloc[0]), float(debt["offered"].iloc[0]), float(debt["interval"].iloc[0]))]
    windows = debt.assign(first=debt["window"] == 0).groupby(["algorithm", "first"])["excess"].mean()
    given = [
        *map(format_seconds, seconds),
        *(format_amount(value, 2) for value in requests),
        *(f"{abs(value):,.0f}" for value in windows),
        format_percent((within["overshoot"] / within["rule"] - 1.0).abs().max()),
        *(f"{shortest['operations'] / shortest['admitted']:.2g}", f"{slope:,.0f}", f"{middle['slope'].iloc[0]:,.0f}"),
        *(f"{found.offered / MIDDLE * GATEWAY:,.2g}", f"{found.offered / many['replicas']:,.3g}", f"{many['replicas']:.0f}"),
        *(f"{found.limit}", f"{found.offered:,.0f}", f"{debt['offered'].iloc[0]:,.0f}", f"{debt['replicas'].iloc[0]}"),
        f"{100 * float((runs.std() / runs.count() ** 0.5).max()) / PUBLISHED_LIMIT.rate:.1f}",
        *(f"{value:.2f}" for value in (*over_the_rule["mean"].mean(), *over_the_rule["most"].max())),
        *(f"{value:.2f}" for value in ((chosen["overshoot"] / allowed).min(), (chosen["overshoot"] / allowed).max())),
        f"{(chosen['worst'] / allowed).max():.2f}",
        *(f"{value:.2g}" for value in synced["operations"]),
        *(f"{reading['utilization'] / always:.1f}", f"{synced['replicas'].iloc[0]}", f"{synced['offered'].iloc[0]:g}"),
        *(f"{synced['keys'].min()} {synced['keys'].max()}", f"{1 / GATEWAY:g} {1 / KONG_LEAST:g}", f"{MIDDLE}"),
        *(what for what, _, _ in RECORD),
        ASSUMED,
    ]
    assert audit(shown, given) > 0.5
