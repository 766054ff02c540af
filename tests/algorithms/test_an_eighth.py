"""An eighth algorithm, from outside the package, decides alike everywhere: docs/adding-an-algorithm.md, done.

For an algorithm of your own: copy this file and the conftest.py one folder up, change MODULE and LIMITS, and drop all from
the line that says so.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import fakeredis
import numpy as np
import pytest
from eighth import first_hit_window as MODULE  # noqa: N812 - the one thing that a copy of this file changes

from ratesim import Decision, InvalidLimitError, Limit, algorithms
from ratesim.algorithms import Algorithm, bind, register
from ratesim.runtime import AsyncioRuntime
from ratesim.simulation.results.oracle import exact
from ratesim.storage import (
    Charge,
    HybridStorage,
    HybridStorageConfig,
    MemoryStorage,
    PostgresStorage,
    PostgresStorageConfig,
    RateLimitStorage,
    RedisStorage,
    RedisStorageConfig,
)

NAME = MODULE.__name__.rpartition(".")[2]
LIMITS = [
    Limit(3.0, 8.0, NAME),  # dyadic: edges are met exactly
    Limit(10.0, 0.3, NAME),  # near 1.7e9 the sum of a time and 0.3 is rounded down: edges tell how they are computed
    Limit(2.5, 3600.0, NAME),
]
SEVERAL = (Limit(3.0, 8.0, NAME, name="a"), Limit(20.0, 60.0, "fixed_window", name="b"))
NOW = 1_700_000_000.0

Row = tuple[str, float, float, bool]  # identifier, time, cost, whether it is a peek


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The algorithm is known during a test, and no trace of it is left afterwards."""
    monkeypatch.setattr(algorithms, "_REGISTRY", dict(algorithms._REGISTRY))
    register(Algorithm.from_module(MODULE))
    yield
    bind.cache_clear()


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["fakeredis", "valkey", "postgres", "hybrid"])
async def storage(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[RateLimitStorage]:
    runtime = AsyncioRuntime(clock)
    made: RateLimitStorage
    # Servers count time to live on their own clock: min_ttl keeps a key for longer than the test runs.
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").url
        made = PostgresStorage(PostgresStorageConfig(url=url, table_name="eighth", command_timeout=30.0), runtime)
    elif request.param == "fakeredis":
        connection = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
        made = RedisStorage(RedisStorageConfig(min_ttl=600.0, command_timeout=30.0), runtime, connection)
    else:
        url = request.getfixturevalue("valkey_server").url
        prefix = f"eighth-{request.param}:"
        config = RedisStorageConfig(url=url, key_prefix=prefix, min_ttl=600.0, command_timeout=30.0)
        made = RedisStorage(config, runtime)
        if request.param == "hybrid":
            through = HybridStorageConfig(consistency="eventual", write="write_through")
            made = HybridStorage(made, through, runtime, np.random.default_rng(1))
    async with made:
        yield made


def requests(limit: Limit, seed: int, n: int = 400, users: int = 3) -> list[Row]:
    """Bursts, gaps, a period after or before a time of the same user and one bit off it, peeks, costs of 0 and too much."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    times: dict[str, list[float]] = {}
    now = NOW
    for _ in range(n):
        user = f"user {rng.integers(users)}"
        own = times.setdefault(user, [])
        kind = rng.choice(["same", "near", "far", "back", "after", "before"], p=[0.2, 0.25, 0.05, 0.1, 0.3, 0.1])
        if kind in ("after", "before") and own:
            now = float(rng.choice(own[-6:])) + (limit.period if kind == "after" else -limit.period)
            now = float(rng.choice([now, now, np.nextafter(now, -math.inf), np.nextafter(now, math.inf)]))
        else:
            now += limit.period * {"near": rng.uniform(0, 0.3), "far": rng.uniform(0, 3), "back": -0.5}.get(kind, 0.0)
        cost = float(rng.choice([0.0, 1.0, 1.0, limit.rate / 2, limit.rate, 1.5 * limit.rate, rng.uniform(0.01, 2.0)]))
        rows.append((user, now, cost, bool(rng.random() < 0.2)))
        own.append(now)
    return rows


async def decisions(
    storage: RateLimitStorage, clock: Clock, limit: Limit | tuple[Limit, ...], rows: list[Row]
) -> list[Decision]:
    answers = []
    for identifier, now, cost, peek in rows:
        clock.now = now
        ask = storage.peek if peek else storage.acquire
        answer = await ask(identifier, limit, cost, now)
        answer.view_age = 0.0  # what was decided is the same, however long ago a shared store was heard of
        answers.append(answer)
    return answers


def in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row[1])


@pytest.mark.parametrize("limit", [*LIMITS, SEVERAL], ids=[*map(str, LIMITS), "several"])
async def test_every_storage_decides_as_memory_does(
    limit: Limit | tuple[Limit, ...], storage: RateLimitStorage, clock: Clock
) -> None:
    rows = requests(limit if isinstance(limit, Limit) else limit[0], seed=8)
    if isinstance(storage, HybridStorage):
        # What L1 admits is a charge to L2. One from before a window is late there and may be gone; and L2 never hears of a
        # cost of 0, after which what a bucket holds has been rounded.
        rows = [row for row in in_order(rows) if row[2]]
    for identifier in {row[0] for row in rows}:
        await storage.reset(identifier)
    expected = await decisions(MemoryStorage(runtime=AsyncioRuntime(clock)), clock, limit, rows)
    assert await decisions(storage, clock, limit, rows) == expected
    assert {decision.allowed for decision in expected} == {True, False}
    assert {0.0, math.inf} < {decision.retry_after for decision in expected}


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_every_storage_merges_late_charges_as_memory_does(
    limit: Limit, storage: RateLimitStorage, clock: Clock
) -> None:
    memory = MemoryStorage(runtime=AsyncioRuntime(clock))
    await storage.reset("user")
    rows = [row for row in requests(limit, seed=5, users=1) if row[2]]
    consumed = 0.0
    for first in range(0, len(rows), 3):
        entries = tuple((now, cost, 1) for _, now, cost, _ in rows[first : first + 3])
        charge = Charge("user", limit, "node", 1, consumed, entries)
        for _, cost, _ in entries:
            consumed += cost
        (merged,), (expected,) = await storage.charge_many([charge]), await memory.charge_many([charge])
        assert merged.algorithm_data == expected.algorithm_data
        assert (merged.watermarks, merged.request_count) == (expected.watermarks, expected.request_count)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_the_oracle_decides_as_memory_does(limit: Limit, clock: Clock) -> None:
    rows = [(identifier, now, cost, False) for identifier, now, cost, _ in requests(limit, seed=3, n=2000)]
    expected = await decisions(MemoryStorage(runtime=AsyncioRuntime(clock)), clock, limit, rows)
    key = [int(identifier.removeprefix("user ")) for identifier, *_ in rows]
    allowed, remaining = exact(limit, key, [row[1] for row in rows], [row[2] for row in rows], 3, remaining=True)
    assert allowed.tolist() == [decision.allowed for decision in expected]
    assert remaining.tolist() == [decision.remaining for decision in expected]


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_waiting_retry_after_is_enough_and_less_is_not(limit: Limit, clock: Clock) -> None:
    memory = MemoryStorage(runtime=AsyncioRuntime(clock))
    denied = 0
    for identifier, now, cost, _ in in_order(requests(limit, seed=2)):
        decision = await memory.acquire(identifier, limit, cost, now)
        if not decision.allowed and decision.retry_after < math.inf:
            denied += 1
            assert await memory.peek(identifier, limit, cost, now + decision.retry_after)
            assert not await memory.peek(identifier, limit, cost, now + decision.retry_after - 2e-6)
    assert denied > 20


# What follows is about first_hit_window and the page, not for a copy -------------------------------------------------

FOLDER = Path(MODULE.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "adding-an-algorithm.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.mark.parametrize(("language", "ending"), [("python", "py"), ("lua", "lua"), ("sql", "sql")])
def test_the_page_shows_the_files_as_they_are(language: str, ending: str) -> None:
    assert f"`eighth/{NAME}.{ending}`" in PAGE
    assert blocks(language)[0] == (FOLDER / f"{NAME}.{ending}").read_text("utf-8")


def test_the_page_says_what_each_function_of_the_rule_owes() -> None:
    told = re.findall(r"^\| `(\w+)(?:\(.*?\))?` \|", PAGE, re.MULTILINE)
    protocol = [
        *algorithms.Rule.__annotations__,
        *(name for name, value in vars(algorithms.Rule).items() if callable(value)),
    ]
    assert sorted(told) == sorted([*(name for name in protocol if not name.startswith("_")), "observe"])
    assert all(hasattr(MODULE, name) for name in told if name != "observe")


async def test_a_window_opens_with_the_first_admitted_cost_and_closes_a_period_later() -> None:
    storage, limit = MemoryStorage(), Limit(2.0, 10.0, NAME)
    assert not await storage.acquire("user", limit, 3.0, now=101.0)
    assert await storage.acquire("user", limit, 0.0, now=102.0)
    first = await storage.acquire("user", limit, 1.0, now=103.0)
    assert (first.remaining, first.reset_after) == (1.0, 10.0)
    assert await storage.acquire("user", limit, 1.0, now=112.0)
    assert (await storage.acquire("user", limit, 1.0, now=112.5)).retry_after == 0.5
    assert (await storage.acquire("user", limit, 2.0, now=113.0)).reset_after == 10.0


async def test_a_late_charge_counts_unless_its_own_window_closed_before_this_one_opened() -> None:
    storage, limit = MemoryStorage(), Limit(5.0, 10.0, NAME)
    await storage.acquire("user", limit, 1.0, now=100.0)
    counts = []
    for before, late in enumerate((99.0, 90.5, 90.0, 50.0)):
        (state,) = await storage.charge_many([Charge("user", limit, "node", 1, float(before), ((late, 1.0, 1),))])
        counts.append(state.algorithm_data.fields["count"])
    assert counts == [2.0, 3.0, 3.0, 3.0]


def test_it_is_registered_once_and_gone_when_it_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert NAME in algorithms.names()
    with pytest.raises(ValueError, match=f"an algorithm named '{NAME}' is registered already"):
        register(Algorithm.from_module(MODULE))
    bind(LIMITS[0])
    monkeypatch.delitem(algorithms._REGISTRY, NAME)
    bind.cache_clear()
    with pytest.raises(InvalidLimitError, match=f"unknown algorithm '{NAME}'; known are adaptive, "):
        bind(LIMITS[0])


def install(folder: Path, entry_points: dict[str, str]) -> dict[str, str]:
    """The package as an installer leaves it in `folder`; the environment of a process that finds it there."""
    shutil.copytree(FOLDER, folder / "eighth", ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / "eighth-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eighth\nVersion: 1.0\n")
    lines = [f"{name} = {module}\n" for name, module in entry_points.items()]
    (info / "entry_points.txt").write_text("".join(["[ratesim.algorithms]\n", *lines]))
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def python(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


def declared() -> dict[str, str]:
    """The entry points of the page's pyproject.toml."""
    (snippet,) = blocks("toml")
    points: dict[str, str] = tomllib.loads(snippet)["project"]["entry-points"]["ratesim.algorithms"]
    return points


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    environment = install(tmp_path, declared())
    _, _, use = blocks("python")
    (printed,) = blocks("text")
    names = "from ratesim import algorithms; print(*algorithms.names())\n"
    run = python(names + use, environment)
    assert run.stderr == ""
    known, _, told = run.stdout.partition("\n")
    assert known.split() == list(algorithms.names())  # here it is registered
    assert told == printed


def test_what_the_page_says_to_run_without_an_entry_point_runs(tmp_path: Path) -> None:
    environment = install(tmp_path, {})
    _, registering, use = blocks("python")
    run = python(registering + use, environment)
    assert run.stderr == ""
    assert run.stdout == blocks("text")[0]
    assert "unknown algorithm 'first_hit_window'; known are adaptive, " in python(use, environment).stderr


@pytest.mark.parametrize(
    ("name", "module", "error"),
    [
        (
            "first_hit",
            "eighth.first_hit_window",
            "ValueError: entry point 'first_hit' of ratesim.algorithms: its module is named 'first_hit_window'",
        ),
        ("first_hit", "eighth.first_hit", "ModuleNotFoundError: No module named 'eighth.first_hit'"),
    ],
)
def test_a_wrong_entry_point_is_said_when_it_is_first_asked_for(tmp_path: Path, name: str, module: str, error: str) -> None:
    environment = install(tmp_path, {name: module})
    program = f"from ratesim import Limit\nfrom ratesim.algorithms import bind\nbind(Limit(1, 1, {name!r}))"
    run = python(program, environment)
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1] == error
    others = python("from ratesim import Limit\nfrom ratesim.algorithms import bind\nbind(Limit(1, 1))", environment)
    assert (others.returncode, others.stderr) == (0, "")
