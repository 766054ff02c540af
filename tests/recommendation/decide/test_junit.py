"""JUnit XML says of each requirement what the exit status says of all, and nothing in a name breaks the document."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest
from test_recommendation import REDIS, assessed, rows

from ratesim.recommendation.assess.pareto import best
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.decide.check import check
from ratesim.recommendation.decide.junit import junit
from ratesim.recommendation.decide.verdict import Confidence

SLOW = rows("redis", [5e-3] * 3, 0.0, 60e-6)
SHAKY = rows("redis", [1.8e-3, 2.0e-3, 2.1e-3], 0.0, 60e-6)
LAVISH = rows("redis", [1e-3] * 3, 0.5, 60e-6)


def told(
    *tables,
    level="high",
    binds=True,
    whole=(),
    disagreement="",
    scenario="shop",
    verdict="No candidate.",
    lost_note="",
    **requirements,
):
    found = assessed(*tables, **requirements)
    chosen = best(found)
    return SimpleNamespace(
        lost_note=lost_note,
        scenario=scenario,
        limit="10/minute",
        assessments=found,
        choice=chosen.candidate if chosen else None,
        verdict=verdict,
        confidence=Confidence(level, "Why.", disagreement),
        requirements=requirements,
        limit_is_binding=binds,
        limit_pressure_note="The limit hardly ever binds.",
        whole=assessed(*whole, **requirements) if whole else (),
    )


def in_force(table):
    return [{**row, "candidate": CURRENT} for row in table]


BOTH = {"p99": "2ms", "max_over_admission": "1%"}
CASES = {
    "met": (told(in_force(REDIS), **BOTH), 0, {"p99": "passed", "over-admission": "passed", "evidence": "passed"}),
    "slow": (told(REDIS, in_force(SLOW), **BOTH), 1, {"p99": "failure", "over-admission": "passed", "evidence": "passed"}),
    "lavish": (told(in_force(LAVISH), **BOTH), 1, {"p99": "passed", "over-admission": "failure"}),
    "shaky": (told(in_force(SHAKY), **BOTH), 3, {"p99": "error", "over-admission": "passed", "evidence": "error"}),
    "thin": (told(in_force(REDIS), level="too thin", **BOTH), 3, {"p99": "passed", "evidence": "error"}),
    "loose": (told(in_force(REDIS), binds=False, **BOTH), 3, {"over-admission": "skipped", "evidence": "error"}),
    "live": (told(in_force(SLOW), disagreement="Off.", **BOTH), 3, {"p99": "error", "evidence": "error"}),
    "whole": (told(in_force(REDIS), whole=[in_force(rows("redis", [5e-3]))], **BOTH), 1, {"all of the traffic": "failure"}),
    "lost": (told(in_force(SLOW), lost_note="Half is lost.", **BOTH), 3, {"p99": "error", "evidence": "error"}),
    "nobody": (told(SLOW, **BOTH), 1, {"p99": "failure", "a candidate meets all requirements": "failure"}),
    "nobody for sure": (told(SHAKY, level="low", **BOTH), 1, {"a candidate meets all requirements": "failure"}),
    "choice": (told(REDIS, **BOTH), 0, {"p99": "passed", "over-admission": "passed"}),
}


def cases(document: str) -> dict[str, str]:
    kinds = {"system-out": "passed"}
    return {each.attrib["name"]: kinds.get(each[0].tag, each[0].tag) for each in ET.fromstring(document).iter("testcase")}


@pytest.mark.parametrize("name", CASES)
def test_a_failure_is_where_the_status_is_1_and_an_error_where_it_is_3(name: str) -> None:
    recommendation, status, expected = CASES[name]
    document = junit(recommendation)
    found = cases(document)
    assert expected.items() <= found.items()
    assert check(recommendation).status == status
    assert ("failure" in found.values()) == (status == 1)
    assert ("error" in found.values() and "failure" not in found.values()) == (status == 3)
    root = ET.fromstring(document)
    assert [each.tag for each in root] == ["testsuite"]
    for each in (root, root[0]):
        counted = [int(each.attrib[count]) for count in ("tests", "failures", "errors", "skipped")]
        kinds = list(found.values())
        assert counted == [len(kinds), kinds.count("failure"), kinds.count("error"), kinds.count("skipped")]
    assert len(found) == len(root.findall(".//testcase"))  # GitLab keeps one of two that have a name


def test_a_failure_has_its_sentence_where_gitlab_and_where_jenkins_look() -> None:
    recommendation, *_ = CASES["slow"]
    failure = ET.fromstring(junit(recommendation)).find(".//failure")
    assert failure is not None
    assert failure.text == failure.attrib["message"] == f"{CURRENT}: p99 5 ms (2 ms allowed); not met"
    suite = ET.fromstring(junit(told(REDIS, scenario="shop.v2", **BOTH)))[0]
    assert suite.attrib["name"] == suite.find("testcase").attrib["classname"] == "ratesim.shop_v2"  # type: ignore[union-attr]


def test_what_xml_cannot_hold_is_escaped() -> None:
    hostile = 'a<b>&"\x00\x1b[31m\ufffe]]>\n'
    document = junit(told(SLOW, scenario=hostile, verdict=hostile, **BOTH))
    assert "\x00" not in document
    assert "\x1b" not in document
    verdict = next(each for each in ET.fromstring(document).iter("property") if each.attrib["name"] == "verdict")
    assert verdict.attrib["value"] == 'a<b>&"\\x00\\x1b[31m\\ufffe]]>'
