"""Batches: which operations travel in one statement, and which PostgreSQL cannot hold."""

from __future__ import annotations

from typing import Any

from ratesim.errors import KeyRefusedError
from ratesim.safe_text import shorten_identifier
from ratesim.storage.remote.operations import Acquire, Apply, Claim, Get, Observe, Operation, Put, identifier_of

__all__ = ["Group", "fault_of", "groups_of"]

MOST_BYTES = 2500  # of an identifier: a key of PostgreSQL's B-tree holds 2704 with everything that belongs to it

Group = list[tuple[int, Any]]  # operations with their places in the batch


def fault_of(operation: Operation) -> KeyRefusedError | None:
    """Return the error of a value that PostgreSQL cannot hold, before it spoils a statement that carries others."""
    if isinstance(operation, Acquire):
        identifier = operation.identifier
        if identifier.isascii() and len(identifier) <= MOST_BYTES and "\0" not in identifier:
            return None
    texts = [identifier := identifier_of(operation)]
    if isinstance(operation, Apply):
        texts.append(operation.charge.node)
    elif isinstance(operation, Claim):
        texts.append(operation.holder)
    elif isinstance(operation, Put):
        texts += [text for pair in operation.state.metadata.items() for text in pair]
        texts += operation.state.watermarks
    for text in texts:
        if "\0" in text:
            return KeyRefusedError(f"{shorten_identifier(text)}: text of PostgreSQL cannot hold the character NUL")
        try:
            text.encode()
        except UnicodeEncodeError:
            return KeyRefusedError(f"{shorten_identifier(text)}: text of PostgreSQL cannot hold half of a surrogate pair")
    if len(identifier.encode()) > MOST_BYTES:
        return KeyRefusedError(
            f"identifier {shorten_identifier(identifier)}: longer than the {MOST_BYTES} bytes that an index holds"
        )
    return None


Key = tuple[Any, ...]


def key_of(operation: Operation) -> Key:
    """Return the key that operations in one statement share; its second item is the set of algorithms."""
    if isinstance(operation, Acquire):
        names = tuple(sorted({limit.algorithm for limit in operation.limits}))
        return (Acquire, names, operation.limits, operation.consume)
    if isinstance(operation, Observe):
        return (Observe, tuple(sorted({limit.algorithm for limit in operation.limits})), operation.limits)
    if isinstance(operation, Apply):
        return (Apply, (operation.charge.limit.algorithm,))
    return (type(operation), ())


def groups_of(operations: Group) -> list[tuple[Key, Group]]:
    """Group the operations into statements.

    They are regrouped as far as each identifier's own order allows, and sorted by identifier inside.
    """
    first = operations[0][1] if operations else None
    if isinstance(first, Acquire):
        limits, consume = first.limits, first.consume
        for _, operation in operations:
            if operation.__class__ is not Acquire or operation.limits != limits or operation.consume is not consume:
                break
        else:  # the common case
            return [(key_of(first), sorted(operations, key=_by_identifier) if len(operations) > 1 else operations)]
    done: list[tuple[Key, Group]] = []
    groups: dict[Key, Group] = {}
    owner: dict[str, Key] = {}
    for place, operation in operations:
        key, identifier = key_of(operation), identifier_of(operation)
        if owner.get(identifier, key) != key:
            done += groups.items()
            groups, owner = {}, {}
        owner[identifier] = key
        groups.setdefault(key, []).append((place, operation))
    done += groups.items()
    for _, group in done:
        group.sort(key=lambda item: (identifier_of(item[1]), name_of(item[1]), item[0]))
    return done


def _by_identifier(item: tuple[int, Any]) -> str:
    identifier: str = item[1].identifier
    return identifier


def name_of(operation: Operation) -> str:
    if isinstance(operation, Apply):
        return operation.charge.limit.name
    return operation.name if isinstance(operation, Get | Put) else ""
