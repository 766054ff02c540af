"""Assumptions: numbers that a choice rests on and that nobody knows for sure, and the runs that try other values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from ratesim.formatting import Format, format_amount, format_apart, format_percent, format_seconds
from ratesim.simulation.cost_model.profile import with_slower_server
from ratesim.simulation.engine.cluster import round_trip
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario

__all__ = ["Alternative", "Assumption", "FixedAssumption", "assumptions"]

REACH = 16.0  # times more, and less, than today
MOST_NODES = 256
MOST_ZIPF = 4.0  # of which the first of many keys makes 92 %
MOST_SHARE = 0.9


class Alternative(NamedTuple):
    """A run under another value: fields of the scenario, as of a grid; the candidate; the costs of the backends."""

    fields: dict[str, Any]
    candidate: Candidate
    profile: Profile


@dataclass(frozen=True)
class Assumption:
    """A number that is varied.

    Attributes
    ----------
    name
        As in "round trip".
    phrase, unit
        The words around a value in a sentence, as in "a round trip of 2 ms", and how the value is written.
    today
        The present value, of all of the traffic.
    low, high
        Bounds of the values that are tried.
    other
        Makes the run of a candidate under another value.
    whole
        Whether only whole numbers are tried.
    in_excerpt
        The number in the excerpt that is simulated, where all of the traffic has this value.
    """

    name: str
    phrase: Callable[[str], str]
    unit: Format
    today: float
    low: float
    high: float
    other: Callable[[float, Candidate], Alternative]
    whole: bool = False
    in_excerpt: Callable[[float], float] = float

    def told(self, value: float) -> tuple[str, str]:
        """Return a value in its words, and today's beside it: ("a round trip of 2 ms", "0.5 ms today").

        Where the excerpt has another number than all of the traffic, the second one says from where to where it was varied.
        """
        changed, today = format_apart(value, self.today, self.unit)
        now, then = format_apart(self.in_excerpt(self.today), self.in_excerpt(value), self.unit)
        excerpt = "" if (now, then) == (today, changed) else f"; on the excerpt from {now} to {then}"
        return self.phrase(changed), f"{today} today{excerpt}"


@dataclass(frozen=True)
class FixedAssumption:
    """A number that is not varied, and the reason, as a clause."""

    name: str
    reason: str


def assumptions(
    scenario: Scenario,
    contenders: Sequence[Candidate],
    chosen: str | None,
    profile: Profile,
    top_share: float,
    top_share_of_excerpt: float,
) -> tuple[Assumption | FixedAssumption, ...]:
    """List the assumptions of a scenario.

    They are the service time of each shared store, the round trip to it, skew, nodes, and the sync interval of the chosen
    candidate. A candidate that a number does not concern is run as before: a slower Redis changes nothing for PostgreSQL,
    nor a round trip for memory.

    Parameters
    ----------
    scenario, contenders, profile
        The question; `scenario` is the excerpt that is simulated.
    chosen
        Name of the choice; None without one.
    top_share, top_share_of_excerpt
        Share of the busiest key, of all of the traffic and of the excerpt.
    """
    stores = sorted({store for each in contenders if (store := _store(each))})
    varied_numbers: list[Assumption | FixedAssumption] = [_service_time(store, profile) for store in stores]
    if stores:
        varied_numbers.append(_round_trip(scenario, stores[0], profile))
    else:
        varied_numbers += [
            FixedAssumption(name, "no contender has a shared store") for name in ("service time", "round trip")
        ]
    varied_numbers += [_skew(scenario, profile, top_share, top_share_of_excerpt), _nodes(scenario, profile)]
    return (*varied_numbers, _sync_interval(next((each for each in contenders if each.name == chosen), None), profile))


def _store(candidate: Candidate) -> str:
    backend = StorageURL.parse(candidate.storage).backend
    return "" if backend == "memory" else backend


def _service_time(store: str, profile: Profile) -> Assumption:
    costs = profile.backends[store]
    today = costs.warm

    def other(value: float, candidate: Candidate) -> Alternative:
        own = _store(candidate) == store
        return Alternative({}, candidate, with_slower_server(profile, store, value / today) if own else profile)

    name = f"service time of {store}"
    return Assumption(
        name,
        f"a {name} of {{}}".format,
        format_seconds,
        today,
        today / REACH,
        today * REACH,
        other,
    )


def _round_trip(scenario: Scenario, store: str, profile: Profile) -> Assumption:
    """Vary the round trip. Each has the spread that is assumed of any given one (`links.OWN_SIGMA`), as same_zone has."""
    today = round_trip(scenario, profile, store)

    def other(value: float, candidate: Candidate) -> Alternative:
        return Alternative({"deployment.rtt": value} if _store(candidate) else {}, candidate, profile)

    return Assumption(
        "round trip",
        "a round trip of {}".format,
        format_seconds,
        today,
        today / REACH,
        today * REACH,
        other,
    )


def _nodes(scenario: Scenario, profile: Profile) -> Assumption:
    today = scenario.deployment.nodes

    def other(value: float, candidate: Candidate) -> Alternative:
        fields: dict[str, Any] = {"deployment.nodes": round(value)}
        if scenario.deployment.type == "single_instance":
            fields["deployment.type"] = "clustered"
        return Alternative(fields, candidate, profile)

    def phrase(count: str) -> str:
        return "1 node" if count == "1" else f"{count} nodes"

    return Assumption("nodes", phrase, _whole, today, 1, max(today, MOST_NODES), other, whole=True)


def _whole(value: float, *, digits: int = 0) -> str:
    return f"{value:.0f}"


def _skew(scenario: Scenario, profile: Profile, top_share: float, own: float) -> Assumption | FixedAssumption:
    """Vary the exponent or the share that makes a recipe's skew.

    Of a log, and of a recipe without skew, other keys are merged into the busiest one. So it is varied upward only: nothing
    in a log says which clients a busy key would be, if it were several. The busiest key of an excerpt has another share than
    that of all of the traffic; the same part of the other requests is merged into it in both.
    """
    workload = scenario.workload

    def varied(field: str) -> Callable[[float, Candidate], Alternative]:
        return lambda value, candidate: Alternative({f"workload.{field}": value}, candidate, profile)

    recipe = workload.requests_per_second is not None and not workload.per_key and workload.top_share is None
    recipe = recipe and not workload.is_replayed
    if recipe and workload.popularity == "zipf" and workload.zipf > 0:
        today = workload.zipf
        return Assumption(
            "skew",
            "a zipf exponent of {}".format,
            _of_exponent,
            today,
            today / REACH,
            min(today * REACH, max(MOST_ZIPF, today)),
            varied("zipf"),
        )

    of_the_busiest = "a busiest key with {} of the requests".format
    if recipe and workload.popularity == "hot_key":
        assert workload.hot_share is not None
        today = workload.hot_share
        high = min(today * REACH, max(MOST_SHARE, today))
        return Assumption("skew", of_the_busiest, format_percent, today, today / REACH, high, varied("hot_share"))
    if workload.log is None and workload.requests_per_second is None:
        return FixedAssumption("skew", "the users of a closed loop share its keys evenly")
    high = min(top_share * REACH, max(MOST_SHARE, top_share))

    def merged(value: float) -> float:
        part = (value - top_share) / (1.0 - top_share) if top_share < 1.0 else 0.0
        return own + part * (1.0 - own)

    def other(value: float, candidate: Candidate) -> Alternative:
        return Alternative({"workload.top_share": merged(value)}, candidate, profile)

    return Assumption("skew", of_the_busiest, format_percent, top_share, top_share, high, other, in_excerpt=merged)


def _of_exponent(value: float, *, digits: int = 2) -> str:
    return format_amount(value, digits=digits)


def _sync_interval(chosen: Candidate | None, profile: Profile) -> Assumption | FixedAssumption:
    """Vary the sync interval of the chosen candidate only: another interval may favor another candidate."""
    name = "sync interval"
    if chosen is None:
        return FixedAssumption(name, "no candidate is chosen")
    hybrid = StorageURL.parse(chosen.storage).hybrid
    if hybrid is None or hybrid.consistency not in ("eventual", "session") or hybrid.write != "write_back":
        return FixedAssumption(name, f"{chosen.name} has none")
    today, options = hybrid.sync_interval, ["sync_interval"]
    if hybrid.l1_ttl == today:  # a view lives as long as the interval
        options.append("l1_ttl")

    def other(value: float, candidate: Candidate) -> Alternative:
        if candidate != chosen:
            return Alternative({}, candidate, profile)
        url = _with_options(candidate.storage, dict.fromkeys(options, f"{value:.6g}"))
        return Alternative({}, candidate.model_copy(update={"storage": url}), profile)

    return Assumption(
        name,
        f"a {name} of {{}}".format,
        format_seconds,
        today,
        today / REACH,
        today * REACH,
        other,
    )


def _with_options(storage: str, options: dict[str, str]) -> str:
    parts = urlsplit(storage)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    return parts._replace(query=urlencode({**given, **options})).geturl()
