"""The notebook on a log, executed: it says what is in the log, names nobody who is not to be named, and holds odd logs."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from html import unescape
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from audit import audit
from outputs import html_of

from ratesim.formatting import format_amount, format_length, format_limit, format_percent, format_seconds
from ratesim.notebook import NotebookExecutionError
from ratesim.pages.html import HTML
from ratesim.pages.your_log import cells
from ratesim.pages.your_log.analysis import LogAnalysis, analyze_log
from traffic import Poisson, Workload, Zipf
from traffic.key_labels import key_label

pytestmark = pytest.mark.slow  # whole analyses

NOTEBOOK = "your_log.ipynb"
SMALL: dict[str, object] = {}  # the log that ships is small
CELLS = ("answer", "traffic", "bursts", "shape", "clients", "hidden", "rates", "touched", "recipe", "reproduce")
LINE = '{client} - - [17/May/2015:10:{minute:02d}:{second:02d} +0000] "GET {path} HTTP/1.1" {status} 5 "-" "x"\n'


def pieces(found: LogAnalysis) -> list[str]:
    """The same without a kernel."""
    made: list[HTML] = [getattr(cells, name)(found) for name in CELLS]
    return [piece.data for piece in made]


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL))).split())


@pytest.fixture(scope="module")
def found() -> LogAnalysis:
    return analyze_log()


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., str]:
    def write(*rows: tuple[str, int, int, int]) -> str:
        path = tmp_path / "access.log"
        lines = [LINE.format(client=c, minute=m, second=s, path="/a", status=status) for c, m, s, status in rows]
        path.write_text("".join(lines))
        return str(path)

    return write


# The log that ships ----------------------------------------------------------------------------------------------------


def test_the_first_output_is_the_suggested_limit_and_what_it_would_do(shown, found):
    effect = found.suggestion.effect
    assert shown[0].startswith('<p class="verdict">')
    assert words(shown[0]).startswith(
        f"{format_limit(effect.limit)} for each client: it would touch {effect.touched:,} of {effect.clients:,} clients "
        f"({format_percent(effect.touched_share)}) and deny {format_percent(effect.denied_share)} of the requests."
    )
    assert 0 < effect.touched_share <= 0.01
    assert effect.denied_share <= 0.05


def test_every_period_has_its_own_suggestion_and_the_next_smaller_beside_it(shown, found):
    said = words(shown[0])
    assert set(found.suggestions) == {1.0, 60.0, 3600.0}
    for each in found.suggestions.values():
        effect = each.effect
        assert (
            f"{format_limit(effect.limit)} {effect.touched} {format_percent(effect.touched_share)} {effect.denied}" in said
        )


def test_what_the_log_holds_is_said_with_its_figures(shown, found):
    assert "9,999 requests of 1,753 clients in 3.46 days" in words(shown[1])
    assert "The busiest second holds 9, the busiest minute 136" in words(shown[1])
    assert "1 of 10,000 lines did not parse and was left out" in words(shown[1])
    assert "the busiest 10 make 20 %" in words(shown[3])
    assert "1. 66.249.73.0/24 482 4.8 %" in words(shown[4])
    assert words(shown[5]).startswith("None of 9,999 answers is a 429")


def test_the_table_of_rates_says_who_would_be_limited_at_each(shown, found):
    said = words(shown[6])
    for ladder in found.ladders.values():
        for each in ladder:
            assert (
                f"{format_limit(each.limit)} {each.touched:,} {format_percent(each.touched_share)} {each.denied:,}" in said
            )


def test_who_would_be_touched_is_shown_with_what_is_denied(shown, found):
    said = words(shown[7])
    assert len(found.touched) == found.suggestion.effect.touched <= 12
    assert sum(each.denied for each in found.touched) == found.suggestion.effect.denied
    for each in found.touched:
        assert f"{each.rank}. {key_label(each.client.name)} {each.client.requests}" in said


def test_every_number_in_the_prose_is_in_a_table_or_of_the_log(shown, found):
    it, skew, gaps, fit = found.arrivals, found.skew, found.arrivals.gaps, found.skew.exponent
    assert gaps is not None
    assert fit is not None
    below = found.suggestion.below
    assert below is not None
    origin = found.trace.provenance
    given = [
        *(f"{len(found.trace):,}", f"{skew.clients:,}", f"{origin.skipped:,}", f"{origin.lines:,}", *origin.assumed),
        *(format_length(found.trace.duration), f"{it.second:,}", f"{it.minute:,}"),
        *(format_amount(found.trace.rate), format_amount(60 * found.trace.rate)),
        *(
            format_limit(below.limit),
            f"{below.touched:,}",
            format_percent(below.touched_share),
            format_percent(below.denied_share),
        ),
        *(format_seconds(gaps.high), format_length(gaps.longest), format_amount(gaps.variation)),
        *(format_percent(share) for share in skew.tops.values()),
        *(f"{number:.2f}" for number in (skew.gini, fit.value, fit.low, fit.high)),
        *(f"{fit.clients:,}", format_percent(found.touched_share)),
        *(format_amount(found.median_touched), format_amount(found.median_other)),
        *(f"{found.asked.touched:g} {found.asked.denied:g}", format_percent(found.asked.denied)),
        *(format_percent(found.asked.touched), "linear up to 0.1 %", "JSAC 9(2), 1991", "Piantadosi 2014"),
    ]
    line = it.timeline
    times = line.requests.max() / line.requests.mean()
    assert audit(shown, [*given, f"{line.requests.max():,}", format_amount(times)]) > 0.5


def test_timestamps_that_repeat_are_told_as_such(found):
    assert found.arrivals.gaps is not None
    assert found.arrivals.gaps.median == 0
    said = words(cells.bursts(found).data)
    assert "At least half of the requests have the timestamp of the one before, and 99 % of the gaps are" in said


def test_every_figure_of_a_log_can_be_read_and_heard(shown):
    figures = re.findall(r"<svg .*?</svg>", "\n".join(shown), flags=re.DOTALL)
    assert len(figures) == 5
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > 80


def test_the_notebook_shows_what_its_parts_make(shown, found):
    assert [words(html) for html in shown] == [words(html) for html in pieces(found)]


# What the service limits already ---------------------------------------------------------------------------------------


def test_a_log_of_a_service_that_limits_says_so_first_and_replays_its_429s(log):
    rows = [("10.0.0.1", 5, second, 429 if second >= 10 else 200) for second in range(30)]
    found = analyze_log(log(*rows, ("10.0.0.2", 6, 0, 503)))
    said = [words(html) for html in pieces(found)]
    told = (
        "This log already contains 20 answers 429 (65 %): the service already has a limit. These requests are replayed as "
        "demand. Clients that gave up or backed off are not in any log, so true demand is at least this."
    )
    assert told in said[0]
    assert told in said[5]
    assert "After 19 of them (95 %) the same client sent another request within a period (minute)" in said[5]
    assert "Answers 503: 1 (3.2 %)" in said[5]
    assert "31 requests of 2 clients" in said[1]
    assert found.suggestion.effect.limit.rate == 30.0  # what was asked, not the 10 that were answered
    assert found.trace.provenance.notes[0] == "the service limits: 20 answers 429 (64.5 %) are replayed as demand"


def test_refused_requests_that_cost_less_are_pointed_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,user,tokens,status\n1,a,500,200\n2,a,300,200\n3,a,0,429\n4,a,10,429\n")
    said = words(cells.hidden(analyze_log(str(path), key="user", cost="tokens")).data)
    assert "In this log, a request answered 429 costs 5 on average, any other 400." in said


# Names -----------------------------------------------------------------------------------------------------------------


def test_nobody_is_named_who_is_not_to_be():
    found = analyze_log()
    page, named = "".join(pieces(found)), "".join(pieces(analyze_log(show_keys=True)))
    assert "66.249.73.0/24" in page
    assert not [name for name in found.trace.keys if re.search(rf"(?<![0-9.]){re.escape(name)}(?![0-9/])", words(page))]
    (lost,) = found.trace.provenance.examples
    assert lost.split()[0] not in page
    assert {found.top[0].name, lost.split()[0]} <= set(words(named).split())
    assert "-p show_keys true" in named


def test_names_from_a_log_are_escaped_and_shortened(tmp_path):
    evil, long = "<script>alert(1)</script>", "x" * 300
    path = tmp_path / "users.csv"
    path.write_text("time,user\n" + f"1,{evil}\n" * 9 + f"2,{long}\n" * 9 + "3,\x1b[31m$x$\n")
    page = "".join(pieces(analyze_log(str(path), key="user", time="time", time_unit="s", show_keys=True)))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert long not in page
    assert "\x1b" not in page


def test_what_was_asked_is_quoted_in_the_command_that_repeats_it(log, tmp_path):
    path = Path(log(("a", 5, 1, 200))).rename(tmp_path / "a b;<c>.log")
    said = words(cells.reproduce(analyze_log(str(path), key="client+endpoint", touched=0.5)).data)
    assert f"-p log '{path}' -p key client+endpoint -p touched 50%" in said


# Logs of every kind ----------------------------------------------------------------------------------------------------


def test_the_notebook_runs_on_tokens_that_one_key_takes(execute_here):
    path = resources.files("traffic") / "data" / "azure_llm_code_500.csv.gz"
    cost = "ContextTokens+GeneratedTokens"
    shown = [words(html) for html in html_of(execute_here(NOTEBOOK, {"log": str(path), "key": "none", "cost": cost}))]
    assert shown[0].startswith(f"1000000/minute of {cost} for the one client: it would deny no request in this log.")
    assert "no key was wanted, so all requests belong to one client" in shown[0]
    assert "all 500 100 % 1,093,698 100 %" in shown[4]
    assert shown[5].startswith("This log has no status codes")


@pytest.mark.parametrize("algorithm", ["sliding_window", "token_bucket", "fixed_window"])
@pytest.mark.parametrize(
    ("rows", "rate"),
    [
        ([("a", 5, 1, 200)], 1),
        ([("a", 5, 1, 200)] * 7, 8),
        ([(f"c{i}", 5, 1, 200) for i in range(50)], 1),
        ([("a", 5, 1, 200), ("b", 59, 59, 200)], 1),
    ],
)
def test_small_and_sudden_logs_have_a_page(log, rows, rate, algorithm):
    found = analyze_log(log(*rows), algorithm=algorithm)
    assert all(len(html) > 20 for html in pieces(found))
    assert found.suggestion.effect.limit.rate == rate


def test_a_log_of_many_clients_keeps_its_page_small(tmp_path):
    trace = Workload(Poisson(500.0), Zipf(20_000, 0.9), 100.0, start=1.7e9).trace(np.random.default_rng(1))
    rows = zip(trace.time.tolist(), trace.key.tolist(), strict=True)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(("time,user\n" + "".join(f"{t},u{k}\n" for t, k in rows)).encode()))
    found = analyze_log(str(path), key="user")
    assert sum(map(len, pieces(found))) < 500_000
    assert found.skew.exponent is not None
    assert found.skew.exponent.low <= 0.9 <= found.skew.exponent.high


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"log": "nowhere.log"}, "LogError: nowhere.log: no such file; check the path"),
        ({"period": "moon"}, "InvalidLimitError: period 'moon': write second, minute, hour"),
    ],
)
def test_what_cannot_be_read_ends_in_one_line(execute_here, parameters, problem):
    with pytest.raises(NotebookExecutionError, match=f": {re.escape(problem)}"):
        execute_here(NOTEBOOK, parameters)
