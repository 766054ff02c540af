"""The configuration of every backend. All scalar options may also be given in a storage URL (`open_storage`)."""

from __future__ import annotations

import functools
import operator
import re
import types
import typing
from functools import cache
from typing import Any, Literal, get_args

import msgspec

from ratesim.errors import ConfigurationError
from ratesim.safe_text import redact, shorten_repr
from ratesim.server_url import postgres_url, redis_topology, redis_url
from ratesim.storage.compression import CODECS, Codec
from ratesim.storage.eviction import POLICIES
from ratesim.storage.partitions import FORMS, PartitionStrategy, parse_partition

__all__ = [
    "ClientConfig",
    "HybridStorageConfig",
    "MemoryStorageConfig",
    "PostgresStorageConfig",
    "RedisStorageConfig",
]

Consistency = Literal["strong", "eventual", "session", "lease"]
WritePolicy = Literal["write_through", "write_back", "write_behind", "write_around"]
ReadPolicy = Literal["cache_aside", "read_through", "refresh_ahead"]
Sync = Literal["deltas", "state"]
QueueFullPolicy = Literal["wait", "drop"]
Fsync = Literal["always", "interval", "never"]
StoreFailurePolicy = Literal["fail_open", "fail_closed", "local"]
Clock = Literal["client", "server"]

LEAST_MEMORY = 4096  # bytes
MAX_CLOCK_SKEW = 5.0  # seconds: above what NTP leaves, and above the time that a request waits on its way
MOST = 2**63 - 1  # of any count
LONGEST_SECONDS = 1e9


class MemoryStorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one process.

    Attributes
    ----------
    max_entries : int
        Most states and counters kept; the eviction policy chooses the victims.
    memory_limit : int or None
        Bytes that they may take, with their names and the policy's own records, as Python allocates them and to a tenth;
        None bounds only their number.
    eviction_policy : str
        One of `ratesim.storage.eviction.POLICIES`.
    cleanup_interval : float
        Seconds between two sweeps that drop expired entries; a storage that was opened does them.
    persist_to_disk : str or None
        A directory that survives the process; None keeps nothing.
    fsync : {"always", "interval", "never"}
        When a written change is certain to be on the disk: before a decision is answered, every fsync_interval seconds, or
        when the system chooses. A kill -9 of the process loses nothing with any of them.
    fsync_interval : float
        Seconds, see `fsync`.
    thread_safe : bool
        Whether several threads may use it at the same time. False saves the lock that every decision takes, about a tenth of
        its time. In simulated time there is one thread, and no lock.
    max_clock_skew : float
        Seconds by which clocks may differ; a limit with a shorter period takes its period instead. A state whose own time
        is further ahead of a request was written by a wrong clock, and is brought back to the time of the request
        (`clock_rewinds` counts). A smaller difference is waited out: docs/bounds.md.
    """

    max_entries: int = 1_000_000
    memory_limit: int | None = None
    eviction_policy: str = "LRU"
    cleanup_interval: float = 60.0
    persist_to_disk: str | None = None
    fsync: Fsync = "interval"
    fsync_interval: float = 1.0
    thread_safe: bool = True
    max_clock_skew: float = MAX_CLOCK_SKEW

    def __post_init__(self) -> None:
        check_types(self)
        if self.persist_to_disk is not None and (not self.persist_to_disk.strip() or "\0" in self.persist_to_disk):
            raise ConfigurationError("persist_to_disk: must name a directory; leave it out to keep nothing on disk")
        require_at_least("max_entries", self.max_entries, 1)
        if self.memory_limit is not None:
            require_at_least("memory_limit", self.memory_limit, LEAST_MEMORY)
        require_one_of("eviction_policy", self.eviction_policy, tuple(POLICIES))
        require_one_of("fsync", self.fsync, get_args(Fsync))
        require_positive("cleanup_interval", self.cleanup_interval)
        require_positive("fsync_interval", self.fsync_interval)
        require_positive("max_clock_skew", self.max_clock_skew)


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The client of a server; shared by every storage that has one.

    Attributes
    ----------
    pool_size : int
        Most batches in flight, each on a connection of its own.
    max_batch : int
        Most operations in one batch; operations that wait for a connection travel together.
    max_waiting : int
        Most operations waiting for a connection; above it, CapacityError.
    connection_timeout : float
        Seconds, of opening and of closing connections.
    command_timeout : float
        Most seconds of an operation after it left the queue, retries and their waits included. The caller has its answer
        then, also if the server is frozen. `close` waits as long for operations that are under way.
    retries : int
        Tries after the first, of operations that may be repeated without changing their meaning (an `acquire` only if it
        cannot have reached the server).
    retry_base, retry_cap : float
        Seconds. Try k waits a random time up to min(cap, base * 2**k) ("full jitter": Brooker, AWS Architecture Blog, 2015).
    breaker_failures, breaker_reset : int, float
        After that many failures in a row nothing is sent for that many seconds; then one operation probes, and others fail
        until it is back.
    """

    pool_size: int = 10
    max_batch: int = 128
    max_waiting: int = 100_000
    connection_timeout: float = 2.0
    command_timeout: float = 1.0
    retries: int = 2
    retry_base: float = 0.01
    retry_cap: float = 0.5
    breaker_failures: int = 10
    breaker_reset: float = 1.0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("pool_size", "max_batch", "max_waiting", "breaker_failures"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("retries", self.retries, 0)
        for name in ("connection_timeout", "command_timeout", "retry_base", "retry_cap", "breaker_reset"):
            require_positive(name, getattr(self, name))


class _ServerConfig(ClientConfig, frozen=True, kw_only=True):
    """A client of a server with a URL, which may hold a password and so stays out of every repr."""

    max_clock_skew: float = MAX_CLOCK_SKEW
    clock: Clock = "client"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("max_clock_skew", self.max_clock_skew)
        require_one_of("clock", self.clock, get_args(Clock))

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        names = [field.name for field in msgspec.structs.fields(self)]
        return [(name, "***" if name == "url" else getattr(self, name)) for name in names]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class RedisStorageConfig(_ServerConfig, frozen=True, kw_only=True):
    """Redis or Valkey: one server, a cluster, or a primary that sentinels name.

    Attributes
    ----------
    url : str
        redis:// or valkey://; rediss:// or valkeys:// for TLS, with `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`,
        `ssl_cert_reqs` and `ssl_check_hostname` in its query; redis+unix:///path for a socket, with `db`.
        redis+cluster://host:port,host:port names some nodes of a cluster; redis+sentinel://host:port,host:port/service/db
        names sentinels and the service that they watch, with `sentinel_username` and `sentinel_password` in its query; both
        with rediss, valkey and valkeys as well. Never printed with its passwords, whose special characters are
        percent-encoded.
    cluster_mode : bool
        Whether the URL leads to a cluster; redis://host with it is redis+cluster://host.
    key_prefix : str
        Prefix of every key.
    min_ttl : float
        Shortest life of a key in seconds. The server counts time to live on its own clock, so a replay that is slower than
        real time must lengthen it.
    compression : {"none", "gzip", "snappy", "lz4", "zstd"}
        Codec of long metadata, and of long logs that are written whole (docs/redis.md, "Compression"). Every codec is read
        whatever is set here, so nodes may differ and the option may be changed at any time.
    read_from_replicas : bool
        Whether `peek` and `get_state` ask a replica of a cluster or sentinels. Its answer is as old as replication is
        late, and nothing bounds that while the replica is cut off. `acquire` always asks the primary.
    max_clock_skew, clock
        As in PostgresStorageConfig.
    """

    url: str = "redis://127.0.0.1:6379/0"
    cluster_mode: bool = False
    key_prefix: str = "ratesim:"
    min_ttl: float = 0.0
    compression: Codec = "lz4"
    read_from_replicas: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("compression", self.compression, CODECS)
        msgspec.structs.force_setattr(self, "url", redis_url(self.url, self.cluster_mode))
        msgspec.structs.force_setattr(self, "cluster_mode", redis_topology(self.url) == "cluster")
        if self.read_from_replicas and redis_topology(self.url) == "standalone":
            raise ConfigurationError(
                "read_from_replicas: one server has no replicas that are known; begin the url with redis+cluster:// or "
                "redis+sentinel://"
            )
        if "{" in self.key_prefix or "}" in self.key_prefix:
            raise ConfigurationError(
                f"key_prefix {_shown(self.key_prefix)}: braces would change the key's slot on a cluster"
            )
        if not 0 <= self.min_ttl <= 1e9:
            raise ConfigurationError(f"min_ttl {_shown(self.min_ttl)}: must be between 0 and 1e9 seconds")


class PostgresStorageConfig(_ServerConfig, frozen=True, kw_only=True):
    """PostgreSQL.

    Attributes
    ----------
    url : str
        As psycopg takes it; never printed with its password.
    schema : str
        Schema of the tables and functions; "" is the one where search_path finds the table, or would create it. Behind a
        pooler name it, since there search_path may be that of another client.
    table_name : str
        Table of the states; functions and the table of counters begin with it.
    partition_strategy : ByTime, ByHash, ByIdentifier or None
        How a table that is created is cut into partitions (docs/postgres.md, "Partitions"); as text, and in a URL's
        `partition`, none, hash:16, time:1d or identifier:tenant-*,free-*. With None a table is used as it is, and a new one
        is not cut. A table that is cut otherwise than a strategy says is refused: `ratesim schema` converts it.
    query_timeout : float or None
        Most seconds that the server works on one statement; None is command_timeout. Behind it the server ends the statement
        by itself, also where its client is gone.
    fillfactor : int
        Percent of a page that inserts fill; the rest has room for the next versions of its rows (HOT updates).
    unlogged : bool
        Keeps the tables out of the write-ahead log: faster, but empty after a crash of the server.
    synchronous_commit : str
        As in PostgreSQL. "off" is faster, and may lose the last moments in a crash of the server.
    cleanup_interval : float
        Seconds between two removals of expired rows in the background, by one of the nodes at a time; 0 leaves it to
        `cleanup_expired`. A storage that was opened does them.
    cleanup_batch_size : int
        Most rows that one statement of `cleanup_expired` deletes.
    prepared_statements : bool or None
        Whether statements are prepared in the session, which saves the server to parse them. With None they are where a
        connection is direct: its session took the query_timeout that was asked for as it was made, as behind a pooler in
        transaction mode, which mixes sessions up, none does.
    max_clock_skew : float
        Seconds, as in MemoryStorageConfig.
    clock : {"client", "server"}
        The clock of a decision. client: the time of the request, which is the `now` of the caller or the node's own time.
        server: the server's time, so the clocks of nodes do not matter; the `now` of a request is not used.
    """

    url: str = "postgresql://127.0.0.1:5432/postgres"
    schema: str = ""
    table_name: str = "ratesim_state"
    partition_strategy: PartitionStrategy | None = None
    query_timeout: float | None = None
    fillfactor: int = 80
    unlogged: bool = False
    synchronous_commit: str = "on"
    cleanup_interval: float = 60.0
    cleanup_batch_size: int = 1000
    prepared_statements: bool | None = None

    def __post_init__(self) -> None:
        if isinstance(self.partition_strategy, str):
            try:
                msgspec.structs.force_setattr(self, "partition_strategy", parse_partition(self.partition_strategy))
            except ConfigurationError as error:
                raise ConfigurationError(f"partition_strategy: {error}") from None
        super().__post_init__()
        msgspec.structs.force_setattr(self, "url", postgres_url(self.url))
        if self.query_timeout is not None:
            require_positive("query_timeout", self.query_timeout)
        if not 10 <= self.fillfactor <= 100:
            raise ConfigurationError(f"fillfactor {_shown(self.fillfactor)}: must be a whole number from 10 to 100")
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", self.table_name):
            shown = _shown(self.table_name)
            raise ConfigurationError(
                f"table_name {shown}: use lower-case letters, digits and '_', at most 40, not a digit first"
            )
        require_one_of(
            "synchronous_commit",
            self.synchronous_commit,
            ("on", "off", "local", "remote_write", "remote_apply"),
        )
        require_at_least("cleanup_batch_size", self.cleanup_batch_size, 1)
        if self.cleanup_interval != 0:
            require_positive("cleanup_interval", self.cleanup_interval)


class HybridStorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Memory (L1) before a shared storage (L2); docs/hybrid.md describes the guarantees of each policy.

    Attributes
    ----------
    consistency : {"strong", "eventual", "session", "lease"}
        The decider. strong: L2. eventual: L1, on its last view of L2 plus its own consumption. session: the same, and no
        session is decided on less than it has seen and consumed. lease: L1, out of quota borrowed from L2.
    write : {"write_through", "write_back", "write_behind", "write_around"}
        How consumption reaches L2. write_through: awaited. write_back: dirty keys, at every sync_interval. write_behind: a
        bounded queue, in batches. write_around: awaited, and L1 drops its view.
    read : {"cache_aside", "read_through", "refresh_ahead"}
        Where the view comes from. cache_aside: L1 while it is younger than l1_ttl, else L2. read_through: L2, for every
        decision. refresh_ahead: cache_aside, and after refresh_after it is read again in the background.
    sync : {"deltas", "state"}
        Content of a flush: deltas, which L2 adds up, or the state, which overwrites the consumption of the other nodes.
    sync_interval : float
        Seconds between the flushes of write_back, and between the tries of a flush that failed.
    sync_jitter : float
        Share of the interval by which a node's phase is shifted at random; 0 puts all nodes in phase.
    flush_batch : int
        Most keys in one flush.
    linger : float
        Seconds that write_behind waits for a batch to fill.
    queue_size : int
        Most admitted requests that wait in the queue of write_behind.
    queue_full : {"wait", "drop"}
        Reaction of the next request: wait for room, as long as max_wait, or drop at once. A request without room is dropped
        and counted.
    l1_ttl : float
        Seconds after which L1 reads a key from L2 again.
    refresh_after : float
        Seconds, of refresh_ahead.
    max_entries, memory_limit, eviction_policy
        Of L1, as in MemoryStorageConfig.
    max_wait : float
        Most seconds that a request waits for L2.
    on_store_failure : {"fail_open", "fail_closed", "local"}
        Answer while L2 cannot be reached and L1 cannot decide alone. fail_open: admit unless L1 knows a reason against it.
        fail_closed: admit nothing. local: apply this node's share of the limit, 1 / nodes.
    nodes : int
        Number of nodes that share the limit; for `local`, and for the size of leases.
    lease_ttl : float
        Seconds of a node's own rate that a lease is for, and after which it gives back the unspent part.
    clock_tolerance : float
        Seconds by which clocks of nodes may differ; a lease ends so long before the edge of its window.
    max_clock_skew : float
        Seconds, of L1, as in MemoryStorageConfig. In a URL it is L2's as well.
    node : str
        The name of this node's consumption in L2; "" makes one up. A given one is claimed at L2 (docs/processes.md): of two
        living nodes of one name the second does not open.
    """

    consistency: Consistency = "eventual"
    write: WritePolicy = "write_back"
    read: ReadPolicy = "cache_aside"
    sync: Sync = "deltas"
    sync_interval: float = 0.1
    sync_jitter: float = 1.0
    flush_batch: int = 512
    linger: float = 0.005
    queue_size: int = 10_000
    queue_full: QueueFullPolicy = "wait"
    l1_ttl: float = 300.0
    refresh_after: float = 60.0
    max_entries: int = 1_000_000
    memory_limit: int | None = None
    eviction_policy: str = "LRU"
    max_wait: float = 5.0
    on_store_failure: StoreFailurePolicy = "fail_open"
    nodes: int = 1
    lease_ttl: float = 1.0
    clock_tolerance: float = 0.01
    max_clock_skew: float = MAX_CLOCK_SKEW
    node: str = ""

    def __post_init__(self) -> None:
        check_types(self)
        require_one_of("consistency", self.consistency, get_args(Consistency))
        require_one_of("write", self.write, get_args(WritePolicy))
        require_one_of("read", self.read, get_args(ReadPolicy))
        require_one_of("sync", self.sync, get_args(Sync))
        require_one_of("queue_full", self.queue_full, get_args(QueueFullPolicy))
        require_one_of("on_store_failure", self.on_store_failure, get_args(StoreFailurePolicy))
        require_one_of("eviction_policy", self.eviction_policy, tuple(POLICIES))
        for name in ("sync_interval", "linger", "l1_ttl", "refresh_after", "max_wait", "lease_ttl", "max_clock_skew"):
            require_positive(name, getattr(self, name))
        for name in ("flush_batch", "queue_size", "max_entries", "nodes"):
            require_at_least(name, getattr(self, name), 1)
        if self.memory_limit is not None:
            require_at_least("memory_limit", self.memory_limit, LEAST_MEMORY)
        if not 0 <= self.sync_jitter <= 1:
            raise ConfigurationError(f"sync_jitter {_shown(self.sync_jitter)}: must be between 0 and 1")
        if not 0 <= self.clock_tolerance < 1e9:
            raise ConfigurationError(
                f"clock_tolerance {_shown(self.clock_tolerance)}: must be a number of seconds, at least 0"
            )
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", self.node):
            raise ConfigurationError(f"node {_shown(self.node)}: use letters, digits, '_' and '-', at most 64 of them")


@cache
def option_types(config: type) -> dict[str, tuple[Any, bool]]:
    """Return the type of each option without None, and whether it may be None."""
    found = {}
    for name, hint in typing.get_type_hints(config).items():
        kinds = [each for each in get_args(hint) if each is not type(None)] if isinstance(hint, types.UnionType) else [hint]
        found[name] = functools.reduce(operator.or_, kinds), isinstance(hint, types.UnionType)
    return found


def type_name(kind: Any) -> str:
    """Name the type of an option for people."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", PartitionStrategy: FORMS}
    return names.get(kind, str(kind))


def check_types(config: msgspec.Struct) -> None:
    """Raise ConfigurationError unless each option has its type; a whole number may stand for any number."""
    for name, (kind, optional) in option_types(type(config)).items():
        value = getattr(config, name)
        if typing.get_origin(kind) is Literal or (optional and value is None):
            continue
        if not isinstance(value, (int, float) if kind is float else kind) or (type(value) is bool and kind is not bool):
            raise ConfigurationError(f"{name} {_shown(value)}: must be {type_name(kind)}")


def _shown(value: object) -> str:
    """Show a wrong value, which may be a URL that was pasted into the wrong place."""
    return shorten_repr(redact(value) if isinstance(value, str) else value)


def require_at_least(name: str, value: int, least: int) -> None:
    """Raise ConfigurationError unless the value is from `least` to 2**63 - 1."""
    if not least <= value <= MOST:
        raise ConfigurationError(f"{name} {_shown(value)}: must be at least {least}{' and below 2**63' * (value > MOST)}")


def require_positive(name: str, value: float) -> None:
    """Raise ConfigurationError unless the value is a finite number of seconds above 0."""
    if not 0 < value <= LONGEST_SECONDS:
        raise ConfigurationError(f"{name} {_shown(value)}: must be a number of seconds above 0, at most {LONGEST_SECONDS:g}")


def require_one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    """Raise ConfigurationError unless the value is a known one."""
    if not isinstance(value, str) or value not in known:
        raise ConfigurationError(f"{name} {_shown(value)}: known are {', '.join(map(str, known))}")
