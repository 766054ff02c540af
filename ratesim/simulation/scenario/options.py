"""The words of a question: keywords of `Scenario.from_log`, and options of the command line.

Each has one place in a scenario, `PLACES`. A word that is not given leaves what the scenario says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

__all__ = ["PLACES", "LogOptions", "place_options"]

PLACES: dict[str, tuple[str, ...]] = {
    "limit": ("limit", "rate"),
    "algorithm": ("limit", "algorithm"),
    "also": ("limit", "variants"),
    "key": ("workload", "key"),
    "format": ("workload", "format"),
    "log_format": ("workload", "log_format"),
    "time": ("workload", "time"),
    "time_unit": ("workload", "time_unit"),
    "time_zone": ("workload", "time_zone"),
    "cost": ("workload", "cost"),
    "status": ("workload", "status"),
    "session": ("workload", "session"),
    "endpoint": ("workload", "endpoint"),
    "anonymize": ("workload", "anonymize"),
    "key_file": ("workload", "key_file"),
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
    "max_worst_excess": ("requirements", "max_worst_excess"),
    "max_false_denial": ("requirements", "max_false_denial"),
    "persistence": ("requirements", "persistence"),
    "keys": ("requirements", "key_count"),
    "prefer": ("requirements", "prefer"),
    "allow_routing_change": ("requirements", "allow_routing_change"),
    "seed": ("seed",),
    "replications": ("replications",),
}


class LogOptions(TypedDict, total=False):
    """The keywords of `Scenario.from_log` beside the log and its limit.

    Times and shares have units: "2ms", "1%". A number is in seconds, or a share of 1.
    """

    algorithm: str
    also: str | Sequence[str]
    key: str
    format: str
    log_format: str
    time: str
    time_unit: str
    time_zone: str
    cost: str
    status: str
    session: str
    endpoint: str
    anonymize: bool
    key_file: str
    busiest: str | float | timedelta
    speed: float
    scale: float
    nodes: int
    deployment: str
    routing: str
    network: str
    rtt: str | float | timedelta
    loss: str | float
    p99: str | float | timedelta
    max_over_admission: str | float
    max_worst_excess: str | float
    max_false_denial: str | float
    persistence: str
    keys: int
    prefer: str
    allow_routing_change: bool
    without: str | Sequence[str]
    seed: int
    replications: int


def place_options(data: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put what is given in its place in a nested dict with the keys of a scenario's file. None is not given."""
    for option, place in PLACES.items():
        value = given.get(option)
        if value is not None:
            *tables, last = place
            table = data
            for name in tables:
                table = table.setdefault(name, {})
            table[last] = (value,) if option == "also" and isinstance(value, str) else value
