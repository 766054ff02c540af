"""The options with which a question is asked on the command line, and the scenario that they make.

Each option is None until it is given: then it takes the place of what the scenario says.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
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
    str | None, typer.Option("--log", metavar="FILE", help="An access log, csv or JSON lines (.gz, .zst).")
]
LimitOption = Annotated[str | None, typer.Option("--limit", metavar="RATE", help="Such as 100/minute or 10 per 5 seconds.")]
AlgorithmOption = Annotated[str | None, typer.Option("--algorithm", help=f"{', '.join(names())}.")]
AlsoOption = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="ALGORITHM", help="Another one, to be tried with the contenders. May be repeated."),
]
KeyOption = Annotated[
    str | None, typer.Option("--key", metavar="FIELD", help="What is limited: client, user, endpoint, or any column.")
]
FormatOption = Annotated[str | None, typer.Option("--format", help="Of the log: combined, common, csv or jsonl.")]
TimeOption = Annotated[
    str | None, typer.Option("--time", metavar="COLUMN", help="Of csv and JSON lines: when it was asked.")
]
TimeUnitOption = Annotated[str | None, typer.Option("--time-unit", help="Of that column: s, ms, us, ns or iso.")]
StatusOption = Annotated[
    str | None, typer.Option("--status", metavar="COLUMN", help="Of csv and JSON lines: what was answered, such as 429.")
]
CostOption = Annotated[
    str | None, typer.Option("--cost", metavar="EXPRESSION", help="A column, or such as ContextTokens+GeneratedTokens.")
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
    str | None, typer.Option("--max-over-admission", metavar="SHARE", help="Admitted too much, at most: 1%; 0 means never.")
]
DenialOption = Annotated[
    str | None, typer.Option("--max-false-denial", metavar="SHARE", help="Denied without need, at most: 1%; 0 means never.")
]
PersistenceOption = Annotated[str | None, typer.Option("--persistence", help="What survives: none, session or durable.")]
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
ProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", metavar="INTEGER", parser=whole_number(1, 4096), help="Of this machine; its cores."),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Run on a Dask cluster: tcp://host:8786 (ratesim[distributed])."),
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
    time: TimeOption = None
    time_unit: TimeUnitOption = None
    cost: CostOption = None
    status: StatusOption = None
    nodes: NodesOption = None
    deployment: DeploymentOption = None
    routing: RoutingOption = None
    network: NetworkOption = None
    rtt: RttOption = None
    loss: LossOption = None
    p99: P99Option = None
    max_over_admission: OverOption = None
    max_false_denial: DenialOption = None
    persistence: PersistenceOption = None
    without: WithoutOption = None
    busiest: BusiestOption = None
    speed: SpeedOption = None
    scale: ScaleOption = None
    seed: SeedOption = None
    replications: ReplicationsOption = None
    processes: ProcessesOption = None
    profile: ProfileOption = None
    prices: PricesOption = None


def takes_question(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of `QuestionOptions`, which it receives as its first argument."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    types = get_type_hints(QuestionOptions, include_extras=True)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=types[name]) for name in types
    ]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    required = sum(each.default is inspect.Parameter.empty for each in own)
    parameters[required:required] = shared

    @functools.wraps(command)
    def run(**given: Any) -> None:
        question = QuestionOptions(**{name: given.pop(name) for name in types})
        command(question, **given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads both
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


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
    from ratesim.simulation.network.links import PRESETS
    from ratesim.simulation.scenario.scenario import Scenario

    recipe = asked["workload"] or ()
    if asked["log"] is None and asked["scenario"] is None and not recipe:
        raise UsageError("what shall be studied? Give --log FILE with --limit RATE, or --scenario quickstart")
    if asked["log"] is not None and asked["scenario"] is not None:
        raise UsageError("--log and --scenario: give one of them; a scenario names its own log")
    if asked["scenario"] is not None:
        data = Scenario.load(asked["scenario"]).model_dump(exclude_unset=True)
    else:
        if asked["limit"] is None:
            raise UsageError("--limit is missing: say what is allowed, such as --limit 100/minute")
        data = {"name": "recipe", "workload": {}, "limit": {}}
    if asked["log"] is not None:
        log = Path(asked["log"]).absolute()
        name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in log.name) or "log"
        data |= {"name": name, "workload": {"log": str(log)}}
    for text in recipe:
        field, equals, value = text.partition("=")
        if not equals or not field:
            raise UsageError(f"--workload {shorten_repr(text)}: write FIELD=VALUE such as requests_per_second=200")
        data["workload"][field] = float(value) if re.fullmatch(NUMBER, value, re.IGNORECASE) else value
    places = {
        "limit": ("limit", "rate"),
        "algorithm": ("limit", "algorithm"),
        "also": ("limit", "variants"),
        "key": ("workload", "key"),
        "format": ("workload", "format"),
        "time": ("workload", "time"),
        "time_unit": ("workload", "time_unit"),
        "cost": ("workload", "cost"),
        "status": ("workload", "status"),
        "busiest": ("workload", "busiest"),
        "speed": ("workload", "speed"),
        "scale": ("workload", "scale"),
        "nodes": ("deployment", "nodes"),
        "deployment": ("deployment", "type"),
        "routing": ("deployment", "routing"),
        "network": ("deployment", "network"),
        "rtt": ("deployment", "rtt"),
        "loss": ("deployment", "loss"),
        "p99": ("requirements", "p99"),
        "max_over_admission": ("requirements", "max_over_admission"),
        "max_false_denial": ("requirements", "max_false_denial"),
        "persistence": ("requirements", "persistence"),
    }
    for option, (part, key) in places.items():
        if asked.get(option) is not None:
            data.setdefault(part, {})[key] = asked[option]
    if asked["without"]:
        data.setdefault("requirements", {})["allowed"] = _without(asked["without"], data)
    for option in ("seed", "replications"):
        if asked[option] is not None:
            data[option] = asked[option]
    if asked["limit"] is not None:
        Limit.parse(asked["limit"])  # its own message is plainer than the scenario's
    scenario = Scenario.of(data, asked["scenario"] or "options")
    if scenario.deployment.network not in PRESETS:
        raise UsageError(f"network {shorten_repr(scenario.deployment.network)}: known are {', '.join(PRESETS)}")
    return scenario


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


def _without(barred: list[str], data: dict[str, Any]) -> list[str]:
    """Return the allowed backends without the barred ones."""
    from ratesim.simulation.scenario.scenario import Requirements

    known = Requirements().allowed
    for each in barred:
        if each not in known:
            raise UsageError(f"--without {shorten_repr(each)}: known are {', '.join(known)}")
    left = [each for each in data.get("requirements", {}).get("allowed", known) if each not in barred]
    if not left:
        raise UsageError("--without: no backend is left")
    return left


def with_round_trip(name: str, rtt: str | None) -> Scenario:
    """Load a scenario by its name or file, with the round trip to its servers that was given."""
    from ratesim.simulation.scenario.scenario import Scenario

    scenario = Scenario.load(name)
    if rtt is None:
        return scenario
    data = scenario.model_dump(exclude_unset=True)
    data.setdefault("deployment", {})["rtt"] = rtt
    return Scenario.of(data, name)
