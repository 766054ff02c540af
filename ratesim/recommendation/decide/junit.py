"""The check of a recommendation as JUnit XML, which GitLab, Jenkins and actions of GitHub show beside other tests.

GitLab shows the `classname` of a case as its suite, takes a case for the same as long as that and `name` are, and shows the
text of a `failure` or an `error` but not its `message`. Jenkins shows both. Neither shows a `skipped` case as a problem.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from typing import TYPE_CHECKING, Literal

from ratesim.formatting import escape_control_chars
from ratesim.recommendation.decide.check import check, checked_candidate
from ratesim.recommendation.decide.verdict import undecided_note

if TYPE_CHECKING:
    from ratesim.recommendation.assess.assessment import Assessment, Check
    from ratesim.recommendation.decide.recommendation import Recommendation

__all__ = ["junit"]

Outcome = Literal["passed", "failure", "error", "skipped"]


def junit(recommendation: Recommendation) -> str:
    """Write a test case for each requirement of the checked candidate, and one for the evidence.

    A requirement that is failed is a failure, one that nobody can tell is an error, and one that the traffic does not put to
    the test is skipped. There is a failure exactly where `ratesim report --check` ends with 1, and errors without a failure
    exactly where it ends with 3.
    """
    status, sentence = check(recommendation).status, check(recommendation).sentence
    current = checked_candidate(recommendation)
    shown = current or recommendation.assessments[0]
    cases = [(each.label, *_outcome(each, shown, status, recommendation)) for each in shown.checks]
    for whole in recommendation.whole:
        if whole.candidate == shown.candidate:
            outcome: Outcome = "passed" if whole.passes else "failure" if whole.fails and status == 1 else "error"
            cases.append(("all of the traffic", outcome, "; ".join(each.evidence for each in whole.checks)))
    if current is None:
        cases.append(("a candidate meets all requirements", "failure" if status == 1 else "error", sentence))
    confidence = sentence if status == 3 else recommendation.confidence.sentence
    cases.append(("evidence", "error" if status == 3 else "passed", confidence))
    return _document(recommendation, shown, cases)


def _outcome(each: Check, shown: Assessment, status: int, recommendation: Recommendation) -> tuple[Outcome, str]:
    text = f"{shown.candidate}: {each.evidence}" + (f" ({each.required})" if each.required else "")
    if each.verdict == "fails":
        return ("failure" if status == 1 else "error"), f"{text}; not met"
    if each.verdict != "passes":
        return "error", "; ".join(filter(None, (f"{text}; too close to call", undecided_note(shown))))
    if each.requirement == "max_over_admission" and not recommendation.limit_is_binding:
        return "skipped", recommendation.limit_pressure_note
    return "passed", text


def _document(recommendation: Recommendation, shown: Assessment, cases: list[tuple[str, Outcome, str]]) -> str:
    suite_name = _text(
        f"ratesim.{recommendation.scenario.replace('.', '_')}"
    )  # Jenkins takes a dot for the end of a package
    counts = Counter(outcome for _, outcome, _ in cases)
    numbers = {
        "tests": str(len(cases)),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        "skipped": str(counts["skipped"]),
        "time": "0",
    }
    root = ET.Element("testsuites", {"name": "ratesim", **numbers})
    suite = ET.SubElement(root, "testsuite", {"name": suite_name, **numbers})
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("candidate", shown.candidate),
        ("limit", recommendation.limit),
        ("verdict", recommendation.verdict),
    ):
        ET.SubElement(properties, "property", {"name": name, "value": _text(value)})
    for name, outcome, text in cases:
        case = ET.SubElement(suite, "testcase", {"classname": suite_name, "name": _text(name), "time": "0"})
        shown_text = _text(text)
        if outcome == "passed":
            ET.SubElement(case, "system-out").text = shown_text
        elif outcome == "skipped":
            ET.SubElement(case, "skipped", {"message": shown_text})
        else:
            ET.SubElement(case, outcome, {"message": shown_text, "type": outcome}).text = shown_text
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _text(text: str) -> str:
    """Escape what XML cannot hold, such as a control character; the tree escapes the rest."""
    return escape_control_chars(" ".join(text.split()))
