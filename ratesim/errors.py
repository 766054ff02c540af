"""The errors of ratesim: one tree below `RatesimError`. A driver's error never leaves a storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

__all__ = [
    "BatchError",
    "CapacityError",
    "ConfigurationError",
    "KeyRefusedError",
    "RatesimError",
    "SerializationError",
    "ServerDiedError",
    "ServerError",
    "StorageConnectionError",
    "StorageError",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "require_all",
]


class RatesimError(Exception):
    """The base of all errors that ratesim raises on purpose.

    The message is one line that names the cause and the remedy.

    Attributes
    ----------
    exit_code
        The exit status of the command line: 2 for bad input or a bad environment, 70 (EX_SOFTWARE of sysexits.h) for a
        failure of ratesim itself, 1 for work that was done in part.
    """

    exit_code: ClassVar[int] = 2


class ServerError(RatesimError, RuntimeError):
    """A server could not be found, started, reached or stopped."""


class ServerDiedError(ServerError):
    """A server ended, or no longer answered, while it was in use, and nothing can be said without it."""

    exit_code = 70


class StorageError(RatesimError):
    """The base of the errors of a storage."""


class StorageConnectionError(StorageError):
    """The server was not reached, or the connection broke.

    Attributes
    ----------
    sent
        Whether the request may have reached the server. If so, the server may have executed it.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class StorageTimeoutError(StorageError):
    """The server did not answer in time. Whether it executed the request is unknown."""


class StorageUnavailableError(StorageConnectionError):
    """The server answers, but takes nothing for now: it loads, is read-only, or is full. Nothing was executed."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message, sent=sent)


class KeyRefusedError(StorageError):
    """The store refuses this key, or this value of it, for good; trying again does not help.

    Examples are an identifier with NUL or above 2,500 bytes for PostgreSQL, a key of Redis that holds another type, and an
    identifier that UTF-8 cannot encode (half of a surrogate pair), which every storage refuses.
    """


class SerializationError(KeyRefusedError):
    """A state cannot be read: its version is unknown, its bytes are damaged, or a field is missing."""


class CapacityError(StorageError):
    """A bound was reached: the queue is full, or the entry is too large."""


class BatchError(StorageError):
    """Some items of a batch failed; the others were carried out.

    Parameters
    ----------
    results
        The answer of each item, in the order of the batch, or the StorageError with which it failed.

    Attributes
    ----------
    results
        As given: the item of each place that is a StorageError failed, and every other one is an answer.
    """

    def __init__(self, results: Sequence[object]) -> None:
        self.results = list(results)
        failed = [(place, result) for place, result in enumerate(self.results) if isinstance(result, StorageError)]
        first = ""
        if failed:
            place, error = failed[0]
            first = f"; the first, at {place}: {type(error).__name__}: {error}"
        super().__init__(f"{len(failed)} of {len(self.results)} failed{first}")

    def __reduce__(self) -> tuple[type[Self], tuple[list[object]]]:
        return type(self), (self.results,)


class ConfigurationError(StorageError):
    """An option, or a combination of options, is invalid. The message names it and the known values."""


def require_all(results: list[Any]) -> list[Any]:
    """Return the results of a batch; BatchError if one of them is a StorageError."""
    for result in results:
        if isinstance(result, StorageError):
            raise BatchError(results) from result
    return results
