"""The check of the kernel where it is used: the first requests of each kind of run are played by both engines.

Kinds differ in the code that they exercise. A kind is checked once for a version of the source. The result is kept beside
the compiled code, and holds for all processes of this user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from ratesim.simulation.engine.cluster import backend_of
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.playback import Playback, play
from ratesim.simulation.jit_cache import note, noted
from ratesim.simulation.queueing.station_stats import StationStats
from ratesim.simulation.source_version import code_version
from ratesim.storage import StorageURL

__all__ = ["CHECKED", "disagreement", "kind_of", "playback_differences"]

CHECKED = 1000  # requests that both engines play

_found: dict[str, str] = {}  # by kind, where the trace is too short for a result that is kept


def disagreement(context: RunContext, played: Callable[[RunContext], Playback]) -> str | None:
    """Return how the engines differ on the first requests of a run, as one line; None if they do not.

    Parameters
    ----------
    context
        The run, which stays as it is.
    played
        Plays a run in the kernel.

    Raises
    ------
    AbortError
        The kernel cannot play these requests.
    """
    kind = kind_of(context)
    name = f"agreement_{hashlib.sha256(f'{code_version()} {kind}'.encode()).hexdigest()[:32]}"
    known = _found.get(name) or noted(name)
    if known is None:
        known = next(_differences(context, played), "")
        if len(context.trace) >= CHECKED or known:
            note(name, f"{known}\n{kind}\n")
        else:
            _found[name] = "\n"
    first = known.partition("\n")[0]
    return f"the engines differ on the first {CHECKED:,} requests: {first}" if first else None


def kind_of(context: RunContext) -> str:
    """Return what chooses the code that a run exercises, as text."""
    scenario, candidate = context.scenario, context.candidate
    url, servers = StorageURL.parse(candidate.storage), scenario.servers(candidate)
    costs = context.profile.backends[url.backend]
    profile = {
        "locks": costs.locks,
        "commit": costs.commit is not None,
        "cores": len(costs.speedup) > 1,
        "concurrent": costs.concurrency > 1,
        "cold": costs.cold is not None,
        "client": costs.client is not None,
        "alone": costs.alone is not None,
        "turn": costs.turn > 0.0,
        "stalls": costs.stalls is None or len(costs.stalls) > 0,
        "paces": [any(each != 1.0 for each in paces) for paces in (costs.client_pace, costs.server_pace)],
        "operations": sorted(costs.operations),
        "hybrids": sorted(context.profile.hybrids),
    }
    parts: dict[str, Any] = {
        "candidate": [backend_of(candidate), servers.kind, servers.primaries > 1, servers.standby],
        "options": [_modes(config) for config in (url.config, url.hybrid) if config is not None],
        "algorithm": [context.limit.algorithm, sorted(name for name, _ in context.limit.options)],
        "in_turn": context.routing == "least_outstanding",
        "warmup": scenario.warmup > 0.0,
        "loss": bool(scenario.deployment.loss),
        "profile": profile,
    }
    return msgspec.json.encode(parts).decode()


def _modes(config: msgspec.Struct) -> dict[str, Any]:
    """Return the options that choose code: words and switches, and whether numbers are there or 0."""
    found = {}
    for name in set(config.__struct_fields__) - {"url", "node", "key_prefix", "schema", "table_name"}:
        value = getattr(config, name)
        found[name] = value if isinstance(value, str | bool) else type(value).__name__ if value else ""
    return dict(sorted(found.items()))


def _differences(context: RunContext, played: Callable[[RunContext], Playback]) -> Iterator[str]:
    trace = context.trace.head(CHECKED)
    warmup = min(context.scenario.warmup, 0.5 * trace.duration)
    scenario = context.scenario.model_copy(update={"warmup": warmup})

    def beginning() -> RunContext:
        return RunContext.of(scenario, context.candidate, context.profile, context.seed, trace)

    other = played(beginning())  # an abort comes before SimPy's work
    yield from playback_differences(play(beginning(), None, False), other)


def playback_differences(reference: Playback, other: Playback) -> Iterator[str]:
    """Name everything in which two playbacks differ, with the first place."""
    for name in Playback._fields:
        one, two = getattr(reference, name), getattr(other, name)
        if name == "replayed":
            for part in ("outcome", "node", "errors", "partial", "in_flight"):
                yield from _compared(part, getattr(one, part), getattr(two, part))
        else:
            yield from _compared(name, one, two)


def _compared(name: str, one: Any, two: Any) -> Iterator[str]:
    if isinstance(one, StationStats):
        one, two = ([*each.bins, each.totals, each.stays, each.services] for each in (one, two))
    if isinstance(one, np.ndarray):
        if one.shape != two.shape or not np.array_equal(one, two, equal_nan=one.dtype.kind == "f"):
            yield f"{name}: {_first(one, two)}"
    elif isinstance(one, dict):
        if one.keys() != two.keys():
            yield f"{name}: {sorted(one)}, and {sorted(two)}"
        for key in one.keys() & two.keys():
            yield from _compared(f"{name} {key}", one[key], two[key])
    elif isinstance(one, list | tuple):
        names = getattr(one, "_fields", range(len(one)))
        for part, mine, its in zip(names, one, two, strict=True):
            yield from _compared(f"{name} {part}", mine, its)
    elif one != two:
        yield f"{name}: {one}, and {two}"


def _first(one: Any, two: Any) -> str:
    if one.shape != two.shape:
        return f"{one.shape}, and {two.shape}"
    place = int(np.flatnonzero((one != two) & ~((one != one) & (two != two)))[0])
    return f"of {place}: {one[place]}, and {two[place]}"
