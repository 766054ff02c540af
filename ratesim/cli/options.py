"""The options with which a question is asked on the command line, and the scenario that they make.

Each option is None until it is given: then it takes the place of what the scenario says.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from ratesim.algorithms import names
from ratesim.durations import NUMBER
from ratesim.errors import RatesimError
from ratesim.safe_text import shorten_repr

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Candidate, Scenario


def whole_number(least: int, most: int) -> Any:
    """Return the parser of an option: a whole number in ASCII digits within bounds."""

    def parse(text: Any) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(text)) or not least <= int(text) <= most:
            raise typer.BadParameter(f"{shorten_repr(str(text))} is no whole number from {least} to {most}.")
        return int(text)

    return parse


def number(least: float, most: float) -> Any:
    """Return the parser of an option: a number in ASCII digits within bounds."""

    def parse(text: Any) -> float:
        if not re.fullmatch(NUMBER, str(text), re.IGNORECASE) or not least <= float(text) <= most:
            raise typer.BadParameter(f"{shorten_repr(str(text))} is no number from {least:g} to {most:g}.")
        return float(text)

    return parse


ScenarioOption = Annotated[
    str | None,
    typer.Option("--scenario", metavar="NAME|FILE", help="A scenario file, or one that ships, such as quickstart."),
]
LogOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="FILE|GLOB|DIR|-",
        help="A log of any kind that `ratesim formats` lists, also compressed: access.log, 'logs/*.gz', a directory, an "
        "archive, or - for standard input. May be repeated: all are merged in the order of time.",
    ),
]
LimitOption = Annotated[str | None, typer.Option("--limit", metavar="RATE", help="Such as 100/minute or 10 per 5 seconds.")]
AlgorithmOption = Annotated[str | None, typer.Option("--algorithm", help=f"{', '.join(names())}.")]
AlsoOption = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="ALGORITHM", help="Another one, to be tried with the contenders. May be repeated."),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="FIELD",
        help="What is limited: client, user, endpoint, xff (the first address of X-Forwarded-For; xff:last, xff:-2), "
        "client/24 (networks), client+endpoint, or any field, such as request.headers.api_key; none: all together.",
    ),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Of the log, such as w3c; `ratesim formats` lists them.")
]
LogFormatOption = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        metavar="LINE",
        help="The line of your nginx or Apache configuration that wrote the log, pasted: '$remote_addr [$time_local] "
        "$status', or @nginx.conf:main. Each of its variables is a field, for --key and the like.",
    ),
]
TimeOption = Annotated[
    str | None, typer.Option("--time", metavar="FIELD", help="When it was asked, such as msec; found by its values.")
]
TimeUnitOption = Annotated[
    str | None,
    typer.Option(
        "--time-unit", metavar="UNIT", help="Of that field: s, ms, us, ns, iso, excel; or dmy, mdy, ymd: order in a date."
    ),
]
TimeZoneOption = Annotated[
    str | None,
    typer.Option("--time-zone", metavar="ZONE", help="Of stamps that name none: Europe/Berlin, +02:00; UTC unless given."),
]
StatusOption = Annotated[
    str | None,
    typer.Option("--status", metavar="FIELD", help="What was answered, such as upstream_status; found by its name."),
]
SessionOption = Annotated[
    str | None,
    typer.Option("--session", metavar="FIELD", help="What a sticky balancer keeps on one node, such as cookie_sid."),
]
EndpointOption = Annotated[
    str | None, typer.Option("--endpoint", metavar="FIELD", help="What was asked for, such as route or request.uri.")
]
AnonymizeOption = Annotated[
    bool | None,
    typer.Option("--anonymize", help="Replace keys by keyed hashes while the log is read; the secret lasts for this run."),
]
KeyFileOption = Annotated[
    str | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="The secret of --anonymize, so that a key has one name in every run; made where there is none.",
    ),
]
ShowKeysOption = Annotated[
    bool,
    typer.Option(
        "--show-keys", help="Name clients in full; else 203.0.113.7 is shown as 203.0.113.0/24, and other keys as hashes."
    ),
]
CostOption = Annotated[
    str | None, typer.Option("--cost", metavar="EXPRESSION", help="A field, or such as ContextTokens+GeneratedTokens.")
]
NodesOption = Annotated[
    int | None,
    typer.Option("--nodes", metavar="INTEGER", parser=whole_number(1, 1000), help="API nodes that share the limit."),
]
DeploymentOption = Annotated[
    str | None,
    typer.Option(
        "--deployment",
        metavar="TYPE",
        help="single_instance, clustered, or high_availability: then stores have replicas, and Redis Sentinel and clusters "
        "compete.",
    ),
]
RoutingOption = Annotated[
    str | None, typer.Option("--routing", help="round_robin, random, sticky, key_hash, least_outstanding.")
]
NetworkOption = Annotated[
    str | None, typer.Option("--network", help="loopback, same_zone, cross_zone, cross_region or mobile_edge.")
]
RttOption = Annotated[
    str | None, typer.Option("--rtt", metavar="TIME", help="To the servers and back, instead of a --network: 0.4ms.")
]
LossOption = Annotated[
    str | None, typer.Option("--loss", metavar="SHARE", help="Of messages that are lost and sent again: 0.1%.")
]
WorkloadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--workload", metavar="FIELD=VALUE", help="Of a recipe: requests_per_second=200, arrivals=steady. May be repeated."
    ),
]
P99Option = Annotated[str | None, typer.Option("--p99", metavar="TIME", help="Latency to keep in 99 % of decisions: 2ms.")]
OverOption = Annotated[
    str | None,
    typer.Option(
        "--max-over-admission",
        metavar="SHARE|any",
        help="Added by the storage to what an exact limiter admits, at most: 1% unless given; 0 means never.",
    ),
]
ExcessOption = Annotated[
    str | None,
    typer.Option(
        "--max-worst-excess",
        metavar="SHARE",
        help="By how much the busiest window of the limit's period may exceed the limit, by storage and algorithm: 30%.",
    ),
]
DenialOption = Annotated[
    str | None, typer.Option("--max-false-denial", metavar="SHARE", help="Denied without need, at most: 1%; 0 means never.")
]
PersistenceOption = Annotated[str | None, typer.Option("--persistence", help="What survives: none, session or durable.")]
KeysOption = Annotated[
    int | None,
    typer.Option(
        "--keys",
        metavar="INTEGER",
        parser=whole_number(1, 10**12),
        help="Whose state must fit; else what the traffic shows.",
    ),
]
PreferOption = Annotated[
    str | None, typer.Option("--prefer", help="What decides among those that pass: cost, safety or simplicity.")
]
RoutingChangeOption = Annotated[
    bool | None,
    typer.Option(
        "--allow-routing-change/--no-allow-routing-change",
        help="Whether sticky routing competes where another one is named; by default only where none is named.",
    ),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="BACKEND", help="May not be used: memory, redis, postgres, hybrid. May be repeated."),
]
BusiestOption = Annotated[str | None, typer.Option("--busiest", metavar="TIME", help="Cut the log to its busiest 1h.")]
SpeedOption = Annotated[
    float | None,
    typer.Option("--speed", metavar="NUMBER", parser=number(1e-6, 1e6), help="Replay the traffic so many times as fast."),
]
ScaleOption = Annotated[
    float | None,
    typer.Option(
        "--scale", metavar="NUMBER", parser=number(1e-6, 1e4), help="So many copies of the traffic, under distinct keys."
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", metavar="INTEGER", parser=whole_number(0, 2**32 - 1), help="Where the random draws begin."),
]
ReplicationsOption = Annotated[
    int | None,
    typer.Option(
        "--replications", metavar="INTEGER", parser=whole_number(1, 100_000), help="Runs of each candidate, by seed."
    ),
]
ProfileOption = Annotated[Path | None, typer.Option("--profile", metavar="FILE", help="A profile of `ratesim calibrate`.")]
PricesOption = Annotated[
    Path | None, typer.Option("--prices", metavar="FILE", help="Unit prices as TOML, instead of the example that ships.")
]
VariedOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=V,V", help="Values of a field: deployment.nodes=1,8,64. May be repeated."),
]
CandidatesOption = Annotated[
    list[str] | None, typer.Option("--candidate", metavar="NAME|URL", help="Only this one. May be repeated.")
]
SeedsOption = Annotated[str | None, typer.Option("--seeds", metavar="N-N,N", help="Seeds of the runs: 1-10,25.")]
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until", metavar="SHARE", help="Add runs until 95 % intervals are within this share of what is required: 10%."
    ),
]
FidelityOption = Annotated[
    str,
    typer.Option(
        "--fidelity",
        metavar="model|fake|live",
        help="What decides behind the simulated network: the fast model; the real scripts on an imitation of Redis (fake); "
        "a real Redis or PostgreSQL, started for the run or named in RATESIM_REDIS_URL or RATESIM_POSTGRES_URL (live).",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="auto|simpy|compiled",
        help="Both give the same numbers, to the bit: simpy is the reference and can do everything, compiled "
        "is many times as fast and refuses what it does not cover, and auto is compiled wherever it can be.",
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", metavar="INTEGER", parser=whole_number(1, 4096), help="Of this machine; its cores."),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Run on a Dask cluster: tcp://host:8786 (ratesim[distributed])."),
]
SecondsOption = Annotated[
    float | None,
    typer.Option(
        "--seconds",
        metavar="SECONDS",
        parser=number(0.0, 1e9),
        help="Nominal seconds of one core for the runs of the contenders: 600. On how much of the traffic they are judged.",
    ),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("-p", metavar="KEY VALUE", help="A parameter of the notebook: -p limit 10/second. May be repeated."),
]


@dataclass(kw_only=True)
class QuestionOptions:
    """The options of `report` and `recommend` that state the question. An option that is not given is None."""

    scenario: ScenarioOption = None
    log: LogOption = None
    workload: WorkloadOption = None
    limit: LimitOption = None
    algorithm: AlgorithmOption = None
    also: AlsoOption = None
    key: KeyOption = None
    format: FormatOption = None
    log_format: LogFormatOption = None
    time: TimeOption = None
    time_unit: TimeUnitOption = None
    time_zone: TimeZoneOption = None
    cost: CostOption = None
    status: StatusOption = None
    session: SessionOption = None
    endpoint: EndpointOption = None
    anonymize: AnonymizeOption = None
    key_file: KeyFileOption = None
    show_keys: ShowKeysOption = False
    nodes: NodesOption = None
    deployment: DeploymentOption = None
    routing: RoutingOption = None
    network: NetworkOption = None
    rtt: RttOption = None
    loss: LossOption = None
    p99: P99Option = None
    max_over_admission: OverOption = None
    max_worst_excess: ExcessOption = None
    max_false_denial: DenialOption = None
    persistence: PersistenceOption = None
    keys: KeysOption = None
    prefer: PreferOption = None
    allow_routing_change: RoutingChangeOption = None
    without: WithoutOption = None
    busiest: BusiestOption = None
    speed: SpeedOption = None
    scale: ScaleOption = None
    seed: SeedOption = None
    replications: ReplicationsOption = None
    processes: ProcessesOption = None
    seconds: SecondsOption = None
    profile: ProfileOption = None
    prices: PricesOption = None


@dataclass(kw_only=True)
class ReadOptions:
    """The options of `trace` that say how a log is read. An option that is not given is None."""

    key: KeyOption = None
    format: FormatOption = None
    log_format: LogFormatOption = None
    time: TimeOption = None
    time_unit: TimeUnitOption = None
    time_zone: TimeZoneOption = None
    cost: CostOption = None
    status: StatusOption = None
    session: SessionOption = None
    endpoint: EndpointOption = None
    anonymize: AnonymizeOption = None
    key_file: KeyFileOption = None


def takes(options: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command all options of a dataclass, of which it receives an object as its first argument."""
    types = get_type_hints(options, include_extras=True)
    shared = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=types[each.name])
        for each in fields(options)
    ]

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        required = sum(each.default is inspect.Parameter.empty for each in own)
        parameters[required:required] = shared

        @functools.wraps(command)
        def run(**given: Any) -> None:
            question = options(**{name: given.pop(name) for name in types})
            command(question, **given)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads both
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return wrap


class UsageError(RatesimError, ValueError):
    """Options that make no sense together: one line with the remedy."""


class KeyValueCommand(TyperCommand):
    """A command whose option `-p` takes a key and a value, as papermill's does.

    typer has no repeatable option with two values. The two are joined into one text, which `pairs_of` splits.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the key and the value of each `-p`."""
        joined, rest = [], iter(args)
        for word in rest:
            joined.append(word)
            if word == "-p":
                key, value = next(rest, None), next(rest, None)
                if key is None or value is None or "=" in key:
                    raise UsageError(f"-p {key or ''}: write a key and a value, such as -p limit 10/second")
                joined.append(f"{key}={value}")
        return super().parse_args(ctx, joined)


def check_words(words: list[str]) -> None:
    """Raise UsageError for a word of the command line that UTF-8 cannot encode: no report could name it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{shorten_repr(word)}: holds bytes that are no UTF-8; write or rename it in UTF-8") from None


def pairs_of(texts: list[str]) -> list[tuple[str, str]]:
    """Keys and values, as `KeyValueCommand` joined them."""
    return [(key, value) for key, _, value in (text.partition("=") for text in texts)]


def scenario_from_options(asked: dict[str, Any]) -> Scenario:
    """Build the scenario of --scenario, or one for --log, and replace what other options give."""
    from ratesim.limit import Limit
    from ratesim.simulation.scenario.fields import unit_of
    from ratesim.simulation.scenario.options import place_options
    from ratesim.simulation.scenario.scenario import Scenario, ScenarioError, WorkloadSpec, allowed_without, log_tables

    recipe = asked["workload"] or ()
    if not asked["log"] and asked["scenario"] is None and not recipe:
        raise UsageError("what shall be studied? Give --log FILE with --limit RATE, or --scenario quickstart")
    if asked["log"] and asked["scenario"] is not None:
        raise UsageError("--log and --scenario: give one of them; a scenario names its own log")
    if asked["scenario"] is not None:
        data = Scenario.load(asked["scenario"]).model_dump(exclude_unset=True)
    else:
        if asked["limit"] is None:
            raise UsageError("--limit is missing: say what is allowed, such as --limit 100/minute")
        data = {"name": "recipe", "workload": {}, "limit": {}}
    if asked["log"]:
        data |= log_tables(_without_pipes(asked["log"]))
    for text in recipe:
        field, equals, value = text.partition("=")
        if not equals or not field:
            raise UsageError(f"--workload {shorten_repr(text)}: write FIELD=VALUE such as requests_per_second=200")
        has_unit = field in WorkloadSpec.model_fields and unit_of(WorkloadSpec.model_fields[field]) is not None
        is_number = not has_unit and re.fullmatch(NUMBER, value, re.IGNORECASE)
        data["workload"][field] = float(value) if is_number else value
    place_options(data, asked)
    if asked["without"]:
        try:
            allowed = allowed_without(asked["without"], data.get("requirements", {}), "--without")
        except ScenarioError as error:
            raise UsageError(str(error)) from None
        data.setdefault("requirements", {})["allowed"] = allowed
    if asked["limit"] is not None:
        Limit.parse(asked["limit"])  # its own message is plainer than the scenario's
    scenario = Scenario.of(data, asked["scenario"] or "options", Path.cwd())
    scenario.workload.check_log()
    return scenario


def _without_pipes(logs: list[str]) -> list[str]:
    """Keep in a file what can be read once: standard input, and pipes such as `<(zcat old.gz)`."""
    from ratesim.simulation.scenario.temporary_files import STANDARD_INPUT, keep_stream

    if logs.count(STANDARD_INPUT) > 1:
        raise UsageError("--log -: given twice, and standard input can be read once")
    if STANDARD_INPUT in logs and sys.stdin.isatty():
        raise UsageError("--log -: standard input is a terminal; pipe a log into it: `zcat access.log.gz | ratesim ...`")
    kept = []
    for place, log in enumerate(logs):
        if log == STANDARD_INPUT:
            kept.append(str(keep_stream(sys.stdin.buffer, "standard-input")))
        elif Path(log).is_fifo():
            with open(log, "rb") as pipe:
                kept.append(str(keep_stream(pipe, f"pipe-{place + 1}")))
        else:
            kept.append(log)
    return kept


def current_candidate(path: Path, scenario: Scenario) -> Candidate:
    """Make the configuration of a storage.toml a candidate.

    Raises
    ------
    ConfigurationError
        The file cannot be read, or is invalid.
    UsageError
        It limits something else than the scenario does, or is for another number of nodes.
    """
    from ratesim.recommendation.configuration import StorageConfiguration
    from ratesim.recommendation.current import CURRENT
    from ratesim.simulation.scenario.scenario import Candidate
    from ratesim.storage.urls import localhost_url

    found, asked, algorithm = StorageConfiguration.load(path), scenario.limit, None
    nodes = scenario.deployment.nodes
    if found.nodes not in (None, nodes):
        raise UsageError(f"--current {path}: is for {found.nodes} nodes, and what is asked is for {nodes}; give --nodes")
    if found.limit is not None and found.limit.limit() != asked.limit():
        algorithm = found.limit.algorithm
        if algorithm not in asked.variants or found.limit.limit() != asked.with_algorithm(algorithm).limit():
            limits = " and what is asked is ".join(f"{each.rate} by {each.algorithm}" for each in (found.limit, asked))
            raise UsageError(f"--current {path}: limits {limits}; check what is in force")
    return Candidate.model_validate(
        {
            "name": CURRENT,
            "storage": localhost_url(found.storage),
            "routing": found.routing,
            "algorithm": algorithm,
            "primaries": found.primaries,
            "replicas": found.replicas,
        }
    )


def with_round_trip(name: str, rtt: str | None) -> Scenario:
    """Load a scenario by its name or file, with the round trip to its servers that was given."""
    from ratesim.simulation.scenario.scenario import Scenario

    scenario = Scenario.load(name)
    if rtt is None:
        return scenario
    data = scenario.model_dump(exclude_unset=True)
    data.setdefault("deployment", {})["rtt"] = rtt
    return Scenario.of(data, name)
