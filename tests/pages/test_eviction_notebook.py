"""The notebook on eviction: executed small, it says what the numbers say; and it stays thin."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from itertools import combinations
from xml.etree import ElementTree

import pandas as pd
import pytest
from audit import audit

from ratesim.formatting import format_percent
from ratesim.pages.eviction import cells
from ratesim.pages.eviction.analysis import Standing, best, standings, verdict
from ratesim.pages.eviction.plots import pressure
from ratesim.simulation.analysis.eviction_accuracy import PEERS
from ratesim.storage.eviction import POLICIES

pytestmark = pytest.mark.slow  # whole analyses

SMALL = {"limit": "5/minute", "algorithms": "token_bucket,fixed_window", "seed": 3, "requests": 600, "keys": 60}
SMALL["entries"] = 200
NOTEBOOK = "eviction.ipynb"
CASES = 2 * 8 * 4  # algorithms, workloads, rooms


@pytest.fixture(scope="module")
def found():
    return cells.compared(**SMALL)


def words(html):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def means(found, bound):
    return found.rows[found.rows["bound"] == bound].groupby("policy")["over_admission"].mean()


def test_the_first_output_is_the_answer_and_says_what_the_numbers_say(shown, found):
    said = words(shown[0])
    entries, memory = means(found, "entries"), means(found, "bytes")
    choice = re.match(r"5/minute \(token_bucket, fixed_window\): (\w+)", said)[1]
    assert choice == memory.idxmin()
    if entries.idxmin() != choice:
        assert f"{choice} if memory is bounded, {entries.idxmin()} if only the number of entries is bounded" in said
    for how, mean in (("entries", entries), ("bytes", memory)):
        it = (
            f"With equally many {how}, {mean.idxmin()} over-admits {format_percent(mean.min())} in the mean of {CASES} cases"
        )
        assert it in said
    for policy in POLICIES:
        assert re.search(rf"{policy} {re.escape(format_percent(entries[policy]))} \d+ ", said), policy


def test_every_figure_can_be_read_and_heard(shown):
    page = "\n".join(shown)
    figures = re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 6
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img"
        for policy in ("LRU", "LFU", "AdaptiveLRU"):
            assert policy in root.get("aria-label")


def test_each_policy_has_the_bytes_that_the_leanest_has(found):
    rooms = found.rows.set_index(["bound", "algorithm", "workload", "share", "policy"])["room"]
    for case, room in rooms["bytes"].items():
        *_, policy = case
        same = rooms["entries"][case]  # room that all have there
        bought = same * found.size[found.leanest] / found.size[policy]
        assert room == max(1, int(bought)) or abs(room - bought) < 1.0 + same * 1e-9, case
        assert policy != found.leanest or room == same


def test_what_was_evicted_adds_up(shown, found):
    rows = found.bounded("entries")
    lru = rows[(rows["policy"] == "LRU") & (rows["share"] == 0.5)]
    harmless = lru["harmless"].sum() / (lru["harmless"].sum() + lru["harmful"].sum())
    assert re.search(
        rf"cost forgotten per harmful eviction LRU .*? {re.escape(format_percent(harmless))} \d", words(shown[2])
    )
    assert (rows["hits"] + rows["harmful"] + rows["harmless"] <= rows["requests"]).all()


def test_the_same_seed_gives_the_same_evictions():
    smaller = SMALL | {"algorithms": "token_bucket", "requests": 150, "keys": 20, "entries": 25}
    first, again = (cells.compared(**smaller) for _ in range(2))
    assert again.size == first.size
    assert again.rows.equals(first.rows)
    assert again.hits.equals(first.hits)


def with_peers(found, values):
    """The hits of ours, and of libCacheSim what is given, for every case."""
    rows = found.hits[~found.hits["cache"].str.endswith("*")].to_dict("records")
    theirs = [{**row, "cache": f"{name}*", "hit_ratio": value} for row in rows[::3] for name, value in values.items()]
    return replace(found, hits=pd.DataFrame(rows + theirs))


def test_hit_ratios_stand_beside_those_of_libcachesim_where_it_is_installed(found):
    beside = with_peers(found, dict(zip(PEERS, (0.1, 0.2, 0.3, 0.0), strict=True)))
    said = words(cells.caches(beside).data)
    ours = found.hits[found.hits["cache"] == "AdaptiveLRU"]["hit_ratio"]
    lead = f"between {100 * (ours.min() - 0.3):+.2f} and {100 * (ours.max() - 0.3):+.2f} percentage points from the best of"
    assert lead in said
    assert "pip install" not in said
    assert "None:" not in said


def test_a_cache_that_libcachesim_cannot_keep_is_named(found):
    beside = with_peers(found, dict.fromkeys(PEERS, 0.1))
    small = (beside.hits["cache"] == "S3FIFO*") & (beside.hits["trace"] == "access log") & (beside.hits["share"] == 0.01)
    room = beside.hits.loc[small, "room"].iloc[0]
    said = words(cells.caches(replace(beside, hits=beside.hits[~small])).data)
    assert f"cannot keep so small a cache: S3FIFO* of access log ({room} entries)." in said
    assert re.search(r"access log 1 % [\d. ]+ none ", said)


def test_without_libcachesim_the_notebook_says_how_to_set_it_beside(found):
    said = words(cells.caches(with_peers(found, {})).data)
    assert "libCacheSim is not installed. pip install libcachesim (GPL)" in said
    assert "from the better of LRU and LFU" in said


def test_names_from_elsewhere_are_escaped(found):
    rows = found.rows.assign(workload=found.rows["workload"].replace("bursts", "<script>alert(1)</script>"))
    for part in (cells.under_pressure, cells.better_cache, cells.budget):
        html = part(replace(found, rows=rows)).data
        assert "<script>" not in html
        assert "&lt;script&gt;" in html


def test_no_point_lies_outside_its_figure():
    rows = cases(LRU=(0.0, 0.2), LFU=(7.0, 0.1))
    figure, alt = pressure(rows, "room", "With equal entries")
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert all(low < y < high for line in axes.lines for y in line.get_ydata())
    assert "LRU exactly 0" in alt
    assert "LFU 700 %" in alt


def test_a_figure_without_over_admission_says_so():
    _, alt = pressure(cases(LRU=(0.0, 0.0), LFU=(0.0, 0.0)), "room", "With equal entries")
    assert alt.startswith("With equal entries, no policy over-admits.")


def cases(**over):
    """Rows of as many cases as each policy has values."""
    return pd.DataFrame(
        [
            {"algorithm": "gcra", "workload": f"w{case}", "share": 0.1, "policy": policy, "over_admission": value}
            for policy, values in over.items()
            for case, value in enumerate(values)
        ]
    )


def test_a_policy_stands_by_its_mean_and_by_what_it_is_above_the_least():
    found = standings(cases(LRU=(0.1, 0.4), TTL=(0.1, 0.2), Random=(0.0, 0.9)))
    assert found["LRU"] == Standing(0.25, 0, pytest.approx(0.2))
    assert found["TTL"] == Standing(pytest.approx(0.15), 1, 0.1)
    assert found["Random"] == Standing(0.45, 1, pytest.approx(0.7))


def test_the_verdict_follows_the_numbers_and_not_the_names():
    size = {"LRU": 900.0, "LimitAware": 300.0, "Random": 400.0}
    many = standings(cases(LRU=(0.1, 0.1), LimitAware=(0.5, 0.5), Random=(0.0, 0.9)))
    few = standings(cases(LRU=(0.6, 0.6), LimitAware=(0.5, 0.5), Random=(0.4, 0.9)))
    first, entries, memory = verdict(many, few, size, 2)
    assert first.startswith("LimitAware if memory is bounded, LRU if only the number of entries is bounded")
    assert first.endswith("a key takes 3.0 times the bytes in LRU")
    assert (
        "LRU over-admits 10 % in the mean of 2 cases. It has the lowest over-admission in 1 of them and is never more than "
        "10 percentage points" in entries
    )
    assert "The next policy is Random with 45 %, the last is LimitAware with 50 %" in entries
    assert "LimitAware over-admits 50 %" in memory
    assert verdict(many, many, size, 2)[0] == "LRU, both with a bounded number of entries and with bounded memory"


def test_a_policy_that_is_least_more_often_is_named_with_where_it_is_not():
    found = standings(cases(LRU=(0.2, 0.2, 0.2), LFU=(0.1, 0.1, 0.9)))
    said = verdict(found, found, {"LRU": 1.0, "LFU": 1.0}, 3)[1]
    assert "LFU is lowest in 2, but up to 70 points above the lowest in other cases" in said


def test_where_no_limit_binds_the_leanest_policy_will_do():
    none = standings(cases(LRU=(0.0,), LFU=(0.0,)))
    first, why = verdict(none, none, {"LRU": 500.0, "LFU": 400.0}, 1)
    assert first == "every policy is sufficient, so choose LFU, which takes the least memory"
    assert "hardly any key" in why


def test_of_policies_that_admit_alike_the_leaner_is_chosen():
    assert best(standings(cases(LRU=(0.1,), LFU=(0.1,))), {"LRU": 500.0, "LFU": 400.0}) == "LFU"


def test_every_number_in_the_prose_is_in_a_table_or_a_figure(shown, found):
    rows = found.bounded("entries")
    middle = rows[rows["share"] == cells.MIDDLE]
    odd = against = pairs = 0
    for _, of in middle.groupby(["algorithm", "workload"]):
        best = of.loc[of["hit_ratio"].idxmax()]
        odd += best["over_admission"] > of["over_admission"].min()
        points = list(zip(of["hit_ratio"], of["over_admission"], strict=True))
        differing = [(a, b) for a, b in combinations(points, 2) if a[0] != b[0] and a[1] != b[1]]
        pairs += len(differing)
        against += sum((a[0] > b[0]) == (a[1] > b[1]) for a, b in differing)
    cases = middle.groupby(["algorithm", "workload"]).ngroups
    given = [
        f"{found.limits[0]} {4 * found.requests:,} {4 * found.keys:,} {found.entries:,}",
        f"{odd} of {cases}; {against} of {pairs}; {len(rows) // len(found.size)} cases; {cases // len(found.limits)}",
        f"{cells._percent(cells.SHARES)}; {cells._percent([cells.MIDDLE])}",
        "zipf 0.8, 13 letters, requests that cost more than 1, thirty within 3 s, 2 cores",
    ]
    assert audit(shown, given, list(found.size)) > 0.2
