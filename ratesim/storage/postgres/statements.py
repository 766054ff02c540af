"""The statement of a group of operations: a call of a function, its parameters, and its rows as answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from ratesim import algorithms
from ratesim.algorithms import bind
from ratesim.errors import SerializationError
from ratesim.limit import Decision, Limit
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.deduplicate import total_consumed
from ratesim.storage.postgres.batches import Group
from ratesim.storage.postgres.schema import learning_algorithms
from ratesim.storage.remote.operations import Acquire, Apply, Claim, Get, Increment, Observe, Operation, Put, Reset

__all__ = ["SESSION_TYPES", "Statement", "Statements"]


class Statement(NamedTuple):
    """A call of one of the storage's functions for a group of operations.

    Attributes
    ----------
    template
        The name of the function's template, see `Schema.function`.
    types
        The types of its parameters before those of the session (`schema.SESSION`).
    parameters
        Returns the parameters of a group: values of the types, an array as a list.
    answers
        Returns the answers of a group from the rows, each a sequence of columns.
    names
        The algorithms that the function knows.
    scalar
        Whether the function returns one value, an array of float8 without NULLs; then the only row is (that array,).
    """

    template: str
    types: tuple[str, ...]
    parameters: Callable[[Group], list[Any]]
    answers: Callable[[Group, list[Any]], list[object]]
    names: tuple[str, ...] = ()
    scalar: bool = False

    def call(self, function: str) -> bytes:
        """Return the text of the call. Parameters travel in binary, so that no setting of a session changes a number."""
        types = ", ".join(f"${place}::{each}" for place, each in enumerate((*self.types, *SESSION_TYPES), 1))
        return f"SELECT {'' if self.scalar else '* FROM '}{function}({types})".encode()  # noqa: S608


SESSION_TYPES = ("text", "text")
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
REWINDING = (Acquire, Observe)  # the last column of their rows counts states that were brought back to the time of a request


class Statements:
    """Chooses the statement of a group of operations, see `groups_of`.

    Attributes
    ----------
    clock_rewinds : int
        States that the functions brought back to the time of a request.
    """

    def __init__(self) -> None:
        self.clock_rewinds = 0
        self._made: dict[tuple[type[Operation], tuple[str, ...]], Statement] = {}

    def of(self, kind: type[Operation], names: tuple[str, ...], group: Group) -> Statement:
        """Return the statement of a group whose limits have these algorithms."""
        return self._made.get((kind, names)) or self._general(kind, names)

    def _general(self, kind: type[Operation], names: tuple[str, ...]) -> Statement:
        known = STATEMENTS[kind]
        if len(names) > 1:  # one function knows all algorithms
            known = known._replace(names=learning_algorithms() if kind is Observe else algorithms.names())
        else:
            known = known._replace(names=names)
        if kind in REWINDING:
            known = known._replace(answers=self._counting(known.answers))
        return self._made.setdefault((kind, names), known)

    def _counting(self, answers: Callable[[Group, list[Any]], list[object]]) -> Callable[[Group, list[Any]], list[object]]:
        def counted(group: Group, rows: list[Any]) -> list[object]:
            self.clock_rewinds += sum(row[-1] for row in rows)
            return answers(group, rows)

        return counted
