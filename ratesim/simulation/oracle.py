"""The oracle: an exact limiter in one place with no delay, over a whole run at once.

It decides what `MemoryStorage.decide` would, to the bit, some hundred times faster: the source of the algorithm's own
module is copied, with a loop around it, into one generated module, and numba compiles that (`compiled.py`).
"""

from __future__ import annotations

import ast
import inspect
from functools import lru_cache
from math import isfinite
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratesim.algorithms import Algorithm, bind
from ratesim.limit import LARGEST as _LARGEST
from ratesim.limit import SMALLEST as _SMALLEST
from ratesim.limit import InvalidLimit, Limit
from ratesim.simulation.compiled import called_elsewhere, load, sources
from traffic import Trace

if TYPE_CHECKING:  # in the generated module they are the algorithm's own; here they stand for any's
    from ratesim.algorithms.token_bucket import available, charge, refresh, start

__all__ = ["exact", "exact_trace"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Not compiled: called once per limit or state, or not by a loop whose states are long enough.
_STAYS_PYTHON = ("params", "size", "grain", "grow", "longest", "stored", "working")

_WIDTH = 0  # in the generated module: floats that `refresh` may write, a constant, so that loops over a state unroll
_BLOCK = 64  # requests whose states are asked of the memory before the first of them is decided

_FRAME = """
import numpy as np
from math import isfinite
from numba import njit, types
from ratesim.simulation.compiled import jitted

_WIDTH = {width}
_BLOCK = {block}
_SMALLEST = {smallest!r}
_LARGEST = {largest!r}

{jitted}

{replay}

def _read_only(dtype):
    return types.Array(dtype, 1, "C", readonly=True)

_replay = njit(
    [
        (
            types.UniTuple(types.float64, {parameters}),
            _read_only(types.int64),
            _read_only(types.float64),
            _read_only(types.float64),
            _read_only(types.int64),
            types.float64[::1],
            types.boolean[::1],
            types.boolean[::1],
            types.float64[::1],
        )
    ],
    cache=True,
    nogil=True,
    error_model="numpy",
)(_replay)
"""
_FULL = """
@njit
def grow(s):
    raise IndexError("a state is full: `longest` promised too little")
"""


@overload
def exact(
    limit: Limit,
    key: ArrayLike,
    time: ArrayLike,
    cost: ArrayLike,
    keys: int,
    remaining: Literal[False] = False,
) -> Bools: ...


@overload
def exact(
    limit: Limit, key: ArrayLike, time: ArrayLike, cost: ArrayLike, keys: int, remaining: Literal[True]
) -> tuple[Bools, Floats]: ...


def exact(
    limit: Limit, key: ArrayLike, time: ArrayLike, cost: ArrayLike, keys: int, remaining: bool = False
) -> Bools | tuple[Bools, Floats]:
    """What an exact limiter admits of n requests that it decides in the given order, starting with no state.

    key: whole numbers from 0 to keys - 1, shape (n,).
    time: seconds since the epoch, shape (n,); may run backwards, then the key's own time counts, as in every storage.
    cost: 0, or 1e-6 to 1e12, shape (n,).
    Returns a bool per request; with remaining=True also the cost that would still be admitted after each, at least 0.
    Takes the memory of `keys` states, 8 bytes for each of their floats; of a sliding_log, of as many entries as the key's
    requests, or the limit and the smallest cost, allow.
    Raises ValueError for shapes that differ, keys out of range and times that are not finite; InvalidLimit for costs out of
    bounds and for a limit that its algorithm does not take.
    """
    bound = bind(limit)
    algorithm = bound.algorithm
    key, time, cost = _columns(key, time, cost)
    p = tuple(float(parameter) for parameter in bound.params)
    if bound.size is not None:
        width = bound.size
        ends = np.empty(0, np.int64)
        state = np.zeros(keys * width)  # pages of keys that never come are never touched
    else:
        assert algorithm.growing is not None
        assert bound.head is not None
        width = bound.head
        ends = _ends(limit, key, cost, keys)
        state = np.zeros(ends[-1])
    allowed = np.empty(len(key), np.bool_)
    left = np.empty(len(key) if remaining else 0)
    started = np.zeros(keys, np.bool_)
    if compiled(algorithm, len(p), width)(p, key, time, cost, ends, state, started, allowed, left) != len(key):
        raise _fault(key, time, cost, keys)
    return (allowed, left) if remaining else allowed


def exact_trace(limit: Limit, trace: Trace) -> Bools:
    """`exact` over a trace; a trace is in the order of its times, and its origin says so if it had to be sorted."""
    return exact(limit, trace.key, trace.time, trace.cost, len(trace.keys))


def _columns(key: ArrayLike, time: ArrayLike, cost: ArrayLike) -> tuple[Ints, Floats, Floats]:
    key = np.asarray(key)
    if key.size and not np.issubdtype(key.dtype, np.integer):
        raise ValueError(f"keys must be whole numbers, not {key.dtype}")
    key = np.ascontiguousarray(key, np.int64)
    time = np.ascontiguousarray(time, np.float64)
    cost = np.ascontiguousarray(cost, np.float64)
    if not key.shape == time.shape == cost.shape == (key.size,):
        raise ValueError(f"key, time and cost need one shape (n,), not {key.shape}, {time.shape}, {cost.shape}")
    return key, time, cost


def _fault(key: Ints, time: Floats, cost: Floats, keys: int) -> ValueError:
    """What is wrong with requests that the compiled loop refused."""
    if not 0 <= key.min() <= key.max() < keys:
        return ValueError(f"keys must lie from 0 to {keys - 1}, not from {key.min()} to {key.max()}")
    if not np.isfinite(time).all():
        return ValueError("times must be finite")
    fine = (cost == 0) | ((cost >= _SMALLEST) & (cost <= _LARGEST))
    return InvalidLimit(f"cost {cost[~fine][0]:g}: must be 0, or between {_SMALLEST:g} and {_LARGEST:g}")


def _ends(limit: Limit, key: Ints, cost: Floats, keys: int) -> Ints:
    """Where each key's state ends in one long array, shape (keys + 1,), from 0."""
    algorithm, p, _, _ = bind(limit)
    assert algorithm.growing is not None
    some = cost > 0
    if not (some | (cost == 0)).all() or (key.size and not 0 <= key.min() <= key.max() < keys):
        raise _fault(key, np.zeros(1), cost, keys)
    requests = np.bincount(key if some.all() else key[some], minlength=keys)
    smallest = float(cost[some].min()) if some.any() else 1.0
    lengths = np.zeros(int(requests.max(initial=0)) + 1, np.int64)  # by number of requests
    for count in np.flatnonzero(np.bincount(requests)).tolist():
        lengths[count] = algorithm.growing.longest(p, count, smallest)
    ends = np.zeros(keys + 1, np.int64)
    np.cumsum(lengths[requests], out=ends[1:])
    return ends


def _replay(p, key, time, cost, ends, state, started, allowed, left):  # type: ignore[no-untyped-def]
    # Compiled in the generated module, never run here. A copy of the state is worked on and kept only when the request is
    # admitted, as in MemoryStorage.decide: a denied one changes nothing, not even a rounding. Answers how many requests it
    # decided; fewer than came when it met one that cannot be.
    s: Any = np.empty(_WIDTH)
    touched = 0.0
    for begin in range(0, len(key), _BLOCK):
        end = min(begin + _BLOCK, len(key))
        for row in range(begin, end):
            k = key[row]
            if not (0 <= k < len(started) and isfinite(time[row])):
                return row
            if cost[row] != 0.0 and not _SMALLEST <= cost[row] <= _LARGEST:
                return row
            touched += state[k * _WIDTH]  # all at once: one after another, each would wait for the memory
        for row in range(begin, end):
            k = key[row]
            at = time[row]
            place = k * _WIDTH
            if started[k]:
                for i in range(_WIDTH):
                    s[i] = state[place + i]
                at = at if at > s[0] else s[0]
                refresh(s, p, at)
            else:
                start(s, p, at)
            rest = available(s, p, at)
            allowed[row] = rest >= cost[row]
            if allowed[row]:
                charge(s, p, cost[row], at)
                for i in range(_WIDTH):
                    state[place + i] = s[i]
                started[k] = True
            if len(left):
                if allowed[row]:
                    rest = available(s, p, at)
                left[row] = rest if rest > 0.0 else 0.0
    return len(key) if touched == touched else -1  # a state is never NaN; asking keeps the touching from being left out


def _replay_growing(p, key, time, cost, ends, state, started, allowed, left):  # type: ignore[no-untyped-def]
    # As _replay, for states of different lengths: worked on where they lie, and put back where a request is denied.
    before = np.empty(_WIDTH)
    touched = 0.0
    for begin in range(0, len(key), _BLOCK):
        end = min(begin + _BLOCK, len(key))
        for row in range(begin, end):
            k = key[row]
            if not (0 <= k < len(started) and isfinite(time[row])):
                return row
            if cost[row] != 0.0 and not _SMALLEST <= cost[row] <= _LARGEST:
                return row
            touched += state[ends[k]]
        for row in range(begin, end):
            k = key[row]
            at = time[row]
            s = state[ends[k] : ends[k + 1]]
            if started[k]:
                for i in range(_WIDTH):
                    before[i] = s[i]
                at = at if at > s[0] else s[0]
                refresh(s, p, at)
            else:
                start(s, p, at)
            rest = available(s, p, at)
            allowed[row] = rest >= cost[row]
            if allowed[row]:
                charge(s, p, cost[row], at)
                started[k] = True
                rest = available(s, p, at)
            elif started[k]:
                for i in range(_WIDTH):
                    s[i] = before[i]
            if len(left):
                left[row] = rest if rest > 0.0 else 0.0
    return len(key) if touched == touched else -1


_LOOPS = {False: inspect.getsource(_replay), True: inspect.getsource(_replay_growing)}


def compiled(algorithm: Algorithm, parameters: int, width: int) -> Any:
    """The loop around an algorithm that takes so many parameters, for states of which `refresh` may write `width` floats."""
    rule: Any = algorithm.rule
    growing = algorithm.growing is not None
    source = _around(inspect.getsource(rule), parameters, width, growing)
    functions = [f for name, f in vars(rule).items() if isinstance(f, FunctionType) and name not in _STAYS_PYTHON]
    elsewhere = called_elsewhere(f for f in functions if f.__module__ == rule.__name__)
    if elsewhere:
        lines = [f"{name} = jitted({name})" for name in elsewhere if "." not in name and hasattr(rule, name)]
        marked = f"# {sources(elsewhere.values())}\n"
        source = source.replace("# elsewhere\n", marked + "\n".join(lines) + "\n")
    module = load(algorithm.name, source)
    return module._replay_growing if growing else module._replay


@lru_cache(maxsize=64)
def _around(source: str, parameters: int, width: int, growing: bool) -> str:
    functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    decorate = 'njit(error_model="numpy", forceinline=True)'
    lines = [f"{name} = {decorate}({name})" for name in functions if name not in _STAYS_PYTHON]
    frame = _FRAME.replace("_replay", "_replay_growing") if growing else _FRAME
    return f"{source}\n" + frame.format(
        width=width,
        block=_BLOCK,
        smallest=_SMALLEST,
        largest=_LARGEST,
        jitted="# elsewhere\n" + (_FULL if growing else "") + "\n".join(lines),
        replay=_LOOPS[growing],
        parameters=parameters,
    )
