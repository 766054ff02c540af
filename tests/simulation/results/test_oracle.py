import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim import algorithms
from ratesim.algorithms import Algorithm, token_bucket
from ratesim.limit import InvalidLimitError, Limit
from ratesim.simulation import jit_cache
from ratesim.simulation.results import oracle
from ratesim.simulation.results.oracle import exact
from ratesim.storage.memory.storage import MemoryStorage

Row = tuple[int, float, float]

PERIODS = st.sampled_from([0.1, 1.0 / 3.0, 1.0, 7.0, 60.0, 3600.0])
RATES = st.sampled_from([0.25, 1.0, 3.0, 10.0]) | st.floats(0.1, 50.0)
LIMITS = st.one_of(
    st.builds(Limit, RATES, PERIODS, st.just("fixed_window")),
    st.builds(
        lambda rate, period, buckets: Limit(rate, period, "sliding_window", options=(("buckets", buckets),)),
        RATES,
        PERIODS,
        st.sampled_from([1.0, 1.0, 2.0, 3.0, 10.0]),
    ),
    st.builds(Limit, RATES, PERIODS, st.just("token_bucket"), st.none() | RATES),
)


@st.composite
def requests(draw: st.DrawFn, limit: Limit) -> list[Row]:
    """Mostly forwards in steps of a part of the period, with window edges, long gaps and steps backwards."""
    now = draw(st.sampled_from([0.0, 1.7e9, 1234.5678, 3.0]))
    rows = []
    for _ in range(draw(st.integers(0, 40))):
        step = draw(st.floats(0.0, 0.3) | st.sampled_from([0.0, 1.0, 5.0, 5000.0, -0.01, -0.5, -3.0]))
        now += step * limit.period
        edge = draw(st.sampled_from([None, None, None, -np.inf, 0.0, np.inf]))
        if edge is not None:
            now = float(np.floor(now / limit.period) + 1.0) * limit.period
            now = float(np.nextafter(now, edge)) if edge else now
        now = max(now, 0.0)
        share = draw(st.sampled_from([0.0, 0.1, 1.0 / 3.0, 0.5, 1.0, 1.5]) | st.floats(0.01, 1.1))
        cost = draw(st.sampled_from([1.0, limit.rate * share]))
        rows.append((draw(st.integers(0, 2)), now, cost))
    return rows


def in_memory(limit: Limit, rows: list[Row]) -> tuple[list[bool], list[float]]:
    storage = MemoryStorage()
    decisions = [storage.acquire_nowait(str(key), limit, cost, now) for key, now, cost in rows]
    return [d.allowed for d in decisions], [d.remaining for d in decisions]


def columns(rows: list[Row]) -> tuple[Any, Any, Any]:
    key, time, cost = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(key, np.int64), np.array(time, np.float64), np.array(cost, np.float64)


@settings(max_examples=examples(500))
@given(st.data())
def test_the_oracle_decides_what_memory_decides_to_the_bit(data: st.DataObject) -> None:
    limit = data.draw(LIMITS)
    rows = data.draw(requests(limit))
    allowed, remaining = exact(limit, *columns(rows), 3, remaining=True)
    expected_allowed, expected_remaining = in_memory(limit, rows)
    assert allowed.tolist() == expected_allowed
    assert remaining.tobytes() == np.array(expected_remaining, np.float64).tobytes()
    assert exact(limit, *columns(rows), 3).tolist() == expected_allowed


@pytest.mark.parametrize(
    "algorithm", ["adaptive", "fixed_window", "gcra", "leaky_bucket", "sliding_log", "sliding_window", "token_bucket"]
)
def test_long_runs_agree_too_and_hold_both_answers(algorithm: str) -> None:
    rng = np.random.default_rng(8)
    n = 4000
    time = 1.7e9 + np.cumsum(rng.exponential(0.01, n)) - rng.choice([0.0, 0.0, 0.0, 2.0], n)
    rows = list(zip(rng.integers(0, 5, n).tolist(), time.tolist(), rng.uniform(0.1, 2, n).tolist(), strict=True))
    limit = Limit(10.0, 1.5, algorithm)
    allowed, remaining = exact(limit, *columns(rows), 5, remaining=True)
    assert (allowed.tolist(), remaining.tolist()) == in_memory(limit, rows)
    assert 0 < allowed.sum() < n


@pytest.mark.parametrize(
    "algorithm", ["adaptive", "fixed_window", "gcra", "leaky_bucket", "sliding_log", "sliding_window", "token_bucket"]
)
def test_a_denied_request_leaves_the_state_as_it_was_to_the_bit(algorithm: str) -> None:
    rng = np.random.default_rng(5)
    n = 500
    time = 1.7e9 + np.sort(rng.uniform(0, 60, n))
    key, cost = rng.integers(0, 3, n), rng.uniform(0.1, 1.9, n)
    hopeless = rng.random(n) < 0.4
    cost[hopeless] = 100.0
    limit = Limit(5.0, 7.0, algorithm)
    allowed, remaining = exact(limit, key, time, cost, 3, remaining=True)
    assert not allowed[hopeless].any()
    for kept in (~hopeless, allowed):
        alone, left = exact(limit, key[kept], time[kept], cost[kept], 3, remaining=True)
        assert 20 < alone.sum() == allowed.sum()
        assert alone.tolist() == allowed[kept].tolist()
        assert left.tobytes() == remaining[kept].tobytes()


@pytest.mark.parametrize("algorithm", algorithms.names())
def test_many_keys_are_decided_as_each_alone(algorithm: str) -> None:
    rng = np.random.default_rng(6)
    keys, n = 40_000, 200_000
    key = rng.integers(0, keys, n)
    time = 1.7e9 + np.sort(rng.uniform(0, 30.0, n)) - rng.choice([0.0, 0.0, 3.0], n)
    cost = rng.choice([0.0, 0.5, 1.0, 1.7], n)
    limit = Limit(2.5, 10.0, algorithm)
    allowed, remaining = exact(limit, key, time, cost, keys, remaining=True)
    assert 0.1 < allowed.mean() < 0.95
    assert exact(limit, key, time, cost, keys).tolist() == allowed.tolist()
    for few in (slice(0, 5), slice(keys - 5, keys)):
        mine = np.isin(key, np.arange(keys)[few])
        alone, left = exact(limit, key[mine] - key[mine].min(), time[mine], cost[mine], 5, remaining=True)
        assert alone.tolist() == allowed[mine].tolist()
        assert left.tobytes() == remaining[mine].tobytes()


def test_inputs_may_be_read_only_strided_and_of_other_types_and_stay_as_they_are() -> None:
    limit = Limit(2.0, 10.0, "fixed_window")
    key = np.array([0, 9, 0, 9, 0, 9, 1, 9], np.uint16)[::2]
    time = np.array([100, 101, 102, 103], np.int32)
    cost = np.ones(4, np.float32)
    for column in (key, time, cost):
        column.setflags(write=False)
    assert exact(limit, key, time, cost, 2).tolist() == [True, True, False, True]
    frozen = [np.array(column, dtype) for column, dtype in ((key, np.int64), (time, float), (cost, float))]
    for column in frozen:
        column.setflags(write=False)
    assert exact(limit, *frozen, 2).tolist() == [True, True, False, True]


def test_what_is_no_run_is_refused() -> None:
    limit = Limit(1.0, 1.0, "fixed_window")
    with pytest.raises(ValueError, match="keys must lie from 0 to 1, not from 0 to 2"):
        exact(limit, [0, 2], [0, 0], [1, 1], 2)
    with pytest.raises(ValueError, match="from -1"):
        exact(limit, [-1], [0], [1], 2)
    with pytest.raises(ValueError, match="whole numbers"):
        exact(limit, [0.5], [0], [1], 2)
    with pytest.raises(ValueError, match="one shape"):
        exact(limit, [0, 1], [0], [1, 1], 2)
    for time in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            exact(limit, [0], [time], [1], 2)
    for cost in (-1.0, 1e-7, 1e13, np.nan):
        with pytest.raises(InvalidLimitError, match="cost"):
            exact(limit, [0], [0], [cost], 2)
    with pytest.raises(InvalidLimitError, match="burst"):
        exact(Limit(1.0, 1.0, "fixed_window", burst=2.0), [0], [0], [1], 2)


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's cache directory that is not there yet."""
    home = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(home / name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    jit_cache._temporary.cache_clear()
    jit_cache.load.cache_clear()
    oracle._loops.cache_clear()
    yield home
    jit_cache._temporary.cache_clear()
    jit_cache.load.cache_clear()
    oracle._loops.cache_clear()


def algorithm_from(path: Path, name: str) -> Algorithm:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    twins = algorithms.get("token_bucket")
    return Algorithm(name, module, twins.lua, twins.sql.replace("token_bucket", name))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("cache_home")
def test_an_edited_algorithm_never_meets_what_was_compiled_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(token_bucket.__file__).read_text("utf-8")
    path = tmp_path / "edited_bucket.py"
    rows = [(0, 100.0, 4.0), (0, 100.0, 4.0), (0, 100.0, 4.0)]
    answers = []
    for charged in ("cost", "cost * 2.0"):
        edited = source.replace("s[TOKENS] - cost\n", f"s[TOKENS] - {charged}\n")
        assert edited.count(f"s[TOKENS] - {charged}\n") == 1
        path.write_text(edited, "utf-8")
        with monkeypatch.context() as patch:
            patch.setitem(algorithms._REGISTRY, "edited", algorithm_from(path, "edited"))
            algorithms.bind.cache_clear()
            limit = Limit(12.0, 60.0, "edited")
            answers.append(exact(limit, *columns(rows), 1).tolist())
            assert in_memory(limit, rows)[0] == answers[-1]
        algorithms.bind.cache_clear()
    assert answers == [[True, True, True], [True, True, False]]


CALLER = """
from double import doubled
from ratesim.algorithms.token_bucket import FIELDS, OPTIONS, BURST, params, size, time_resolution

def start(s, p, now):
    s[0] = now
    s[1] = p[0]

def refresh(s, p, now):
    s[0] = now

def rewind(s, p, now):
    s[0] = now

def available(s, p, now):
    return s[1]

def charge(s, p, cost, now):
    s[1] = s[1] - doubled(cost)

def retry_after(s, p, cost, now):
    return 1.0

def reset_after(s, p, now):
    return 1.0
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cache_home")
def test_an_edit_of_what_an_algorithm_calls_elsewhere_is_noticed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [(0, 100.0, 4.0)] * 4
    answers = []
    for deepest in ("cost", "3.0 * cost"):
        for name in ("double", "deeper"):  # as in another process
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        (tmp_path / "deeper.py").write_text(f"def same(cost):\n    return {deepest}\n", "utf-8")
        (tmp_path / "double.py").write_text(
            "from deeper import same\n\ndef doubled(cost):\n    return same(cost)\n", "utf-8"
        )
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        path = tmp_path / "calling_bucket.py"
        path.write_text(CALLER, "utf-8")
        with monkeypatch.context() as patch:
            patch.setitem(algorithms._REGISTRY, "calling", algorithm_from(path, "calling"))
            algorithms.bind.cache_clear()
            limit = Limit(12.0, 60.0, "calling")
            answers.append(exact(limit, *columns(rows), 1).tolist())
            assert in_memory(limit, rows)[0] == answers[-1]
        algorithms.bind.cache_clear()
    assert answers == [[True, True, True, False], [True, False, False, False]]


SECOND_PROCESS = """
from ratesim.algorithms import get
from ratesim.limit import Limit
from ratesim.simulation.results.oracle import compile_loop, exact
print(exact(Limit(1, 60, "token_bucket"), [0, 0], [5, 6], [1, 1], 1).tolist())
stats = compile_loop(get("token_bucket"), 2, 2).stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.mark.slow
def test_another_process_finds_what_this_one_compiled(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    environment.update(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path), LOCALAPPDATA=str(tmp_path))
    printed = [
        subprocess.run(
            [sys.executable, "-c", SECOND_PROCESS],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert printed == [["[True, False]", "0 1"], ["[True, False]", "1 0"]]
    (directory,) = tmp_path.rglob("oracle")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.suffix for path in directory.iterdir() if path.is_file()] == [".py", ".py"]


@pytest.mark.slow
def test_without_a_place_to_keep_it_the_oracle_compiles_in_a_temporary_one(cache_home: Path) -> None:
    cache_home.write_text("a file where the directory should be")
    assert exact(Limit(1, 60, "fixed_window"), [0, 0], [5, 6], [1, 1], 1).tolist() == [True, False]
    assert [path.suffix for path in jit_cache._temporary().iterdir() if path.is_file()] == [".py", ".py"]


def test_the_temporary_place_is_gone_when_the_process_is(tmp_path: Path) -> None:
    program = "from ratesim.simulation import jit_cache; print(jit_cache._temporary())"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no POSIX modes on this system")
def test_code_is_never_loaded_from_a_directory_that_others_may_write_to(cache_home: Path) -> None:
    directory = cache_home / "ratesim" / "oracle"
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    exact(Limit(1, 60, "fixed_window"), [0], [5], [1], 1)
    assert list(directory.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_file_in_the_cache_is_written_anew(cache_home: Path) -> None:
    limit = Limit(1, 60, "fixed_window")
    exact(limit, [0], [5], [1], 1)
    (path,) = (cache_home / "ratesim" / "oracle").glob("*_fixed_window_*.py")
    whole = path.read_text("utf-8")
    path.write_text("raise SystemExit('half a file')")
    jit_cache.load.cache_clear()
    oracle._loops.cache_clear()
    assert exact(limit, [0, 0], [5, 6], [1, 1], 1).tolist() == [True, False]
    assert path.read_text("utf-8") == whole


def test_importing_the_oracle_does_not_import_numba() -> None:
    program = "import sys, ratesim.simulation.results.accuracy; print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
