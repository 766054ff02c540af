"""`WorkloadSpec`: the table of a scenario that describes its requests, and the trace that it makes."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ratesim.safe_text import shorten_repr
from ratesim.simulation.scenario.clients import ClientsSpec, unlimited_demand
from ratesim.simulation.scenario.fields import Moment, Seconds, Share, StrictModel, Unit
from ratesim.simulation.scenario.temporary_files import secret_file
from ratesim.simulation.scenario.tenants import TenantSpec
from traffic import (
    MMPP,
    Churning,
    ClosedLoopClients,
    Diurnal,
    EdgeHerd,
    FlashCrowd,
    Hawkes,
    HotKey,
    InTurn,
    Lognormal,
    OnOff,
    PerKey,
    Poisson,
    ReactiveClients,
    RetryingClients,
    Steady,
    Tenants,
    Trace,
    Uniform,
    Workload,
    Zipf,
    read_log,
)
from traffic.addresses import NO_KEY
from traffic.anonymize import Anonymizer
from traffic.arrivals import Arrivals
from traffic.inputs.sources import files_of
from traffic.keys import Keys
from traffic.tenants import Profile

__all__ = ["CUTS", "EPOCH", "READ", "WorkloadSpec"]

EPOCH = 1.7e9  # seconds: when recipes begin
MOST_KEYS = 100_000_000
MOST_REQUESTS = 1_000_000_000  # of a recipe: those of ten minutes at the highest rate

Part01 = Annotated[Share, Field(le=1)]


class WorkloadSpec(StrictModel):
    """A log to replay, a recipe, or a closed loop (`clients.users`).

    `key` to `key_file` say how a log is read, see `traffic.read_log`. `requests_per_second`, with `arrivals` and its
    parameters, makes a recipe; the mean of a flash_crowd is that without the crowd. With `per_key` all keys are
    equally frequent; else `popularity` is the distribution over `keys`, and one of them replaced after `lifetime`. Tenants
    have shares of the keys and of the requests.

    Cuts and changes apply in this order: `busiest`, `spread`, `speed`, `scale`, `head`, `top_share`, `sessions`. A session
    is the unit that a sticky balancer keeps together and that brings a token back.
    """

    log: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """File with the requests, a glob, a directory or an archive, or a list of them; relative to this file."""
    key: str | None = None
    """What is limited: client, user, endpoint, client+endpoint, xff, client/24, or any field; "none": all together."""
    format: str | None = None
    """A name that `ratesim formats` lists; by the content unless given."""
    log_format: str | None = None
    """The log_format of nginx or LogFormat of Apache that wrote the lines, or @nginx.conf:name."""
    time: str | None = None
    """Field with the time of a request; found by its values unless given."""
    time_unit: Literal["s", "ms", "us", "ns", "iso", "excel", "dmy", "mdy", "ymd"] | None = None
    """Of that field, or the order of day and month in it; by its values unless given."""
    time_zone: str | None = None
    """Of stamps that name none, such as Europe/Berlin or +02:00; UTC unless given."""
    cost: str | Annotated[float, Field(ge=0, le=1e12)] | None = None
    """What a request costs: a number; of a log a field or an expression, such as ContextTokens+GeneratedTokens."""
    status: str | None = None
    """Field with the answer, such as 429; found by its name unless given."""
    session: str | None = None
    """Field whose values are the sessions that a sticky balancer keeps together."""
    endpoint: str | None = None
    """Field with what was asked for, such as a route."""
    anonymize: bool = False
    """Whether keys are replaced by keyed hashes while the log is read."""
    key_file: str | None = None
    """File with the secret of these hashes, so that a key has the same name in every run; relative to this file."""
    cost_sigma: float | None = Field(default=None, gt=0, le=10)
    """Spread of lognormal costs, whose mean is `cost`."""
    requests_per_second: float | None = Field(default=None, gt=0, le=1e6)
    """Requests per second of a recipe, in the mean of the long run."""
    arrivals: Literal["poisson", "steady", "on_off", "mmpp", "diurnal", "flash_crowd", "edge_herd", "hawkes", "tenants"] = (
        "poisson"
    )
    """When requests come."""
    on: Seconds | None = None
    """on_off: mean length of a burst."""
    off: Seconds | None = None
    """on_off: mean length of a pause."""
    tail: float | None = Field(default=None, gt=1, le=2)
    """on_off: exponent of Pareto's law, where the lengths have a heavy tail; exponential unless given."""
    branching: Annotated[float, Unit("share"), Field(ge=0, lt=1)] | None = None
    """hawkes: how many others a request causes directly, in the mean."""
    delay: Seconds | None = None
    """hawkes: mean time from a request to one that it causes."""
    burst: float | None = Field(default=None, gt=1, le=1e6)
    """mmpp: times the quiet rate."""
    burst_for: Seconds | None = None
    """mmpp: mean length of a burst."""
    quiet_for: Seconds | None = None
    """mmpp: mean length of a quiet time."""
    amplitude: Part01 | None = None
    """diurnal: share of the mean by which the rate swings."""
    day: Seconds = 86400.0
    """diurnal: length of a day, which begins at its quietest."""
    surge: float | None = Field(default=None, gt=1, le=1e6)
    """flash_crowd: times the rate at its height."""
    surge_at: Moment | None = None
    """flash_crowd: when it begins."""
    ramp: Seconds | None = None
    """flash_crowd: how long it grows."""
    hold: Seconds | None = None
    """flash_crowd: how long it stays."""
    fade: Seconds | None = None
    """flash_crowd: how long it fades."""
    edge: Seconds | None = None
    """edge_herd: time from herd to herd; they come at its multiples."""
    edge_spread: Seconds | None = None
    """edge_herd: time within which a herd comes."""
    edge_before: Part01 = 0.0
    """edge_herd: share of it that comes just before the edge."""
    profile: tuple[Annotated[float, Field(ge=0, le=1e12)], ...] = ()
    """tenants: rates in equal parts of `profile_period`, relative to each other; constant unless given."""
    profile_period: Seconds | None = None
    """tenants: length of the profile, which then begins again; the duration unless given."""
    stretch: bool = False
    """tenants: whether gaps in a session are longer where the rate is low, as pauses are."""
    per_key: bool = False
    """Whether every key has the rhythm of on_off, mmpp or hawkes by itself; then all are equally frequent."""
    keys: int = Field(default=1000, ge=1, le=MOST_KEYS)
    """Keys of a recipe or a closed loop."""
    popularity: Literal["zipf", "uniform", "hot_key", "in_turn"] = "zipf"
    """How requests spread over the keys."""
    zipf: float = Field(default=1.0, ge=0, le=10)
    """zipf: the exponent."""
    hot_share: Annotated[float, Unit("share"), Field(gt=0, lt=1)] | None = None
    """hot_key: share of the requests that the one hot key makes."""
    lifetime: Seconds | None = None
    """Mean time after which a key is replaced by a new one; never unless given."""
    duration: Seconds = 60.0
    """How long requests come, of a recipe or a closed loop."""
    busiest: Seconds | None = None
    """Length of the busiest part, to which the traffic is cut."""
    spread: bool = True
    """Whether timestamps of whole seconds in a log are spread over their second."""
    speed: float = Field(default=1.0, gt=0, le=1e6)
    """How many times as fast it is replayed."""
    scale: float = Field(default=1.0, gt=0, le=10_000)
    """Number of copies under distinct keys; below 1, a part of the keys."""
    head: int | None = Field(default=None, ge=1)
    """Number of requests that are kept, the first."""
    top_share: Annotated[float, Unit("share"), Field(gt=0, le=1)] | None = None
    """Share of the requests: other keys are merged into the busiest one until it makes so many."""
    sessions: int | None = Field(default=None, ge=1, le=1_000_000)
    """Clients of a key, all equally frequent; a sticky balancer keeps each on its node. One unless given."""
    clients: ClientsSpec | None = None
    """Clients that react to their answers."""
    tenants: tuple[TenantSpec, ...] = ()
    """tenants: groups of keys that are alike."""

    @property
    def is_replayed(self) -> bool:
        """Whether it grows by copies and by speed, as a log does: a log, or a recipe of tenants in the place of one."""
        return self.log is not None or self.arrivals == "tenants"

    @property
    def mean_rate(self) -> float:
        """Requests per second of a recipe or a closed loop in the long run; 0 for a log, which nobody has read yet."""
        if self.clients is not None and self.clients.users is not None:
            return self.clients.users / self.clients.think
        return (self.requests_per_second or 0.0) * self.scale * self.speed

    @property
    def logs(self) -> tuple[str, ...]:
        """The files, globs, directories and archives that the log is made of; none of a recipe."""
        return () if self.log is None else (self.log,) if isinstance(self.log, str) else self.log

    def with_secret(self) -> WorkloadSpec:
        """Return the same with a file for the secret of its hashes: one that lasts as long as this process unless named."""
        if not self.anonymize or self.key_file is not None:
            return self
        return self.model_copy(update={"key_file": str(secret_file())})

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the traffic is read from: the logs, a configuration that has their format, a secret.

        Raises
        ------
        LogError
            If one of the logs is not there.
        """
        named = self.log_format is not None and self.log_format.startswith("@")
        others = (self.log_format[1:].partition(":")[0] if self.log_format and named else None, self.key_file)
        return (*(files_of(self.logs) if self.logs else ()), *(each for each in others if each is not None))

    @property
    def log_name(self) -> str:
        """What the log is called, without its folder, which is private."""
        first, *others = (PurePath(each).name for each in self.logs)
        return f"{first} and {len(others)} more" if others else first

    @property
    def limited(self) -> str:
        """What one limit holds for, in words: "each client", "each copy of the log", "all requests together"."""
        if self.key == NO_KEY:
            return "all requests together" if self.scale <= 1 else "each copy of the log"
        return f"each {self.key or 'key'}"

    @property
    def counted(self) -> str:
        """What a limit counts where that is no requests, as it stands after a rate: " of ContextTokens+GeneratedTokens"."""
        if isinstance(self.cost, str):
            return f" of {self.cost}"
        return "" if self.cost in (None, 1.0) else f" of cost, {self.cost:g} for a request"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        closed = self.clients is not None and self.clients.users is not None
        if [self.log is not None, self.requests_per_second is not None, closed].count(True) != 1:
            raise ValueError(
                "give one of `log` (a file), `requests_per_second` (a recipe) and `clients.users` (a closed loop)"
            )
        if self.log is not None:
            self._takes("log", _LOG | CUTS)
            if self.key_file is not None and not self.anonymize:
                raise ValueError("key_file: is the secret of anonymous keys; set anonymize = true as well")
            if isinstance(self.cost, float):
                raise ValueError("cost: of a log it is a column or an expression, in quotes")
            return self
        if isinstance(self.cost, str):
            raise ValueError(f"cost {shorten_repr(self.cost)}: without a log it is a number")
        if closed:
            self._takes("closed loop", {"clients", "keys", "duration", "cost"})
            return self
        self._recipe_makes_sense()
        return self

    def _recipe_makes_sense(self) -> None:
        requests = (self.requests_per_second or 0.0) * self.duration * max(self.scale, 1.0)
        if requests > MOST_REQUESTS:
            raise ValueError(f"makes about {requests:.2g} requests, and at most {MOST_REQUESTS:.2g} can be simulated")
        self._takes("recipe", set(type(self).model_fields) - _LOG | {"cost"})
        optional = {"tail", "day", "edge_before", "profile", "profile_period", "stretch"}
        for kind, chosen, kinds in (("arrivals", self.arrivals, _ARRIVALS), ("popularity", self.popularity, _POPULARITY)):
            missing = [name for name in kinds[chosen] if name not in optional and getattr(self, name) in (None, ())]
            if missing:
                raise ValueError(f"{kind} = {chosen!r} needs {', '.join(missing)}")
            for other in sorted({name for names in kinds.values() for name in names} - set(kinds[chosen])):
                if self._is_given(other):
                    owner = next(name for name, names in kinds.items() if other in names)
                    raise ValueError(f"{other} belongs to {kind} = {owner!r}, not to {chosen!r}")
        if self.per_key and self.arrivals not in ("on_off", "mmpp", "hawkes"):
            raise ValueError(f"per_key goes with arrivals = 'on_off', 'mmpp' or 'hawkes', not with {self.arrivals!r}")
        for name in ("popularity", "zipf", "lifetime"):
            if self.per_key and self._is_given(name):
                raise ValueError(f"per_key: its keys ask equally often, so it takes no {name}")
        for name in ("popularity", "zipf", "lifetime", "cost", "cost_sigma"):
            if self.tenants and self._is_given(name):
                raise ValueError(
                    f"arrivals = 'tenants' takes no {name}: each of its groups has its share of the requests, and costs"
                )
        if self.tenants:
            self._tenants().profile.curve(self.duration)  # raises what else is wrong
        if self.cost_sigma is not None and not self.cost:
            raise ValueError("cost_sigma needs a `cost` above 0, the mean")
        if self.popularity == "hot_key" and self.keys < 2:
            raise ValueError("popularity = 'hot_key' needs keys = 2 or more")
        if self.lifetime is not None and self.keys * (math.ceil(self.duration / self.lifetime) + 1) > MOST_KEYS:
            raise ValueError(f"lifetime {self.lifetime:g}: makes more than {MOST_KEYS} keys; give a longer one")
        if self.surge_at is not None and self.surge_at >= self.duration:
            raise ValueError(f"surge_at {self.surge_at:g}: must be before the end, {self.duration:g} s")
        if self.edge is not None and self.edge_spread is not None:
            if self.edge_spread > self.edge / 2:
                raise ValueError(f"edge_spread {self.edge_spread:g}: must be at most half of edge, {self.edge:g} s")
            if self._herd() < 1:
                raise ValueError(f"edge {self.edge:g}: no whole request comes in that time; raise requests_per_second")

    def _takes(self, source: str, names: set[str]) -> None:
        for name in sorted(set(type(self).model_fields) - names):
            if self._is_given(name):
                raise ValueError(f"a {source} takes no {name}")

    def _is_given(self, name: str) -> bool:
        # A scenario that was written in full repeats the defaults.
        return name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default

    def trace(self, rng: np.random.Generator, progress: Any = None, read: Trace | None = None) -> Trace:
        """Make the requests; those of a closed loop are of users that are admitted at once.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws the recipe, the spread and the copies.
        progress : optional
            Progress of reading a log.
        read : Trace, optional
            The result of `read`, if the log was read already.

        Raises
        ------
        LogError
            If the log cannot be read.
        """
        if self.clients is not None and self.clients.users is not None:
            return unlimited_demand(self._closed_loop(self.clients), rng, EPOCH)
        if read is None:
            read = self.recipe().trace(rng) if self.log is None else self.read(progress)
        trace = read
        if self.busiest is not None:
            trace = trace.busiest(self.busiest)
        if self.spread and self.log is not None:
            trace = trace.spread(rng)
        if self.speed != 1.0:
            trace = trace.speed(self.speed)
        if self.scale != 1.0:
            trace = trace.scale(self.scale, rng, self.head)
        elif self.head is not None:
            trace = trace.head(self.head)
        if self.top_share is not None:
            trace = trace.concentrate(self.top_share, rng)
        if self.sessions is not None:
            trace = trace.in_sessions(self.sessions, rng)
        return trace

    def read(self, progress: Any = None) -> Trace:
        """Read the log, before any cut or change; raises LogError."""
        return self._read(progress)

    def _read(self, progress: Any = None, lines: int | None = None) -> Trace:
        assert self.log is not None
        asked: dict[str, Any] = {name: getattr(self, name) for name in READ if name not in ("log", "anonymize", "key_file")}
        asked = {name: value for name, value in asked.items() if value is not None}
        if self.anonymize:
            asked["anonymize"] = Anonymizer.from_file(self.key_file or secret_file())
        paths: Any = self.log if isinstance(self.log, str) else list(self.log)
        return read_log(paths, **asked, lines=lines, progress=progress)

    def check_log(self) -> None:
        """Read the first lines of the log, if there is one, so that a wrong path or column is known before anything runs.

        Raises
        ------
        LogError
            If they cannot be read.
        """
        if self.log is not None:
            self._read(lines=1)

    def reactive_clients(self, trace: Trace) -> ReactiveClients | None:
        """Return the clients that react, if there are any; `trace` is the result of `trace`."""
        if self.clients is None:
            return None
        if self.clients.users is not None:
            return self._closed_loop(self.clients)
        policy = self.clients.policy()
        assert policy is not None
        return RetryingClients(trace, policy)

    def recipe(self) -> Workload | PerKey | Tenants:
        """Return the recipe as `traffic` has it."""
        if self.arrivals == "tenants":
            return self._tenants()
        cost: float | Lognormal = self._cost()
        if self.cost_sigma is not None:
            cost = Lognormal(self._cost(), self.cost_sigma)
        if self.per_key:
            return PerKey(self._arrivals(), self.keys, self.duration, cost, EPOCH)
        return Workload(self._arrivals(), self._keys(), self.duration, cost, EPOCH)

    def _cost(self) -> float:
        return 1.0 if self.cost is None else float(self.cost)

    def _tenants(self) -> Tenants:
        assert self.requests_per_second is not None
        profile = Profile(self.profile or (1.0,), self.profile_period or self.duration)
        groups = tuple(each.group() for each in self.tenants)
        return Tenants(self.requests_per_second, self.keys, self.duration, groups, profile, self.stretch, EPOCH)

    @classmethod
    def of(cls, recipe: Tenants) -> WorkloadSpec:
        """Describe a recipe that was fitted to a log."""
        return cls(
            requests_per_second=recipe.rate,
            arrivals="tenants",
            keys=recipe.keys,
            duration=recipe.duration,
            profile=recipe.profile.rates,
            profile_period=recipe.profile.period,
            stretch=recipe.stretch,
            tenants=tuple(map(TenantSpec.of, recipe.groups)),
        )

    def _arrivals(self) -> Arrivals:
        def given(name: str) -> float:
            value = getattr(self, name)
            assert value is not None, name
            return float(value)

        rate = given("requests_per_second") / (self.keys if self.per_key else 1)
        match self.arrivals:
            case "poisson":
                return Poisson(rate)
            case "steady":
                return Steady(rate)
            case "on_off":
                on, off = given("on"), given("off")
                return OnOff(rate * (on + off) / on, on, off, self.tail)
            case "mmpp":
                times, busy, quiet = given("burst"), given("burst_for"), given("quiet_for")
                slow = rate * (quiet + busy) / (quiet + times * busy)
                return MMPP(slow, times * slow, quiet, busy)
            case "diurnal":
                return Diurnal(rate, given("amplitude"), self.day)
            case "flash_crowd":
                return FlashCrowd(rate, *map(given, ("surge", "surge_at", "ramp", "hold", "fade")))
            case "edge_herd":
                return EdgeHerd(given("edge"), self._herd(), given("edge_spread"), self.edge_before)
            case "hawkes":
                return Hawkes(rate, given("branching"), given("delay"))
            case "tenants":
                raise AssertionError("tenants are no arrivals of one stream")

    def _herd(self) -> int:
        assert self.requests_per_second is not None
        assert self.edge is not None
        return round(self.requests_per_second * self.edge)

    def _keys(self) -> Keys:
        keys: Keys
        match self.popularity:
            case "zipf":
                keys = Zipf(self.keys, self.zipf)
            case "uniform":
                keys = Uniform(self.keys)
            case "hot_key":
                assert self.hot_share is not None
                keys = HotKey(self.keys, self.hot_share)
            case "in_turn":
                keys = InTurn(self.keys)
        return keys if self.lifetime is None else Churning(keys, self.duration / self.lifetime)

    def _closed_loop(self, clients: ClientsSpec) -> ClosedLoopClients:
        return clients.loop(self.keys, self.duration, self._cost())


# What belongs to a log, to all but a closed loop, and to one way to come or one popularity.
READ = (  # the fields for reading a log
    *("log", "key", "format", "log_format", "time", "time_unit", "time_zone", "cost", "status", "session", "endpoint"),
    *("anonymize", "key_file"),
)
_LOG = {*READ, "spread"}
CUTS = {"busiest", "speed", "scale", "head", "top_share", "sessions", "clients"}
_ARRIVALS: dict[str, tuple[str, ...]] = {
    "poisson": (),
    "steady": (),
    "on_off": ("on", "off", "tail"),
    "mmpp": ("burst", "burst_for", "quiet_for"),
    "diurnal": ("amplitude", "day"),
    "flash_crowd": ("surge", "surge_at", "ramp", "hold", "fade"),
    "edge_herd": ("edge", "edge_spread", "edge_before"),
    "hawkes": ("branching", "delay"),
    "tenants": ("tenants", "profile", "profile_period", "stretch"),
}
_POPULARITY: dict[str, tuple[str, ...]] = {"zipf": ("zipf",), "uniform": (), "hot_key": ("hot_share",), "in_turn": ()}
