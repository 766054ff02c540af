"""What the notebook on capacity shows, one function for each of its cells, all made from one simulation (`costed`).

Every figure in a sentence is worked out from what was simulated, and from prices that are the reader's to change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ratesim.formatting import format_amount, format_bytes, format_money, format_percent
from ratesim.pages.capacity.analysis import Costed, cheapest, costed
from ratesim.pages.capacity.plots import PARTS, by_keys, by_load, parted
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.interactive import Choice, InteractiveFigure, interactive
from ratesim.pages.repro_command import reproduction, seed_range
from ratesim.pages.style import COLORS
from ratesim.recommendation.assess.capacity import Capacity
from ratesim.recommendation.assess.capacity_figures import processors_in_words

__all__ = ["answer", "costed", "formulae", "growth", "needed", "needs", "paid", "partitions", "reproduce", "room", "turned"]

LOADS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
KEYS = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
WRONG = (0.0, 0.0001, 0.001, 0.01, 0.1)  # of the currency, for a request

FORMULAE = (
    ("operations/s at the store", "simulated operations per request × requests in the busiest second"),
    (
        "processors of the store",
        "service seconds per request at the store × requests in the busiest second (utilization law, U = X S)",
    ),
    ("connections to a server", "nodes × pool_size of the storage's URL"),
    (
        "memory of the store",
        "keys × measured bytes per key; for a hybrid that decides in memory, plus its state for each node",
    ),
    ("memory of a node", "keys × measured bytes per key, up to max_entries; ÷ nodes if routing keeps each key at one node"),
    (
        "network",
        "bytes per request in both directions (TCP payload) × mean requests/s × seconds of a month × price of a GB",
    ),
    (
        "servers",
        "the larger of processors ÷ most_processor and memory ÷ (GB × most_memory), of a PostgreSQL also (1.5 × its tables "
        "+ its log) ÷ disk, rounded up, plus the replicas; where one Redis is not enough three primaries or more, so many "
        "that none is busier, the hottest key's included",
    ),
    (
        "busiest primary of a cluster",
        "processors of the store × (share of the hottest key + share of all others ÷ primaries)",
    ),
    ("processors of the nodes", "processor seconds per request at the nodes × requests in the busiest second"),
    ("wrong decisions", "mean over-admitted requests/s × seconds of a month × over_admitted_request"),
)


def answer(found: Costed) -> HTML:
    """Show the price of each candidate, and the cheapest of those that share their state."""
    capacities = found.at()
    least = capacities[cheapest(capacities)]
    deployment = found.scenario.deployment
    asked = f"{format_amount(least.load.peak)} requests in the busiest second and {found.keys:,} keys"
    asked += f" on {deployment.nodes} nodes"
    verdict = f"At {asked}, {least.candidate} costs least of the candidates that share state: {_money(least)} a month"
    if least.store == "none":
        verdict = f"At {asked}, {least.candidate} costs least: {_money(least)} a month. Its nodes share no state"
    said = [" ".join(least.sentences)]
    alone = [each for each in capacities.values() if each.store == "none" and each is not least]
    if alone:
        each = alone[0]
        said.append(
            f"{each.candidate} has no server and costs {_money(each)} a month. Its nodes share no state. "
            f"Its over-admission under this traffic is {format_percent(found.over_admission(each.candidate))}."
        )
    lines = "".join(f"<p>{escape_html(each)}</p>" for each in said)
    table = paid(capacities, lambda each: _name(found, each)).data
    note = (
        f"{_source(found)} Prices have two significant digits. Smaller differences are noise. "
        "The price assumes that the capacity for the busiest second is paid for the whole month."
    )
    return HTML(f'<p class="verdict">{escape_html(verdict)}.</p>{lines}{table}{small_print(note)}')


def paid(capacities: Mapping[str, Capacity], name: Callable[[Capacity], str]) -> HTML:
    """Show the monthly price of each candidate and its parts. `name` gives the HTML of a row's label."""
    head = ["candidate", "price per month", "servers", "memory of the nodes", "processors of the nodes", "network"]
    rows = [[name(each), *map(escape_html, _paid(each))] for each in capacities.values()]
    return html_table([*head, "wrong decisions"], rows, label="Price of each candidate per month")


def needs(found: Costed) -> HTML:
    """Show the resources that each candidate needs of the store, of the nodes and of the network."""
    return needed(found.at(), lambda each: _name(found, each), found.over_admission)


def needed(
    capacities: Mapping[str, Capacity], name: Callable[[Capacity], str], over_admission: Callable[[str], float]
) -> HTML:
    """One row for each capacity, with `name` (HTML) before it; over_admission: a share, by candidate."""
    clustered = any(each.topology == "cluster" for each in capacities.values())
    head = ["candidate", "operations/s", "connections", "processors of the store", "servers", "capacity per server"]
    head += ["busiest primary"] * clustered
    head += ["memory of the store", "memory of each node", "traffic to the store", "traffic from the store"]
    head += ["over-admission"]
    rows = []
    for each in capacities.values():
        alone = each.store == "none"
        cells = [
            "none" if alone else format_amount(each.operations, 4),
            "none" if alone else f"{each.connections:,}",
            "none" if alone else processors_in_words(each.store_processors),
            "none" if alone else _servers(each),
            "none" if each.server_rate is None else f"{format_amount(each.server_rate)} requests/s",
            *[_busiest(each)] * clustered,
            _bytes(each.store_bytes),
            _bytes(each.node_bytes),
            f"{format_bytes(each.bytes_to_store)}/s",
            f"{format_bytes(each.bytes_from_store)}/s",
            format_percent(over_admission(each.candidate)),
        ]
        rows.append([name(each), *map(escape_html, cells)])
    note = (
        "All resources are for the busiest second. Capacity per server: the rate of such requests that one server carries "
        "at the highest processor utilization that the prices allow. Over-admission: the cost admitted beyond the cost that "
        "an exact limiter admits."
    )
    if clustered:
        note += " Busiest primary: the one of the hottest key, which lives on one, with even slots."
    return HTML(html_table(head, rows).data + small_print(note))


def growth(found: Costed) -> HTML:
    """Show the price against the load."""
    note = (
        f"The state of {found.keys:,} keys must fit. A higher load means more clients of the same kind. If the same clients "
        "sent faster instead, hybrids would need less than shown, because more requests of a client would share one sync "
        "interval."
    )
    return figure_html(by_load(found), note)


def room(found: Costed) -> HTML:
    """Show the price against the number of keys."""
    note = (
        f"The load is {format_amount(found.peak)} requests in the busiest second. A node may hold every key, up to "
        "max_entries. Beyond max_entries, it evicts entries."
    )
    return figure_html(by_keys(found), note)


def turned(found: Costed) -> InteractiveFigure:
    """Show the parts of each price at another load, with other keys, and with a price on a wrong decision."""

    def picture(load: float, keys: int, wrong: float) -> HTML:
        told = f"{wrong:g} {found.prices.currency} for each over-admitted request"
        caption = f"{load:g} times the traffic, {keys:,} keys, {told if wrong else 'wrong decisions cost nothing'}."
        return figure_html(parted(found, found.at(load, keys, wrong)), caption)

    return interactive(
        picture,
        load=Choice("load", LOADS, found.load, lambda value: f"× {value:g}"),
        keys=Choice("keys", KEYS, found.keys, lambda value: f"{value:,}"),
        wrong=Choice("a wrong decision", WRONG, found.prices.over_admitted_request, lambda value: f"{value:g}"),
    )


def partitions(found: Costed) -> HTML:
    """Show what partitions of PostgreSQL's tables take and spare, by number of keys."""
    rows = []
    for keys in KEYS:
        each = found.at(keys=keys)["postgres"].partitions
        assert each is not None  # of a PostgreSQL
        least = "by time" if each.by_time < each.deleting else "none"
        figures = (each.deleting, each.by_time, each.by_hash)
        rows.append([f"{keys:,}", format_amount(each.expired, 4), *map(format_percent, figures), least])
    head = ["keys", "rows that expire a second", "not cut: look, delete, vacuum", "by time", "16 by hash", "least work"]
    peak = found.at()["postgres"].load.peak
    note = (
        f"Shares of a processor at {format_amount(peak)} requests in the busiest second, worked out from measured costs. "
        "Rows are read once in each cleanup_interval to find those that have expired. Partitions of a day are dropped as a "
        "whole, and each decision looks at all of them. A hash spares nothing that was measured."
    )
    return HTML(html_table(head, [list(map(escape_html, row)) for row in rows]).data + small_print(note))


def formulae() -> HTML:
    """How the figures are worked out."""
    table = html_table(["", ""], [[escape_html(name), escape_html(said)] for name, said in FORMULAE], header=False)
    note = (
        "A request is assumed to cost as much in the busiest second as in the mean of the run. This assumption gives an "
        "upper bound. The price excludes TLS, headers, backups, staff and the work of the API itself."
    )
    return HTML(table.data + small_print(note))


def reproduce(found: Costed) -> HTML:
    """Show the command that gives the same numbers again."""
    same = "The same parameters, prices and measured costs give the same numbers."
    return reproduction("capacity", found.given, seed_range(found.seed, found.seeds), same, found.profile.describe())


def _paid(each: Capacity) -> list[str]:
    parts = (float(getattr(each.price, part)) for part in PARTS)
    return [_money(each), *(format_money(part, "").strip() for part in parts)]


def _servers(each: Capacity) -> str:
    replicas = f" + {each.servers * each.replicas:,}" if each.replicas else ""
    return f"{each.servers:,}{replicas}" + (f" and {each.sentinels} Sentinels" if each.sentinels else "")


def _busiest(each: Capacity) -> str:
    if each.topology != "cluster" or each.hot_server_utilization is None:
        return ""
    return f"{format_percent(each.hot_server_utilization)} busy" + ("" if each.hot_key_fits else ", by one key")


def _money(each: Capacity) -> str:
    return format_money(each.price.per_month, each.price.currency)


def _name(found: Costed, each: Capacity) -> str:
    color = COLORS[found.backend(each.candidate)]
    return f'<span class="dot" style="background:{color}"></span>{escape_html(each.candidate)}'


def _bytes(size: float | None) -> str:
    return "unknown" if size is None else format_bytes(size) if size else "none"


def _source(found: Costed) -> str:
    whose = (
        f"The prices come from {found.given['prices']}"
        if "prices" in found.given
        else "The prices are the example that ships with ratesim"
    )
    return f"{whose}, in {found.prices.currency}, of {found.prices.date.isoformat()}."
