"""The storage errors: one small family, never a driver's."""

from __future__ import annotations

__all__ = [
    "CapacityError",
    "ConfigurationError",
    "SerializationError",
    "StorageConnectionError",
    "StorageError",
    "StorageTimeoutError",
]


class StorageError(Exception):
    """Something went wrong in a storage."""


class StorageConnectionError(StorageError):
    """The server was not reached, or the connection broke.

    sent: whether the request may have reached the server, and so may have been carried out.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class StorageTimeoutError(StorageError):
    """No answer in time; whether the request was carried out is unknown."""


class SerializationError(StorageError):
    """A state that cannot be read: unknown version, damaged bytes, missing fields."""


class CapacityError(StorageError):
    """A bound was reached: queue full, entry too large."""


class ConfigurationError(StorageError):
    """An option, or a set of them, that makes no sense; the message names it and what is known."""
