"""What nobody says is assumed: it decides, it is told, and it is the same when the question is asked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratesim import Scenario, recommend
from ratesim.recommendation.investigate.study import Study, study

STICKY = {"name": "memory, sticky", "storage": "memory://", "routing": "sticky"}


def asked(**requirements: object) -> Scenario:
    return Scenario.of(
        {
            "workload": {"requests_per_second": 50.0, "keys": 7, "duration": "10s"},
            "limit": {"rate": "3/second"},
            "deployment": {"nodes": 4},
            "replications": 1,
            "requirements": requirements,
            "candidates": [{"name": "memory", "storage": "memory://"}, STICKY],
        }
    )


def made(scenario: Scenario, out: Path | None = None) -> Study:
    return study(scenario, out=out, live=False, beyond=False, processes=1)


def test_a_question_without_requirements_is_decided_by_what_is_assumed_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(asked(), tmp_path)
    found = recommend(first)
    assert found.choice == "memory, sticky"
    assert found.verdict.startswith("Change the routing from round_robin to sticky, and use memory, sticky: ")
    assert [
        each.candidate for each in found.assessments if "max_over_admission" in {m.requirement for m in each.missed}
    ] == ["memory"]
    assert [each.split(",")[0].split(":")[0] for each in found.assumed] == [
        "Room for 7 keys",
        "Over-admission of at most 1 %",
    ]
    assert {each.keys for each in found.capacities.values()} == {7}
    assert (found.requirements["key_count"], found.requirements["max_over_admission"]) == (None, None)
    # A report writes the question as it was asked, and asks it again: nothing is run, and nothing is read.
    monkeypatch.setattr(Scenario, "trace", lambda *_: pytest.fail("nothing is read again"))
    again = recommend(made(Scenario.parse(first.asked.to_toml()), tmp_path))
    assert again.to_json() == found.to_json()


def test_any_over_admission_will_do_where_that_is_said() -> None:
    found = recommend(made(asked(max_over_admission="any", key_count=20)))
    assert all(each.passes for each in found.assessments)
    assert found.requirements["max_over_admission"] == "any"
    assert found.assumed == ()
    assert {each.keys for each in found.capacities.values()} == {20}
