"""The notebook on faults: executed small, faults do to each storage what they must, and it says what its numbers say."""

from __future__ import annotations

import math
import re
from html import unescape
from xml.etree import ElementTree

import pytest
from audit import audit

from ratesim.errors import ConfigurationError
from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.faults import cells
from ratesim.pages.faults.analysis import NAMES, FaultComparison, FaultRun, faults_of, standard, turned
from ratesim.simulation.results.run_result import aftermath
from ratesim.simulation.scenario.scenario import ScenarioError

pytestmark = pytest.mark.slow  # whole analyses

NOTEBOOK = "faults.ipynb"
SMALL = {"nodes": 4, "requests": 30.0, "keys": 4, "seed": 3}


@pytest.fixture(scope="module")
def found() -> FaultComparison:
    return cells.compare_under_faults(**SMALL)


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def of(found: FaultComparison, name: str) -> FaultRun:
    return next(each for each in found.candidates if each.name == name)


def during(found: FaultComparison, name: str, kind: str) -> dict:
    rows = of(found, name).phases
    return rows[rows["phase"].str.startswith(kind)].to_dict("records")[0]


# What breaks ------------------------------------------------------------------------------------------------------------


def test_unless_one_is_named_a_store_fails_over_a_node_crashes_and_nodes_are_cut_off_for_30_s():
    faults = standard(8)
    assert [fault.kind for fault in faults] == ["failover", "restart", "partition"]
    assert faults[2].duration == 30.0
    ends = [fault.start + fault.duration for fault in faults]
    assert all(end < fault.start for end, fault in zip(ends, faults[1:], strict=False))  # one after the other
    assert standard(1)[2].nodes == (0,)


def test_a_fault_that_is_named_takes_their_place():
    (fault,) = faults_of("slow", 3.0, 4.0, 8)
    assert (fault.kind, fault.start, fault.duration, fault.factor) == ("slow", 3.0, 4.0, 10.0)
    for kind in ("partition", "lossy", "crash", "failover", "restart", "clock_skew"):
        assert faults_of(kind, 3.0, 4.0, 8)[0].kind == kind


def test_what_cannot_break_is_refused_with_what_can():
    with pytest.raises(ScenarioError, match=r"fault 'meteor' at 1 s for 2 s.*partition, lossy, slow"):
        faults_of("meteor", 1.0, 2.0, 8)
    with pytest.raises(ScenarioError, match="at 1 s for -2 s"):
        faults_of("slow", 1.0, -2.0, 8)
    with pytest.raises(ConfigurationError, match="on_store_failure"):
        cells.compare_under_faults(on_store_failure="panic", requests=5.0)


# What was simulated -----------------------------------------------------------------------------------------------------


def test_every_request_is_counted_in_every_candidate(found):
    (asked,) = {int(each.faulty["requests"]) for each in found.candidates}
    assert [each.name for each in found.candidates] == list(NAMES)
    for each in found.candidates:
        assert int(each.series["offered"].sum()) == asked
        assert (each.series[["admitted", "denied", "failed"]].sum(axis=1) == each.series["offered"]).all()
        assert int(each.series["due"].sum()) == pytest.approx(each.healthy["exact_total"], rel=0.01)


def test_while_the_store_is_away_a_store_alone_decides_nothing_and_admits_nothing_too_much(found):
    for name in ("redis", "postgres"):
        assert during(found, name, "failover")["failed"] == during(found, name, "failover")["requests"]
        assert 0 < during(found, name, "partition")["failed"] < during(found, name, "partition")["requests"]
        assert during(found, name, "restart")["failed"] == 0
        assert of(found, name).over == (0.0, pytest.approx(0.0, abs=0.02))


def test_what_fails_after_a_fault_is_no_part_of_the_healthy_phase(found):
    """Clients leave the store alone for a while; a request that met that was harmed by the fault."""
    for each in found.candidates:
        rows = each.phases.set_index("phase")
        assert rows["failed"]["healthy"] == rows["fail_open"]["healthy"] == 0
        assert rows["requests"].sum() == each.faulty["requests"]
    assert of(found, "redis").around > 0
    assert during(found, "redis", "around")["requests"] < 4 * 30 * 3  # about 2 s after each of three faults


def test_where_nothing_is_decided_there_is_no_latency(found):
    away = during(found, "redis", "failover")
    assert away["failed"] == away["requests"]
    assert math.isnan(away["latency_p50"])
    assert "failover at 10 s 150 none none 100 % none none none" in words(cells.clients(found).data)


def test_hybrids_answer_every_request_and_open_they_admit_more_than_before(found):
    for name in NAMES:
        if name.startswith("hybrid"):
            assert of(found, name).failed == 0.0
    for name in ("hybrid strong", "hybrid lease 1 s"):
        before, after = of(found, name).over
        assert before == 0.0
        assert after > 0.05
        away = during(found, name, "failover")
        assert away["admitted"] == away["fail_open"] == away["requests"]


def test_closed_they_deny_all_and_local_they_keep_to_their_share(found):
    few = SMALL | {"requests": 10.0}
    closed, local = (cells.compare_under_faults(**few, on_store_failure=policy) for policy in ("fail_closed", "local"))
    away = during(closed, "hybrid strong", "failover")
    assert away["denied"] == away["requests"]
    assert of(closed, "hybrid strong").over[1] == pytest.approx(0.0, abs=0.02)
    denials = r"\d candidates deny requests that an exact limiter admits\. Hybrid [\w ]+ denies the most, "
    assert re.search(denials, words(cells.answer(closed).data))
    assert "Nothing changes for memory." in words(cells.answer(closed).data)
    assert of(closed, "hybrid strong").over[1] < of(local, "hybrid strong").over[1] < of(found, "hybrid strong").over[1]


def test_memory_notices_no_fault_of_a_store(found):
    alone = of(found, "memory")
    assert alone.failed == 0.0
    assert min(alone.over) > 0.1


# What the page says -----------------------------------------------------------------------------------------------------


def test_the_first_output_is_the_verdict_and_says_what_the_numbers_say(shown, found):
    said = words(shown[0])
    redis, postgres = of(found, "redis"), of(found, "postgres")
    if format_percent(redis.failed) == format_percent(postgres.failed):
        assert (
            f"With redis and postgres, {format_percent(redis.failed)} of the requests during the faults get no decision"
            in said
        )
    most = max((each for each in found.candidates if each.over[1] > 1.1 * each.over[0]), key=lambda each: each.over[1])
    assert (
        f"The over-admission of {most.name} is the largest, {format_percent(most.over[1])} instead of "
        f"{format_percent(most.over[0])}" in said
    )
    assert (
        "a failover at 10 s for 5 s, a restart of node 0 at 25 s for 5 s and a partition of node 0 at 40 s for 30 s" in said
    )
    assert "on_store_failure = fail_open" in said


def test_every_phase_of_every_candidate_stands_in_the_table(shown, found):
    said = words(shown[2])
    for each in found.candidates:
        for row in each.phases.to_dict("records"):
            assert f"{row['phase']} {row['requests']:,} " in said
            assert f"{format_seconds(row['latency_p50'])} {format_seconds(row['latency_p99'])}" in said


def test_every_figure_of_faults_can_be_read_and_heard(shown, found):
    figures = re.findall(r"<svg .*?</svg>", "\n".join(shown), flags=re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img"
        assert "hybrid lease 1 s" in root.get("aria-label")
    redis = of(found, "redis").during
    assert (
        f"redis {redis['admitted'].sum()} admitted, {redis['denied'].sum()} denied, {redis['failed'].sum()} failed"
        in shown[1]
    )


def test_a_turn_to_a_longer_fault_or_another_policy_shows_another_picture(found):
    knobs = cells.turn(found)
    pictures = [knobs.turn(on_store_failure=policy, duration=3.0).data for policy in ("fail_open", "fail_closed")]
    assert "on_store_failure = fail_closed" in words(pictures[1])
    assert pictures[0] != pictures[1]
    assert "for 10 s" in words(knobs.turn(duration=10.0).data)


def test_where_nothing_fails_it_says_so():
    calm = cells.compare_under_faults(
        fault="slow", start=2.0, duration=2.0, nodes=2, requests=10.0, keys=2, limit="100/second"
    )
    said = words(cells.answer(calm).data)
    assert said.startswith("Nothing changes for memory, redis, postgres, ")
    assert "candidates answers every request during the faults" in cells.over_time(calm).data
    assert "No candidate admits more with faults than without" in cells.too_much(calm).data


def test_slots_move_where_there_is_a_cluster():
    few = SMALL | {"requests": 10.0}
    found = cells.compare_under_faults("reshard", start=2.0, duration=4.0, **few)
    moved = {each.name: each.faulty["moved"] for each in found.candidates}
    assert moved["redis"] > 0
    assert moved["hybrid strong"] > 0
    assert moved["memory"] == moved["postgres"] == 0
    said = words(cells.answer(found).data)
    assert "Redis is a cluster of 3 primaries here" in said
    slow = cells.compare_under_faults("slow", 2.0, 2.0, **few)
    assert all(each.faulty["primaries"] <= 1 for each in slow.candidates)
    assert "cluster" not in words(cells.answer(slow).data)


def test_the_last_line_makes_the_page_again(shown):
    assert "Command ratesim notebook faults -p nodes 4 -p requests 30 -p keys 4 -p seed 3 Seeds" in words(shown[-1])


def test_every_number_in_the_prose_is_in_a_table_or_a_figure(shown, found):
    setting, leaking = found.setting, [each for each in found.candidates if each.over[1] > max(1.1 * each.over[0], 0.005)]
    outage = turned(setting, cells.TURNED, faults=faults_of("partition", 5.0, 3.0, setting.nodes))
    given = [
        f"{setting.requests:g} requests per second for {setting.keys} keys at {setting.nodes} nodes, {setting.limit}",
        *(f"{fault.start:g} s {fault.duration:g} s" for fault in setting.faults),
        f"{len(leaking)} candidates; {sum(not each.faulty['failed'] for each in found.candidates)} of {len(NAMES)}",
        format_seconds(aftermath(setting.candidate("redis"))),
        *(each.faulty["errors"] for each in found.candidates),
        *(format_percent(over) for each in outage for over in each.over),
        "no node reaches the store for 3 s",
    ]
    assert audit(shown, given, NAMES) > 0.35
