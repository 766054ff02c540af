"""Storage URLs: `open_storage("hybrid+redis://host:6379/0?consistency=eventual&sync_interval=0.1")`.

The scheme names the backend, and every scalar option of its configuration is a query parameter. A hybrid takes its own
options and those of its L2.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from ratesim.durations import NUMBER, parse_duration
from ratesim.errors import ConfigurationError
from ratesim.runtime import Runtime
from ratesim.safe_text import redact, shorten_repr
from ratesim.server_url import (
    DRIVER_OPTIONS,
    POSTGRES_SCHEMES,
    REDIS_SCHEMES,
    SCHEMES,
    raise_for_twice,
    redis_service,
    redis_topology,
    split_url,
    unknown_option,
)
from ratesim.storage.base import RateLimitStorage
from ratesim.storage.config import (
    HybridStorageConfig,
    MemoryStorageConfig,
    PostgresStorageConfig,
    RedisStorageConfig,
    option_types,
    type_name,
)
from ratesim.storage.hybrid import HybridStorage
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.partitions import PartitionStrategy, parse_partition
from ratesim.storage.postgres import PostgresStorage
from ratesim.storage.redis import RedisStorage

__all__ = ["StorageURL", "localhost_url", "named_options", "open_storage", "url_name"]

_BACKENDS: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "memory": ("memory", MemoryStorageConfig),
    **dict.fromkeys(REDIS_SCHEMES, ("redis", RedisStorageConfig)),
    **dict.fromkeys(POSTGRES_SCHEMES, ("postgres", PostgresStorageConfig)),
}
_NAMES = {"partition_strategy": "partition"}  # of options that are called otherwise in a URL
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT = re.compile(rf"[+-]?{NUMBER}", re.IGNORECASE)


class StorageURL(NamedTuple):
    """A parsed storage URL.

    Attributes
    ----------
    backend : str
        memory, redis or postgres.
    config : struct
        The configuration of the backend.
    hybrid : HybridStorageConfig or None
        The options of the hybrid before it.
    """

    backend: str
    config: Any
    hybrid: HybridStorageConfig | None

    @classmethod
    def parse(cls, url: str) -> StorageURL:
        """Parse a URL.

        Raises ConfigurationError, naming the wrong part and the known ones, never with a password in it.
        """
        if not isinstance(url, str):
            raise ConfigurationError(f"storage URL {shorten_repr(url)}: must be a text, such as redis://localhost")
        parts = split_url(url.strip().removeprefix("hybrid+"))
        hybrid = url.strip().startswith("hybrid+")
        if parts.scheme not in _BACKENDS:
            raise ConfigurationError(f"storage URL with the scheme {parts.scheme!r}: known are {SCHEMES}")
        backend, config = _BACKENDS[parts.scheme]
        if backend == "memory" and (parts.host or parts.path or parts.user is not None):
            raise ConfigurationError("storage URL of memory: takes no host and no path; persist_to_disk= names a directory")
        own = {_NAMES.get(name, name) for name in option_types(config)} - {"url"}
        near = set(option_types(HybridStorageConfig)) if hybrid else set()
        driver = DRIVER_OPTIONS[backend]
        for name, _ in parts.options:
            if name not in own | near | driver:
                where = f"{'hybrid+' * hybrid}{backend}"
                raise ConfigurationError(unknown_option(where, parts.options, name, own | near | driver, parts.has_secret))
        raise_for_twice(parts.options, f"storage URL of {parts.scheme}")
        values = _convert(config, [pair for pair in parts.options if pair[0] in own])
        if values.get("cluster_mode") is False and redis_topology(parts.scheme + "://") == "cluster":
            raise ConfigurationError(f"storage URL of {parts.scheme}: cluster_mode=false contradicts its scheme; drop one")
        if backend != "memory":
            values["url"] = parts.text(parts.scheme, [pair for pair in parts.options if pair[0] in driver])
        shared = _convert(HybridStorageConfig, [pair for pair in parts.options if pair[0] in near])
        return cls(backend, config(**values), HybridStorageConfig(**shared) if hybrid else None)


def open_storage(url: str, runtime: Runtime | None = None) -> RateLimitStorage:
    """Make the storage that a URL describes; `async with` opens and closes it.

    The schemes are memory://, redis:// and valkey:// (rediss:// and valkeys:// with TLS, redis+unix:// for a socket),
    redis+cluster://host,host and redis+sentinel://host,host/service (with TLS rediss+cluster:// and rediss+sentinel://),
    postgresql://, and hybrid+ before any that has a server. Raises ConfigurationError.
    """
    backend, config, hybrid = StorageURL.parse(url)
    storage: RateLimitStorage
    if backend == "memory":
        if hybrid is not None:
            raise ConfigurationError(
                "hybrid+memory: the L2 of a hybrid is shared by its nodes; use hybrid+redis or hybrid+postgresql"
            )
        storage = MemoryStorage(config, runtime)
    elif backend == "redis":
        storage = RedisStorage(config, runtime)
    else:
        storage = PostgresStorage(config, runtime)
    return storage if hybrid is None else HybridStorage(storage, hybrid, runtime)


def localhost_url(url: str) -> str:
    """Return the same storage with the same options on localhost: without a host, and without anything secret.

    Raises ConfigurationError for a URL that opens nothing.
    """
    parsed = StorageURL.parse(url)
    parts = split_url(url.strip())
    kind: type = type(parsed.config)
    own = {_NAMES.get(name, name) for name in (*option_types(kind), *option_types(HybridStorageConfig))} - {"url"}
    query = urlencode([(name, value) for name, value in parts.options if name in own])
    scheme = re.sub(r"(unix|\w+\+unix|redis\+socket)$", "redis", parts.scheme)
    place = "" if parsed.backend == "memory" else "localhost"
    if parsed.backend == "redis" and (service := redis_service(parsed.config.url)):
        place = f"localhost/{service}"
    return f"{scheme}://{place}{'?' if query else ''}{query}"


def url_name(option: str) -> str:
    """Return the name in a URL of an option of a configuration."""
    return _NAMES.get(option, option)


def named_options(url: str) -> dict[str, Any]:
    """Return the options that a URL names, by their names in it, as values of their types.

    Those that belong to the driver are left out. A partition strategy is its text.
    """
    parsed = StorageURL.parse(url)
    values = {url_name(name): getattr(each, name) for each in parsed[1:] if each for name in each.__struct_fields__}
    values.pop("url", None)
    if "partition" in values:
        values["partition"] = str(values["partition"] or "none")
    return {name: values[name] for name, _ in split_url(url.strip()).options if name in values}


def _convert(config: type[msgspec.Struct], pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Read the values of options by their types."""
    converted: dict[str, Any] = {}
    known = {short: name for name, short in _NAMES.items()}
    for short, text in pairs:
        name = known.get(short, short)
        kind, _ = option_types(config)[name]
        try:
            converted[name] = _parse(kind, text)
        except (ValueError, KeyError):
            raise ConfigurationError(f"{name} {shorten_repr(redact(text))}: must be {type_name(kind)}") from None
    return converted


def _parse(kind: Any, text: str) -> Any:
    if kind == PartitionStrategy:
        return parse_partition(text)
    text = text if kind is str else text.strip()
    if kind is bool:
        return _TRUTHS[text.lower()]
    if kind is int:
        if not _INTEGER.fullmatch(text):
            raise ValueError(text)
        return int(text)
    if kind is float:
        return float(text) if _FLOAT.fullmatch(text) else parse_duration(text)
    return text
