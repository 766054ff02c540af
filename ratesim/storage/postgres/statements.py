"""The statement of a group of operations: a call of a function, its parameters, and its rows as answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ratesim import algorithms
from ratesim.algorithms import bind
from ratesim.errors import SerializationError
from ratesim.limit import Decision, Limit
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.deduplicate import total_consumed
from ratesim.storage.postgres.batches import Group
from ratesim.storage.postgres.schema import learning_algorithms
from ratesim.storage.postgres.single_limit import SingleLimit
from ratesim.storage.postgres.statement import Statement
from ratesim.storage.remote.operations import Acquire, Apply, Claim, Get, Increment, Observe, Operation, Put, Reset

__all__ = ["Statements"]


LIMIT_TYPES = ("text[]", "text[]", "float8[]", "int[]", "int[]", "float8[]")


def _describe(limits: Sequence[Limit]) -> list[list[Any]]:
    """Describe limits that share a statement: names, algorithms, parameters, how many of them, sizes of a state, periods."""
    bound = [bind(limit) for limit in limits]
    # A size that varies is 0: psycopg sends NULLs as text, whose meaning is a setting of the session (array_nulls).
    return [
        [limit.name for limit in limits],
        [each.algorithm.name for each in bound],
        [number for each in bound for number in each.params],
        [len(each.params) for each in bound],
        [each.size or 0 for each in bound],
        [limit.period for limit in limits],
    ]


def _acquire(group: Group) -> list[Any]:
    return [
        [operation.identifier for _, operation in group],
        [operation.cost for _, operation in group],
        [float(operation.now) for _, operation in group],
        group[0][1].consume,
        *_describe(group[0][1].limits),
    ]


def _decisions(group: Group, rows: list[Any]) -> list[object]:
    limits = group[0][1].limits
    return [
        SerializationError("a state that cannot be read: one of its numbers is NULL or NaN; reset it")
        if None in row or math.isnan(row[3])
        else Decision(row[1], row[3], row[4], row[5], limits[row[2] - 1])
        for row in rows
    ]


def _observe(group: Group) -> list[Any]:
    return [
        [operation.identifier for _, operation in group],
        [operation.score for _, operation in group],
        [float(operation.now) for _, operation in group],
        *_describe(group[0][1].limits),
    ]


def _apply(group: Group) -> list[Any]:
    charges = [operation.charge for _, operation in group]
    bound = [bind(charge.limit) for charge in charges]
    entries = [entry for charge in charges for entry in charge.entries]
    return [
        [charge.identifier for charge in charges],
        [charge.limit.name for charge in charges],
        [number for each in bound for number in each.params],
        [len(each.params) for each in bound],
        [each.size or 0 for each in bound],
        [charge.node for charge in charges],
        [charge.epoch for charge in charges],
        [float(charge.before) for charge in charges],
        [float(total_consumed(charge.before, charge.entries)) for charge in charges],
        [len(charge.entries) for charge in charges],
        [float(time) for time, _, _ in entries],
        [float(cost) for _, cost, _ in entries],
        [requests for _, _, requests in entries],
        [-1.0 if charge.sent is None else float(charge.sent) for charge in charges],
    ]


def _get(group: Group) -> list[Any]:
    return [
        [operation.identifier for _, operation in group],
        [operation.name for _, operation in group],
        [float(operation.now) for _, operation in group],
    ]


def _put(group: Group) -> list[Any]:
    # The last of several for one key stays; one statement may touch a row only once.
    puts = list({(put.identifier, put.name): put for _, put in group}.values())
    states = [put.state for put in puts]
    return [
        [put.identifier for put in puts],
        [put.name for put in puts],
        [state.algorithm_data.algorithm for state in states],
        # As text: arrays of different lengths make no array.
        [f"{{{','.join(map(repr, state.algorithm_data.values()))}}}" for state in states],
        [json.dumps({node: [mark.epoch, mark.consumed] for node, mark in state.watermarks.items()}) for state in states],
        [json.dumps(state.metadata) for state in states],
        [state.request_count for state in states],
        [float(state.created_at) for state in states],
        [float(state.last_accessed) for state in states],
        [float(put.now) for put in puts],
        [float(put.ttl) for put in puts],
    ]


def _increment(group: Group) -> list[Any]:
    return [
        [operation.identifier for _, operation in group],
        [operation.amount for _, operation in group],
        [float(operation.window) for _, operation in group],
        [float(operation.now) for _, operation in group],
    ]


def _reset(group: Group) -> list[Any]:
    return [[operation.identifier for _, operation in group]]


def _nothing(group: Group, _: list[Any]) -> list[object]:
    return [None] * len(group)


def _states(group: Group, rows: list[Any]) -> list[object]:
    found = {number: _state(row) for number, *row in rows}
    return [found.get(number) for number in range(1, len(group) + 1)]


def _state(row: Sequence[Any]) -> RateLimitState | SerializationError:
    """Return the state of a row; an error, which is that row's alone, where it is damaged."""
    algorithm, values, created, accessed, requests, metadata, watermarks = row
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


def _counts(_: Group, rows: list[Any]) -> list[object]:
    return [count for _, count in rows]


def _claim(group: Group) -> list[Any]:
    return [
        [operation.identifier for _, operation in group],
        [operation.holder for _, operation in group],
        [float(operation.ttl) for _, operation in group],
    ]


def _holders(_: Group, rows: list[Any]) -> list[object]:
    return list(rows)


APPLY_TYPES = (
    *("text[]", "text[]", "float8[]", "int[]", "int[]", "text[]", "bigint[]"),
    *("float8[]", "float8[]", "int[]", "float8[]", "float8[]", "bigint[]", "float8[]"),
)
PUT_TYPES = ("text[]",) * 6 + ("bigint[]", "float8[]", "float8[]", "float8[]", "float8[]")

STATEMENTS: dict[type[Operation], Statement] = {
    Acquire: Statement("acquire", ("text[]", "float8[]", "float8[]", "boolean", *LIMIT_TYPES), _acquire, _decisions),
    Apply: Statement("apply", APPLY_TYPES, _apply, _states),
    Observe: Statement("observe", ("text[]", "float8[]", "float8[]", *LIMIT_TYPES), _observe, _nothing),
    Get: Statement("get", ("text[]", "text[]", "float8[]"), _get, _states),
    Put: Statement("put", PUT_TYPES, _put, _nothing),
    Increment: Statement("increment", ("text[]", "bigint[]", "float8[]", "float8[]"), _increment, _counts),
    Reset: Statement("reset", ("text[]",), _reset, _nothing),
    Claim: Statement("claim", ("text[]", "text[]", "float8[]"), _claim, _holders),
}
MOST_PREPARED = 4096  # limits whose statements are kept
REWINDING = (Acquire, Observe)  # the last column of their rows counts states that were brought back to the time of a request


class Statements:
    """Chooses the statement of a group of operations, see `groups_of`."""

    def __init__(self, config: PostgresStorageConfig) -> None:
        self._config = config
        self._tally = [0]
        self._general: dict[tuple[type[Operation], tuple[str, ...]], Statement] = {}
        # By the identity of the limits, which are kept so that no others have it.
        self._single: dict[int, tuple[SingleLimit | None, tuple[Limit, ...]]] = {}

    @property
    def clock_rewinds(self) -> int:
        """States that the functions brought back to the time of a request."""
        return self._tally[0]

    def of(self, kind: type[Operation], names: tuple[str, ...], group: Group) -> Statement:
        """Return the statement of a group whose limits have these algorithms."""
        if kind is Acquire:
            limits = group[0][1].limits
            single = (self._single.get(id(limits)) or self._prepare(limits))[0]
            if single is not None:
                return single.statement(group)
        return self._general.get((kind, names)) or self._make(kind, names)

    def _prepare(self, limits: tuple[Limit, ...]) -> tuple[SingleLimit | None, tuple[Limit, ...]]:
        if len(self._single) >= MOST_PREPARED:
            self._single.clear()
        made = SingleLimit(limits, self._config, self._tally) if SingleLimit.suits(limits) else None
        prepared = self._single[id(limits)] = (made, limits)
        return prepared

    def _make(self, kind: type[Operation], names: tuple[str, ...]) -> Statement:
        known = STATEMENTS[kind]
        if len(names) > 1:  # one function knows all algorithms
            names = learning_algorithms() if kind is Observe else algorithms.names()
        answers = self._counting(known.answers) if kind in REWINDING else known.answers
        return self._general.setdefault((kind, names), known._replace(names=names, answers=answers))

    def _counting(self, answers: Callable[[Group, list[Any]], list[object]]) -> Callable[[Group, list[Any]], list[object]]:
        def counted(group: Group, rows: list[Any]) -> list[object]:
            self._tally[0] += sum(row[-1] for row in rows)
            return answers(group, rows)

        return counted
