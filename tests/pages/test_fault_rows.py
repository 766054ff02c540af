"""The rows of faults: latencies of decisions alone, both answers of an API, and how few requests shares rest on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from ratesim.pages.recommendation.detail_cells import faults
from ratesim.recommendation.investigate.fault_impact import FaultImpact

AWAY = FaultImpact(
    candidate="<hybrid>",
    fault="partition, 30 s",
    requests=1106,
    failed_share=0.0,
    p99=None,
    over_admission=0.18,
    healthy=0.0,
    affected_share=0.43,
    undecided_share=1.0,
    answer_p99=1.0,
    open_over_admission=0.75,
    closed_false_denial=0.99,
)


def page(*impacts: FaultImpact) -> str:
    names = dict.fromkeys(each.candidate for each in impacts)
    return faults(
        SimpleNamespace(  # type: ignore[arg-type]
            assessments=[SimpleNamespace(candidate=name) for name in names],
            fault_impacts=impacts,
            parts={"faults": "all of it"},
            traffic={"requests": 5000.0},
            capacities=dict.fromkeys(names, SimpleNamespace(outage=None)),
        )
    ).data


def cells(text: str) -> list[str]:
    """The cells of the first row behind the name of the fault."""
    row = text[text.index("<tbody>") :].partition("</tr>")[0]
    return [part.partition("</td>")[0].rpartition(">")[2] for part in row.split("<td")[1:]]


def test_a_row_has_what_an_open_and_a_closed_api_does_and_no_latency_of_what_was_not_decided():
    shown = cells(page(AWAY))
    assert shown == ["&lt;hybrid&gt;", "1,106", "100 %", "none decided", "1 s", "75 %", "99 %", "43 %"]


def test_a_latency_is_of_enough_decisions_or_is_not_shown():
    most = replace(AWAY, p99=2e-5, undecided_share=1 - 40 / 1106)
    assert cells(page(most))[3] == "only 40 decided"
    assert cells(page(replace(most, undecided_share=0.5)))[3] == "20 µs"
    assert cells(page(replace(most, undecided_share=0.0, p99_is_lower_bound=True)))[3] == "at least 20 µs"


def test_what_has_no_bound_and_what_nobody_asked_say_so():
    assert cells(page(replace(AWAY, open_over_admission=None)))[5] == "without bound"
    assert cells(page(replace(AWAY, requests=0)))[1] == "none came"


def test_shares_of_few_requests_are_said_to_be_that():
    assert "as few as 83" in page(AWAY, replace(AWAY, requests=83))
    assert "few requests" not in page(AWAY, replace(AWAY, requests=0))
