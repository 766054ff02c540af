"""How large a choice is: where one server that decides every request ends, and how many servers the choice takes."""

from __future__ import annotations

from ratesim.formatting import format_amount, format_percent
from ratesim.recommendation.assess.capacity_figures import NAMES, Capacity

__all__ = ["size_note"]


def size_note(chosen: Capacity, alone: Capacity | None) -> str:
    """Return the size in a sentence or two; "" where the choice has no store.

    Parameters
    ----------
    chosen
        What the choice needs.
    alone
        What one server needs that decides every request, where one was run.
    """
    if chosen.store == "none":
        return ""
    peak = format_amount(chosen.load.peak)
    first = ""
    if alone is not None and alone.server_end is not None:
        first = (
            f"One {NAMES[alone.store]} that decides every request {alone.reach} {format_amount(alone.server_end)} "
            "requests per second, in batches as in its run. "
        )
    if not chosen.hot_key_fits and chosen.hot_key_rate is not None:
        busy = format_percent(chosen.load.peak / chosen.hot_key_rate)
        return (
            f"{first}The busiest second has {peak}: no number of primaries carries that for {chosen.candidate}, since the "
            f"hottest key alone keeps one busy for {busy} of the time."
        )
    takes = f"The busiest second has {peak}: for that, {chosen.candidate} takes {_servers(chosen)}"
    # A lease takes the hottest key off its primary, by how much was not measured: then its share is no share of the time.
    if chosen.topology == "cluster" and chosen.hot_server_utilization is not None and chosen.hot_server_utilization <= 1:
        takes += f", the busiest of them busy for {format_percent(chosen.hot_server_utilization)} of the time"
    return f"{first}{takes}."


def _servers(each: Capacity) -> str:
    if each.topology == "cluster":
        said = f"{each.servers} primaries"
    else:
        said = "one server" if each.servers == 1 else f"{each.servers} servers"
        if each.store == "postgres" and each.servers > 1:
            said = f"one server as large as {each.servers} of those that are priced{',' * bool(each.replicas)}"
    if each.replicas:
        kind = "replica" if each.store == "redis" else "synchronous standby" if each.standby else "standby"
        several = each.store == "redis" and each.servers > 1
        said += f" with {each.replicas} {kind}{'s' * (each.replicas > 1)}{' each' * several}"
    if each.sentinels:
        said += f" and {each.sentinels} Sentinels"
    return said
