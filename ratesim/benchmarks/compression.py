"""The codec table: bytes and microseconds of each codec by the kind and the size of what Redis stores whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import numpy as np

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage.compression import CODECS, Codec, compress, decompress
from ratesim.storage.redis.packed_log import to_differences
from ratesim.storage.redis.state_fields import fields_of

__all__ = ["measure", "samples", "section"]

NOW = 1_700_000_000.0
ENTRIES = (10, 100, 1_000, 10_000)  # of a sliding log
METADATA_BYTES = (100, 1_000, 10_000)
STATES = ("token_bucket", "sliding_window", "adaptive")
ROUNDS = 9
CALLS = 20  # of one timing


def section() -> list[str]:
    """Return the lines of the report."""
    codecs = CODECS[1:]
    lines = [
        f"compression, bytes and us to compress + inflate, best of {ROUNDS} rounds in turns; - where it stays raw",
        "  text: as the fields of a hash; data: what the codec gets, of a state the differences of its floats",
        "  " + "  ".join([f"{'':<20}", f"{'text':>7}", f"{'data':>7}", *(f"{codec:>16}" for codec in codecs)]),
    ]
    for name, text, data in samples():
        best = measure(data)
        cells = [
            f"{size:>7,} {up:>4.0f} + {down:>3.0f}" if size < len(data) else f"{'-':>16}" for size, up, down in best.values()
        ]
        lines.append("  " + "  ".join([f"{name:<20}", f"{text:>7,}", f"{len(data):>7,}", *cells]))
    return lines


def samples() -> Iterator[tuple[str, int, bytes]]:
    """Yield what is stored: its name, its bytes as fields of a hash, and the data that a codec gets."""
    rng = np.random.default_rng(1)
    for algorithm in STATES:
        values = _values(algorithm)
        yield algorithm, len(_text(AlgorithmData.of(algorithm, values))), to_differences(values)
    for entries in ENTRIES:
        log = _log(entries, rng)
        state = AlgorithmData("sliding_log", {"last": log[-2], "used": float(entries), "log": log})
        yield f"sliding_log {entries:,}", len(_text(state)), to_differences(log)
    for size in METADATA_BYTES:
        data = _metadata(size, rng)
        yield f"metadata {size:,}", len(data), data


def measure(data: bytes) -> dict[Codec, tuple[int, float, float]]:
    """Return bytes, and microseconds to compress and to inflate, by codec."""
    best: dict[Codec, tuple[int, float, float]] = {}
    for _ in range(ROUNDS):
        for codec in CODECS[1:]:
            blob = compress(data, codec)
            up, down = _microseconds(partial(compress, data, codec)), _microseconds(partial(decompress, blob))
            _, least_up, least_down = best.get(codec, (0, up, down))
            best[codec] = (len(blob), min(up, least_up), min(down, least_down))
    return best


def _microseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        work()
    return (time.perf_counter() - start) / CALLS * 1e6


def _values(algorithm: str) -> list[float]:
    """Return the state of an identifier that is in use."""
    bound = bind(Limit(100, 60.0, algorithm))
    rule, values = bound.algorithm.rule, [0.0] * bound.algorithm.rule.size(bound.params)
    rule.start(values, bound.params, NOW)
    for step in range(40):
        rule.refresh(values, bound.params, NOW + step * 17.123456)
        rule.charge(values, bound.params, 1.0, NOW + step * 17.123456)
    return values


def _text(data: AlgorithmData) -> bytes:
    fields = fields_of(RateLimitState(data, NOW, NOW + 12.345678, 40), "", NOW + 72.345678, "none")
    return "".join(map(str, fields)).encode()


def _log(entries: int, rng: np.random.Generator) -> list[float]:
    """Return a log of Poisson requests of cost 1 in a minute, to the microsecond."""
    times = np.round(NOW + np.cumsum(rng.exponential(60.0 / entries, entries)), 6)
    log: list[float] = np.column_stack([times, np.ones(entries)]).ravel().tolist()
    return log


def _metadata(size: int, rng: np.random.Generator) -> bytes:
    """Return metadata as a service writes it: plans, regions, and identifiers, which no codec shrinks below half."""
    metadata: dict[str, str] = {}
    while len(text := msgspec.json.encode(metadata)) < size:
        number = len(metadata)
        metadata[f"account_{number}"] = rng.bytes(8).hex()
        metadata[f"plan_{number}"] = str(rng.choice(["free", "professional", "enterprise"]))
        metadata[f"region_{number}"] = str(rng.choice(["eu-west-1", "us-east-1", "ap-south-1"]))
    return text
