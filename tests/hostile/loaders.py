"""Every loader of a file and every parser of a text that a user hands in, each with what it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ratesim import Limit, parse_limits
from ratesim.algorithms import bind
from ratesim.documents import parse_json
from ratesim.notebook import find, given, parameters_of
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.configuration import StorageConfiguration, storage_toml
from ratesim.recommendation.decide.diff import diff, load, text
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.result_store import read_rows
from ratesim.simulation.scenario.grid import parse_grid, parse_seeds, variants
from ratesim.simulation.scenario.scenario import Scenario, shipped_scenarios
from ratesim.state import AlgorithmData, RateLimitState, decode, encode
from ratesim.storage import StorageURL
from ratesim.storage.hybrid.session_token import SeenVersion, SessionToken
from ratesim.storage.urls import localhost_url
from traffic import Trace, read_log

__all__ = ["Loader", "make_loaders"]

COMBINED = '1.2.3.4 - bob [17/May/2015:10:05:{:02}  +0000] "GET /a/b?c=d HTTP/1.1" 200 12 "-" "agent {}"\n'.replace(
    "  ", " "
)


@dataclass(frozen=True)
class Loader:
    """seeds: inputs that it takes. load: takes an input, in a file of its own."""

    seeds: tuple[bytes, ...]
    load: Callable[[Path], Any]


def make_loaders(folder: Path) -> dict[str, Loader]:
    """Return all loaders by name; the folder is for the files that the seeds are made from."""
    quickstart = Scenario.load("quickstart")
    scenarios = tuple(path.read_bytes() for path in shipped_scenarios().values())
    url = "hybrid+redis://u@localhost/0?consistency=lease&sync_interval=0.1&pool_size=3"
    recommendation = folder / "before.json"
    recommendation.write_bytes(json.dumps(_recommendation()).encode())
    before = load(recommendation)
    parameters = parameters_of(find("consistency"))
    trace = Trace(
        time=np.arange(50.0), key=np.arange(50) % 5, cost=np.ones(50), session=np.arange(50), endpoint=np.zeros(50, int),
        keys=tuple(f"k{i}" for i in range(5)), endpoints=("-",),
    )  # fmt: skip
    trace.to_parquet(folder / "trace.parquet")
    trace.to_csv(folder / "trace.csv")
    trace.to_frame().assign(key=[f"key{i}" for i in range(50)]).to_parquet(folder / "rows.parquet")
    state = RateLimitState(AlgorithmData.of("fixed_window", [1.0, 2.0]), 1.0, 2.0, 3, {"a": "b"})
    token = SessionToken.for_identifier("k", {"": SeenVersion((1.0, 2.0), ())}).encode()

    def words(function: Callable[[str], Any]) -> Callable[[Path], Any]:
        return lambda path: function(path.read_bytes()[:100_000].decode("utf-8", "surrogateescape"))

    def log(path: Path, **options: Any) -> Trace:
        return read_log(path, **options)

    def compare(path: Path) -> str:
        after = load(path)
        return text(diff(before, after)) + text(diff(after, before))

    def options(url: str) -> None:
        StorageURL.parse(url)
        localhost_url(url)

    lines = "".join(COMBINED.format(i % 60, i % 3) for i in range(40)).encode()
    csv = b"time,key,cost,status\n" + b"".join(b"%d,user%d,1.5,200\n" % (1_600_000_000 + i, i % 7) for i in range(40))
    jsonl = b"".join(b'{"ts": "2020-01-01T00:00:%02d", "user": {"id": %d}, "n": 2}\n' % (i, i % 7) for i in range(40))
    return {
        "scenario": Loader(scenarios, lambda path: Scenario.load(path).to_toml()),
        "storage.toml": Loader(
            tuple(storage_toml(quickstart, each, "sticky").encode() for each in (url.replace("u@", ""), "memory://?max_entries=5")),
            StorageConfiguration.load,
        ),
        "prices": Loader((Prices.load().to_toml().encode(),), Prices.load),
        "profile": Loader((json.dumps(_plain(Profile.load())).encode(),), Profile.load),
        "recommendation": Loader((recommendation.read_bytes(),), compare),
        "log": Loader((lines, csv, jsonl), log),
        "log by cost": Loader((csv, jsonl), lambda path: log(path, key="key", cost="cost*2")),
        "log as csv": Loader((csv,), lambda path: log(path, format="csv", time_unit="s")),
        "log as JSON lines": Loader((jsonl,), lambda path: log(path, format="jsonl", key="user.id", time="ts")),
        "trace.parquet": Loader(((folder / "trace.parquet").read_bytes(),), Trace.from_parquet),
        "trace.csv": Loader(((folder / "trace.csv").read_bytes(),), Trace.from_csv),
        "results": Loader(((folder / "rows.parquet").read_bytes(),), read_rows),
        "state": Loader((encode(state),), lambda path: decode(path.read_bytes())),
        "session": Loader((token.encode(),), words(lambda text: SessionToken.decode(text, "k"))),
        "url": Loader(
            (url.encode(), b"postgresql://u:pw@h1:1,h2:2/db?sslmode=require&unlogged=true", b"unix:///a/b.sock?db=1", b"memory://"),
            words(options),
        ),
        "limit": Loader((b"100/minute", b"10 per 5 seconds", b"1e3r/1h 30m"), words(lambda text: bind(Limit.parse(text)))),
        "limits": Loader((b"100/hour;10/minute", b"1/s, 2/m | 3/h"), words(parse_limits)),
        "expression": Loader((b"cost*2 + status/3", b"-(cost)"), words(lambda text: log(folder / "log.csv", cost=text))),
        "seeds": Loader((b"1-10,25", b"0-4294967295"), words(parse_seeds)),
        "grid": Loader(
            (b"deployment.nodes=1,8", b"limit.rate=10/minute,5/s", b"warmup=0,2s"),
            words(lambda text: variants(quickstart, parse_grid([text]))),
        ),
        "parameter": Loader(
            (b"nodes=4", b"limit=10/minute"), words(lambda text: given([text.partition("=")[::2]], parameters))
        ),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    return parse_json(msgspec.json.encode(value))


def _recommendation() -> dict[str, Any]:
    figure = {"mean": 0.01, "low": 0.005, "high": 0.02, "seeds": 3}
    each = {"p99": figure, "over_admission": figure, "false_denial": figure, "checks": [{"verdict": "passes"}], "cost": 12.5}
    return {
        "schema_version": 3, "scenario": "shop", "limit": "10/minute", "currency": "USD", "choice": "redis",
        "deployment": {"nodes": 8}, "traffic": {"requests": 5.0}, "requirements": {"p99": 0.01, "allowed": ["redis"]},
        "assessments": [each | {"candidate": "redis"}, each | {"candidate": "memory"}],
    }  # fmt: skip
