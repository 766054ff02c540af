"""Storage URLs: `open_storage("hybrid+redis://host:6379/0?consistency=eventual&sync_interval=0.1")`.

The scheme names the backend, and every scalar option of its configuration is a query parameter. A hybrid takes its own
options and those of its L2.
"""

from __future__ import annotations

import types
import typing
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from ratesim.errors import ConfigurationError
from ratesim.runtime import Runtime
from ratesim.storage.base import RateLimitStorage
from ratesim.storage.config import (
    HybridStorageConfig,
    MemoryStorageConfig,
    PostgresStorageConfig,
    RedisStorageConfig,
)
from ratesim.storage.hybrid import HybridStorage
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.postgres import PostgresStorage
from ratesim.storage.redis import RedisStorage

__all__ = ["StorageURL", "localhost_url", "open_storage"]

_BACKENDS: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "memory": ("memory", MemoryStorageConfig),
    "redis": ("redis", RedisStorageConfig),
    "rediss": ("redis", RedisStorageConfig),
    "postgresql": ("postgres", PostgresStorageConfig),
    "postgres": ("postgres", PostgresStorageConfig),
}
# Parameters of a PostgreSQL URL that belong to its driver.
_LIBPQ = {"host", "port", "dbname", "user", "password", "passfile", "options", "service", "target_session_attrs"}
_LIBPQ |= {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "hostaddr", "channel_binding", "gssencmode"}


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
        scheme, separator, rest = url.partition("://")
        hybrid = scheme.startswith("hybrid+")
        scheme = scheme.removeprefix("hybrid+")
        if not separator or scheme not in _BACKENDS:
            known = ", ".join([*_BACKENDS, "hybrid+redis", "hybrid+postgresql"])
            raise ConfigurationError(f"storage URL with the scheme {url.partition(':')[0][:40]!r}: known are {known}")
        backend, config = _BACKENDS[scheme]
        try:
            parts = urlsplit(f"{scheme}://{rest}")
            _ = parts.port
        except ValueError as error:
            raise ConfigurationError(f"storage URL of {scheme}: {error}") from error
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        own = _options(config) - {"url"}
        near = _options(HybridStorageConfig) if hybrid else set()
        kept = [(key, value) for key, value in pairs if backend == "postgres" and key in _LIBPQ]
        asked = [(key, value) for key, value in pairs if (key, value) not in kept]
        for key, _ in asked:
            if key not in own | near:
                raise ConfigurationError(
                    f"unknown option {key!r} for {'hybrid+' * hybrid}{backend}; known: {', '.join(sorted(own | near))}"
                )
        values = {key: value for key, value in asked if key in own}
        if backend != "memory":
            # Commas and slashes stay as they are: libpq reads several hosts, and a socket's directory, from them.
            query = urlencode(kept, quote_via=quote, safe="/,")
            # Put together by hand: urllib drops the slashes of a URL without a host, as that of a socket is.
            whole = f"{parts.scheme}://{parts.netloc}{parts.path}"
            values["url"] = whole + (f"?{query}" if query else "") + (f"#{parts.fragment}" if parts.fragment else "")
        return cls(
            backend,
            _convert(config, values),
            _convert(HybridStorageConfig, {key: value for key, value in asked if key in near}) if hybrid else None,
        )


def open_storage(url: str, runtime: Runtime | None = None) -> RateLimitStorage:
    """Make the storage that a URL describes; `async with` opens and closes it.

    The schemes are memory://, redis://, rediss://, postgresql://, and hybrid+ before any that has a server. Raises
    ConfigurationError.
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
    scheme, _, rest = url.partition("://")
    own = (_options(type(parsed.config)) | _options(HybridStorageConfig)) - {"url"}
    query = urlencode([(key, value) for key, value in parse_qsl(urlsplit(f"x://{rest}").query) if key in own])
    place = "" if parsed.backend == "memory" else "localhost"
    return f"{scheme}://{place}{'?' if query else ''}{query}"


def _options(config: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(config)}


def _convert(config: type[msgspec.Struct], values: dict[str, str]) -> Any:
    hints = typing.get_type_hints(config)
    converted: dict[str, Any] = {}
    for key, value in values.items():
        kind = hints[key]
        try:
            converted[key] = value if typing.get_origin(kind) is typing.Literal else _parse(kind, value)
        except (ValueError, KeyError) as error:
            kind = _without_none(kind)
            name = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, str(kind))
            raise ConfigurationError(f"{key} {value!r}: must be {name}") from error
    return config(**converted)


def _parse(kind: Any, value: str) -> Any:
    kind = _without_none(kind)
    if kind is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
    return kind(value)


def _without_none(kind: Any) -> Any:
    return (
        next(each for each in typing.get_args(kind) if each is not type(None)) if isinstance(kind, types.UnionType) else kind
    )
