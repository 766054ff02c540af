"""`ratesim history`: one page beside the reports, or one line."""

from __future__ import annotations

import json

import pytest
from calling import command


def report(date: str, choice: str) -> str:
    value = {"mean": 0.0, "low": 0.0, "high": 0.0, "seeds": 3}
    figures = dict.fromkeys(("p99", "over_admission", "worst_excess", "false_denial"), value)
    about = {"scenario": "<b>shop", "limit": "9/minute", "currency": "USD"}
    about |= {name: {} for name in ("requirements", "deployment", "traffic")}
    contender = {"candidate": choice, "checks": [], "cost": 1.0, **figures}
    return json.dumps({"schema_version": 3, **about, "assessments": [contender], "choice": choice, "date": date})


@pytest.mark.notebooks
def test_one_page_is_written_beside_the_reports(tmp_path):
    for name, date, choice in (("week-1", "2026-01-01", "redis"), ("week-2", "2026-01-08", "memory")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recommendation.json").write_text(report(date, choice))
    done = command("history", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "history.html\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["history.html", "history.ipynb", "week-1", "week-2"]
    page = (tmp_path / "history.html").read_text("utf-8")
    assert "<script" not in page
    assert "<b>shop" not in page
    assert "The choice moved from redis to memory." in page


def test_a_directory_without_reports_is_one_line_and_no_page(tmp_path):
    refused = command("history", ".", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == "ratesim: .: holds no report; ratesim report --out ./NAME writes one\n"
    assert list(tmp_path.iterdir()) == []
