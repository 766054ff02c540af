"""postgresql.conf and the schema: the settings that matter to a rate limiter, and what a DBA may create ahead.

What the settings mean: https://www.postgresql.org/docs/current/runtime-config.html (checkpoints and full-page writes:
wal-configuration.html; a vacuum's thresholds: routine-vacuuming.html, both there).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ratesim.recommendation.configuration.escaping import redact_url, to_comment
from ratesim.storage import StorageURL
from ratesim.storage.postgres import PostgresDriver

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario
    from ratesim.storage import PostgresStorageConfig

__all__ = ["postgresql_conf", "schema_sql"]

MIB = 1024 * 1024
UNMEASURED = (
    512.0  # bytes of a row that nobody measured, its place in the index included (profiles/shipped.json has 390 to 430)
)
LEAST_CONNECTIONS = 100  # the default
PEOPLE = 20  # connections for people, backups, exporters and autovacuum's own launcher
LEAST_BUFFERS = 128 * MIB  # the default
# A row that is updated leaves its old version until a vacuum: with vacuums at 2 % of the table half as much again is ample.
BLOAT = 1.5


def postgresql_conf(scenario: Scenario, storage: str, bytes_per_key: float = math.nan, title: str = "") -> str:
    """Write the settings for a storage URL of postgres, or of a hybrid over it.

    Parameters
    ----------
    bytes_per_key
        Bytes of a row and of its place in the index.
    """
    config: PostgresStorageConfig = StorageURL.parse(storage).config
    keys, nodes = scenario.requirements.key_count, scenario.deployment.nodes
    each = UNMEASURED if math.isnan(bytes_per_key) else bytes_per_key
    buffers = max(LEAST_BUFFERS, math.ceil(keys * each * BLOAT / MIB) * MIB) // MIB
    # Each node has its pool, and one connection more while it creates, cleans up or counts.
    connections = max(LEAST_CONNECTIONS, nodes * (config.pool_size + 1) + PEOPLE)
    measured = "not measured, so 512 bytes" if math.isnan(bytes_per_key) else f"{bytes_per_key:,.0f} bytes measured for one"
    parts = [
        to_comment(title),
        to_comment(
            "A fragment for PostgreSQL 14 and newer: put it into conf.d, or `include` it. The first two need a restart. "
            "Who may connect is said in pg_hba.conf."
        ),
        _part(
            f"{nodes:,} nodes with pools of {config.pool_size} connections and one for upkeep, and {PEOPLE} for all else.",
            f"max_connections = {connections}",
        ),
        _part(
            f"Room for {keys:,} keys in memory ({measured}), half as much again for old versions of rows. Where that is "
            "more than a quarter of the machine's memory, the machine is too small for a table that is hot all over.",
            f"shared_buffers = {buffers}MB",
        ),
        _commit(config, scenario.requirements.persistence),
        _part(
            "The first change of a page after a checkpoint writes the whole page to the log, and a limiter changes all its "
            "pages all the time: rare checkpoints keep the log small.",
            "checkpoint_timeout = 15min\nmax_wal_size = 4GB\nwal_compression = on",
        ),
        _part(
            "Every admitted request leaves a dead version of its row. Autovacuum looks often; the table's own thresholds "
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
    driver = PostgresDriver(config)
    tuned = ", ".join(
        [
            "autovacuum_vacuum_scale_factor = 0.02",
            "autovacuum_vacuum_threshold = 1000",
            "autovacuum_vacuum_cost_delay = 0",
            "autovacuum_analyze_scale_factor = 0.2",
        ]
    )
    parts = [
        to_comment(title, "--"),
        to_comment(
            f"For limits of the algorithm {scenario.limit.algorithm}. A storage that finds its tables and functions here "
            "creates none. The names of functions end in a digest of their source: run the script of a new version of "
            "ratesim beside that of the old one. `ratesim schema` writes it for other algorithms. Applications need no more "
            "than the rights at its end.",
            "--",
        ),
        driver.schema((scenario.limit.algorithm,)),
        to_comment("Dead versions are cleared away at 2 % of the table instead of 20 %, and without pauses.", "--")
        + "".join(f"ALTER TABLE {table} SET ({tuned});\n" for table in driver.tables),
    ]
    return "\n".join(part for part in parts if part)


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
