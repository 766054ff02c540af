"""One value, one definition: what a report says is what its tables, its JSON and its Markdown say, digit by digit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape

import pytest
from audit import audit, numbers, read, unfounded

from ratesim import recommend
from ratesim.formatting import format_amount, format_excess, format_money, format_percent, format_seconds
from ratesim.pages.html import HTML
from ratesim.pages.recommendation import cells, detail_cells
from ratesim.recommendation.decide.markdown import markdown
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.headroom import Headroom
from ratesim.recommendation.investigate.sensitivity import Flip
from ratesim.recommendation.investigate.study import Study
from ratesim.simulation.scenario.clients import ClientsSpec
from ratesim.simulation.scenario.faults import Fault

pytestmark = pytest.mark.slow  # a study is made first


@pytest.fixture(scope="module")
def said(small_study: Study) -> Recommendation:
    return recommend(small_study)


@pytest.fixture(scope="module")
def shown(small_study: Study, said: Recommendation) -> list[str]:
    pieces: list[HTML] = [
        cells.verdict(small_study, said),
        cells.setting(small_study),
        cells.candidates(small_study, said),
        cells.tradeoff(small_study, said),
        cells.rejected(small_study, said),
        detail_cells.what_would_change(said),
        detail_cells.faults(said),
        detail_cells.cost(small_study, said),
        detail_cells.rules(small_study, said),
    ]
    return [piece.data for piece in pieces]


def asked(study: Study) -> list[str]:
    """The question, and what was counted in the traffic."""
    scenario = study.scenario
    wants, count = scenario.requirements, int(study.summary["requests"])
    assert wants.p99 is not None
    assert wants.max_over_admission is not None
    return [
        *(format_seconds(wants.p99), format_percent(wants.max_over_admission), scenario.limit.rate),
        *(f"{count:,} requests", f"{int(study.summary['keys']):,} keys", f"{scenario.deployment.nodes} nodes"),
        *(f"{format_amount(scenario.workload.requests_per_second or 0)} requests/s", f"{scenario.replications} seeds"),
        *(format_percent(study.limit_pressure.exact_denied_share), format_seconds(scenario.workload.duration)),
    ]


def of_loads(load: Headroom) -> Iterator[str]:
    unit = format_seconds if load.requirement == "p99" else format_percent
    yield from (format_amount(value) for value in (load.meets, load.fails) if value is not None)
    yield from (unit(value) for value in (load.at_meets, load.at_fails) if value is not None)


def of_flips(flip: Flip) -> Iterator[str]:
    values = [value for value in (flip.today, flip.value, flip.looked) if value is not None]
    if "time" in flip.assumption or "trip" in flip.assumption or "interval" in flip.assumption:
        yield from map(format_seconds, values)
    else:
        yield from (format_amount(value, 2 if value < 100 else 3) for value in values)
        yield from map(format_percent, values)


def facts_of(said: Recommendation, study: Study) -> list[str]:
    """What tables do not show: loads and assumptions that were tried, where servers end, what the profile holds."""
    needs = said.capacities.values()
    return [
        *asked(study),
        *(text for load in said.headroom for text in of_loads(load)),
        *(text for flip in said.flips for text in of_flips(flip)),
        *(format_amount(each.server_end) for each in needs if each.server_end),
        *(format_seconds(costs.latency_p50) for costs in study.profile.backends.values()),
        *(format_percent(each.model_error.utilization) for each in said.assessments if each.model_error),
        "more than 100 % if the damage outlasts the fault, 2 cores, 0.01 ms",
    ]


def test_every_number_in_the_prose_of_a_report_is_in_its_tables_or_its_json(shown, said, small_study):
    names = [each.candidate for each in said.assessments]
    assert audit(shown, facts_of(said, small_study), names) > 0.5


def test_the_verdict_the_numbers_and_the_confidence_are_the_figures_of_the_choice(said, small_study):
    """Walks the JSON, which every reader of it would compare with the sentences."""
    told = json.loads(said.to_json())
    (it,) = [each for each in told["assessments"] if each["candidate"] == told["choice"]]
    own = [
        *(format_seconds(it["p99"][end]) for end in ("mean", "low", "high")),
        *(format_percent(it["over_admission"]["mean"]), format_excess(it["worst_excess"]["mean"])),
        *(format_money(it["cost"], told["currency"]), told["numbers"][-1]["against"], f"{it['p99']['seeds']} seeds"),
        *(f"{len(told['assessments'])} candidates", format_percent(it["model_error"]["utilization"])),
    ]
    known = [number for text in (*own, *asked(small_study), "99 % of decisions, the 99th") for number in numbers(text)]
    sentences = [told["verdict"], told["confidence"]["sentence"]]
    sentences += [f"{each['value']} {each['what']} {each['against']}" for each in told["numbers"]]
    for sentence in sentences:
        for number in numbers(sentence):
            assert any(number.is_told_by(each) for each in known), (number, sentence)


def test_page_and_markdown_say_the_verdict_in_the_same_words(shown, said):
    page = " ".join(unescape(re.sub(r"<[^>]*>", " ", shown[0])).split())
    text = " ".join(re.sub(r"\\(.)", r"\1", markdown(said)).replace("**", "").split())
    for sentence in (said.verdict, said.confidence.sentence, said.caveat, said.size):
        assert sentence in page
        assert sentence in text
    for each in said.numbers:
        assert f"{each.value} {each.what} {each.against}" in page
        assert f"{each.value} {each.what} ({each.against})" in text


def test_a_share_of_an_excerpt_beside_that_of_the_whole_is_noticed():
    """The busiest key has 22 % in an excerpt and 4.8 % in the log: one of them is wrong beside the other's name."""
    table = "<table><tr><td>busiest key</td><td>4.8 %</td></tr><tr><td>redis</td><td>1.5 ms</td></tr></table>"
    page = read([f"<p>From a busiest key with 52 % on (22 % today).</p>{table}"])
    assert [number.digits for _, number in unfounded(page, ["52 %"])] == ["22"]
    assert not list(unfounded(read([f"<p>The busiest key has 4.8 % today.</p>{table}"])))


def test_a_number_of_another_row_is_noticed_where_a_sentence_names_its_row():
    table = "<table><tr><td>redis</td><td>1.5 ms</td></tr><tr><td>memory</td><td>3 µs</td></tr></table>"
    assert list(unfounded(read([f"<p>redis answers within 3 µs.</p>{table}"]), names=["redis", "memory"]))
    assert not list(unfounded(read([f"<p>memory answers within 3 µs.</p>{table}"]), names=["redis", "memory"]))
    assert list(unfounded(read([f"<p>memory answers within 3 ms.</p>{table}"]), names=["redis", "memory"]))
    with pytest.raises(AssertionError, match="exactly 0"):
        audit([f"<p>redis admits exactly 0.</p>{table}"], names=["redis", "memory"])


def test_the_question_names_the_recipe_and_the_faults_that_the_figures_are_with(small_study: Study) -> None:
    plain = cells.setting(small_study).data
    assert "250 requests of 5 keys, a recipe of 50 requests/s for 5 s, arrivals poisson, popularity zipf" in plain
    assert "Faults" not in plain
    faulty = small_study.scenario.model_copy(update={"faults": (Fault(kind="crash", start=2, duration=1),)})
    shown = cells.setting(replace(small_study, scenario=faulty)).data
    assert "crash of the store, 1 s, from 2 s on; the contenders" in shown
    loop = small_study.scenario.workload.model_copy(update={"clients": ClientsSpec(users=500)})
    asked = replace(small_study, scenario=small_study.scenario.model_copy(update={"workload": loop}))
    assert "a closed loop of 500 users for 5 s" in cells.setting(asked).data


def test_an_option_in_the_verdict_is_code(small_study: Study, said: Recommendation) -> None:
    assert "<code>--also gcra</code>" in cells.verdict(small_study, replace(said, verdict="Try `--also gcra`.")).data
