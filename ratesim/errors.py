"""The errors of ratesim: one tree below `RatesimError`. A driver's error never leaves a storage."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CapacityError",
    "ConfigurationError",
    "RatesimError",
    "SerializationError",
    "ServerError",
    "StorageConnectionError",
    "StorageError",
    "StorageTimeoutError",
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


class SerializationError(StorageError):
    """A state cannot be read: its version is unknown, its bytes are damaged, or a field is missing."""


class CapacityError(StorageError):
    """A bound was reached: the queue is full, or the entry is too large."""


class ConfigurationError(StorageError):
    """An option, or a combination of options, is invalid. The message names it and the known values."""
