"""The notebook on algorithms: executed small, it says what the numbers say; and it stays thin."""

from __future__ import annotations

import re
from html import unescape

import pytest
from audit import audit

from ratesim.algorithms import names
from ratesim.pages.algorithms import cells
from ratesim.pages.algorithms.analysis import choices, times_the_memory
from ratesim.simulation.analysis.algorithm_comparison import EDGE, AlgorithmSummary, request_cost
from ratesim.simulation.analysis.two_window_error import PERIODS

pytestmark = pytest.mark.slow  # whole analyses

SMALL = {"limit": "20/minute", "seed": 3, "keys": 30, "requests": 20_000, "sources": 2_000}
NOTEBOOK = "algorithms.ipynb"


@pytest.fixture(scope="module")
def found():
    return cells.compared(**SMALL)


def words(html):
    return unescape(re.sub(r"<[^>]*>", " ", html))


def test_the_first_output_is_the_answer_and_says_what_the_numbers_say(shown, found):
    said = words(shown[0])
    standings = found.standings
    assert said.split()[0] == "20/minute:"
    kept = [name for name, it in standings.items() if it.worst_period <= 1.0]
    assert kept == ["sliding_log"]
    assert re.search(r"sliding_log\s+when no period, wherever it begins, may hold more than the limit: it alone", said)
    smooth = [name for name in standings if name not in ("sliding_log", "adaptive") and standings[name].worst_tenth <= 1.25]
    best = min(smooth, key=lambda name: standings[name].off)
    assert re.match(rf"\s*20/minute: {best}, ", said)
    assert f"up to {standings[best].worst_period:.2f} times the limit in 60 s" in said
    twice = re.search(r"Algorithms that admitted about twice the limit within some 60 s: (.*?)\.", said)[1]
    assert set(re.split(r", | and ", twice)) == {name for name, it in standings.items() if it.worst_period >= 1.9}


def test_every_algorithm_has_its_row_and_every_figure_says_in_words_what_it_shows(shown, found):
    page = "\n".join(shown)
    assert page.count("<svg ") == page.count('role="img" aria-label="') == 6
    table = words(shown[2])
    for name in names():
        row = found.rows[(found.rows["algorithm"] == name) & (found.rows["workload"] == "on and off")].iloc[0]
        assert re.search(rf"{name}\s.*{row['worst_period']:.2f} / {row['share']:.3f}", table), name


def test_the_headline_and_the_figure_name_one_ratio_of_memory(shown):
    """Of a key that uses up its limit, over the recommended algorithm's."""
    (headline,) = re.findall(r"a key that uses up its limit takes ([\d.]+) times the memory", words(shown[0]))
    (figure,) = re.findall(r"A key that uses up its limit takes ([\d.]+) times the memory", shown[4])
    assert headline == figure


def test_the_published_claim_stands_beside_ours(shown, found):
    said = words(shown[5])
    assert "https://blog.cloudflare.com/counting-things-a-lot-of-different-things/" in shown[5]
    assert re.search(r"requests\s+400,000,000\s+" + f"{found.ours.requests:,}", said)
    assert re.search(r"wrongly allowed or limited\s+0\.003 %\s+" + re.escape(cells.format_percent(found.ours.wrong)), said)


def test_the_same_seed_gives_the_same_decisions():
    first, again = (cells.compared(**SMALL | {"requests": 2_000, "sources": 200}) for _ in range(2))
    assert again.rows.equals(first.rows)
    assert (again.ours, again.curve, again.real) == (first.ours, first.curve, first.real)
    assert again.adaptive.equals(first.adaptive)


def standing(**changed):
    plain = {"worst_period": 2.0, "worst_tenth": 1.0, "off": 0.1, "after_pause": 1.0, "alike": (), "bytes_once": 300.0}
    return AlgorithmSummary(**{**plain, "bytes_full": 300.0, "seconds": 2e-6, "time_ratio": 1.0, **changed})


def test_the_advice_follows_the_numbers_and_not_the_names():
    advice = choices(
        {
            "fixed_window": standing(worst_period=1.0, bytes_full=400.0, bytes_once=200.0, off=0.0, time_ratio=3.0),
            "sliding_log": standing(off=0.01, time_ratio=2.0),
            "gcra": standing(off=0.3, after_pause=1.5, time_ratio=2.0),
            "leaky_bucket": standing(off=0.2, worst_tenth=2.0, after_pause=1.9),
        }
    )
    assert list(advice) == ["sliding_log", "fixed_window", "gcra", "leaky_bucket"]
    assert "small" in advice["sliding_log"][0]
    assert "no period" in advice["fixed_window"][0]
    assert "catch up" in advice["gcra"][0]
    assert "cost least" in advice["leaky_bucket"][0]


def test_a_multiple_of_memory_is_of_keys_that_used_up_their_limit():
    assert (
        times_the_memory(standing(bytes_once=100.0, bytes_full=4950.0), standing(bytes_full=300.0))
        == "16.5 times the memory"
    )


def test_a_larger_burst_lets_a_bucket_admit_more_and_a_larger_limit_everybody(found):
    knobs = cells.turn(found)

    def admitted(limit, burst):
        told = re.search(r'Admitted in three periods: (.*?)\."', knobs.turn(limit=limit, burst=burst).data)[1]
        return {name: float(cost) for name, cost in (each.split() for each in told.split("; "))}

    plain, burst, limit = admitted(1.0, 1.0), admitted(1.0, 5.0), admitted(2.0, 1.0)
    assert burst.pop("token_bucket") > 1.5 * plain["token_bucket"]
    assert burst == {name: plain[name] for name in burst}
    assert all(limit[name] > 1.4 * plain[name] for name in plain)


def test_every_number_in_the_prose_is_in_a_table_or_a_figure(shown, found):
    standings, period = found.standings, found.limit.period
    first, *_ = choices(standings)
    reached = [each for each in found.curve if each.wrong <= cells.CLAIM["wrong"]][:1]
    # Bytes are measured, so the ratio is that of this page's own table.
    rows = re.findall(r">(\w+)</th><td[^>]*>[\d,]+</td><td[^>]*>([\d,]+)<", shown[4])
    full = {name: float(size.replace(",", "")) for name, size in rows}
    assert set(full) == set(names())
    (ratio,) = set(re.findall(r"takes ([\d.]+) times the memory", shown[0] + shown[4]))
    assert float(ratio) == pytest.approx(max(full.values()) / full[first], rel=0.01)
    scarce = found.adaptive[found.adaptive["capacity"] == found.adaptive["capacity"].min()]
    settled = scarce["limit"].iloc[len(scarce) // 3 :]
    given = [
        f"{found.limit} {period:g} s",
        f"{ratio} times the memory",
        *(cells.format_percent(it.after_pause - 1.0) for it in standings.values() if it.after_pause > 1.05),
        *(f"{len(trace):,}" for trace in found.traces.values()),
        *(f"{each.threshold:,.0f} {each.above:,} {each.sources:,}" for each in reached),
        f"1.5 times the limit in {EDGE * period:g} s, across {2 * EDGE * period:.2g} s",
        f"{found.patience:g} s, {found.learner} {found.learner.rate:g}",
        f"{found.adaptive['capacity'].min():.0f} {settled.min():.0f} {settled.max():.0f}",
        *(f"{PERIODS} periods, s = 1, 7 June 2017, 15 %, 3 times, 2 cores", f"{request_cost(found.limit):g}"),
    ]
    assert audit(shown, given, names()) > 0.5
