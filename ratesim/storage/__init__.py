"""Storages: where the state of a rate limiter lives. One interface, `RateLimitStorage`, and four backends.

`open_storage` opens a backend by its URL. A decision is `await storage.acquire(identifier, limit)`.
"""

from ratesim.errors import (
    BatchError,
    CapacityError,
    ConfigurationError,
    KeyRefusedError,
    SerializationError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from ratesim.storage.base import Charge, RateLimitStorage, Request, StorageHealth, StorageStats, UpkeepStats
from ratesim.storage.config import (
    HybridStorageConfig,
    MemoryStorageConfig,
    PostgresStorageConfig,
    RedisStorageConfig,
)
from ratesim.storage.hybrid import HybridStorage, SyncStats
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.partitions import ByHash, ByIdentifier, ByTime, PartitionStrategy
from ratesim.storage.postgres import PostgresStorage
from ratesim.storage.redis import RedisStorage
from ratesim.storage.urls import StorageURL, open_storage

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # backends, and how to open one
    "RateLimitStorage",
    "MemoryStorage",
    "RedisStorage",
    "PostgresStorage",
    "HybridStorage",
    "open_storage",
    "StorageURL",
    # their options
    "MemoryStorageConfig",
    "RedisStorageConfig",
    "PostgresStorageConfig",
    "PartitionStrategy",
    "ByTime",
    "ByHash",
    "ByIdentifier",
    "HybridStorageConfig",
    # values in calls and answers
    "Charge",
    "Request",
    "StorageHealth",
    "StorageStats",
    "UpkeepStats",
    "SyncStats",
    # errors
    "StorageError",
    "StorageConnectionError",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "BatchError",
    "KeyRefusedError",
    "SerializationError",
    "CapacityError",
    "ConfigurationError",
]
