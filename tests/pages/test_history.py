"""Past reports as one page: every figure is the report's, changes are those of `ratesim diff`, and names are only text."""

from __future__ import annotations

import copy
import json
import re
from html import unescape
from xml.etree import ElementTree

import pytest

from ratesim.pages.history import cells
from ratesim.pages.history.analysis import Figure, HistoryError, read_history
from ratesim.pages.history.plots import over_time

HOSTILE = "<img src=x>$\\frac$\x1b[31m'\"&" + "x" * 3000
CELLS = (cells.answer, cells.reports, cells.trends, cells.changes, cells.skipped, cells.reproduce)


def interval(mean, half=0.0):
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": 3, "spread": half}


def contender(name, p99=2e-3, half=1e-4, over=0.0, cost=60.0, verdict="passes"):
    return {
        "candidate": name,
        "p99": interval(p99, half),
        "over_admission": interval(over),
        "worst_excess": interval(0.3),
        "false_denial": interval(0.0),
        "checks": [{"requirement": "p99", "verdict": verdict}],
        "cost": cost,
    }


def report(date, *contenders, scenario="shop", choice="redis", **changed):
    return {
        "schema_version": 3,
        "scenario": scenario,
        "limit": "10/minute, gcra",
        "currency": "USD",
        "deployment": {"nodes": 8},
        "traffic": {"requests": 1000.0},
        "requirements": {"p99": 0.002},
        "assessments": list(contenders or [contender("redis")]),
        "choice": choice,
        "verdict": f"Use {choice}.",
        "confidence": {"level": "high", "sentence": "Far from every threshold.", "disagreement": ""},
        "date": date,
        **changed,
    }


@pytest.fixture
def put(tmp_path):
    def put(path, document):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(document if isinstance(document, str) else json.dumps(document))

    return put


@pytest.fixture
def shop(put, tmp_path):
    """Three reports on one scenario and one on another, a file of an earlier version, and one that is none."""
    put("b/recommendation.json", report("2026-03-01", contender("redis", 2.05e-3)))
    put("a/recommendation.json", report("2026-01-05"))
    put("a/profile.json", {"schema_version": 9})  # of the report, and no report
    put("kept/april.json", report("2026-04-01", contender("memory", 1e-5, over=0.2), contender("redis"), choice="memory"))
    put("edge/recommendation.json", report("2026-02-01", contender("gcra", verdict="fails"), scenario="edge", choice=None))
    put("old/recommendation.json", report("2025-01-01", schema_version=2))
    put("kept/notes.json", "[1]")
    put(".hidden/recommendation.json", report("2026-09-09"))
    return read_history(tmp_path)


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


# What is read ----------------------------------------------------------------------------------------------------------


def test_reports_come_by_date_and_each_is_compared_with_the_one_before_on_its_scenario(shop):
    assert [(each.date, each.path, each.choice) for each in shop.reports] == [
        ("2026-01-05", "a/recommendation.json", "redis"),
        ("2026-02-01", "edge/recommendation.json", None),
        ("2026-03-01", "b/recommendation.json", "redis"),
        ("2026-04-01", "kept/april.json", "memory"),
    ]
    first, other, second, third = shop.reports
    assert first.difference is other.difference is None
    assert (second.has_moved, second.is_asked_otherwise) == (False, False)
    (moved,) = second.difference.changes
    assert (moved.what, moved.noise) == ("p99", True)
    assert third.has_moved
    assert third.difference.added == ("memory",)
    assert (other.state, other.shown["candidate"]) == ("fails", "gcra")
    assert second.figure("p99") == Figure(2.05e-3, pytest.approx(1.95e-3), pytest.approx(2.15e-3))


def test_what_is_no_report_of_this_version_is_skipped_with_the_reason(shop):
    reasons = {each.path: each.reason for each in shop.skipped}
    assert set(reasons) == {"old/recommendation.json", "kept/notes.json"}
    assert reasons["old/recommendation.json"] == "has version 2, and this is 3; make the report again"
    assert reasons["kept/notes.json"].startswith("is no recommendation")


def test_a_new_log_is_no_new_question_and_another_limit_is(put, tmp_path):
    put("1/recommendation.json", report("2026-01-01"))
    put("2/recommendation.json", report("2026-01-02", traffic={"requests": 1200.0}))
    put("3/recommendation.json", report("2026-01-03", traffic={"requests": 1200.0}, limit="20/minute, gcra"))
    assert [each.is_asked_otherwise for each in read_history(tmp_path).reports] == [False, False, True]


def test_reports_of_one_day_and_without_a_day_come_by_their_paths(put, tmp_path):
    for name, date in (("c", "2026-01-01"), ("b", "2026-01-01"), ("z", "")):
        put(f"{name}/recommendation.json", report(date))
    assert [each.path[0] for each in read_history(tmp_path).reports] == ["z", "b", "c"]


def test_a_directory_without_a_report_is_one_line(put, tmp_path):
    with pytest.raises(HistoryError, match=r"holds no report; ratesim report --out .*/NAME writes one$"):
        read_history(tmp_path)
    put("old/recommendation.json", report("2025-01-01", schema_version=2))
    with pytest.raises(HistoryError, match=r"holds no report; old/recommendation\.json has version 2"):
        read_history(tmp_path)
    with pytest.raises(HistoryError, match="nowhere: is no directory"):
        read_history(tmp_path / "nowhere")


def test_reading_is_bounded(put, tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to(tmp_path)
    put("deep.json", "[" * 100_000)
    put("good/recommendation.json", report("2026-01-01"))
    found = read_history(tmp_path)
    assert [each.path for each in found.reports] == ["good/recommendation.json"]
    assert "nested" in found.skipped[0].reason
    monkeypatch.setattr("ratesim.pages.history.analysis.MOST", 1)
    with pytest.raises(HistoryError, match="holds more than 1 JSON files"):
        read_history(tmp_path)


# What is shown ---------------------------------------------------------------------------------------------------------


def test_a_row_says_what_the_report_says(shop):
    rows = [words(row) for row in cells.reports(shop).data.split("<tr>")[2:]]
    said = "2026-01-05 a shop redis passes 2 ms (1.9 to 2.1 ms) exactly 0 1.30 x the limit 60 USD high"
    assert rows[0].startswith(said)
    assert "edge none; nearest: gcra fails" in rows[1]
    assert "kept/april.json shop memory passes" in rows[3]


def test_the_page_says_what_changed_and_what_is_noise(shop):
    said = words(cells.changes(shop).data)
    assert "The choice is still redis. redis: p99 moved, within noise, from 2 ms to 2.05 ms." in said
    assert "The choice moved from redis to memory." in said
    assert "shop: memory, after 1 change of the choice in 3 reports. edge: no candidate, in the only report." in words(
        cells.answer(shop).data
    )
    assert "1 of 2 reports that have an earlier one" in over_time(shop)[1]


def test_the_line_at_the_end_is_of_the_directory(shop, tmp_path):
    assert f"Command ratesim notebook history -p reports {tmp_path} Machine" in words(cells.reproduce(shop).data)


@pytest.mark.filterwarnings("error")
def test_what_a_report_says_is_only_text(put, tmp_path):
    evil = report(HOSTILE, contender(HOSTILE, 1e300, -5.0, over=-1e9), scenario=HOSTILE, choice=HOSTILE, currency=HOSTILE)
    later = copy.deepcopy(evil) | {"choice": None, "limit": HOSTILE, "date": f"{HOSTILE}2"}
    put("a/recommendation.json", evil)
    put("b/recommendation.json", later)
    put("<b>/x.json", "{")
    found = read_history(tmp_path)
    for cell in CELLS:
        page = cell(found).data
        assert "<img" not in page
        assert "<b>/x" not in page
        assert "\x1b" not in page
        assert len(page) < 200_000
    svg = cells.trends(found).data
    ElementTree.fromstring(svg[svg.index("<svg") : svg.index("</svg>") + 6])


def test_reports_without_figures_and_without_contenders_are_shown(put, tmp_path):
    bare = contender("redis") | {"p99": interval(0) | {"mean": None}, "worst_excess": None, "cost": None}
    put("a/recommendation.json", report("2026-01-01", bare))
    put("b/recommendation.json", report("2026-01-02", choice=None) | {"assessments": []})
    found = read_history(tmp_path)
    assert "not stated" in words(cells.reports(found).data)
    assert all(cell(found).data for cell in CELLS)
