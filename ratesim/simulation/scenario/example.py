"""The annotated reference of a scenario file: every key of every table, from the models and their docstrings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ratesim.algorithms import names
from ratesim.simulation.network.links import PRESETS
from ratesim.simulation.scenario.fields import inner_model, unit_of
from ratesim.simulation.scenario.scenario import Scenario
from ratesim.simulation.scenario.toml_writer import toml_value

__all__ = ["BLOCKS", "Block", "block_text", "example"]

HEAD = """#:schema scenario.schema.json
# Every key of a scenario file. `ratesim scenario --example` prints it; `ratesim scenario --schema > scenario.schema.json`
# writes the schema that the first line names to an editor.
#
# A time has a unit (2ms, 1.5s, 1 minute, 1h 30m) and a share too (1%). Only 0 needs none.
# Behind "# " is a remark. A "#" directly before a key or a table takes it out: remove the "#" to use it.
"""
WIDTH = 110


@dataclass(frozen=True)
class Block:
    """A table of the example.

    Attributes
    ----------
    title : str
        What it shows.
    table : str
        Its place, such as "workload" or "faults".
    values : Mapping[str, Any]
        Its keys, in the order in which they are shown.
    off : Mapping[str, Any]
        Further keys, each of which may be added to it.
    """

    title: str
    table: str
    values: Mapping[str, Any]
    off: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_array(self) -> bool:
        """Whether there may be several, so that the table is added and does not take the place of another."""
        return self.table in ("candidates", "faults", "workload.tenants")


def _recipe(**values: Any) -> dict[str, Any]:
    return {"requests_per_second": 200, "keys": 1000, "duration": "1 minute"} | values


def _fault(kind: str, **values: Any) -> dict[str, Any]:
    return {"kind": kind, "start": "10s", "duration": "20s"} | values


# The first block of a table is in force in the example; every other one is taken out.
BLOCKS = (
    Block("", "", {"name": "example", "seed": 1, "replications": 3}, {"warmup": "1s"}),
    Block(
        "The requests: a recipe",
        "workload",
        _recipe(arrivals="poisson", popularity="zipf"),
        {"zipf": 1.2, "lifetime": "30s", "cost": 300, "cost_sigma": 1, "speed": 2, "scale": 10}
        | {"busiest": "20s", "head": 100_000, "top_share": "50%", "sessions": 20},
    ),
    Block(
        "Instead, a log",
        "workload",
        {"log": ["access.log", "old/*.gz"], "key": "client"},
        {"format": "combined", "log_format": "@nginx.conf:main", "time_zone": "Europe/Berlin"}
        | {"session": "cookie_sid", "endpoint": "uri", "anonymize": True, "key_file": "secret"}
        | {"busiest": "1 hour", "spread": False},
    ),
    Block(
        "Instead, a log as csv or JSON lines",
        "workload",
        {"log": "llm.csv", "key": "tenant", "time": "TIMESTAMP", "time_unit": "iso"}
        | {"cost": "ContextTokens+GeneratedTokens", "status": "status"},
    ),
    Block(
        "Instead, evenly spaced, of equal keys one after the other",
        "workload",
        _recipe(arrivals="steady", popularity="in_turn"),
    ),
    Block(
        "Instead, clients that come and go, each by itself",
        "workload",
        _recipe(arrivals="on_off", on="2s", off="8s", per_key=True),
    ),
    Block(
        "Instead, the same, with lengths that have a heavy tail",
        "workload",
        _recipe(arrivals="on_off", on="2s", off="8s", tail=1.4, per_key=True),
    ),
    Block(
        "Instead, requests that cause others",
        "workload",
        _recipe(arrivals="hawkes", branching="50%", delay="2s"),
    ),
    Block("Instead, bursts", "workload", _recipe(arrivals="mmpp", burst=10, burst_for="1s", quiet_for="9s")),
    Block("Instead, night and day", "workload", _recipe(duration="1 day", arrivals="diurnal", amplitude="50%", day="1 day")),
    Block(
        "Instead, a flash crowd",
        "workload",
        _recipe(
            duration="5 minutes",
            arrivals="flash_crowd",
            surge=20,
            surge_at="1 minute",
            ramp="5s",
            hold="30s",
            fade="1 minute",
        ),
    ),
    Block(
        "Instead, a herd at every edge of a window",
        "workload",
        _recipe(arrivals="edge_herd", edge="10s", edge_spread="50ms", edge_before="50%"),
    ),
    Block(
        "Instead, tenants with users, as `ratesim trace fit` writes them",
        "workload",
        _recipe(arrivals="tenants", profile=[1, 2, 4, 2], profile_period="1 minute", stretch=True),
    ),
    Block(
        "and one group of them; a list of one value is a constant",
        "workload.tenants",
        {"keys": "100%", "requests": "100%", "session_requests": [12], "session_gap": ["500ms"], "gaps": [1], "pauses": [1]}
        | {"costs": [1]},
        {"key_ratio": 3, "size_and_gap": -0.5, "gap_memory": 0.2, "pause_memory": 0.2, "cost_memory": 0.2}
        | {"users": 20, "user_requests": [1], "user_memory": "50%"},
    ),
    Block("Instead, one key that makes half of the requests", "workload", _recipe(popularity="hot_key", hot_share="50%")),
    Block("Instead, a closed loop of users", "workload", {"keys": 100, "duration": "1 minute"}),
    Block("and its users, who may also retry", "workload.clients", {"users": 500, "think": "2s"}, {"constant": True}),
    Block(
        "In addition, clients that try again what was denied",
        "workload.clients",
        {"retry": "backoff", "attempts": 3},
    ),
    Block(
        "What is allowed to each key", "limit", {"rate": "100/minute", "algorithm": "sliding_window"}, {"variants": ["gcra"]}
    ),
    Block("Instead, a bucket", "limit", {"rate": "100/minute", "algorithm": "token_bucket", "burst": 200}),
    Block("In addition, options of the algorithm", "limit.options", {"buckets": 10}),
    Block(
        "Where the limiter runs",
        "deployment",
        {"type": "clustered", "nodes": 8, "routing": "round_robin", "network": "same_zone"},
        {"rtt": "400us", "loss": "0.1%", "shards": 3, "node_timeout": "15s"},
    ),
    Block(
        "Instead, stores with replicas",
        "deployment",
        {"type": "high_availability", "nodes": 8, "replica_lag": "100ms", "election": "30s"},
    ),
    Block(
        "What the choice must meet",
        "requirements",
        {"p99": "2ms", "max_over_admission": "1%", "persistence": "session"},
        {"max_worst_excess": "50%", "max_false_denial": "1%", "key_count": 1_000_000, "allowed": ["memory", "redis"]}
        | {"prefer": "safety", "allow_routing_change": True},
    ),
    Block(
        "Competitors of your own, instead of about a hundred",
        "candidates",
        {"name": "redis", "storage": "redis://localhost"},
    ),
    Block(
        "Another one",
        "candidates",
        {"name": "memory, sticky", "storage": "memory://", "routing": "sticky", "algorithm": "fixed_window"},
    ),
    Block(
        "Another one",
        "candidates",
        {"name": "redis cluster", "storage": "redis+cluster://localhost?pool_size=20", "primaries": 3, "replicas": 1},
    ),
    Block(
        "A fault, of which there may be several: nodes do not reach the store",
        "faults",
        _fault("partition", nodes=[0, 1], direction="both"),
    ),
    Block("messages are lost", "faults", _fault("lossy", loss="10%", shard=0)),
    Block("the store is slow", "faults", _fault("slow", factor=10)),
    Block("the store is down", "faults", _fault("crash", keeps_memory=False, host_lost=True)),
    Block("the store is down, and a replica takes over", "faults", _fault("failover", lag="100ms")),
    Block("slots of a cluster move", "faults", _fault("reshard", slots=1000)),
    Block("nodes restart", "faults", _fault("restart", nodes=[0])),
    Block("the clocks of nodes are wrong", "faults", _fault("clock_skew", nodes=[0], offset="-300ms", drift="0.1%")),
)


def example() -> str:
    """Return the annotated example, a TOML document."""
    told: set[tuple[type, str]] = set()
    shown: set[str] = set()
    parts = [HEAD]
    for block in BLOCKS:
        is_on = block.table not in shown and "." not in block.table and not block.is_array
        shown.add(block.table)
        parts.append("\n".join(_lines(block, is_on, told)) + "\n")
    return "\n".join(parts)


def block_text(block: Block) -> str:
    """Return a block without remarks, with all its keys, as it is when it is put to use."""
    lines = [f"{name} = {toml_value(value)}" for name, value in (dict(block.values) | dict(block.off)).items()]
    return "\n".join([*_head(block), *lines]) + "\n"


def _known_values(info: FieldInfo) -> tuple[str, ...]:
    """Return the words that a field takes; none where it takes any."""
    for each in (info.annotation, *get_args(info.annotation)):
        words = get_args(each) if get_origin(each) is Literal else ()
        if words:
            return tuple(map(str, words))
    return ()


def _head(block: Block) -> list[str]:
    if not block.table:
        return []
    return [f"[[{block.table}]]" if block.is_array else f"[{block.table}]"]


def _lines(block: Block, is_on: bool, told: set[tuple[type, str]]) -> Iterator[str]:
    if block.title:
        yield f"# -- {block.title} --"
    mark = "" if is_on else "#"
    yield from (mark + line for line in _head(block))
    model = _model_at(block.table)
    for name, value in (dict(block.values) | dict(block.off)).items():
        if model is not None and (model, name) not in told:
            told.add((model, name))
            yield from (f"# {line}" for line in textwrap.wrap(_remark(model, name), WIDTH, break_on_hyphens=False))
        yield f"{'#' if name in block.off else mark}{name} = {toml_value(value)}"


def _model_at(table: str) -> type[BaseModel] | None:
    model: type[BaseModel] = Scenario
    for part in filter(None, table.split(".")):
        inner = inner_model(model.model_fields[part])
        if inner is None:
            return None
        model = inner
    return model


def _remark(model: type[BaseModel], name: str) -> str:
    info = model.model_fields[name]
    words = tuple(names()) if name == "algorithm" else tuple(PRESETS) if name == "network" else _known_values(info)
    parts = [info.description or ""]
    if not all(word in parts[0] for word in words):
        parts.append(f"Known: {', '.join(words)}.")
    unit = unit_of(info)
    default = info.default
    if (
        not info.is_required()
        and default not in (None, ())
        and not isinstance(default, BaseModel)
        and info.default_factory is None
    ):
        parts.append(f"Default: {toml_value(default if unit is None else unit.write(default))}.")
    return " ".join(parts)
