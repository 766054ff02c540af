"""Packed states, brought into the form that scripts decide on.

A script that meets a packed state changes nothing and answers PACKED. The hash is read, its logs are inflated, and a script
writes them in the other form if the fields are still as they were read: if another client was faster, its state stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import redis.exceptions
from msgspec.structs import replace

from ratesim.errors import SerializationError
from ratesim.state import RateLimitState
from ratesim.storage.redis.connections import Command
from ratesim.storage.redis.error_translation import MALFORMED, strange_answer
from ratesim.storage.redis.scripts import script_of
from ratesim.storage.redis.state_fields import PACKED, fields_of, prefix_of, read_state

__all__ = ["is_packed", "make_live"]


AT_ONCE = 8  # hashes


def is_packed(answer: object) -> bool:
    """Return whether a script met a packed state."""
    return isinstance(answer, redis.exceptions.ResponseError) and str(answer).startswith("PACKED")


async def make_live(
    keys: Iterable[bytes], run: Callable[[Sequence[Command]], Awaitable[list[Any]]]
) -> dict[bytes, Exception]:
    """Bring all states of some hashes into the form that scripts decide on.

    A few hashes are read and written before the next ones are read, so that what was done is not in vain at a timeout.

    Parameters
    ----------
    keys
        The keys of the hashes.
    run
        Sends calls, and returns their answers.

    Returns
    -------
    dict
        By key, the error of a hash that is damaged, or that the server refuses.
    """
    errors: dict[bytes, Exception] = {}
    reads: list[Command] = [("HGETALL", key) for key in keys]
    for first in range(0, len(reads), AT_ONCE):
        some, calls = reads[first : first + AT_ONCE], list[Command]()
        for (_, key), raw in zip(some, await run(some), strict=True):
            if isinstance(raw, Exception):
                errors[key] = raw
                continue
            try:
                calls += _calls(key, dict(raw if isinstance(raw, Mapping) else zip(raw[::2], raw[1::2], strict=True)))
            except SerializationError as error:
                errors[key] = error
            except MALFORMED:
                errors[key] = strange_answer(raw)
        for (_, _, _, key, *_), raw in zip(calls, await run(calls), strict=True):
            if isinstance(raw, Exception):
                errors[key] = raw
    return errors


def _calls(key: bytes, fields: dict[bytes, bytes]) -> list[Command]:
    calls = []
    for field in fields:
        prefix, dot, last = field.rpartition(b".")
        if last != PACKED.encode():
            continue
        name = prefix.decode(errors="replace")  # `read_state` refuses it then
        state = read_state(fields, name, None)
        if not isinstance(state, RateLimitState):
            raise state or SerializationError("a packed state that cannot be read: it has no fields; reset it")
        begin = prefix + dot
        before = {
            own: fields[own] for own in fields if own.rpartition(b".")[0] == prefix and _is_replaced(own[len(begin) :])
        }
        after = fields_of(
            replace(state, metadata={}, watermarks={}), prefix_of(name), float(fields[begin + b"expires_at"]), "none"
        )
        calls.append(("EVALSHA", script_of("unpack"), 1, key, len(before), *chain(*before.items()), *after))
    return calls


def _is_replaced(name: bytes) -> bool:
    return name != b"metadata" and not name.startswith(b"w:")
