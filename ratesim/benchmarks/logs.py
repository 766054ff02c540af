"""How many lines of a log a second become requests, beside what a data person would write for it.

Each contender reads a file into the time, the client and the status of its requests, in a process of its own that is held to
so many cores. The contenders take turns.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ratesim.simulation.scenario.workload import EPOCH
from traffic import read_log

__all__ = ["section"]

LINES = 1_000_000
ROUNDS = 3
# Of slow contenders a part of the lines is enough.
PARTS = {"apachelogs": 50_000, "pandas, a regular expression": 100_000, "pandas.read_json": 200_000}
LINE = (
    r"^(?P<client>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "
    r'"(?P<request>[^"]*)" (?P<status>\d{3}) (?:\d+|-) "(?:[^"]*)" "(?:[^"]*)"$'
)
CLF = "%d/%b/%Y:%H:%M:%S %z"


def section() -> list[str]:
    """Return the lines of the report."""
    cores = len(os.sched_getaffinity(0))
    lines = [f"reading logs of {LINES:,} lines, lines/s, the median of {ROUNDS} rounds in turns"]
    with tempfile.TemporaryDirectory(prefix="ratesim-bench-") as folder:
        for kind, write in (("combined", combined_lines), ("jsonl", json_lines)):
            path = Path(folder) / f"access.{kind}"
            path.write_text("".join(write(LINES)), "utf-8")
            contenders = [each for each in READERS if each.startswith(f"{kind}: ") and _is_installed(each)]
            plan = [(each, held) for each in contenders for held in dict.fromkeys((1, cores)) if held == 1 or _threads(each)]
            rates: dict[tuple[str, int], list[float]] = {each: [] for each in plan}
            for _ in range(ROUNDS):
                for name, held in plan:
                    rates[name, held].append(_measured(name, path, held))
            ours = statistics.median(rates[f"{kind}: ratesim", 1])
            for (name, held), found in rates.items():
                rate = statistics.median(found)
                shown = f"{name}, {held} core{'s' if held > 1 else ''}"
                lines.append(f"  {shown:<50} {rate:>12,.0f}   {rate / ours:.2f} of ratesim on one core")
    return lines


def combined_lines(count: int, seed: int = 1) -> Iterator[str]:
    """Make lines of an access log: 200 requests/s of some 170,000 clients, most of them rare."""
    rng = np.random.default_rng(seed)
    client, path, size = rng.zipf(1.3, count) % 200_000, rng.integers(0, 10_000, count), rng.integers(10, 99_999, count)
    status, agent = rng.choice([200, 200, 200, 404, 429], count), rng.integers(90, 120, count)
    for i in range(count):
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(EPOCH + i // 200))
        yield (
            f'{_address(int(client[i]))} - - [{stamp}] "GET /api/{path[i] % 8}/{path[i]}?q={size[i]} HTTP/1.1" {status[i]} '
            f'{size[i]} "https://example.org/x" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{agent[i]}.0"\n'
        )


def json_lines(count: int, seed: int = 1) -> Iterator[str]:
    """Make the same log as JSON lines with eight fields."""
    rng = np.random.default_rng(seed)
    client, path, size = rng.zipf(1.3, count) % 200_000, rng.integers(0, 10_000, count), rng.integers(10, 99_999, count)
    status, thousandth = rng.choice([200, 200, 200, 404, 429], count), rng.integers(0, 1000, count)
    for i in range(count):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(EPOCH + i // 200))
        fields = {
            "time": f"{stamp}.{thousandth[i]:03d}Z",
            "remote_addr": _address(int(client[i])),
            "method": "GET",
            "path": f"/api/{path[i] % 8}/{path[i]}",
            "status": int(status[i]),
            "bytes": int(size[i]),
            "request_time": 0.012,
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
        }
        yield f"{json.dumps(fields)}\n"


def _address(client: int) -> str:
    return f"203.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}"


def _ratesim(path: str) -> int:
    return len(read_log(path))


def _pandas_regex(path: str) -> int:
    import pandas as pd

    frame = pd.read_csv(path, sep="\n", header=None, names=["line"], engine="c", quoting=3)["line"].str.extract(LINE)
    pd.to_datetime(frame["time"], format=CLF, utc=True)
    frame["client"].astype("category")
    return len(frame["status"].astype("uint16"))


def _apachelogs(path: str) -> int:
    from apachelogs import COMBINED, LogParser

    with open(path, encoding="utf-8") as file:
        found = [
            (entry.remote_host, entry.request_time.timestamp(), entry.final_status)
            for entry in LogParser(COMBINED).parse_lines(file)
        ]
    return len(found)


def _polars_regex(path: str) -> int:
    import polars as pl

    text = pl.scan_csv(path, separator="\x01", quote_char=None, has_header=False, new_columns=["line"])
    frame = text.select(pl.col("line").str.extract_groups(LINE)).unnest("line")
    return len(
        frame.select(
            pl.col("time").str.to_datetime(CLF),
            pl.col("client").cast(pl.Categorical),
            pl.col("status").cast(pl.UInt16),
            pl.col("request"),
        ).collect()
    )


def _pandas_json(path: str) -> int:
    import pandas as pd

    frame = pd.read_json(path, lines=True)
    pd.to_datetime(frame["time"], utc=True)
    frame["remote_addr"].astype("category")
    return len(frame["status"])


def _polars_json(path: str) -> int:
    import polars as pl

    return len(
        pl.scan_ndjson(path)
        .select(pl.col("time").str.to_datetime(), pl.col("remote_addr").cast(pl.Categorical), pl.col("status"))
        .collect()
    )


READERS: dict[str, Callable[[str], int]] = {
    "combined: ratesim": _ratesim,
    "combined: polars, a regular expression": _polars_regex,
    "combined: pandas, a regular expression": _pandas_regex,
    "combined: apachelogs": _apachelogs,
    "jsonl: ratesim": _ratesim,
    "jsonl: polars.scan_ndjson": _polars_json,
    "jsonl: pandas.read_json": _pandas_json,
}


def _is_installed(name: str) -> bool:
    package = name.split(": ")[1].split(",")[0].split(".")[0]
    return importlib.util.find_spec(package) is not None


def _threads(name: str) -> bool:
    return "ratesim" in name or "polars" in name


def _measured(name: str, path: Path, cores: int) -> float:
    """Return the lines per second of a contender in a process of its own; starting it does not count."""
    count = next((part for reader, part in PARTS.items() if name.endswith(reader)), LINES)
    if count < LINES:
        short = path.with_name(f"{path.name}.{count}")
        if not short.exists():
            with path.open(encoding="utf-8") as file:
                short.write_text("".join(next(file) for _ in range(count)), "utf-8")
        path = short
    program = [sys.executable, "-m", "ratesim.benchmarks.logs", name, str(path), str(cores)]
    return float(subprocess.run(program, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def _contender(name: str, path: str, cores: int) -> float:
    """Read once, so that everything is imported and compiled, and then against the clock."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    with tempfile.TemporaryDirectory(prefix="ratesim-bench-") as folder:
        small = Path(folder) / "small"
        with open(path, encoding="utf-8") as file:
            small.write_text("".join(line for line, _ in zip(file, range(20_000), strict=False)), "utf-8")
        READERS[name](str(small))
    start = time.perf_counter()
    return READERS[name](path) / (time.perf_counter() - start)


if __name__ == "__main__":
    print(_contender(sys.argv[1], sys.argv[2], int(sys.argv[3])))  # noqa: T201
