"""A scenario: the question in one TOML file (traffic, limit, deployment, requirements, candidates, faults).

Unknown keys are errors that name the key. `Scenario.load` reads a file, or a scenario that ships with the package. Such a
scenario is named by its place in `ratesim/scenarios`: "quickstart", "situations/login".
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import parse_qsl

import numpy as np
import tomli_w
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ratesim.algorithms import bind
from ratesim.documents import DocumentError, parse_toml, read_text
from ratesim.errors import ConfigurationError, RatesimError
from ratesim.limit import InvalidLimitError, Limit
from ratesim.safe_text import SECRET_NAMES, redact, shorten_repr, shorten_text
from ratesim.server_url import redis_topology
from ratesim.simulation.network.load_balancer import Routing
from ratesim.simulation.scenario.clients import ClientsSpec
from ratesim.simulation.scenario.deployment import Deployment
from ratesim.simulation.scenario.faults import Fault
from ratesim.simulation.scenario.fields import Moment, Seconds, Share, StrictModel, seconds, share
from ratesim.simulation.scenario.topology import Servers, servers_of
from ratesim.simulation.scenario.workload import EPOCH, WorkloadSpec
from ratesim.storage import StorageURL
from traffic import ReactiveClients, Trace

__all__ = [  # noqa: RUF022 - the whole, its parts, and how they are written
    "Scenario",
    "ScenarioError",
    "WorkloadSpec",
    "ClientsSpec",
    "LimitSpec",
    "Deployment",
    "Requirements",
    "Candidate",
    "Fault",
    "EPOCH",
    "seconds",
    "share",
    "shipped_scenarios",
]

Persistence = Literal["none", "session", "durable"]
Kind = Literal["memory", "redis", "postgres", "hybrid"]

IDENTITIES = SECRET_NAMES | {"user", "username", "sentinel_username", "passfile", "sslkey"}  # options of a URL
MOST_PRIMARIES = 6  # of a default candidate
LAST_REQUEST = 9e10  # seconds since the epoch, so that clocks that are ahead are before the end of time (`ratesim.limit`)


class ScenarioError(RatesimError, ValueError):
    """A scenario that cannot be run.

    The message is one line that names the file or the key, and the remedy.
    """


class Requirements(StrictModel):
    """The requirements of the choice.

    Attributes
    ----------
    p99 : float or None
        Highest 99th percentile of the latency of a decision, in seconds.
    max_over_admission, max_false_denial : float or None
        Highest shares of the exact total.
    persistence : Persistence
        The state that must survive: `session` the restart of an API node, `durable` also that of the store.
    key_count : int
        Keys whose state must fit.
    allowed : tuple[Kind, ...]
        Backends that may be used. A hybrid uses two, so hybrid+postgresql needs "hybrid" and "postgres".
    """

    p99: Seconds | None = None
    max_over_admission: Share | None = None
    max_false_denial: Share | None = None
    persistence: Persistence = "none"
    key_count: int = Field(default=1_000_000, ge=1)
    allowed: tuple[Kind, ...] = Field(default=get_args(Kind), min_length=1)


class Candidate(StrictModel):
    """A competitor.

    Attributes
    ----------
    name : str
        Its name.
    storage : str
        A storage URL; the host is that of the embedded server.
    routing : Routing or None
        The load balancing, if it needs its own.
    algorithm : str or None
        The algorithm, with its defaults, instead of the scenario's.
    primaries : int or None
        Servers that share the keys, on Redis; None for `deployment.shards`, or 3 of a cluster.
    replicas : int or None
        Replicas of each; None for 1 on a cluster, on Sentinel and with high_availability, else 0. On PostgreSQL a number
        stands for synchronous standbys, see `synchronous_commit` in docs/faults.md.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9 ._,:+-]{1,80}$")
    storage: str
    routing: Routing | None = None
    algorithm: str | None = None
    primaries: int | None = Field(default=None, ge=1, le=1000)
    replicas: int | None = Field(default=None, ge=0, le=100)

    @field_validator("storage")
    @classmethod
    def _opens(cls, url: str) -> str:
        try:
            StorageURL.parse(url)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        # The host is that of the embedded server, and a scenario travels with its report.
        if "@" in url or IDENTITIES & dict(parse_qsl(url.partition("?")[2], keep_blank_values=True)).keys():
            raise ValueError("names a user or a password: name only the options, such as redis://localhost?pool_size=20")
        return url

    @model_validator(mode="after")
    def _has_such_servers(self) -> Self:
        url = StorageURL.parse(self.storage)
        for name, backends in (("primaries", ("redis",)), ("replicas", ("redis", "postgres"))):
            if url.backend not in backends and getattr(self, name) is not None:
                stores = " and ".join({"redis": "Redis", "postgres": "PostgreSQL"}[each] for each in backends)
                raise ValueError(f"{name} is of {stores}, and not of {url.backend}; leave it out")
        if url.backend == "redis" and (self.primaries or 1) > 1 and redis_topology(url.config.url) == "sentinel":
            raise ValueError("sentinels watch one primary; for several name redis+cluster:// as its storage")
        return self


class LimitSpec(StrictModel):
    """The limit.

    Attributes
    ----------
    rate : str
        As in "10/minute".
    algorithm, burst, options
        As in `Limit`.
    variants : tuple[str, ...]
        Other algorithms, with their defaults, by which the contenders are tried as well.
    """

    rate: str
    algorithm: str = "sliding_window"
    burst: float | None = None
    options: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    variants: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        bind(self.limit())
        for algorithm in self.variants:
            bind(self.with_algorithm(algorithm).limit())
        return self

    def with_algorithm(self, algorithm: str) -> LimitSpec:
        """Return the same rate by another algorithm, with its defaults."""
        return LimitSpec(rate=self.rate, algorithm=algorithm)

    def limit(self) -> Limit:
        """Return the `Limit`."""
        return Limit.parse(self.rate, self.algorithm, self.burst, "", **self.options)


class Scenario(StrictModel):
    """The whole question.

    Attributes
    ----------
    name : str
        Its name.
    seed : int
        Begins the random draws.
    replications : int
        Number of runs, which differ only in their seeds.
    warmup : float
        Seconds from the first request on whose requests are decided like any others and are in no figure.
    workload, limit, deployment, requirements, candidates, faults
        The tables of the file.
    """

    name: str = "scenario"
    seed: int = Field(default=1, ge=0, lt=2**32)
    replications: int = Field(default=3, ge=1, le=1000)
    warmup: Moment = 0.0
    workload: WorkloadSpec
    limit: LimitSpec
    deployment: Deployment = Deployment()
    requirements: Requirements = Requirements()
    candidates: tuple[Candidate, ...] = ()
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _algorithms_are_there(self) -> Self:
        for each in self.candidates:
            bind(self.with_algorithm(each.algorithm).limit.limit())
        return self

    @model_validator(mode="after")
    def _nodes_are_there(self) -> Self:
        shards = self._shards()
        for fault in self.faults:
            for node in fault.nodes or ():
                if not 0 <= node < self.deployment.nodes:
                    raise ValueError(f"a {fault.kind} of node {node}: nodes are 0 to {self.deployment.nodes - 1}")
            if fault.shard is not None and fault.shard >= shards:
                raise ValueError(f"a {fault.kind} of shard {fault.shard}: shards are 0 to {shards - 1}")
            if fault.kind == "reshard" and shards == 1:
                raise ValueError("a reshard: no candidate is a cluster; name redis+cluster://localhost as a storage")
        return self

    @model_validator(mode="after")
    def _replicas_take_over(self) -> Self:
        for candidate in self.candidates:
            for fault in self.faults:
                hit = fault.shard is None or fault.shard < self.servers(candidate).primaries
                if fault.kind == "failover" and candidate.replicas == 0 and hit:
                    raise ValueError(
                        f"a failover: candidate {candidate.name!r} has replicas = 0, so nothing takes over; write a crash, "
                        "which is a failover where there is a replica"
                    )
        return self

    @model_validator(mode="after")
    def _replicas_are_there(self) -> Self:
        deployment = self.deployment
        if deployment.type == "high_availability" or any(self.servers(each).replicas for each in self.candidates):
            return self
        for name in ("replica_lag", "election"):
            if getattr(deployment, name) != Deployment.model_fields[name].default:
                place = f"type = 'high_availability', not to {deployment.type!r}"
                raise ValueError(f"{name} belongs to {place}, or to candidates with replicas")
        return self

    def _shards(self) -> int:
        """Return how many primaries a candidate has at most. One that is no candidate of the scenario may be a cluster."""
        if not self.candidates and self.deployment.shards == 1:
            return MOST_PRIMARIES
        return max(self.deployment.shards, *(self.servers(each).primaries for each in self.candidates), 1)

    def with_algorithm(self, algorithm: str | None) -> Scenario:
        """Return the scenario with the limit kept by this algorithm.

        It is the scenario itself for None, or for its own algorithm.
        """
        if algorithm is None or algorithm == self.limit.algorithm:
            return self
        return self.model_copy(update={"limit": self.limit.with_algorithm(algorithm)})

    def servers(self, candidate: Candidate) -> Servers:
        """Return the servers of a candidate in this deployment."""
        return servers_of(candidate.storage, candidate.primaries, candidate.replicas, self.deployment)

    def effective_faults(self, candidate: Candidate) -> tuple[Fault, ...]:
        """Return the faults as they take effect on the servers of a candidate."""
        return tuple(map(self.servers(candidate).effective_fault, self.faults))

    @classmethod
    def parse(cls, text: str, source: str = "scenario", folder: Path | None = None) -> Scenario:
        """Read TOML; relative paths in it count from `folder`."""
        try:
            return cls.of(parse_toml(text), source, folder)
        except DocumentError as error:
            raise ScenarioError(f"{source}: {error}") from error

    @classmethod
    def of(cls, data: dict[str, Any], source: str = "scenario", folder: Path | None = None) -> Scenario:
        """Make a scenario of a nested dict with the keys of the TOML file; ScenarioError names the key that is wrong."""
        try:
            scenario = cls.model_validate(data)
        except ValidationError as error:
            # What may be a text or a number has an error of each kind, and "not a text" says less of a number.
            first = min(error.errors(), key=lambda each: each["type"] == "string_type")
            where = ".".join(map(str, _written(first["loc"]))) or "the whole"
            what = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                known = ", ".join(_known(cls, first["loc"][:-1]))
                what = f"unknown key; known here: {known}"
            raise ScenarioError(f"{source}: {shorten_text(where)}: {shorten_text(what, 1000)}") from error
        except InvalidLimitError as error:
            raise ScenarioError(f"{source}: limit: {error}") from error
        if folder is None or scenario.workload.log is None:
            return scenario
        try:
            log = str((folder / scenario.workload.log).resolve())
        except (OSError, ValueError, RuntimeError) as error:  # a zero byte in it, or a circle of links
            shown = shorten_repr(scenario.workload.log)
            raise ScenarioError(f"{source}: workload.log: {shown} is no path of a file") from error
        return scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"log": log})})

    @classmethod
    def load(cls, name: str | Path) -> Scenario:
        """Read a TOML file, or a scenario of the package by its name ("quickstart", "situations/login")."""
        path = Path(name)
        if path.suffix != ".toml" and not os.path.exists(path):
            known = shipped_scenarios()
            if str(name) not in known:
                said = shorten_repr(redact(str(name), str(name)))
                raise ScenarioError(f"scenario {said}: no such file; shipped with ratesim: {', '.join(known)}")
            path = known[str(name)]
        try:
            text = read_text(path)
        except DocumentError as error:
            raise ScenarioError(f"scenario {shorten_text(str(path))}: {error}") from error
        return cls.parse(text, str(path), path.resolve().parent)

    def trace(self, seed: int | None = None, progress: Any = None, read: Trace | None = None) -> Trace:
        """Make the requests of one replication, which are the same for every candidate.

        Parameters
        ----------
        seed : int, optional
            Seed of the replication; by default the scenario's. A log is the same for every replication.
        progress : optional
            Progress of reading a log.
        read : Trace, optional
            The log, if it was read already.

        Raises
        ------
        LogError
            If the log cannot be read.
        ScenarioError
            If there are no requests at all, or they come at times that no storage decides at.
        """
        drawn = self.seed if seed is None or self.workload.log is not None else seed
        trace = self.workload.trace(np.random.default_rng([drawn, 0]), progress, read)
        if not len(trace):
            raise ScenarioError(f"workload: no request comes of it with seed {drawn}; make it longer, or its rate higher")
        first, last = float(trace.time[0]), float(trace.time[-1])
        if not (first >= 0 and last <= LAST_REQUEST):
            raise ScenarioError(
                f"workload: its requests come from {first:g} to {last:g} seconds since the epoch, and 0 to {LAST_REQUEST:g} "
                "can be simulated; check the times of the log, `time_unit` and `speed`"
            )
        return trace

    def clients(self, trace: Trace) -> ReactiveClients | None:
        """Return the clients that react, if there are any; `trace` is the scenario's."""
        return self.workload.reactive_clients(trace)

    def to_toml(self) -> str:
        """Write a TOML document that `Scenario.parse` reads back into the same scenario."""
        document = self.model_dump(exclude_none=True)
        if "network" not in self.deployment.model_fields_set:  # then it is the one that a profile has measured
            del document["deployment"]["network"]
        document["workload"] = {key: value for key, value in document["workload"].items() if value != {}}
        document["limit"] = {key: value for key, value in document["limit"].items() if value != {}}
        document["faults"] = [fault.model_dump(exclude_none=True, exclude_unset=True) for fault in self.faults]
        return tomli_w.dumps({key: value for key, value in document.items() if value not in ([], ())})


def shipped_scenarios() -> dict[str, Path]:
    """Return the scenarios that ship with the package, by name, in the order of their names."""
    folder = Path(str(resources.files("ratesim") / "scenarios"))
    files = {file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.toml")}
    return dict(sorted(files.items()))


def _written(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the place of an error as a file has it: without the kind that a value was tried as."""
    return loc[:-1] if len(loc) > 1 and loc[-1] in ("str", "constrained-float") else loc


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
