"""postgresql.conf and the schema: the settings that matter to a rate limiter, and what a DBA may create ahead.

What the settings mean: https://www.postgresql.org/docs/current/runtime-config.html (checkpoints and full-page writes:
wal-configuration.html; a vacuum's thresholds: routine-vacuuming.html, both there).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ratesim.formatting import format_bytes, format_count, format_percent
from ratesim.recommendation.assess.resource_needs import BLOAT, CHECKPOINT, REPLICATED, log_bytes
from ratesim.recommendation.configuration.escaping import redact_url, to_comment
from ratesim.recommendation.configuration.pgbouncer_ini import MOST_CONNECTIONS, SESSIONS, client_connections, has_pooler
from ratesim.recommendation.configuration.standby_conf import standby_parts
from ratesim.recommendation.configuration.store_size import StoreSize
from ratesim.storage import StorageURL
from ratesim.storage.postgres import PostgresDriver

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario
    from ratesim.storage import PostgresStorageConfig

__all__ = ["postgresql_conf", "schema_sql"]

MIB = 1024 * 1024
# Bytes of a row that nobody measured, its place in the index included (profiles/shipped.json has 390 to 430).
UNMEASURED = 512.0
LEAST_CONNECTIONS = 100  # the default
PEOPLE = 20  # connections for people, backups, exporters and autovacuum's own launcher
LEAST_BUFFERS = 128 * MIB  # the default
MOST_BUFFERS = 0.4  # of the memory, https://www.postgresql.org/docs/current/runtime-config-resource.html


def postgresql_conf(
    scenario: Scenario, storage: str, bytes_per_key: float = math.nan, title: str = "", size: StoreSize | None = None
) -> str:
    """Write the settings for a storage URL of postgres, or of a hybrid over it: those of the primary and of its standbys.

    Parameters
    ----------
    bytes_per_key
        Bytes of a row and of its place in the index.
    size
        How many standbys there are, what answers wait for there, and how many rows change per second.
    """
    config: PostgresStorageConfig = StorageURL.parse(storage).config
    size = size or StoreSize()
    keys = scenario.requirements.keys
    each = UNMEASURED if math.isnan(bytes_per_key) else bytes_per_key
    wanted = max(LEAST_BUFFERS, math.ceil(keys * each * BLOAT / MIB) * MIB)
    most = MOST_BUFFERS * size.memory
    log = math.ceil(log_bytes(size.writes, keys * each) / 1024**3)
    measured = "not measured, so 512 bytes" if math.isnan(bytes_per_key) else f"{bytes_per_key:,.0f} bytes measured for one"
    parts = [
        to_comment(title),
        to_comment(
            "A fragment for PostgreSQL 14 and newer: put it into conf.d, or `include` it. max_connections, shared_buffers, "
            "wal_level, wal_log_hints, max_wal_senders and max_replication_slots need a restart. Who may connect is said in "
            "pg_hba.conf."
        ),
        _connections(scenario, config),
        _part(
            f"Room for {format_count(keys, 'key')} in memory ({measured}), half as much again for old versions of rows"
            + (f": {format_bytes(wanted)}" if wanted > most else "")
            + f". More than {format_percent(MOST_BUFFERS)} of the machine's memory helps no more, since the kernel caches "
            "the same pages" + (f"; a machine of {format_bytes(size.memory)} is priced." if wanted > most else "."),
            f"shared_buffers = {int(min(wanted, most)) // MIB}MB",
        ),
        _commit(config, scenario.requirements.persistence),
        _part(
            "The first change of a page after a checkpoint writes the whole page to the log, and a limiter changes all its "
            "pages all the time: rare checkpoints keep the log small. One comes by the clock and not because the log is "
            f"full: that has room for two intervals ({REPLICATED['postgres']:.0f} bytes a change, and 8 kB for each page "
            "that changes). It is written over nearly all of the time until the next, so that it does not crowd out the "
            "flushes of commits.",
            f"checkpoint_timeout = {round(CHECKPOINT / 60)}min\nmax_wal_size = {log}GB\ncheckpoint_completion_target = 0.9\n"
            "wal_compression = on",
        ),
        *(_part(*part) for part in standby_parts(config, size)),
        _part(
            "Every admitted request leaves a dead version of its row. Autovacuum looks often; the tables' own thresholds "
            "are in schema.sql.",
            "autovacuum = on\nautovacuum_naptime = 10s\nautovacuum_vacuum_cost_limit = 2000",
        ),
        _part("Compiling a statement takes longer than a decision.", "jit = off"),
        _part(
            "A transaction that was forgotten keeps the rows that it has locked, and every dead version since.",
            "idle_in_transaction_session_timeout = 10s",
        ),
    ]
    return "\n".join(part for part in parts if part)


def schema_sql(scenario: Scenario, storage: str, title: str = "") -> str:
    """Write the schema that the storage would create on its first use, as a script.

    The script is run once in the database that the URL names. The application then needs no right to create.
    """
    config: PostgresStorageConfig = StorageURL.parse(redact_url(storage)).config
    cut = "" if config.partition_strategy is None else f" The tables are cut into partitions ({config.partition_strategy})."
    parts = [
        to_comment(title, "--"),
        to_comment(
            f"For limits of the algorithm {scenario.limit.algorithm}.{cut} A storage that finds its tables and functions "
            "here creates none. The names of functions end in a digest of their source: run the script of a new version of "
            "ratesim beside that of the old one. `ratesim schema` writes it for other algorithms. Applications need no more "
            "than the rights at its end.",
            "--",
        ),
        PostgresDriver(config).schema((scenario.limit.algorithm,)),
    ]
    return "\n".join(part for part in parts if part)


def _connections(scenario: Scenario, config: PostgresStorageConfig) -> str:
    nodes, clients = scenario.deployment.nodes, client_connections(scenario, config)
    said = f"{nodes:,} nodes with pools of {config.pool_size} connections and one for upkeep, and {PEOPLE} for all else."
    if has_pooler(scenario, config):
        enough = max(LEAST_CONNECTIONS, SESSIONS + PEOPLE)
        said += (
            f" That is more than {MOST_CONNECTIONS}, and each is a process: put the pooler of pgbouncer.ini between, and "
            f"{enough} are enough."
        )
    return _part(said, f"max_connections = {max(LEAST_CONNECTIONS, clients + PEOPLE)}")


def _part(reason: str, settings: str) -> str:
    return f"{to_comment(reason)}{settings}\n"


def _commit(config: PostgresStorageConfig, wanted: str) -> str:
    why = "The storage asks for this in each of its transactions, from its URL; here it is for the others. "
    if config.synchronous_commit == "off":
        said = "The last moments before a crash of the server may be lost, and no answer waits for the disk."
        if wanted == "durable":
            said += " That is not the durable persistence that was asked for."
    elif config.unlogged:
        said = "The tables are unlogged, so a crash of the server empties them, whatever stands here."
    else:
        said = "What was answered is on the disk: it survives a crash of the server."
    return _part(why + said, f"synchronous_commit = {config.synchronous_commit}")
