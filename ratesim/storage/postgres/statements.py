"""The statement of each kind of operation: its parameters, and its rows as answers."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self, cast

import msgspec
import psycopg

from ratesim.algorithms import bind
from ratesim.errors import SerializationError
from ratesim.limit import Decision, Limit
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.deduplicate import total_consumed
from ratesim.storage.postgres.batches import Group, groups_of
from ratesim.storage.remote.operations import Acquire, Apply, Get, Increment, Observe, Operation, Put, Reset

__all__ = ["PERFORM", "Connection", "Perform", "parameters_of"]

Connection = psycopg.AsyncConnection[Any]


async def _acquire(connection: Connection, function: str, group: Group) -> list[object]:
    limits = group[0][1].limits
    cursor = await connection.execute(
        f"SELECT * FROM {function}(%s::text[], %s::float8[], %s::float8[], %s, %s::text[], %s::text[], "  # noqa: S608
        "%s::float8[], %s::int[], %s::int[])".encode(),
        [
            [operation.identifier for _, operation in group],
            [operation.cost for _, operation in group],
            [float(operation.now) for _, operation in group],
            group[0][1].consume,
            *_describe(limits),
        ],
    )
    return [
        SerializationError("a state that cannot be read: one of its numbers is NULL")
        if decider is None
        else Decision(allowed, remaining, retry_after, reset_after, limits[decider - 1])
        for _, allowed, decider, remaining, retry_after, reset_after in await cursor.fetchall()
    ]


async def _observe(connection: Connection, function: str, group: Group) -> list[object]:
    await connection.execute(
        f"SELECT {function}(%s::text[], %s::float8[], %s::float8[], %s::text[], %s::text[], "
        "%s::float8[], %s::int[], %s::int[])".encode(),
        [
            [operation.identifier for _, operation in group],
            [operation.score for _, operation in group],
            [float(operation.now) for _, operation in group],
            *_describe(group[0][1].limits),
        ],
    )
    return [None] * len(group)


async def _apply(connection: Connection, function: str, group: Group) -> list[object]:
    charges = [operation.charge for _, operation in group]
    bound = [bind(charge.limit) for charge in charges]
    entries = [entry for charge in charges for entry in charge.entries]
    cursor = await connection.execute(
        f"SELECT * FROM {function}(%s::text[], %s::text[], %s::float8[], %s::int[], %s::int[], %s::text[], "  # noqa: S608
        "%s::bigint[], %s::float8[], %s::float8[], %s::int[], %s::float8[], %s::float8[], %s::bigint[])".encode(),
        [
            [charge.identifier for charge in charges],
            [charge.limit.name for charge in charges],
            [number for each in bound for number in each.params],
            [len(each.params) for each in bound],
            [each.size for each in bound],
            [charge.node for charge in charges],
            [charge.epoch for charge in charges],
            [float(charge.before) for charge in charges],
            [float(total_consumed(charge.before, charge.entries)) for charge in charges],
            [len(charge.entries) for charge in charges],
            [float(time) for time, _, _ in entries],
            [float(cost) for _, cost, _ in entries],
            [requests for _, _, requests in entries],
        ],
    )
    return [_state(row) for row in await cursor.fetchall()]


async def _get_states(connection: Connection, statement: str, group: Group) -> list[object]:
    gets = [operation for _, operation in group]
    cursor = await connection.execute(
        statement.encode(),
        {
            "identifiers": [get.identifier for get in gets],
            "names": [get.name for get in gets],
            "nows": [float(get.now) for get in gets],
        },
    )
    found = {row[0]: _state(row) for row in await cursor.fetchall()}
    return [found.get(number) for number in range(1, len(gets) + 1)]


async def _put_states(connection: Connection, statement: str, group: Group) -> list[object]:
    # The last of several for one key stays; one statement may touch a row only once.
    puts = list({(put.identifier, put.name): put for _, put in group}.values())
    states = [put.state for put in puts]
    await connection.execute(
        statement.encode(),
        {
            "identifiers": [put.identifier for put in puts],
            "names": [put.name for put in puts],
            "algorithms": [state.algorithm_data.algorithm for state in states],
            # As text: arrays of different lengths make no array.
            "states": [f"{{{','.join(map(repr, state.algorithm_data.values()))}}}" for state in states],
            "watermarks": [
                json.dumps({node: [mark.epoch, mark.consumed] for node, mark in state.watermarks.items()})
                for state in states
            ],
            "metadata": [json.dumps(state.metadata) for state in states],
            "request_counts": [state.request_count for state in states],
            "created": [float(state.created_at) for state in states],
            "accessed": [float(state.last_accessed) for state in states],
            "expires": [float(put.now + put.ttl) for put in puts],
        },
    )
    return [None] * len(group)


async def _increment(connection: Connection, function: str, group: Group) -> list[object]:
    cursor = await connection.execute(
        f"SELECT * FROM {function}(%s::text[], %s::bigint[], %s::float8[], %s::float8[])".encode(),  # noqa: S608
        [
            [operation.identifier for _, operation in group],
            [operation.amount for _, operation in group],
            [float(operation.window) for _, operation in group],
            [float(operation.now) for _, operation in group],
        ],
    )
    return [count for _, count in await cursor.fetchall()]


async def _reset(connection: Connection, function: str, group: Group) -> list[object]:
    identifiers = [operation.identifier for _, operation in group]
    await connection.execute(f"SELECT {function}(%s::text[])".encode(), [identifiers])
    return [None] * len(group)


def _describe(limits: Sequence[Limit]) -> list[list[Any]]:
    """Return names, algorithms, parameters, how many of them, and the size of a state, of limits that share a statement."""
    bound = [bind(limit) for limit in limits]
    return [
        [limit.name for limit in limits],
        [each.algorithm.name for each in bound],
        [number for each in bound for number in each.params],
        [len(each.params) for each in bound],
        [each.size for each in bound],
    ]


def _state(row: Sequence[Any]) -> RateLimitState | SerializationError:
    """Return the state of a row; an error, which is that row's alone, where it is damaged."""
    _, algorithm, values, created, accessed, requests, metadata, watermarks = row
    try:
        if not all(map(math.isfinite, values)):
            raise SerializationError(f"state of {algorithm}: a field is not a finite number")
        return RateLimitState(
            AlgorithmData.of(algorithm, values),
            micro(created),
            micro(accessed),
            requests,
            msgspec.convert(metadata, dict[str, str]),
            {node: Watermark(epoch, float(consumed)) for node, (epoch, consumed) in watermarks.items()},
        )
    except SerializationError as error:
        return error
    except (AttributeError, TypeError, ValueError, msgspec.ValidationError) as error:
        return SerializationError(f"a state that cannot be read: {error}")


Perform = Callable[[Connection, str, Group], Awaitable[list[object]]]

# The template of each kind of operation, and what carries it out.
PERFORM: dict[type[Operation], tuple[str, Perform]] = {
    Acquire: ("acquire", _acquire),
    Apply: ("apply", _apply),
    Observe: ("observe", _observe),
    Get: ("get", _get_states),
    Put: ("put", _put_states),
    Increment: ("increment", _increment),
    Reset: ("reset", _reset),
}


def parameters_of(batch: Sequence[Operation]) -> list[list[Any]]:
    """Return the parameters of each statement of a batch; nothing is sent."""
    noted: list[list[Any]] = []
    for key, group in groups_of(list(enumerate(batch))):
        carrying_out = cast(Any, PERFORM[key[0]][1](cast(Any, _RecordingConnection(noted)), "", group))
        with suppress(StopIteration):  # a coroutine that never waits
            carrying_out.send(None)
    return noted


class _RecordingConnection:
    """Stands for a connection and its cursor, and records the parameters that would be sent."""

    def __init__(self, parameters: list[list[Any]]) -> None:
        self._parameters = parameters

    async def execute(self, _: bytes, parameters: Sequence[Any] | dict[str, Any]) -> Self:
        self._parameters.append(list(parameters.values() if isinstance(parameters, dict) else parameters))
        return self

    async def fetchall(self) -> list[Any]:
        return []
