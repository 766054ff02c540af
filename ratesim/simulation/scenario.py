"""A scenario: the question in one TOML file. Which traffic, which limit, which deployment, what is required, who competes.

Unknown keys are errors that name the key. `Scenario.load` reads a file, or a scenario that ships with the package by name.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import simpy
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ratesim.algorithms import bind
from ratesim.errors import Config
from ratesim.limit import InvalidLimit, Limit
from ratesim.runtime import SimRuntime
from ratesim.simulation.routing import Routing
from ratesim.storage import StorageURL
from traffic import (
    AtOnce,
    Backoff,
    Clients,
    ClosedLoop,
    Constant,
    Exponential,
    HonourRetryAfter,
    Poisson,
    Retrying,
    Trace,
    Workload,
    Zipf,
    read_log,
)

__all__ = ["Candidate", "Deployment", "Fault", "Requirements", "Scenario", "ScenarioError", "WorkloadSpec"]

EPOCH = 1.7e9  # seconds: when recipes begin

Persistence = Literal["none", "session", "durable"]


class ScenarioError(ValueError):
    """A scenario that cannot be run: one line that names the file or the key, and the remedy."""


_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Any) -> Any:
    """ "2ms", "0.5 s", "1h" or a number of seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e-?\d+)?)\s*([a-zµ]*)\s*", value)
    if match is None or (match[2] or "s") not in _SECONDS:
        raise ValueError(f"{value!r} is not a time; write 2ms, 0.5s or 1h")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def share(value: Any) -> Any:
    """ "1%" or a number such as 0.01."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", value)
    if match is None:
        raise ValueError(f"{value!r} is not a share; write 1% or 0.01")
    return float(match[1]) / (100 if match[2] else 1)


Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(share), Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClientsSpec(_Part):
    """Clients that react to their answers. Without this, requests come at their times whatever became of others.

    users: a closed loop of so many, each of whom asks, waits for the answer, thinks, and asks again, for the workload's
        `duration`. They share the workload's `keys` where those are fewer.
    think: seconds, the mean; exponential, or always the same (`constant`).
    retry: what a client does that is denied: nothing, ask again at once, after a backoff with jitter, or when the answer
        said (`retry_after`); `attempts` in all.
    """

    users: int | None = Field(default=None, ge=1, le=10_000_000)
    think: Seconds = 1.0
    constant: bool = False
    retry: Literal["none", "at_once", "backoff", "retry_after"] = "none"
    attempts: int = Field(default=3, ge=2, le=1000)

    @model_validator(mode="after")
    def _react(self) -> Self:
        if self.users is None and self.retry == "none":
            raise ValueError("give `users` (a closed loop), or `retry`, or both")
        return self

    def policy(self) -> AtOnce | Backoff | HonourRetryAfter | None:
        """What they do when they are denied."""
        if self.retry == "at_once":
            return AtOnce(self.attempts)
        if self.retry == "backoff":
            return Backoff(max_attempts=self.attempts)
        return HonourRetryAfter(self.attempts) if self.retry == "retry_after" else None


class WorkloadSpec(_Part):
    """A log to replay, or a recipe (Poisson arrivals of zipf-distributed keys).

    Of a log: key (what is limited: a field, or several as "client+endpoint"; of csv and JSON lines any column, and without
    it all requests together), format (told by the content unless given), time, time_unit and cost (columns of csv and JSON
    lines; cost also as an expression such as "ContextTokens+GeneratedTokens"). See `traffic.read_log`.

    Cuts and changes apply in this order: `busiest` (seconds kept), `spread` (one-second stamps), `speed`, `scale`, `head`.
    """

    log: str | None = None
    key: str | None = None
    format: str | None = None
    time: str | None = None
    time_unit: Literal["s", "ms", "us", "ns", "iso"] | None = None
    cost: str | None = None
    requests_per_second: float | None = Field(default=None, gt=0, le=1e6)
    keys: int = Field(default=1000, ge=1, le=100_000_000)
    zipf: float = Field(default=1.0, ge=0, le=10)
    duration: Seconds = 60.0
    busiest: Seconds | None = None
    spread: bool = True
    speed: float = Field(default=1.0, gt=0, le=1e6)
    scale: int = Field(default=1, ge=1, le=10_000)
    head: int | None = Field(default=None, ge=1)
    clients: ClientsSpec | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        closed = self.clients is not None and self.clients.users is not None
        if [self.log is not None, self.requests_per_second is not None, closed].count(True) != 1:
            raise ValueError(
                "give one of `log` (a file), `requests_per_second` (a recipe) and `clients.users` (a closed loop)"
            )
        return self


class Deployment(_Part):
    """Where the limiter runs: how many API nodes, who sends a request to which, how far the servers are."""

    type: Literal["single_instance", "clustered", "high_availability"] = "clustered"
    nodes: int = Field(default=8, ge=1, le=1000)
    routing: Routing = "round_robin"
    network: str = "same_zone"

    @model_validator(mode="after")
    def _single(self) -> Self:
        if self.type == "single_instance" and self.nodes != 1:
            raise ValueError("a single_instance has nodes = 1")
        return self


class Requirements(_Part):
    """What the choice must keep. p99: seconds of one decision. persistence: what survives, of `session` the restart of an
    API node, of `durable` also that of the store. key_count: keys whose state must fit."""

    p99: Seconds | None = None
    max_over_admission: Share | None = None
    persistence: Persistence = "none"
    key_count: int = Field(default=1_000_000, ge=1)


class Candidate(_Part):
    """One that competes: a storage URL (the host is that of the embedded server) and, if it needs one, a routing."""

    name: str = Field(pattern=r"^[A-Za-z0-9 ._,:+-]{1,60}$")
    storage: str
    routing: Routing | None = None

    @field_validator("storage")
    @classmethod
    def _opens(cls, url: str) -> str:
        try:
            StorageURL.parse(url)
        except Config as error:
            raise ValueError(str(error)) from error
        return url


class Fault(_Part):
    """What goes wrong, from `start` seconds after the first request on, for `duration`.

    kind, and what it takes:
    - partition: messages between nodes and the server are lost. nodes, direction.
    - lossy: a message is lost with probability `loss` and sent again. nodes, direction.
    - slow: services take `factor` times as long.
    - crash: the server is down, and comes back with its memory or without (keeps_memory).
    - failover: the server is down, and a replica comes back in its place that is `lag` seconds behind.
    - restart: nodes are down, and come back without their memory. nodes.
    - clock_skew: the clocks of nodes are `offset` seconds ahead, and `drift` more with each second. nodes.

    nodes: their numbers from 0; all unless given.
    """

    kind: Literal["partition", "lossy", "slow", "crash", "failover", "restart", "clock_skew"]
    start: Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]
    duration: Seconds
    nodes: tuple[int, ...] | None = None
    direction: Literal["both", "to_server", "from_server"] = "both"
    loss: Annotated[float, BeforeValidator(share), Field(gt=0, lt=1)] = 0.1
    factor: float = Field(default=10.0, gt=0, le=1e6)
    keeps_memory: bool = False
    lag: Annotated[float, BeforeValidator(seconds), Field(ge=0, le=3600)] = 0.1
    offset: float = Field(default=0.0, ge=-86400, le=86400)
    drift: float = Field(default=0.0, ge=-0.1, le=0.1)

    @model_validator(mode="after")
    def _takes_what_it_is_given(self) -> Self:
        takes = {
            "partition": {"nodes", "direction"},
            "lossy": {"nodes", "direction", "loss"},
            "slow": {"factor"},
            "crash": {"keeps_memory"},
            "failover": {"lag"},
            "restart": {"nodes"},
            "clock_skew": {"nodes", "offset", "drift"},
        }[self.kind]
        for name in sorted(self.model_fields_set - {"kind", "start", "duration"} - takes):
            if getattr(self, name) == type(self).model_fields[name].default:
                continue  # a scenario that was written out whole says what it would be anyway
            raise ValueError(f"a {self.kind} takes no {name}; it takes {', '.join(sorted(takes))}")
        return self


class LimitSpec(_Part):
    """The limit; `rate` as in "10/minute"."""

    rate: str
    algorithm: str = "sliding_window"
    burst: float | None = None
    options: dict[str, float] = {}

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        bind(self.limit())
        return self

    def limit(self) -> Limit:
        return Limit.parse(self.rate, self.algorithm, self.burst, "", **self.options)


class Scenario(_Part):
    """The whole question. `seed` begins the random draws; `replications` runs differ only in their seeds."""

    name: str = "scenario"
    seed: int = Field(default=1, ge=0, lt=2**32)
    replications: int = Field(default=3, ge=1, le=1000)
    workload: WorkloadSpec
    limit: LimitSpec
    deployment: Deployment = Deployment()
    requirements: Requirements = Requirements()
    candidates: tuple[Candidate, ...] = ()
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _nodes_are_there(self) -> Self:
        for fault in self.faults:
            for node in fault.nodes or ():
                if not 0 <= node < self.deployment.nodes:
                    raise ValueError(f"a {fault.kind} of node {node}: nodes are 0 to {self.deployment.nodes - 1}")
        return self

    @classmethod
    def parse(cls, text: str, source: str = "scenario", folder: Path | None = None) -> Scenario:
        """Read TOML; relative paths in it count from `folder`."""
        try:
            return cls.of(tomllib.loads(text), source, folder)
        except tomllib.TOMLDecodeError as error:
            raise ScenarioError(f"{source}: not valid TOML: {error}") from error

    @classmethod
    def of(cls, data: dict[str, Any], source: str = "scenario", folder: Path | None = None) -> Scenario:
        """From a nested dict with the keys of the TOML file; ScenarioError names the key that is wrong."""
        try:
            scenario = cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            what = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                known = ", ".join(_known(cls, first["loc"][:-1]))
                what = f"unknown key; known here: {known}"
            raise ScenarioError(f"{source}: {where}: {what}") from error
        except InvalidLimit as error:
            raise ScenarioError(f"{source}: limit: {error}") from error
        if folder is None or scenario.workload.log is None:
            return scenario
        log = str((folder / scenario.workload.log).resolve())
        return scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"log": log})})

    @classmethod
    def load(cls, name: str | Path) -> Scenario:
        """A TOML file, or a scenario of the package by its name ("quickstart")."""
        path = Path(name)
        shipped = resources.files("ratesim") / "scenarios"
        if path.suffix != ".toml" and not path.exists():
            known = sorted(item.name.removesuffix(".toml") for item in shipped.iterdir() if item.name.endswith(".toml"))
            if str(name) not in known:
                raise ScenarioError(f"scenario {str(name)!r}: no such file; shipped with ratesim: {', '.join(known)}")
            path = Path(str(shipped / f"{name}.toml"))
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ScenarioError(f"scenario {path}: cannot be read: {reason}") from error
        return cls.parse(text, str(path), path.resolve().parent)

    def trace(self, progress: Any = None) -> Trace:
        """The requests, the same for every candidate and replication."""
        spec = self.workload
        rng = np.random.default_rng([self.seed, 0])
        if spec.clients is not None and spec.clients.users is not None:
            return _unhindered(self._closed_loop(spec, spec.clients), rng)
        if spec.log is not None:
            trace = read_log(
                spec.log,
                key=spec.key,
                format=spec.format,
                time=spec.time,
                time_unit=spec.time_unit,
                cost=spec.cost,
                progress=progress,
            )
        else:
            assert spec.requests_per_second is not None
            keys = Zipf(spec.keys, spec.zipf)
            trace = Workload(Poisson(spec.requests_per_second), keys, spec.duration, start=EPOCH).trace(rng)
        if spec.busiest is not None:
            trace = trace.busiest(spec.busiest)
        if spec.spread:
            trace = trace.spread(rng)
        if spec.speed != 1.0:
            trace = trace.speed(spec.speed)
        if spec.scale != 1:
            trace = trace.scale(spec.scale, rng)
        if spec.head is not None:
            trace = trace.head(spec.head)
        return trace

    def clients(self, trace: Trace) -> Clients | None:
        """Those who ask, where they react; `trace`: the scenario's."""
        spec = self.workload.clients
        if spec is None:
            return None
        if spec.users is not None:
            return self._closed_loop(self.workload, spec)
        policy = spec.policy()
        assert policy is not None
        return Retrying(trace, policy)

    @staticmethod
    def _closed_loop(workload: WorkloadSpec, spec: ClientsSpec) -> ClosedLoop:
        assert spec.users is not None
        think = Constant(spec.think) if spec.constant else Exponential(spec.think)
        tenants = min(workload.keys, spec.users)
        return ClosedLoop(spec.users, think, workload.duration, tenants=tenants, retry=spec.policy())

    def to_toml(self) -> str:
        """As a TOML document that `Scenario.parse` reads back into the same scenario."""
        data = self.model_dump(exclude_none=True)
        lines = [f"{key} = {_toml(data[key])}" for key in ("name", "seed", "replications")]
        for part in ("workload", "limit", "deployment", "requirements"):
            table = {key: value for key, value in data[part].items() if value != {}}
            lines += ["", f"[{part}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        for fault, given in zip(data["faults"], self.faults, strict=True):
            told = {key: value for key, value in fault.items() if key in given.model_fields_set}
            lines += ["", "[[faults]]", *(f"{key} = {_toml(value)}" for key, value in told.items())]
        for candidate in data["candidates"]:
            lines += ["", "[[candidates]]", *(f"{key} = {_toml(value)}" for key, value in candidate.items())]
        return "\n".join(lines) + "\n"


def _unhindered(clients: ClosedLoop, rng: np.random.Generator) -> Trace:
    """What clients would ask for if every answer came at once and was yes: the demand that a limit meets."""

    class Yes:
        allowed, retry_after = True, 0.0

    async def ask(key: int, cost: float, session: int, attempt: int) -> Yes:
        return Yes()

    env = simpy.Environment()
    asked = clients.start(SimRuntime(env, EPOCH), ask, rng)
    env.run()
    return asked.trace()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, str):
        escapes = {ord('"'): '\\"', ord("\\"): "\\\\", 127: "\\u007f"}
        escapes |= {code: f"\\u{code:04x}" for code in range(32)}
        return f'"{value.translate(escapes)}"'
    return repr(value)


def _known(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    for step in loc:
        if isinstance(step, int):
            continue
        if step in ("candidates", "faults"):
            model = Candidate if step == "candidates" else Fault
        else:
            inner = model.model_fields[step].annotation
            for each in (inner, *get_args(inner)):  # itself, or itself or None
                if isinstance(each, type) and issubclass(each, BaseModel):
                    model = each
    return list(model.model_fields)
