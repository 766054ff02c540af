"""A comment on a pull request is short whatever was studied, and says first what matters."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from made_assessments import an_assessment

from ratesim.recommendation.decide.markdown import CONTENDERS, MOST_LINES, markdown
from ratesim.recommendation.decide.rejection_groups import rejection_groups
from ratesim.recommendation.decide.verdict import Confidence, Number


def told(
    contenders: int, screened: int, sentences: int, size: str = "One Redis ends at 20,000 requests/s."
) -> SimpleNamespace:
    found = [an_assessment(f"candidate {i}", p99=1e-3 * (i + 1)) for i in range(contenders)]
    said = [SimpleNamespace(sentence=f"Sentence {i}.", value=None if i % 2 else 1.0) for i in range(sentences)]
    names = [each.candidate for each in found] + [f"screened {i}" for i in range(screened)]
    return SimpleNamespace(
        lost_note="",
        log=None,
        verdict="Use candidate 0.",
        numbers=[Number("1 ms", f"figure {i}", "2 ms allowed") for i in range(4)],
        confidence=Confidence("high", "High confidence."),
        size=size,
        caveat="It may rain.",
        assumed=("1 % may be added.", "40 keys are alive at once."),
        assessments=found,
        choice="candidate 0",
        currency="USD",
        alternatives=said,
        relaxations=said,
        headroom=said,
        flips=said,
        rejected=[SimpleNamespace(candidate=name, reason="it costs more") for name in names[1:]],
        requirements={"p99": 0.002, "max_over_admission": "any", "allowed": ["memory", "redis"], "prefer": "cost"},
        scenario="s",
        limit="10/minute",
    )


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("contenders", [1, 8, 9, 100])
@pytest.mark.parametrize("screened", [0, 100])
@pytest.mark.parametrize("sentences", [0, 3, 30])
def test_it_has_fewer_than_60_lines(contenders: int, screened: int, sentences: int, grouped: bool) -> None:
    asked = told(contenders, screened, sentences)
    others = [an_assessment(f"screened {i}", p99=1e-2 * (i + 1)) for i in range(screened)]
    groups = rejection_groups(others, asked.assessments[0], "USD") if grouped else ()
    page = markdown(asked, groups)  # type: ignore[arg-type]
    lines = page.splitlines()
    assert len(lines) <= MOST_LINES < 60
    assert lines[0] == "## Use candidate 0."
    assert lines[-1] == r"Scenario s: 10/minute; p99 2ms, max\_over\_admission any, allowed memory or redis."
    assert "**But** It may rain." in lines
    assert "**Assumed** 1 % may be added. 40 keys are alive at once." in lines
    assert (sentences > 0) == ("- Sentence 0." in lines[: lines.index("|---|---|---|---|---|---|---|")])
    assert page.count("<details>") == page.count("</details>") == (sentences > 0) + (contenders + screened > 1)
    assert len([line for line in lines if line.startswith(("| candidate ", "| **candidate"))]) - 1 == min(
        contenders, CONTENDERS
    )
    if contenders > CONTENDERS:
        assert f"{contenders - CONTENDERS} more contenders are in the report." in lines
    if contenders + screened > 1:
        assert f"<summary>Why not the other {contenders + screened - 1}</summary>" in lines
    if sentences == 30:
        assert any("more in the report" in line for line in lines)


def test_candidates_that_were_only_screened_are_grouped_with_their_range() -> None:
    asked = told(2, 5, 1)
    groups = rejection_groups(
        [an_assessment(f"screened {i}", p99=1e-2 * (i + 1)) for i in range(5)], asked.assessments[0], "USD"
    )
    page = markdown(asked, groups)  # type: ignore[arg-type]
    (line,) = [line for line in page.splitlines() if "screened" in line]
    assert line.startswith("- redis (screened 0, screened 1, screened 2 and 2 more): passes, but ")
    assert "10 to 50 ms" in line
    assert "- candidate 1: it costs more" in page


def test_the_table_tells_what_the_storage_adds_from_what_is_admitted_at_worst() -> None:
    assert "| candidate |  | p99 | over-admission | busiest window | a month | blast radius |" in markdown(told(1, 0, 0))  # type: ignore[arg-type]
    assert "| **candidate 0** | chosen | 1 ms | exactly 0 | " in markdown(told(1, 0, 0))  # type: ignore[arg-type]
