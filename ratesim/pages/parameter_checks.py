"""What is wrong with the parameters of a notebook, said in one line before its kernel starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from ratesim.algorithms import names
from ratesim.errors import RatesimError
from ratesim.limit import Limit
from ratesim.notebook import NotebookError, Value, find, parameters_of
from ratesim.pages.log_traffic import CHECKED_LINES, SHIPPED, LogFields
from ratesim.safe_text import shorten_repr
from ratesim.suggestion import unknown_name
from traffic import TrafficError
from traffic.formats import FORMATS
from traffic.times.timestamps import TIME_UNITS

__all__ = ["check_parameters"]

BOUNDS: dict[str, tuple[float, float]] = {  # a default below the lower one, such as 0 nodes, stands for something else
    "bearable": (0.0, 1.0),
    "denied": (0.0, 0.999),
    "duration": (0.001, 86_400.0),
    "entries": (1, 10_000_000),
    "keys": (1, 10**12),
    "load": (1e-6, 1e6),
    "load_seconds": (1, 3_600),
    "nodes": (1, 1_000),
    "offered": (1.001, 1_000.0),
    "p99": (1e-9, 3_600.0),
    "points": (2, 100),
    "requests": (1, 100_000_000),
    "seconds": (0.0, 1e9),
    "seed": (0, 2**32 - 1),
    "seeds": (1, 1_000),
    "skew": (0.0, 10.0),
    "sources": (1, 10_000_000),
    "start": (0.0, 86_400.0),
    "touched": (0.0, 0.999),
    "windows": (1, 1_000),
}


# What follows imports when it is needed: a wrong limit is told at once.


def _faults() -> tuple[str, ...]:
    from ratesim.simulation.scenario.faults import Fault

    return get_args(Fault.model_fields["kind"].annotation)


def _networks() -> tuple[str, ...]:
    from ratesim.simulation.network.links import PRESETS

    return tuple(PRESETS)


def _answers_without_store() -> tuple[str, ...]:
    from ratesim.storage.config import StoreFailurePolicy

    return get_args(StoreFailurePolicy)


def _read_prices(value: str) -> object:
    from ratesim.recommendation.assess.prices import Prices

    return Prices.load(Path(value))


def _read_profile(value: str) -> object:
    from ratesim.simulation.cost_model.profile import Profile

    return Profile.load(Path(value))


def _read_reports(value: str) -> object:
    from ratesim.pages.history.analysis import read_history

    return read_history(value)


CHOICES: dict[str, Callable[[], tuple[str, ...]]] = {
    "fault": _faults,
    "format": lambda: tuple(FORMATS),
    "network": _networks,
    "on_store_failure": _answers_without_store,
    "time_unit": lambda: TIME_UNITS,
}
READS: dict[str, Callable[[str], object]] = {
    "limit": Limit.parse,
    "period": lambda value: Limit.parse(f"1/{value}"),
    "prices": _read_prices,
    "profile": _read_profile,
    "reports": _read_reports,
}
MADE = {"consistency": ("keys", "skew"), "faults": ("keys",)}  # of the traffic that a log replaces


def check_parameters(name: str, given: Mapping[str, Value]) -> None:
    """Raise NotebookError for a parameter that the notebook could not take: one line with its name and the remedy.

    Of a log only the first lines are read.

    Parameters
    ----------
    name
        The notebook.
    given
        Some of its parameters, of the kinds of their defaults.
    """
    defaults = {each.name: each.default for each in parameters_of(find(name))}
    values: dict[str, Any] = {**defaults, **given}
    for each, value in values.items():
        if value != defaults[each]:
            with _named(each):
                _check(each, value, defaults[each])
    if "log" not in values:
        return
    log = LogFields(**{each.name: values[each.name] for each in fields(LogFields)})
    if log.log and (made := [each for each in MADE.get(name, ()) if each in given]):
        raise NotebookError(f"parameter {made[0]}: a log has its own; leave out {made[0]}, or the log")
    if "scenario" in values:
        from ratesim.pages.scenario_parameters import scenario_from_parameters

        asked = {each: values[each] for each in ("scenario", "limit", "nodes", "network")}
        workload = scenario_from_parameters(**asked, **vars(log)).workload
        asked = {each.name: getattr(workload, each.name) or "" for each in fields(LogFields) if each.name != "busiest"}
        log = LogFields(**asked) if workload.log else LogFields()
    with _named("log"):
        if name == "your_log" and not log.log:
            with resources.as_file(resources.files("traffic") / "data" / SHIPPED) as path:
                log.read(path, CHECKED_LINES)
        elif log.log:
            log.read(lines=CHECKED_LINES)
        else:
            log.traffic()  # which says that other fields need a log


def _check(name: str, value: Any, default: Any) -> None:
    if name in BOUNDS:
        low, high = BOUNDS[name]
        if not min(low, default) <= value <= high:
            shown = f"{low:,.15g} to {high:,.15g}"
            raise NotebookError(f"parameter {name}: {shorten_repr(value)} is out of range; give a number from {shown}")
    elif name in CHOICES:
        if value not in (known := CHOICES[name]()):
            raise NotebookError(unknown_name(f"parameter {name}:", value, known))
    elif name in ("algorithm", "algorithms"):
        for each in value.split(","):
            if each.strip() not in names():
                raise NotebookError(unknown_name(f"parameter {name}:", each.strip(), names()))
    elif name in READS:
        READS[name](value)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Begin the line of an error with the name of the parameter."""
    try:
        yield
    except NotebookError:
        raise
    except (RatesimError, TrafficError) as error:
        raise NotebookError(f"parameter {name}: {error}") from error
