"""Assumptions: numbers that a choice rests on and that nobody knows for sure, and the runs that try other values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from ratesim.formatting import format_percent, format_seconds
from ratesim.simulation.cost_model.profile import with_slower_server
from ratesim.simulation.engine.cluster import round_trip
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario
    from traffic import Trace

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
        Format a value in a sentence, as "a round trip of 2 ms", and by itself.
    today
        The present value.
    low, high
        Bounds of the values that are tried.
    other
        Makes the run of a candidate under another value.
    whole
        Whether only whole numbers are tried.
    """

    name: str
    phrase: Callable[[float], str]
    unit: Callable[[float], str]
    today: float
    low: float
    high: float
    other: Callable[[float, Candidate], Alternative]
    whole: bool = False


@dataclass(frozen=True)
class FixedAssumption:
    """A number that is not varied, and the reason, as a clause."""

    name: str
    reason: str


def assumptions(
    scenario: Scenario, contenders: Sequence[Candidate], chosen: str | None, profile: Profile, trace: Trace
) -> tuple[Assumption | FixedAssumption, ...]:
    """List the assumptions of a scenario.

    They are the service time of each shared store, the round trip to it, skew, nodes, and the sync interval of the chosen
    candidate. A candidate that a number does not concern is run as before: a slower Redis changes nothing for PostgreSQL,
    nor a round trip for memory.

    Parameters
    ----------
    scenario, contenders, profile
        The question.
    chosen
        Name of the choice; None without one.
    trace
        The traffic of the scenario.
    """
    stores = sorted({store for each in contenders if (store := _store(each))})
    varied_numbers: list[Assumption | FixedAssumption] = [_service_time(store, profile) for store in stores]
    if stores:
        varied_numbers.append(_round_trip(scenario, stores[0], profile))
    else:
        varied_numbers += [
            FixedAssumption(name, "no contender has a shared store") for name in ("service time", "round trip")
        ]
    varied_numbers += [_skew(scenario, profile, trace), _nodes(scenario, profile)]
    return (*varied_numbers, _sync_interval(next((each for each in contenders if each.name == chosen), None), profile))


def _store(candidate: Candidate) -> str:
    backend = StorageURL.parse(candidate.storage).backend
    return "" if backend == "memory" else backend


def _service_time(store: str, profile: Profile) -> Assumption:
    costs = profile.backends[store]
    today = costs.service(1, 0.5) + (costs.commit.of(1) if costs.commit else 0.0)

    def other(value: float, candidate: Candidate) -> Alternative:
        own = _store(candidate) == store
        return Alternative({}, candidate, with_slower_server(profile, store, value / today) if own else profile)

    name = f"service time of {store}"
    return Assumption(
        name,
        lambda value: f"a {name} of {format_seconds(value)}",
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
        lambda rtt: f"a round trip of {format_seconds(rtt)}",
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

    def phrase(value: float) -> str:
        return "1 node" if value == 1 else f"{value:.0f} nodes"

    return Assumption("nodes", phrase, "{:.0f}".format, today, 1, max(today, MOST_NODES), other, whole=True)


def _skew(scenario: Scenario, profile: Profile, trace: Trace) -> Assumption | FixedAssumption:
    """Vary the exponent or the share that makes a recipe's skew.

    Of a log, and of a recipe without skew, other keys are merged into the busiest one. So it is varied upward only: nothing
    in a log says which clients a busy key would be, if it were several.
    """
    workload = scenario.workload

    def varied(field: str) -> Callable[[float, Candidate], Alternative]:
        return lambda value, candidate: Alternative({f"workload.{field}": value}, candidate, profile)

    recipe = workload.requests_per_second is not None and not workload.per_key and workload.top_share is None
    if recipe and workload.popularity == "zipf" and workload.zipf > 0:
        today = workload.zipf
        return Assumption(
            "skew",
            lambda value: f"a zipf exponent of {value:.2g}",
            "{:.2g}".format,
            today,
            today / REACH,
            min(today * REACH, max(MOST_ZIPF, today)),
            varied("zipf"),
        )

    def of_the_busiest(value: float) -> str:
        return f"a busiest key with {format_percent(value)} of the requests"

    if recipe and workload.popularity == "hot_key":
        assert workload.hot_share is not None
        today = workload.hot_share
        high = min(today * REACH, max(MOST_SHARE, today))
        return Assumption("skew", of_the_busiest, format_percent, today, today / REACH, high, varied("hot_share"))
    if workload.log is None and workload.requests_per_second is None:
        return FixedAssumption("skew", "the users of a closed loop share its keys evenly")
    today = trace.summary()["top_key_share"]
    high = min(today * REACH, max(MOST_SHARE, today))
    return Assumption("skew", of_the_busiest, format_percent, today, today, high, varied("top_share"))


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
        lambda value: f"a {name} of {format_seconds(value)}",
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
