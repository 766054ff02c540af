"""Servers that are already there, named by RATESIM_REDIS_URL or RATESIM_POSTGRES_URL, and the probes of any server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratesim.errors import ConfigurationError, ServerError
from ratesim.safe_text import redact
from ratesim.server_url import (
    driver_url,
    redis_hosts,
    redis_node_urls,
    redis_primary_url,
    redis_service,
    redis_topology,
)
from ratesim.servers.server import Server

if TYPE_CHECKING:
    import redis

__all__ = [
    "CHECK_SECONDS",
    "existing_postgres",
    "existing_redis",
    "postgres_url",
    "postgres_version",
    "redis_client",
    "server_info",
    "valkey_version",
]

CHECK_SECONDS = 3  # how long a server that is already there may take to answer


def existing_redis(url: str) -> Server:
    """Describe the server that RATESIM_REDIS_URL names; ServerError if it does not answer."""
    import redis

    try:
        with redis_client(url, CHECK_SECONDS) as client:
            about = server_info(client)
    except (redis.RedisError, OSError, ValueError, ConfigurationError) as error:
        raise _unreachable("RATESIM_REDIS_URL", url, error) from None
    name = "valkey" if about.get("server_name") == "valkey" else "redis"
    clustered = "cluster" in (about.get("server_mode"), about.get("redis_mode"))
    kind = "cluster" if clustered else redis_topology(url)
    return Server(url, name if kind == "standalone" else f"{name}-{kind}", valkey_version(about), embedded=False)


def existing_postgres(url: str) -> Server:
    """Describe the server that RATESIM_POSTGRES_URL names; ServerError if it does not answer."""
    import psycopg

    try:
        return Server(url, "postgres", postgres_version(postgres_url(url)), embedded=False)
    except (psycopg.Error, ConfigurationError) as error:
        raise _unreachable("RATESIM_POSTGRES_URL", url, error) from None


def postgres_url(url: str) -> str:
    """Drop from the URL of a storage what the driver of PostgreSQL does not know. Raises ConfigurationError."""
    return driver_url(url)


def _unreachable(variable: str, url: str, error: Exception) -> ServerError:
    # redis-py shows its clients of sentinels with all that they are made of.
    text = "no sentinel that answers knows its primary" if type(error).__name__ == "MasterNotFoundError" else str(error)
    reason = redact(" ".join(text.split()), url).removesuffix(".")
    return ServerError(
        f"{variable}: no usable server at {redact(url, url)} ({reason}): "
        "start it, correct the variable, or unset it to use an embedded server"
    )


def redis_client(url: str, seconds: float) -> redis.Redis:
    """Make a client without retries, with a timeout in seconds, from the URL of a storage.

    Of a cluster it asks the first node that answers, and behind sentinels the primary. Raises ConfigurationError.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import Sentinel, SentinelConnectionPool

    url = driver_url(url)
    timing: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": Retry(NoBackoff(), 0)}
    if redis_topology(url) == "sentinel":
        own, primary = (_arguments(each) for each in (redis_node_urls(url)[0], redis_primary_url(url)))
        sentinel = Sentinel(redis_hosts(url), sentinel_kwargs={**timing, **own})  # type: ignore[no-untyped-call]
        pool = SentinelConnectionPool(redis_service(url), sentinel, **timing, **primary)  # type: ignore[no-untyped-call]
        return redis.Redis(connection_pool=pool)
    *others, last = redis_node_urls(url)
    for each in others:
        client = redis.Redis.from_url(each, **timing)
        try:
            client.ping()
        except (redis.ConnectionError, redis.TimeoutError):
            client.close()
        else:
            return client
    return redis.Redis.from_url(last, **timing)


def _arguments(url: str) -> dict[str, Any]:
    """Return the arguments of a connection that a URL gives, without the address."""
    import redis

    arguments: dict[str, Any] = dict(redis.connection.parse_url(url))  # type: ignore[no-untyped-call]
    if arguments.pop("connection_class", None) is not None:
        arguments["ssl"] = True
    return {name: value for name, value in arguments.items() if name not in ("host", "port")}


def server_info(client: redis.Redis) -> dict[str, Any]:
    """Ask the server for the section "server" of INFO."""
    about: dict[str, Any] = client.info("server")
    return about


def valkey_version(about: dict[str, Any]) -> str:
    """Find the version in that section."""
    # To old clients a Valkey of any version is Redis 7.2.4.
    return str(about.get("valkey_version", about["redis_version"]))


def postgres_version(url: str) -> str:
    """Ask the server at `url` for its version."""
    import psycopg

    with psycopg.connect(url, connect_timeout=CHECK_SECONDS) as connection:
        return connection.info.parameter_status("server_version") or "unknown"
