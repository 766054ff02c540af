"""The oracle: an exact limiter in one place with no delay, over a whole run at once.

It decides what `MemoryStorage.decide` would, to the bit, some hundred times faster: the source of the algorithm's own
module is copied, with a loop around it, into one generated module, and numba compiles that. One file, because numba's
cache on disk notices an edited file but not an edited function that is called from another one; the file's name holds a
hash of all that is in it, so an edited algorithm never meets what was compiled of the old one.
"""

from __future__ import annotations

import ast
import atexit
import hashlib
import importlib.util
import inspect
import os
import shutil
import stat
import sys
import tempfile
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import platformdirs
from numpy.typing import ArrayLike, NDArray

from ratesim.algorithms import Algorithm, bind
from ratesim.limit import LARGEST, SMALLEST, InvalidLimit, Limit

if TYPE_CHECKING:  # in the generated module they are the algorithm's own; here they stand for any's
    from ratesim.algorithms.rule import Params
    from ratesim.algorithms.token_bucket import available, charge, refresh, start

__all__ = ["exact", "load"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STAYS_PYTHON = ("params", "size", "grain")  # called once per limit, and `params` takes a Limit

_TAIL = """
import numpy as np
from numba import njit, types

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
            types.float64[:, ::1],
            types.boolean[::1],
            types.float64[::1],
        )
    ],
    cache=True,
    nogil=True,
)(_replay)
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
    Takes the memory of `keys` states: 8 bytes for each of their floats.
    Raises ValueError for shapes that differ, keys out of range and times that are not finite; InvalidLimit for costs out of
    bounds and for a limit that its algorithm does not take.
    """
    algorithm, p, _, _ = bind(limit)
    rows = _checked(key, time, cost, keys)
    state = np.zeros((keys, algorithm.rule.size(p)))  # pages of keys that never come are never touched
    left = np.empty(len(rows[0]) if remaining else 0)
    p = tuple(float(parameter) for parameter in p)
    allowed: Bools = compiled(algorithm, len(p))(p, *rows, state, np.zeros(keys, np.bool_), left)
    return (allowed, left) if remaining else allowed


def _checked(key: ArrayLike, time: ArrayLike, cost: ArrayLike, keys: int) -> tuple[Ints, Floats, Floats]:
    key = np.asarray(key)
    if key.size and not np.issubdtype(key.dtype, np.integer):
        raise ValueError(f"keys must be whole numbers, not {key.dtype}")
    key = np.ascontiguousarray(key, np.int64)
    time = np.ascontiguousarray(time, np.float64)
    cost = np.ascontiguousarray(cost, np.float64)
    if not key.shape == time.shape == cost.shape == (key.size,):
        raise ValueError(f"key, time and cost need one shape (n,), not {key.shape}, {time.shape}, {cost.shape}")
    if key.size and not 0 <= key.min() <= key.max() < keys:
        raise ValueError(f"keys must lie from 0 to {keys - 1}, not from {key.min()} to {key.max()}")
    if not np.isfinite(time).all():
        raise ValueError("times must be finite")
    fine = (cost == 0) | ((cost >= SMALLEST) & (cost <= LARGEST))
    if not fine.all():
        raise InvalidLimit(f"cost {cost[~fine][0]:g}: must be 0, or between {SMALLEST:g} and {LARGEST:g}")
    return key, time, cost


def _replay(p: Params, key: Ints, time: Floats, cost: Floats, state: Floats, started: Bools, left: Floats) -> Bools:
    # Compiled in the generated module, never run here. A copy of the state is worked on and kept only when the request is
    # admitted, as in MemoryStorage.decide: a denied one changes nothing, not even a rounding.
    width = state.shape[1]
    s: Any = np.empty(width)
    allowed = np.empty(len(key), np.bool_)
    for row in range(len(key)):
        k = key[row]
        at = time[row]
        if started[k]:
            for i in range(width):
                s[i] = state[k, i]
            at = at if at > s[0] else s[0]
            refresh(s, p, at)
        else:
            s[:] = 0.0
            start(s, p, at)
        rest = available(s, p, at)
        allowed[row] = rest >= cost[row]
        if allowed[row]:
            charge(s, p, cost[row], at)
            for i in range(width):
                state[k, i] = s[i]
            started[k] = True
        if len(left):
            if allowed[row]:
                rest = available(s, p, at)
            left[row] = rest if rest > 0.0 else 0.0
    return allowed


_REPLAY = inspect.getsource(_replay)


def compiled(algorithm: Algorithm, parameters: int) -> Any:
    """`_replay` around an algorithm that takes so many parameters, compiled by numba."""
    source = inspect.getsource(algorithm.rule)  # type: ignore[arg-type]  # a rule is a module
    return load(algorithm.name, _around(source, parameters))._replay


@lru_cache(maxsize=64)
def _around(source: str, parameters: int) -> str:
    functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    jitted = "\n".join(f"{name} = njit({name})" for name in functions if name not in _STAYS_PYTHON)
    return f"{source}\n{_TAIL.format(jitted=jitted, replay=_REPLAY, parameters=parameters)}"


@lru_cache(maxsize=64)
def load(name: str, source: str) -> ModuleType:
    """A module made of `source`, kept as a file in the user's cache directory.

    numba's `cache=True` keeps what it compiles beside it, for the next process. name: a part of the file's name.
    """
    import numba  # here, because it takes a second and not everyone who simulates scores

    text = f"# Generated by ratesim {name!r}; safe to delete.\n{source}"
    digest = hashlib.sha256(f"{numba.__version__}\n{text}".encode()).hexdigest()[:32]
    full_name = f"ratesim_oracle_{name}_{digest}"
    path = _directory() / f"{full_name}.py"
    if not path.exists() or path.read_text("utf-8") != text:
        _write(path, text)
    spec = importlib.util.spec_from_file_location(full_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no loader for {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module  # numba looks it up there when it loads what it has cached
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[full_name]
        raise
    return module


def _write(path: Path, text: str) -> None:
    """Whole or not at all: other processes may be reading."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".partial")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _directory() -> Path:
    path = Path(platformdirs.user_cache_dir("ratesim")) / "oracle"
    return path if _is_ours(path) else _temporary()


def _is_ours(path: Path) -> bool:
    """Whether code can be kept there: a directory that we can write to and nobody else can."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            return False
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:  # no home, a full or read-only disk: compiling anew is slow, but right
        return False


@cache
def _temporary() -> Path:
    path = tempfile.mkdtemp(prefix="ratesim-oracle-")  # mode 0700
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)
