"""The notebook on backends: executed small, its comparison is what the storages promise; it says what its numbers say."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from xml.etree import ElementTree

import pandas as pd
import pytest
from audit import audit

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.backends import cells
from ratesim.pages.backends.analysis import NAMES, BackendResult, Comparison, named
from ratesim.pages.scenario_parameters import scenario_from_parameters
from ratesim.simulation.analysis.limit_pressure import LimitPressure
from ratesim.simulation.scenario.scenario import ScenarioError

pytestmark = pytest.mark.slow  # whole analyses

LINE = '10.0.0.{} - - [17/May/2015:10:{:02d}:{:02d} +0000] "GET /a HTTP/1.1" 200 1 "-" "x"\n'
RECIPE = """
name = "<script>alert(1)</script>"
seed = 3
[workload]
requests_per_second = 40
keys = 5
duration = "20s"
[limit]
rate = "4/second"
[deployment]
nodes = 4
"""
NOTEBOOK = "backends.ipynb"
SMALL = {"scenario": "recipe.toml"}
SERVERS = ("redis", "postgres")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("backends") / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def executed(recipe, execute_here):
    return execute_here(NOTEBOOK, SMALL, recipe.parent)


@pytest.fixture(scope="module")
def found(recipe) -> Comparison:
    return cells.compared(scenario=str(recipe))


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def of(found: Comparison, name: str) -> BackendResult:
    return next(each for each in found.seen if each.name == name)


# What is compared -------------------------------------------------------------------------------------------------------


def test_every_backend_and_every_consistency_competes(found):
    assert {each.backend for each in found.seen} == {"memory", "redis", "postgres", "hybrid"}
    told = {re.search(r"consistency=(\w+)", each.row["storage"])[1] for each in found.seen if each.backend == "hybrid"}
    assert told == {"strong", "lease", "session", "eventual"}
    assert [each.name for each in found.seen] == list(NAMES)


def test_one_node_has_no_use_for_sticky_routing(recipe):
    alone = scenario_from_parameters(str(recipe), nodes=1)
    assert [each.name for each in named(alone, NAMES)] == [name for name in NAMES if name != "memory, sticky"]


def test_all_get_the_same_requests(found):
    assert {each.row["requests"] for each in found.seen} == {found.requests}
    assert all(len(each.latencies) == found.requests for each in found.seen)


def test_stores_that_decide_admit_nothing_too_much_and_memories_that_know_nothing_of_each_other_most(found):
    for name in ("redis", "postgres", "hybrid strong", "hybrid lease 1 s", "memory, sticky"):
        assert of(found, name).over == 0.0
    assert of(found, "memory").over == max(each.over for each in found.seen) > 0.1
    assert 0.0 < of(found, "hybrid eventual 100 ms").over < of(found, "hybrid eventual 1 s").over


def test_memory_asks_no_store_and_a_store_alone_is_asked_once(found):
    assert of(found, "memory").operations == of(found, "memory").store == 0.0
    assert of(found, "redis").operations == of(found, "postgres").operations == 1.0
    for each in found.seen:
        assert each.node > 0.0


def test_the_same_seed_gives_the_same_comparison_and_another_one_another(found, recipe):
    again = cells.compared(scenario=str(recipe), seed=3)
    other = cells.compared(scenario=str(recipe), seed=4)
    assert pd.DataFrame([each.row for each in again.seen]).equals(pd.DataFrame([each.row for each in found.seen]))
    assert other.requests != found.requests


# What is asked ----------------------------------------------------------------------------------------------------------


def test_a_log_takes_the_place_of_the_traffic_and_needs_a_limit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "access.log").write_text("".join(LINE.format(i % 3, i // 60, i % 60) for i in range(300)))
    with pytest.raises(ScenarioError, match="limit: say what is allowed"):
        scenario_from_parameters(log="access.log")
    scenario = scenario_from_parameters(log="access.log", limit="5/minute", nodes=2, busiest="2m", key="endpoint")
    assert (scenario.name, scenario.limit.algorithm) == ("access.log", "sliding_window")
    assert (scenario.limit.rate, scenario.deployment.nodes, scenario.workload.key) == ("5/minute", 2, "endpoint")
    trace = scenario.trace()
    assert list(trace.keys) == ["/a"]
    assert len(trace) < 300


def test_what_is_not_said_stays_as_the_scenario_has_it(recipe):
    scenario = scenario_from_parameters(str(recipe), limit="9/minute")
    assert (scenario.limit.rate, scenario.deployment.nodes, scenario.workload.keys) == ("9/minute", 4, 5)


def test_what_cannot_be_is_refused_by_name(recipe):
    with pytest.raises(ScenarioError, match=r"network 'moon': known are loopback"):
        scenario_from_parameters(str(recipe), network="moon")
    with pytest.raises(ScenarioError, match="nodes"):
        scenario_from_parameters(str(recipe), nodes=-1)
    with pytest.raises(ScenarioError, match="busiest"):
        scenario_from_parameters(str(recipe), busiest="soon")


# What the page says -----------------------------------------------------------------------------------------------------


def test_the_first_output_is_the_answer_and_says_what_the_numbers_say(shown, found):
    said = words(shown[0])
    fast = min(found.seen, key=lambda each: each.p99)
    exact = min((each for each in found.seen if each.over == 0.0), key=lambda each: each.p99)
    assert said.lower().startswith(
        f"{fast.name} answers fastest. Its 99th percentile is {format_seconds(fast.p99)}. It has".lower()
    )
    if fast.over:
        assert (
            f"candidates without over-admission, {exact.name} answers fastest. "
            f"Its 99th percentile is {format_seconds(exact.p99)}" in said
        )
    assert f"{found.requests:,} requests for 5 keys. The limit is 4/second for each key" in said


def test_every_candidate_has_its_row(shown, found):
    said = words(shown[1])
    for each in found.seen:
        row = each.row
        assert f"{each.name} {format_seconds(row['latency_p50'])} {format_seconds(row['latency_p99'])}" in said
        assert (
            f"{format_percent(row['over_admission'])} {format_percent(row['false_denial'])} {1 + row['worst_excess']:.2f} ×"
            in said
        )


def test_every_figure_of_backends_can_be_read_and_heard(shown):
    figures = re.findall(r"<svg .*?</svg>", "\n".join(shown), flags=re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img"
        for name in ("memory", "redis", "postgres", "hybrid lease 1 s"):
            assert name in root.get("aria-label")


def test_a_limit_that_hardly_binds_is_said_to(found):
    loose = replace(found, limit_pressure=LimitPressure(0.0, False, "3/second", 0.0, 0.02))
    said = words(cells.answer(loose).data)
    assert "too small to tell candidates apart by their over-admission. 3/second would deny 2 %." in said
    assert "too small" not in words(cells.answer(found).data)


def test_a_turn_to_a_far_network_makes_stores_slower_and_not_memory(found):
    knobs = cells.elsewhere(found)
    near, far = (
        words(knobs.turn(network=network).data) + knobs.turn(network=network).data
        for network in ("loopback", "cross_region")
    )
    assert "network loopback" in near
    assert "network cross_region" in far

    def median(told, name):
        value, unit = re.search(rf"{name} ([\d.]+) (µs|ms|s), ", told).groups()
        return float(value) * {"µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]

    assert median(far, "redis") > 10 * median(near, "redis")
    assert median(far, "memory") == median(near, "memory")


def test_the_last_line_makes_the_page_again(shown, found):
    assert "Command ratesim notebook backends -p scenario recipe.toml Seeds 3 Machine" in words(shown[-1])


def test_names_of_a_scenario_are_text(recipe):
    text = RECIPE + '[[candidates]]\nname = "a+b"\nstorage = "memory://"\n'
    (recipe.parent / "own.toml").write_text(text)
    own = cells.compared(scenario=str(recipe.parent / "own.toml"))
    assert [each.name for each in own.seen] == ["a+b"]
    evil = replace(own, given={"scenario": "<img src=x>'; rm"}, seen=(_named(own.seen[0], "<b>"),))
    for part in (cells.answer, cells.table, cells.quick, cells.correct, cells.where, cells.reproduce):
        html = part(evil).data
        assert "<b>" not in html
        assert "<img" not in html


def _named(seen: BackendResult, name: str) -> BackendResult:
    return replace(seen, name=name)


def test_a_latency_above_the_load_up_to_which_the_model_was_validated_is_a_lower_bound(found):
    redis = of(found, "redis")
    above = replace(redis.error, source="profile", limit=0.001, rounds=9, p50=0.0, p99=0.5)
    above = replace(above, p50_is_lower_bound=True, p99_is_lower_bound=True)
    seen = tuple(replace(each, error=above) if each is redis else each for each in found.seen)
    table = words(cells.table(replace(found, seen=seen)).data)
    assert f"at least {format_seconds(redis.row['latency_p50'])} at least {format_seconds(0.5 * redis.p99)}" in table
    assert "redis was validated up to 0.1 % utilization in 9 rounds" in table
    assert "redis at least " in cells.quick(replace(found, seen=seen)).data
    assert "or more" in words(cells.answer(replace(found, seen=seen)).data)


def test_every_number_in_the_prose_is_in_a_table_or_a_figure(shown, found):
    exact = sum(each.over == 0.0 for each in found.seen)
    explained = [(each.node + each.store) / each.latencies.mean for each in found.seen if each.backend in SERVERS]
    given = [
        f"{found.requests:,} requests for {found.keys:,} keys, {found.scenario.limit.rate}",
        f"{found.scenario.deployment.nodes} nodes; {exact} of {len(found.seen)}; the first {cells.HEAD:,} requests",
        format_percent(found.limit_pressure.exact_denied_share),
        *(format_percent(1.0 - part) for part in explained),
        *(format_percent(each.error.utilization) for each in found.seen),
        *(format_percent(each.error.p99) for each in found.seen if each.error.source != "unknown"),
    ]
    assert audit(shown, given, NAMES) > 0.5
