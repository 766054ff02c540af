"""`WorkloadSpec`: the table of a scenario that describes its requests, and the trace that it makes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from ratesim.safe_text import shorten_repr
from ratesim.simulation.scenario.clients import ClientsSpec, unlimited_demand
from ratesim.simulation.scenario.fields import Moment, Seconds, StrictModel, share
from traffic import (
    MMPP,
    Churning,
    ClosedLoopClients,
    Diurnal,
    EdgeHerd,
    FlashCrowd,
    HotKey,
    InTurn,
    Lognormal,
    OnOff,
    PerKey,
    Poisson,
    ReactiveClients,
    RetryingClients,
    Steady,
    Trace,
    Uniform,
    Workload,
    Zipf,
    read_log,
)
from traffic.arrivals import Arrivals
from traffic.keys import Keys

__all__ = ["EPOCH", "READ", "WorkloadSpec"]

EPOCH = 1.7e9  # seconds: when recipes begin
MOST_KEYS = 100_000_000
MOST_REQUESTS = 1_000_000_000  # of a recipe: those of ten minutes at the highest rate

Part01 = Annotated[float, BeforeValidator(share), Field(ge=0, le=1)]


class WorkloadSpec(StrictModel):
    """A log to replay, a recipe, or a closed loop (`clients.users`).

    Fields of a log: `key` (the limited field, or several as "client+endpoint"; of csv and JSON lines any column, and without
    it all requests together), `format` (by the content unless given), `time`, `time_unit`, `cost` and `status` (columns of
    csv and JSON lines; cost also as an expression such as "ContextTokens+GeneratedTokens"). See `traffic.read_log`.

    Fields of a recipe: `requests_per_second`, the mean in the long run, for `duration` seconds; `arrivals`, and their
    parameters:

    - poisson, steady: none.
    - on_off: on, off (mean seconds). mmpp: burst (times the quiet rate), burst_for, quiet_for (seconds).
    - diurnal: amplitude (share), day (seconds). It begins at its lowest.
    - flash_crowd: surge (times the rate), surge_at, ramp, hold, fade (seconds). The mean is that without the crowd.
    - edge_herd: edge (seconds; a herd comes at every multiple), edge_spread (seconds), edge_before (share).

    With `per_key` every key has the rhythm of on_off or mmpp by itself, and all are equally frequent. Without it,
    `popularity` is the distribution over `keys`: zipf (with the exponent `zipf`), uniform, hot_key (of which one has
    `hot_share`) or in_turn. After `lifetime` seconds in the mean of the run a key is replaced by a new one. `cost` is the
    cost of every request (1 unless given), or with `cost_sigma` the mean of lognormal costs.

    Cuts and changes apply in this order: `busiest` (seconds kept), `spread` (one-second timestamps of a log), `speed`,
    `scale` (copies under distinct keys; below 1, a share of the keys), `head` (requests kept), `top_share` (of the requests:
    other keys are merged into the busiest one until it makes so many). Then `sessions` is the number of clients of a key,
    all equally frequent. A session is the unit that a sticky balancer keeps together and that brings a token back. Unless
    given, a key is one session.
    """

    log: str | None = None
    key: str | None = None
    format: str | None = None
    time: str | None = None
    time_unit: Literal["s", "ms", "us", "ns", "iso"] | None = None
    cost: str | Annotated[float, Field(ge=0, le=1e12)] | None = None
    status: str | None = None
    cost_sigma: float | None = Field(default=None, gt=0, le=10)
    requests_per_second: float | None = Field(default=None, gt=0, le=1e6)
    arrivals: Literal["poisson", "steady", "on_off", "mmpp", "diurnal", "flash_crowd", "edge_herd"] = "poisson"
    on: Seconds | None = None
    off: Seconds | None = None
    burst: float | None = Field(default=None, gt=1, le=1e6)
    burst_for: Seconds | None = None
    quiet_for: Seconds | None = None
    amplitude: Part01 | None = None
    day: Seconds = 86400.0
    surge: float | None = Field(default=None, gt=1, le=1e6)
    surge_at: Moment | None = None
    ramp: Seconds | None = None
    hold: Seconds | None = None
    fade: Seconds | None = None
    edge: Seconds | None = None
    edge_spread: Seconds | None = None
    edge_before: Part01 = 0.0
    per_key: bool = False
    keys: int = Field(default=1000, ge=1, le=MOST_KEYS)
    popularity: Literal["zipf", "uniform", "hot_key", "in_turn"] = "zipf"
    zipf: float = Field(default=1.0, ge=0, le=10)
    hot_share: Annotated[float, BeforeValidator(share), Field(gt=0, lt=1)] | None = None
    lifetime: Seconds | None = None
    duration: Seconds = 60.0
    busiest: Seconds | None = None
    spread: bool = True
    speed: float = Field(default=1.0, gt=0, le=1e6)
    scale: float = Field(default=1.0, gt=0, le=10_000)
    head: int | None = Field(default=None, ge=1)
    top_share: Annotated[float, BeforeValidator(share), Field(gt=0, le=1)] | None = None
    sessions: int | None = Field(default=None, ge=1, le=1_000_000)
    clients: ClientsSpec | None = None

    @property
    def mean_rate(self) -> float:
        """Requests per second of a recipe or a closed loop in the long run; 0 for a log, which nobody has read yet."""
        if self.clients is not None and self.clients.users is not None:
            return self.clients.users / self.clients.think
        return (self.requests_per_second or 0.0) * self.scale * self.speed

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        closed = self.clients is not None and self.clients.users is not None
        if [self.log is not None, self.requests_per_second is not None, closed].count(True) != 1:
            raise ValueError(
                "give one of `log` (a file), `requests_per_second` (a recipe) and `clients.users` (a closed loop)"
            )
        if self.log is not None:
            self._takes("log", _LOG | _CUTS)
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
        optional = {"day", "edge_before"}
        for kind, chosen, kinds in (("arrivals", self.arrivals, _ARRIVALS), ("popularity", self.popularity, _POPULARITY)):
            missing = [name for name in kinds[chosen] if name not in optional and getattr(self, name) is None]
            if missing:
                raise ValueError(f"{kind} = {chosen!r} needs {', '.join(missing)}")
            for other in sorted({name for names in kinds.values() for name in names} - set(kinds[chosen])):
                if self._is_given(other):
                    owner = next(name for name, names in kinds.items() if other in names)
                    raise ValueError(f"{other} belongs to {kind} = {owner!r}, not to {chosen!r}")
        if self.per_key and self.arrivals not in ("on_off", "mmpp"):
            raise ValueError(f"per_key goes with arrivals = 'on_off' or 'mmpp', not with {self.arrivals!r}")
        for name in ("popularity", "zipf", "lifetime"):
            if self.per_key and self._is_given(name):
                raise ValueError(f"per_key: its keys ask equally often, so it takes no {name}")
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
        assert self.log is not None
        assert not isinstance(self.cost, float)
        return read_log(
            self.log,
            key=self.key,
            format=self.format,
            time=self.time,
            time_unit=self.time_unit,
            cost=self.cost,
            status=self.status,
            progress=progress,
        )

    def reactive_clients(self, trace: Trace) -> ReactiveClients | None:
        """Return the clients that react, if there are any; `trace` is the result of `trace`."""
        if self.clients is None:
            return None
        if self.clients.users is not None:
            return self._closed_loop(self.clients)
        policy = self.clients.policy()
        assert policy is not None
        return RetryingClients(trace, policy)

    def recipe(self) -> Workload | PerKey:
        """Return the recipe as `traffic` has it."""
        cost: float | Lognormal = self._cost()
        if self.cost_sigma is not None:
            cost = Lognormal(self._cost(), self.cost_sigma)
        if self.per_key:
            return PerKey(self._arrivals(), self.keys, self.duration, cost, EPOCH)
        return Workload(self._arrivals(), self._keys(), self.duration, cost, EPOCH)

    def _cost(self) -> float:
        return 1.0 if self.cost is None else float(self.cost)

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
                return OnOff(rate * (on + off) / on, on, off)
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
READ = ("log", "key", "format", "time", "time_unit", "cost", "status")  # the fields for reading a log
_LOG = {*READ, "spread"}
_CUTS = {"busiest", "speed", "scale", "head", "top_share", "sessions", "clients"}
_ARRIVALS: dict[str, tuple[str, ...]] = {
    "poisson": (),
    "steady": (),
    "on_off": ("on", "off"),
    "mmpp": ("burst", "burst_for", "quiet_for"),
    "diurnal": ("amplitude", "day"),
    "flash_crowd": ("surge", "surge_at", "ramp", "hold", "fade"),
    "edge_herd": ("edge", "edge_spread", "edge_before"),
}
_POPULARITY: dict[str, tuple[str, ...]] = {"zipf": ("zipf",), "uniform": (), "hot_key": ("hot_share",), "in_turn": ()}
