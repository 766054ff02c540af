"""A scenario: the question in one TOML file (traffic, limit, deployment, requirements, candidates, faults).

Unknown keys are errors that name the key, and so are times and shares without a unit (`fields`). `Scenario.load` reads a
file, or a scenario that ships with the package. Such a scenario is named by its place in `ratesim/scenarios`: "quickstart",
"situations/login".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Unpack, get_args
from urllib.parse import parse_qsl

import numpy as np
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ratesim.algorithms import bind
from ratesim.documents import DocumentError, parse_toml, read_text
from ratesim.errors import ConfigurationError, RatesimError
from ratesim.limit import Limit
from ratesim.safe_text import SECRET_NAMES, redact, shorten_repr, shorten_text
from ratesim.server_url import redis_topology
from ratesim.simulation.network.load_balancer import Routing
from ratesim.simulation.scenario.clients import ClientsSpec
from ratesim.simulation.scenario.deployment import Deployment
from ratesim.simulation.scenario.faults import Fault
from ratesim.simulation.scenario.fields import (
    FROM_FILE,
    Moment,
    NoneAs,
    Seconds,
    Share,
    StrictModel,
    inner_model,
    seconds,
    share,
)
from ratesim.simulation.scenario.options import LogOptions, place_options
from ratesim.simulation.scenario.temporary_files import STANDARD_INPUT
from ratesim.simulation.scenario.toml_writer import toml_text
from ratesim.simulation.scenario.topology import Servers, servers_of
from ratesim.simulation.scenario.workload import EPOCH, WorkloadSpec
from ratesim.storage import StorageURL
from ratesim.suggestion import close_names, unknown_name
from traffic import ReactiveClients, Trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

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
    "UnknownOptionError",
    "allowed_without",
    "log_tables",
    "seconds",
    "share",
    "shipped_scenarios",
]

LogPath = str | os.PathLike[str]
Persistence = Literal["none", "session", "durable"]
Kind = Literal["memory", "redis", "postgres", "hybrid"]
Preference = Literal["cost", "safety", "simplicity"]

IDENTITIES = SECRET_NAMES | {"user", "username", "sentinel_username", "passfile", "sslkey"}  # options of a URL
MOST_PRIMARIES = 6  # of a default candidate
OVER_ADMISSION = 0.01  # that the storage may add where nothing is said of it
# Written also where nobody gave them: with another default of a later version a file would be another scenario.
ALWAYS = frozenset({"seed", "replications", "limit.algorithm", "deployment.nodes"})
LAST_REQUEST = 9e10  # seconds since the epoch, so that clocks that are ahead are before the end of time (`ratesim.limit`)


class ScenarioError(RatesimError, ValueError):
    """A scenario that cannot be run.

    The message is one line that names the file or the key, and the remedy.

    Attributes
    ----------
    problems : tuple[str, ...]
        All that is wrong, of which the message is the first.
    """

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems or (message,)

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.problems)


class UnknownOptionError(ScenarioError, TypeError):
    """A keyword that is none; the line has the names that are close."""


class Requirements(StrictModel):
    """The requirements of the choice.

    Where nothing is said of `max_over_admission`, a study requires `OVER_ADMISSION`. `max_worst_excess` binds the algorithm
    as well as the storage. A hybrid uses two backends, so hybrid+postgresql needs "hybrid" and "postgres" in `allowed`.
    `ratesim.simulation.analysis.alive_keys` counts the keys where `key_count` is not given.
    """

    p99: Seconds | None = None
    """Highest 99th percentile of the latency of a decision."""
    max_over_admission: Annotated[Share | None, NoneAs("any")] = None
    """Highest share of the exact total that the storage may add; "any" for no requirement, 1% unless given."""
    max_worst_excess: Share | None = None
    """Share of the limit by which its busiest window may exceed it: 30% for 1.3 times the limit."""
    max_false_denial: Share | None = None
    """Highest share of the exact total that may be denied without need."""
    persistence: Persistence = "none"
    """State that must survive: none; session, the restart of an API node; durable, also that of the store."""
    key_count: int | None = Field(default=None, ge=1)
    """Number of keys whose state must fit; as many as the traffic shows unless given."""
    allowed: tuple[Kind, ...] = Field(default=get_args(Kind), min_length=1)
    """Backends that may be used."""
    prefer: Preference = "cost"
    """What decides among the candidates that pass."""
    allow_routing_change: bool | None = None
    """Whether candidates that need another routing compete; only where no routing is given, unless said."""

    @property
    def says_any_over_admission(self) -> bool:
        """Whether it is said that over-admission does not matter, rather than nothing."""
        return self.max_over_admission is None and "max_over_admission" in self.model_fields_set

    @property
    def keys(self) -> int:
        """`key_count`, where it is given or known from the traffic; ValueError before that."""
        if self.key_count is None:
            raise ValueError("key_count is not given, and the traffic was not looked at yet")
        return self.key_count


class Candidate(StrictModel):
    """A competitor: a storage URL, and how it is deployed where that differs from the scenario.

    On PostgreSQL `replicas` stands for synchronous standbys, see `synchronous_commit` in docs/faults.md.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9 ._,:+-]{1,80}$")
    """What the report calls it."""
    storage: str
    """Storage URL with its options, whose times are in seconds; the host is that of the embedded server."""
    routing: Routing | None = None
    """Load balancing, if it needs its own."""
    algorithm: str | None = None
    """Algorithm, with its defaults, instead of the limit's."""
    primaries: int | None = Field(default=None, ge=1, le=1000)
    """Redis: servers that share the keys; `deployment.shards`, or 3 of a cluster, unless given."""
    replicas: int | None = Field(default=None, ge=0, le=100)
    """Replicas of each; on PostgreSQL synchronous standbys. 1 on a cluster, Sentinel and with high_availability, else 0."""

    def to_frame(self) -> pd.DataFrame:
        """Return its fields as a frame of one row."""
        import pandas as pd

        return pd.DataFrame([self.model_dump(mode="json")])

    def _repr_html_(self) -> str:
        from ratesim.views.html import card_html

        return card_html(f"Candidate {self.name}", [each for each in self.model_dump().items() if each[0] != "name"])

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
    """The limit; `burst` and `options` as in `Limit`."""

    rate: str
    """Rate and period, such as "100/minute" or "10 per 5 seconds"."""
    algorithm: str = "sliding_window"
    """How the limit is kept."""
    burst: float | None = None
    """Most cost at once, of algorithms that have a burst; the rate unless given."""
    options: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    """Options of the algorithm."""
    variants: tuple[str, ...] = ()
    """Other algorithms, with their defaults, by which the contenders are tried as well."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        bind(self.limit())
        for algorithm in self.variants:
            bind(Limit.parse(self.rate, algorithm))
        return self

    def with_algorithm(self, algorithm: str) -> LimitSpec:
        """Return the same rate by another algorithm, with its defaults."""
        return LimitSpec(rate=self.rate, algorithm=algorithm)

    def limit(self) -> Limit:
        """Return the `Limit`."""
        return Limit.parse(self.rate, self.algorithm, self.burst, "", **self.options)


class Scenario(StrictModel):
    """The whole question. Its fields are those of the TOML file."""

    name: str = "scenario"
    """What the report calls the scenario."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Begins the random draws."""
    replications: int = Field(default=3, ge=1, le=1000)
    """Runs of each candidate, which differ only in their seeds."""
    warmup: Moment = 0.0
    """Time from the first request on; its requests are decided like any others and are in no figure."""
    workload: WorkloadSpec
    """The requests: a log, a recipe, or a closed loop of users."""
    limit: LimitSpec
    """What is allowed to each key."""
    deployment: Deployment = Deployment()
    """Where the limiter runs."""
    requirements: Requirements = Requirements()
    """What the choice must meet."""
    candidates: tuple[Candidate, ...] = ()
    """Competitors; about a hundred unless given."""
    faults: tuple[Fault, ...] = ()
    """What fails, and when."""

    @model_validator(mode="after")
    def _algorithms_are_there(self) -> Self:
        for each in self.candidates:
            if each.algorithm not in (None, self.limit.algorithm):
                bind(Limit.parse(self.limit.rate, each.algorithm))
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

    @property
    def may_change_routing(self) -> bool:
        """Whether candidates compete that need another routing than the deployment's, unless the scenario names them."""
        allowed = self.requirements.allow_routing_change
        if allowed is None and self.is_of_one_key:
            return False
        return "routing" not in self.deployment.model_fields_set if allowed is None else allowed

    @property
    def is_of_one_key(self) -> bool:
        """Whether all requests share one key, as one session: sticky routing would send all of them to one node."""
        return self.requirements.key_count == 1 and self.workload.sessions is None

    def requiring(self, **requirements: Any) -> Scenario:
        """Return the scenario with some requirements replaced; ScenarioError names the one that is wrong."""
        data = self.requirements.model_dump(exclude_unset=True) | requirements
        try:
            return self.model_copy(update={"requirements": Requirements.model_validate(data)})
        except ValidationError as error:
            raise ScenarioError(f"requirements: {_problems(Requirements, error)[0]}") from error

    def servers(self, candidate: Candidate) -> Servers:
        """Return the servers of a candidate in this deployment."""
        return servers_of(candidate.storage, candidate.primaries, candidate.replicas, self.deployment)

    def effective_faults(self, candidate: Candidate) -> tuple[Fault, ...]:
        """Return the faults as they take effect on the servers of a candidate."""
        return tuple(map(self.servers(candidate).effective_fault, self.faults))

    @classmethod
    def parse(cls, text: str, source: str = "scenario", folder: Path | None = None) -> Scenario:
        """Read TOML, in which times and shares need units; relative paths in it count from `folder`."""
        try:
            data = parse_toml(text)
        except DocumentError as error:
            raise ScenarioError(f"{source}: {error}") from error
        return cls._of(data, source, folder, FROM_FILE)

    @classmethod
    def of(cls, data: dict[str, Any], source: str = "scenario", folder: Path | None = None) -> Scenario:
        """Make a scenario of a nested dict with the keys of the TOML file; ScenarioError names the key that is wrong.

        A number is in seconds, or a share of 1; a text needs a unit.
        """
        return cls._of(data, source, folder, None)

    @classmethod
    def _of(cls, data: dict[str, Any], source: str, folder: Path | None, context: dict[str, bool] | None) -> Scenario:
        try:
            scenario = cls.model_validate(data, context=context)
        except ValidationError as error:
            problems = tuple(f"{source}: {each}" for each in _problems(cls, error))
            raise ScenarioError(problems[0], problems) from error
        workload = scenario.workload
        found: dict[str, Any] = {}
        if folder is None or workload.log is None:
            return scenario
        if STANDARD_INPUT in workload.logs:
            raise ScenarioError(
                f'{source}: workload.log: "-" is standard input, which is not kept; write the log to a file and name that'
            )
        logs = tuple(_absolute(folder, each, f"{source}: workload.log") for each in workload.logs)
        found["log"] = logs[0] if isinstance(workload.log, str) else logs
        if workload.key_file is not None:
            found["key_file"] = _absolute(folder, workload.key_file, f"{source}: workload.key_file")
        if workload.log_format is not None and workload.log_format.startswith("@"):
            file, colon, name = workload.log_format[1:].partition(":")
            found["log_format"] = f"@{_absolute(folder, file, f'{source}: workload.log_format')}{colon}{name}"
        return scenario.model_copy(update={"workload": workload.model_copy(update=found)})

    @classmethod
    def from_log(cls, log: LogPath | Sequence[LogPath], *, limit: str | Limit, **options: Unpack[LogOptions]) -> Scenario:
        """State a question about a log, in the words of the command line.

        Parameters
        ----------
        log
            A log, a glob, a directory or an archive, or a list of them, which are merged in the order of time. A relative
            path counts from the working directory, and ~ is the home directory.
        limit
            What is allowed, such as "100/minute", or a `Limit`.
        options
            As for `ratesim report`, see `LogOptions`: nodes=8, key="user", p99="2ms", max_over_admission="1%" and others. A
            time may be a timedelta, and a number is in seconds, or a share of 1.

        Raises
        ------
        ScenarioError, InvalidLimitError
            If an option is unknown or invalid.
        LogError
            If the log cannot be read, or lacks a column; its first lines are read to tell.

        Examples
        --------
        >>> Scenario.from_log("access.log", limit="100/minute", nodes=8, p99="2ms")  # doctest: +SKIP
        """
        for name in options:
            if name not in LogOptions.__annotations__:
                raise UnknownOptionError(unknown_name("option", name, ["limit", *LogOptions.__annotations__]))
        logs = [log] if isinstance(log, str | os.PathLike) else list(log) if isinstance(log, list | tuple) else []
        if not logs or not all(isinstance(each, str | os.PathLike) for each in logs):
            raise ScenarioError(f"log: a {type(log).__name__} is no path of a file; a DataFrame's to_csv writes one")
        if STANDARD_INPUT in logs:
            raise ScenarioError('log: "-" is standard input, which can be read once; write the log to a file and name that')
        data: dict[str, Any] = log_tables([os.path.expanduser(each) for each in logs])
        if isinstance(limit, Limit):
            fields = {"algorithm": limit.algorithm, "burst": limit.burst, "options": dict(limit.options)}
            data["limit"] = {"rate": str(limit)} | {name: value for name, value in fields.items() if value}
        else:
            Limit.parse(limit)  # its own message is plainer than the scenario's
            data["limit"] = {"rate": limit}
        place_options(data, options)
        without = options.get("without")
        if without:
            barred = [without] if isinstance(without, str) else list(without)
            data.setdefault("requirements", {})["allowed"] = allowed_without(barred, data.get("requirements", {}))
        scenario = cls.of(data, "from_log", Path.cwd())
        scenario.workload.check_log()
        return scenario

    @classmethod
    def load(cls, name: str | Path) -> Scenario:
        """Read a TOML file, or a scenario of the package by its name ("quickstart", "situations/login")."""
        path = Path(name)
        if path.suffix != ".toml" and not os.path.exists(path):
            known = shipped_scenarios()
            if str(name) not in known:
                said = shorten_repr(redact(str(name), str(name)))
                meant = "".join(f"; did you mean {each}?" for each in close_names(str(name), known)[:1])
                raise ScenarioError(f"scenario {said}: no such file; shipped with ratesim: {', '.join(known)}{meant}")
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

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each field: part, field, value. Times are in seconds, shares are fractions."""
        import pandas as pd

        dumped = self.model_dump(mode="json")
        rows = [("", name, value) for name, value in dumped.items() if not isinstance(value, dict)]
        parts = {name: value for name, value in dumped.items() if isinstance(value, dict)}
        rows += [(part, field, value) for part, fields in parts.items() for field, value in fields.items()]
        return pd.DataFrame(rows, columns=["part", "field", "value"])

    def plot_traffic(self, ax: Axes | None = None) -> Axes:
        """Draw the requests per second of its traffic."""
        return self.trace().plot(ax)

    def _repr_html_(self) -> str:
        from ratesim.formatting import format_percent, format_seconds
        from ratesim.views.html import card_html

        where = self.deployment
        needed = {
            name: format_seconds(value) if name == "p99" else format_percent(value) if isinstance(value, float) else value
            for name, value in self.requirements.model_dump(mode="json", exclude_unset=True).items()
        }
        log = self.workload.log
        recipe = f"{self.workload.mean_rate:g} requests/s, {self.workload.arrivals}"
        facts = (
            ("traffic", recipe if log is None else self.workload.log_name),
            ("limit", f"{self.limit.rate}, {self.limit.algorithm}"),
            ("deployment", f"{where.type}, {where.nodes} nodes, {where.routing}, {where.network}"),
            ("requirements", ", ".join(f"{name} {value}" for name, value in needed.items())),
            ("candidates", ", ".join(each.name for each in self.candidates) or "all of the catalogue"),
            ("faults", ", ".join(f"{each.kind} at {each.start:g} s" for each in self.faults)),
        )
        return card_html(f"Scenario {self.name}", facts)

    def clients(self, trace: Trace) -> ReactiveClients | None:
        """Return the clients that react, if there are any; `trace` is the scenario's."""
        return self.workload.reactive_clients(trace)

    def to_toml(self) -> str:
        """Write a TOML document that `Scenario.parse` reads back into the same scenario: what was given, with units."""
        return toml_text(self, ALWAYS)


def log_tables(logs: Sequence[LogPath]) -> dict[str, Any]:
    """Return the name and the workload of a scenario about one or several logs; their paths become absolute."""
    paths = [Path(log).absolute() for log in logs]
    name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in paths[0].name) or "log"
    return {"name": name, "workload": {"log": str(paths[0]) if len(paths) == 1 else [*map(str, paths)]}}


def _absolute(folder: Path, path: str, place: str) -> str:
    try:
        return str((folder / path).resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte in it, or a circle of links
        raise ScenarioError(f"{place}: {shorten_repr(path)} is no path of a file") from error


def allowed_without(barred: Sequence[str], requirements: Mapping[str, Any], word: str = "without") -> list[str]:
    """Return the allowed backends of requirements without the barred ones. Raises ScenarioError."""
    for each in barred:
        if each not in get_args(Kind):
            raise ScenarioError(unknown_name(word, each, get_args(Kind)))
    left = [each for each in requirements.get("allowed", get_args(Kind)) if each not in barred]
    if not left:
        raise ScenarioError(f"{word}: no backend is left")
    return left


def shipped_scenarios() -> dict[str, Path]:
    """Return the scenarios that ship with the package, by name, in the order of their names."""
    folder = Path(str(resources.files("ratesim") / "scenarios"))
    files = {file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.toml")}
    return dict(sorted(files.items()))


def _problems(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Return a line for each place that is wrong."""
    found: dict[str, str] = {}
    # What may be a text or a number has an error of each kind, and "not a text" says less of a number.
    for each in sorted(error.errors(include_url=False), key=lambda each: each["type"] == "string_type"):
        where = ".".join(map(str, _written(each["loc"]))) or "the whole"
        what = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            known = list(_model_at(model, each["loc"][:-1]).model_fields)
            close = close_names(str(each["loc"][-1]), known)
            meant = f"did you mean {' or '.join(close[:2])}? " if close else ""
            what = f"unknown key; {meant}known here: {', '.join(known)}"
        found.setdefault(where, f"{shorten_text(where)}: {shorten_text(what, 1000)}")
    return list(found.values())


def _written(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the place of an error as a file has it: without the kind that a value was tried as."""
    return loc[:-1] if len(loc) > 1 and loc[-1] in ("str", "constrained-float") else loc


def _model_at(model: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel]:
    for step in loc:
        if not isinstance(step, int):
            model = inner_model(model.model_fields[step]) or model
    return model
