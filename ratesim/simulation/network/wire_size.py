"""Bytes on the wire: the size of the messages between the nodes and their store, in the store's own protocol.

Requests are packed by the drivers' own encoders. Answers are put together here as the servers do it: RESP2
(redis.io/docs/latest/develop/reference/protocol-spec) and PostgreSQL's protocol 3.0 ("Message Formats" in its manual).
The count is the payload of TCP, on open connections, to a server that knows the scripts or statements: no headers, no TLS. A
test compares both directions with the bytes that real servers received and sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import msgspec
import redis.asyncio

from ratesim import algorithms
from ratesim.limit import Decision
from ratesim.simulation.network.wire_sample import wire_is_sampled
from ratesim.state import RateLimitState
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.compression import Codec
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.postgres import PostgresDriver
from ratesim.storage.postgres.batches import groups_of
from ratesim.storage.redis import RedisDriver
from ratesim.storage.redis.calls import LOG_ANSWER, LogLimit
from ratesim.storage.redis.log_fields import LogRecord, fields_of_log
from ratesim.storage.redis.packed_log import pack
from ratesim.storage.redis.single_limit import SingleLimit, number_text
from ratesim.storage.redis.state_fields import PACKED, is_packed_whole, metadata_value
from ratesim.storage.remote.operations import Acquire, Apply, Get, Operation, Put
from ratesim.storage.urls import StorageURL

__all__ = ["Backend", "MeteredBackend", "PostgresWire", "RedisWire", "Wire", "WireKind", "wire_protocol"]

SCALAR = re.compile(rb'SELECT "[^"]*"\."([^"]*)"\(')  # a statement whose answer is one array


class Backend(Protocol):
    """A backend that decides at the virtual instant of the call."""

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch, and return its answers."""

    def denies(self, operation: Acquire) -> bool:
        """Tell whether an operation would be denied now; nothing changes."""


class Wire(Protocol):
    """The sizes of messages in one protocol."""

    def sent(self, batch: Sequence[Operation]) -> int:
        """Return the bytes of a batch on its way to the store."""

    def answered(self, batch: Sequence[Operation], answers: Sequence[object]) -> int:
        """Return the bytes of the answers to a batch."""


@dataclass(slots=True)
class WireKind:
    """The batches that begin with an operation of one kind.

    Attributes
    ----------
    batches, operations
        Numbers of these.
    measured
        Operations of the measured batches.
    to_store, from_store
        Bytes of the measured batches.
    uncounted
        Operations of the warm-up.
    """

    batches: int = 0
    operations: int = 0
    measured: int = 0
    to_store: int = 0
    from_store: int = 0
    uncounted: int = 0


class MeteredBackend:
    """A backend, with a count of the bytes that reach it and that it answers.

    Batches are alike, and packing one takes longer than simulating it. So some are packed (`wire_sample.wire_is_sampled`).
    The others are taken to need as many bytes per operation (a ratio estimate, as in `storage/memory/size_estimator.py`).
    """

    def __init__(self, backing: Backend, wire: Wire) -> None:
        self.backend = backing
        self._wire = wire
        self._kinds: dict[type[Operation], WireKind] = {}  # by the kind of a batch's first operation

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch, and count its bytes."""
        answers = self.backend.execute(batch)
        kind = self._kinds.get(batch[0].__class__)
        if kind is None:
            kind = self._kinds[batch[0].__class__] = WireKind()
        if wire_is_sampled(kind, len(batch)):
            self._measure(kind, batch, answers)
        return answers

    def enter(
        self,
        kinds: Mapping[type[Operation], tuple[int, int, int]],
        samples: Iterable[tuple[Sequence[Operation], Sequence[object]]],
    ) -> None:
        """Take over the counts of batches that were executed elsewhere, in the place of all so far.

        Parameters
        ----------
        kinds
            By the class of a batch's first operation: the numbers of batches, of operations, and of operations in the
            warm-up.
        samples
            The batches that `wire_is_sampled` chose, in the order in which they were executed, with their answers.
        """
        for operation, (batches, operations, uncounted) in kinds.items():
            self._kinds[operation] = WireKind(batches, operations, uncounted=uncounted)
        for batch, answers in samples:
            kind = self._kinds[batch[0].__class__]
            kind.measured += len(batch)
            self._measure(kind, batch, answers)

    def _measure(self, kind: WireKind, batch: Sequence[Operation], answers: Sequence[object]) -> None:
        kind.to_store += self._wire.sent(batch)
        kind.from_store += self._wire.answered(batch, answers)

    def end_warmup(self) -> None:
        """Count from now on."""
        for kind in self._kinds.values():
            kind.uncounted = kind.operations

    @property
    def bytes_to_store(self) -> int:
        """Bytes that reached the store."""
        kinds = self._kinds.values()
        return round(sum((kind.operations - kind.uncounted) * kind.to_store / kind.measured for kind in kinds))

    @property
    def bytes_from_store(self) -> int:
        """Bytes that the store answered."""
        kinds = self._kinds.values()
        return round(sum((kind.operations - kind.uncounted) * kind.from_store / kind.measured for kind in kinds))


def wire_protocol(url: StorageURL) -> Wire:
    """Return the protocol of a store; TypeError for memory, which has none."""
    if url.backend == "redis":
        # The commands are the same in every topology, and no decision asks a replica.
        alone = msgspec.structs.replace(url.config, url="redis://localhost", cluster_mode=False, read_from_replicas=False)
        return RedisWire(RedisDriver(alone))
    if url.backend == "postgres":
        return PostgresWire(PostgresDriver(url.config))
    raise TypeError(f"{url.backend} has no wire")


class RedisWire:
    """RESP2: one pipeline of commands.

    Where states are put whole, the ones that are read are taken to be as they were put: long logs are packed.
    """

    def __init__(self, driver: RedisDriver) -> None:
        self._driver = driver
        self._packer = _packer()
        self._puts = False

    def sent(self, batch: Sequence[Operation]) -> int:
        """Pack the commands with the driver's encoder."""
        self._puts = self._puts or any(isinstance(operation, Put) for operation in batch)
        return sum(len(part) for command in self._driver.commands(batch) for part in self._packer.pack_command(*command))

    def answered(self, batch: Sequence[Operation], answers: Sequence[object]) -> int:
        """Add up the answers of all operations."""
        config = self._driver.config
        return sum(
            _resp(operation, answer, config, self._puts and isinstance(operation, Get))
            for operation, answer in zip(batch, answers, strict=True)
        )


@cache
def _packer() -> redis.asyncio.Connection:
    """Return a connection that packs commands and is never opened; each new one reads a file."""
    return redis.asyncio.Connection()


def _resp(operation: Operation, answer: object, config: RedisStorageConfig, whole: bool) -> int:
    if isinstance(answer, Decision):
        assert isinstance(operation, Acquire)
        if SingleLimit.suits(operation.limits):
            return _found(operation, answer, config.clock == "server")
        if LogLimit.suits(operation.limits):
            return _bulk(bytes(LOG_ANSWER.size))
        numbers = (answer.remaining, answer.retry_after, answer.reset_after)
        return len("*6\r\n:1\r\n:0\r\n:0\r\n") + sum(_bulk(f"{number:.17g}") for number in numbers)
    if isinstance(answer, RateLimitState):
        fields = _hash(answer, _name(operation), config.compression, whole)
        return len(f"*{len(fields)}\r\n") + sum(map(_bulk, fields))
    return len("*0\r\n")  # no state, nothing to say, or an error


def _found(operation: Acquire, decision: Decision, by_server_clock: bool) -> int:
    """Return the size of the state that a decision of one limit answers (ratesim/storage/redis/single_limit.py).

    It is taken to be as long as a state that has as much left as the decision says. A request that leaves as much as a first
    one would is taken to be the first.
    """
    (limit,), now = operation.limits, operation.now
    algorithm, p, size, _ = algorithms.bind(limit)
    rule, fields = algorithm.rule, algorithm.rule.FIELDS
    s = [0.0] * (size or 0)
    rule.start(s, p, now)
    full = rule.available(s, p, now)
    is_first = decision.allowed and decision.remaining >= full - operation.cost * operation.consume
    rule.charge(s, p, full - decision.remaining, now)
    numbers = [number_text(value) for value in s]
    time = ["1700000000", "123456"] if by_server_clock else []
    if operation.consume:
        return _bulk(" ".join(["1", *time, *([] if is_first else numbers)]))
    head = len("*3\r\n") + sum(map(_bulk, time)) if time else 0
    head += len(f"*{2 + len(fields)}\r\n")
    if is_first:
        return head + (2 + len(fields)) * len("$-1\r\n")
    own = len(fields) - 1
    expires_at = now + decision.reset_after + EXPIRY_MARGIN
    values = [algorithm.name, number_text(expires_at), *numbers[:own], " ".join(numbers[own:])]
    return head + sum(map(_bulk, values))


def _bulk(text: str | bytes) -> int:
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return len(f"${size}\r\n\r\n") + size


def _hash(state: RateLimitState, name: str, codec: Codec, whole: bool) -> list[str | bytes]:
    """List fields and values of a state as the scripts write them (lua/record.lua); the expiry is about as long as now."""
    prefix = f"{name}." if name else ""
    data = state.algorithm_data
    items: list[str | bytes] = [prefix + "algorithm", data.algorithm]
    numbers: dict[str, float | list[float]] = {"created_at": state.created_at}
    packed = whole and is_packed_whole(data, codec)
    if algorithms.get(data.algorithm).pairs and not packed:
        record = LogRecord(state.last_accessed, state.last_accessed, state.request_count, data.values())
        for chunk, log in fields_of_log(record).items():
            items += [prefix + chunk, log]
    else:
        numbers |= {"last_accessed": state.last_accessed, "expires_at": state.last_accessed}
        numbers |= data.fields | {"request_count": state.request_count}
    for field, value in numbers.items():
        values = value if isinstance(value, list) else [value]
        if packed and isinstance(value, list):
            items += [prefix + PACKED, pack(value, codec)]
        else:
            items += [prefix + field, " ".join(f"{each:.17g}" for each in values)]
    if state.metadata:
        items += [prefix + "metadata", metadata_value(state.metadata, codec)]
    for node, mark in state.watermarks.items():
        items += [f"{prefix}w:{node}", f"{mark.epoch:.17g} {mark.consumed:.17g}"]
    return items


class PostgresWire:
    """PostgreSQL's protocol 3.0: Bind, Describe, Execute and Sync for each statement.

    Before them comes Parse, unless statements are prepared, as on a direct connection they are.
    """

    def __init__(self, driver: PostgresDriver) -> None:
        self._driver = driver
        self._prepared = driver.config.prepared_statements is not False

    def sent(self, batch: Sequence[Operation]) -> int:
        """Add up texts and parameters of all statements."""
        total = 0
        for call, values in self._driver.encoded(batch):
            parse, name = (0, len(call.name)) if self._prepared else (5 + 1 + len(call.text) + 1 + 2 + 4 * len(values), 0)
            bind = 5 + 2 + name + 2 + 2 * len(values) + 2 + sum(4 + len(value) for value in values) + 4
            total += parse + bind + 7 + 10 + 5
        return total

    def answered(self, batch: Sequence[Operation], answers: Sequence[object]) -> int:
        """Add up the rows and the descriptions of all statements."""
        total = 0
        groups = groups_of(list(enumerate(batch)))
        for (_, group), (text, _) in zip(groups, self._driver.statements(batch), strict=True):
            if function := SCALAR.match(text):
                figures = sum(_figures(operation, answers[place]) for place, operation in group)
                names: tuple[str, ...] = (function[1].decode(),)
                mine = [[20 + 12 * figures]]
            else:
                rows = [_columns(operation, answers[place]) for place, operation in group]
                names, mine = rows[0][0], [sizes for _, sizes in rows if sizes]
            described = 7 + sum(len(name) + 1 + 18 for name in names)
            total += 5 + described + sum(7 + sum(4 + size for size in sizes) for sizes in mine)
            total += 5 + len(f"SELECT {len(mine)}\0") + 5 + 6
        return total


def _figures(operation: Operation, answer: object) -> int:
    """Count the floats that answer a request of one limit: verdict, rest and reset, and the state that denied it."""
    assert isinstance(operation, Acquire)
    size = algorithms.bind(operation.limits[0]).size or 0
    return 3 + (size if isinstance(answer, Decision) and not answer.allowed else 0)


def _columns(operation: Operation, answer: object) -> tuple[tuple[str, ...], list[int]]:
    """Give the names of a statement's columns, and the bytes of each in the row of one operation; none without a row."""
    if isinstance(operation, Acquire):
        names: tuple[str, ...] = ("ord", "allowed", "decider", "remaining", "retry_after", "reset_after", "rewound")
        return names, [4, 1, 4, 8, 8, 8, 4] if isinstance(answer, Decision) else []
    kinds = ("algorithm", "state", "created", "accessed", "requests", "metadata", "watermarks")
    names = ("ord", *(f"out_{kind}" for kind in kinds))
    if not isinstance(answer, RateLimitState):
        return names, []
    floats = len(answer.algorithm_data.values())
    marks = {
        node: [mark.epoch, int(mark.consumed) if mark.consumed % 1 == 0 else mark.consumed]
        for node, mark in answer.watermarks.items()
    }
    documents = [1 + len(json.dumps(each)) for each in (answer.metadata, marks)]
    return names, [4, len(answer.algorithm_data.algorithm), 20 + 12 * floats, 8, 8, 8, *documents]


def _name(operation: Operation) -> str:
    if isinstance(operation, Apply):
        return operation.charge.limit.name
    return operation.name if isinstance(operation, Get) else ""
