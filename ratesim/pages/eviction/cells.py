"""What the eviction notebook shows, one function for each of its cells, all made from one comparison (`compared`).

The verdict is worked out from the numbers (`eviction_choice`): another limit, seed or policy may give another.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ratesim.formatting import format_bytes, format_percent
from ratesim.pages.eviction.analysis import (
    CACHES,
    MIDDLE,
    SHARES,
    Comparison,
    Standing,
    best,
    compared,
    points,
    standings,
    verdict,
)
from ratesim.pages.eviction.plots import fates, hit_ratios, pressure, running_costs, trade
from ratesim.pages.html import HTML, escape_html, html_table
from ratesim.pages.repro_command import reproduction
from ratesim.pages.style import to_svg
from ratesim.simulation.analysis.eviction_accuracy import PEERS
from ratesim.simulation.cost_model.calibrate import machine

__all__ = [
    "Comparison",
    "answer",
    "better_cache",
    "budget",
    "caches",
    "compared",
    "costs",
    "fate",
    "reproduce",
    "under_pressure",
]

MEMORY = 100e6  # bytes, of which is said how many keys they hold


def answer(found: Comparison) -> HTML:
    """Show the verdict, its evidence, and one row for each policy."""
    entries, memory = standings(found.bounded("entries")), standings(found.bounded("bytes"))
    cases = len(found.bounded("entries")) // len(found.size)
    first, *evidence = verdict(entries, memory, found.size, cases)
    chosen = {best(entries, found.size), best(memory, found.size)}
    fastest = min(it.decision for it in found.costs.values())
    rows = [
        [
            f"<b>{escape_html(policy)}</b>" if policy in chosen else escape_html(policy),
            *_stands(entries[policy]),
            *_stands(memory[policy]),
            f"{found.size[policy]:,.0f}",
            f"{found.costs[policy].decision / fastest:.1f}",
        ]
        for policy in found.size
    ]
    lowest = ["cases with the lowest", "at most above the lowest"]
    head = ["", "mean over-admission, equal entries", *lowest, "mean over-admission, equal bytes", *lowest]
    head += ["bytes per key", "decision time, multiple of the fastest"]
    names = ", ".join(each.algorithm for each in found.limits)
    said = escape_html(f"{found.limits[0]} ({names}): {first}.")
    note = f"{found.logged} " if found.logged else ""
    note += (
        f"Cases: {cases // len(SHARES) // len(found.limits)} workloads, each with room for {_percent(SHARES)} of the live "
        "keys. A live key has a state that is not as good as new. Over-admission: the cost admitted in excess because a "
        "state was evicted, divided by the total cost that an exact limiter admits. All cases use one seed."
    )
    return HTML(
        f'<p class="verdict">{said}</p><p>{escape_html(". ".join(evidence))}.</p>{html_table(head, rows).data}{_small(note)}'
    )


def _stands(it: Standing) -> list[str]:
    return [
        escape_html(format_percent(it.mean)),
        str(it.least),
        f"{points(it.behind)} points" if it.behind else "always the lowest",
    ]


def under_pressure(found: Comparison) -> HTML:
    """Show the figure of over-admission by policy and room, with equally many entries."""
    said = (
        "Every policy has room for the same number of entries. Zipf: keys by popularity, with the exponent beside the name. "
        "Churning: one key is replaced every ten requests. Ask once: three of ten requests are for keys that never return. "
        "Costs: requests that cost more than 1. Bursts: keys that send thirty requests within 3 s and none later."
    )
    return _shown(pressure(found.bounded("entries"), "room, % of the live keys (log scale)", "With equal entries"), said)


def fate(found: Comparison) -> HTML:
    """Show how many evictions were harmless or harmful, and the cost that they forgot."""
    rows = found.bounded("entries")
    table = []
    for policy in found.size:
        cells = []
        for part in SHARES:
            of = rows[(rows["policy"] == policy) & (rows["share"] == part)]
            gone = of["harmless"].sum() + of["harmful"].sum()
            cells.append(format_percent(of["harmless"].sum() / gone) if gone else "no eviction")
        of = rows[rows["policy"] == policy]
        harmful = of["harmful"].sum()
        cells.append(f"{of['forgotten'].sum() / harmful:.2f}" if harmful else "none")
        table.append([escape_html(cell) for cell in (policy, *cells)])
    head = [
        "share of harmless evictions",
        *(f"room for {_percent([part])}" for part in SHARES),
        "cost forgotten per harmful eviction",
    ]
    note = (
        "Harmless eviction: the state was as good as new (a full bucket or an expired window). Harmful eviction: the cost "
        "charged to the key became available again. A harmful eviction is not yet over-admission: only a key that returns "
        "and requests more than its limit uses that cost. The choice of keys therefore matters more than the forgotten cost."
    )
    return HTML(_shown(fates(rows), "All cases together.").data + html_table(head, table).data + _small(note))


def caches(found: Comparison) -> HTML:
    """Hit ratios beside libCacheSim, where that is installed, and what AdaptiveLRU is."""
    hits = found.hits
    names = list(dict.fromkeys(hits["cache"]))
    peers = [f"{name}*" for name in PEERS if f"{name}*" in names]
    rows, leads, absent = [], [], []
    for (trace, part), of in hits.groupby(["trace", "share"], sort=False):
        by = dict(zip(of["cache"], of["hit_ratio"], strict=True))
        rivals = peers or [name for name in CACHES if name != "AdaptiveLRU"]
        leads.append(100 * (by["AdaptiveLRU"] - max(by[name] for name in rivals if name in by)))
        cells = [f"{100 * by[name]:.2f}" if name in by else "none" for name in names]
        absent += [f"{name} of {trace} ({of['room'].iloc[0]} entries)" for name in names if name not in by]
        rows.append([escape_html(trace), _percent([float(str(part))]), *cells, f"{leads[-1]:+.2f}"])
    others = f"the best of libCacheSim's {', '.join(PEERS)} (*)" if peers else "the better of LRU and LFU"
    beside = (
        "AdaptiveLRU is LRU with frequency taken into account. Its hit ratio is "
        f"between {min(leads):+.2f} and {max(leads):+.2f} percentage points from {others}. LRU evicts popular keys in "
        "favor of new keys. LFU keeps keys that are no longer popular. AdaptiveLRU moves an entry that was used again to "
        "the end of its list instead of evicting it. Keys that return after their eviction tell AdaptiveLRU how often to do "
        "so. With no such moves, it is plain LRU."
    )
    install = (
        ""
        if peers
        else "<p>No external cache is shown: libCacheSim is not installed. <code>pip install libcachesim</code> (GPL) "
        "and a second run add its LRU, ARC, S3-FIFO and Sieve.</p>"
    )
    head = ["trace", "room for", *names, "AdaptiveLRU's lead, points"]
    note = (
        f"Hit ratios in %. Generated traces have {4 * found.requests:,} requests over {4 * found.keys:,} keys; the shipped "
        "access log is unchanged. Scanned: from time to time, a sequence of new keys sends one request each. No entry is "
        "ever as good as new here."
    )
    note += f" None: libCacheSim cannot keep so small a cache: {', '.join(absent)}." if absent else ""
    figure = _shown(hit_ratios(hits), "Gray bar: from the worst to the best of libCacheSim's caches." if peers else "").data
    return HTML(f"<p>{escape_html(beside)}</p>{install}{figure}{html_table(head, rows).data}{_small(note)}")


def better_cache(found: Comparison) -> HTML:
    """Hit ratio against over-admission: whether the better cache is the better limiter."""
    rows = found.bounded("entries")
    said = (
        f"Every policy has room for {_percent([MIDDLE])} of the live keys. The hit ratio is the share of requests that "
        "found their state. A line joins the policies in the order of their hit ratio. The line is thick where it rises: "
        "there the better cache over-admits more. The hit ratio weights all keys and all misses equally. A limiter "
        "over-admits only where the evicted key requests more than its limit. A miss of a state as good as new costs "
        "the limiter nothing."
    )
    return _shown(trade(rows[rows["share"] == MIDDLE]), said)


def costs(found: Comparison) -> HTML:
    """Time and memory, measured here, and how many keys a memory holds."""
    base = found.costs[found.leanest]
    rows = []
    for policy, it in found.costs.items():
        times = [_timed(getattr(it, name), getattr(base, name)) for name in ("touch", "insertion", "decision")]
        size = found.size[policy]
        rows.append(
            [escape_html(policy), *times, f"{size:,.0f}", f"{MEMORY / size:,.0f}", f"{found.size[found.leanest] / size:.2f}"]
        )
    head = ["", "touch", "insertion that evicts", "decision, full store", "bytes per key"]
    head += [f"keys in {format_bytes(MEMORY)}", f"keys, over those of {found.leanest}"]
    note = (
        f"Measured ({machine()}) in stores of {found.entries:,} entries with {found.limits[0].algorithm}. In brackets: the "
        f"multiple of {found.leanest}'s time. Touch and insertion: time of the policy alone. Some policies defer the work "
        "of a touch to the insertion. Decision: MemoryStorage, zipf 0.8 over ten times as many keys. Bytes: all memory that "
        "the store allocates for a key, rounded to ten bytes. This includes the key's name (13 letters) and the policy's "
        "records of evicted keys."
    )
    drawn = running_costs(found.costs, found.size, found.leanest, MEMORY)
    return HTML(_shown(drawn, "").data + html_table(head, rows).data + _small(note))


def _timed(value: float, base: float) -> str:
    return f"{value * 1e9:,.0f} ns ({value / base:.1f})"


def budget(found: Comparison) -> HTML:
    """Show the figure of over-admission with equally many bytes, and the room that each policy has then."""
    rooms = ", ".join(f"{policy} {found.size[found.leanest] / size:.2f}" for policy, size in found.size.items())
    said = (
        "Use this figure to choose a policy if memory is scarce. Every policy has the bytes in which "
        f"{found.leanest} holds that share of the live keys. A policy holds fewer keys if a key takes more bytes. Keys held "
        f"for each key of {found.leanest}: {rooms}."
    )
    label = f"memory, % of the bytes of all live keys with {found.leanest} (log scale)"
    return _shown(pressure(found.bounded("bytes"), label, "With equal bytes"), said)


def reproduce(found: Comparison) -> HTML:
    """Show the command that gives the same numbers again."""
    same = (
        "The same parameters give the same evictions, decisions and hit ratios. Times are measured and vary. Bytes are "
        "measured and vary only with the version of Python. For more algorithms and rooms, run make bench."
    )
    return reproduction("eviction", found.given, str(found.seed), same)


def _percent(parts: Sequence[float]) -> str:
    numbers = [f"{100 * part:g}" for part in parts]
    return " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]])) + " %"


def _shown(figure: tuple[Figure, str], caption: str) -> HTML:
    drawn, alt = figure
    return HTML(f'<figure>{to_svg(drawn, alt)}<figcaption class="small">{escape_html(caption)}</figcaption></figure>')


def _small(text: str) -> str:
    return f"<p class='small'>{escape_html(text)}</p>"
