"""Alert rules about a PostgreSQL that holds a limiter's tables, on the metrics of postgres_exporter.

The exporter: https://github.com/prometheus-community/postgres_exporter. `EXPORTED` has the view and the column that each
metric is read from, and the option that turns on a collector that is off by default. The rules on ratesim's own metrics are
in `alerts.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.formatting import format_amount, format_bytes, format_percent
from ratesim.recommendation.assess.resource_needs import CHECKPOINT
from ratesim.recommendation.configuration.alert import Alert
from ratesim.storage.partitions import ByTime
from ratesim.storage.postgres.partitioning import stem

if TYPE_CHECKING:
    from ratesim.recommendation.configuration.store_size import StoreSize
    from ratesim.storage import PostgresStorageConfig

__all__ = ["COLLECTORS", "EXPORTED", "JOB", "postgres_alerts"]

JOB = "ratesim-postgres"  # of the exporter, for the primary and its standbys
CONNECTIONS = 0.8  # of max_connections
DEAD = 0.5  # of the live rows, many times the share at which a vacuum begins
FEW_ROWS = 10_000  # dead rows of a table so small that their share says nothing
HOT = 0.9  # of the updates
LONGEST = 60  # seconds that a transaction may last
LAG = 64 * 1024 * 1024  # bytes of the log; four of its files
FREEZE = 500_000_000  # transactions, at 200 million of which a vacuum freezes rows unasked; it stops the server at 2,000
MOVED = 3600  # seconds in which upkeep empties the default partition

# Metric of the exporter: the view and the column that it is read from, and the option that has it collected.
EXPORTED = {
    "pg_up": ("", "", ""),
    "pg_settings_max_connections": ("pg_settings", "setting", ""),
    "pg_stat_activity_count": ("pg_stat_activity", "state", ""),
    "pg_stat_activity_max_tx_duration": ("pg_stat_activity", "xact_start", ""),
    "pg_stat_user_tables_n_live_tup": ("pg_stat_user_tables", "n_live_tup", ""),
    "pg_stat_user_tables_n_dead_tup": ("pg_stat_user_tables", "n_dead_tup", ""),
    "pg_stat_user_tables_n_tup_upd": ("pg_stat_user_tables", "n_tup_upd", ""),
    "pg_stat_user_tables_n_tup_hot_upd": ("pg_stat_user_tables", "n_tup_hot_upd", ""),
    "pg_stat_checkpointer_num_requested_total": (
        "pg_stat_checkpointer",
        "num_requested",
        "--collector.stat_checkpointer",
    ),  # 17 and newer
    "pg_stat_bgwriter_checkpoints_req_total": ("pg_stat_bgwriter", "checkpoints_req", ""),  # 16 and older
    "pg_database_wraparound_age_datfrozenxid_seconds": (
        "pg_database",
        "datfrozenxid",
        "--collector.database_wraparound",
    ),  # transactions, whatever its name says
    "pg_replication_is_replica": ("", "", ""),  # pg_is_in_recovery()
    "pg_stat_replication_pg_wal_lsn_diff": ("pg_stat_replication", "replay_lsn", ""),
    "pg_replication_slots_active": ("pg_replication_slots", "active", ""),
}
COLLECTORS = tuple(option for _, _, option in EXPORTED.values() if option)


def postgres_alerts(config: PostgresStorageConfig, size: StoreSize) -> tuple[Alert, ...]:
    """Return the rules for the tables of a configuration, and for its standbys."""
    found = [_down(), _connections(), _transaction(), _dead(config), _not_hot(config), _checkpoints(), _wraparound()]
    if isinstance(config.partition_strategy, ByTime):
        found.append(_not_moved(config))
    if size.replicas:
        found += [_failover(), _missing(size), _lag(size), _slot()]
    return tuple(found)


def _of(metric: str, labels: str = "") -> str:
    assert metric in EXPORTED
    return f'{metric}{{job="{JOB}"{", " if labels else ""}{labels}}}'


def _tables(config: PostgresStorageConfig) -> str:
    """Return a matcher of the states' and the counters' tables, with their partitions."""
    cut = "(h[0-9]+|i[0-9]+|t[0-9]+|default)"
    names = [config.table_name, f"{config.table_name}_counters"]
    return 'relname=~"' + "|".join([*names, *(f"{stem(name)}_{cut}" for name in names)]) + '"'


def _table_sum(config: PostgresStorageConfig, metric: str, window: str = "") -> str:
    selected = _of(f"pg_stat_user_tables_{metric}", _tables(config))
    return f"sum by (instance) ({f'rate({selected}[{window}])' if window else selected})"


def _default(config: PostgresStorageConfig) -> str:
    return f'relname="{stem(config.table_name)}_default"'


def _down() -> Alert:
    return Alert(
        "RateLimitPostgresDown",
        f"{_of('pg_up')} == 0",
        "1m",
        "page",
        "A server of the rate limiter's store does not answer its exporter",
        "The label instance names it. Without the primary no request has a decision, unless a hybrid takes it by itself.",
    )


def _connections() -> Alert:
    used, most = f"sum by (instance) ({_of('pg_stat_activity_count')})", _of("pg_settings_max_connections")
    return Alert(
        "RateLimitPostgresConnections",
        f"{used} / on (instance) max by (instance) ({most}) > {CONNECTIONS!r}",
        "5m",
        "ticket",
        f"More than {format_percent(CONNECTIONS)} of the connections of PostgreSQL are taken",
        "Another node may find none. Lower pool_size, or put a pooler in transaction mode between, before max_connections "
        "is raised: each connection is a process.",
    )


def _transaction() -> Alert:
    return Alert(
        "RateLimitPostgresLongTransaction",
        f"max by (instance, datname) ({_of('pg_stat_activity_max_tx_duration')}) > {LONGEST}",
        "1m",
        "ticket",
        f"A transaction has lasted for more than {LONGEST} s",
        "No vacuum removes a version of a row that it may still see, so the tables grow with every admitted request. "
        "pg_stat_activity names it; pg_terminate_backend ends it.",
    )


def _dead(config: PostgresStorageConfig) -> Alert:
    dead, live = _table_sum(config, "n_dead_tup"), _table_sum(config, "n_live_tup")
    return Alert(
        "RateLimitPostgresDeadRows",
        f"{dead} > {DEAD!r} * {live} + {FEW_ROWS}",
        "15m",
        "ticket",
        "Vacuums do not keep up with the limiter's tables",
        f"More than {format_percent(DEAD)} of the rows are dead versions. Look for a long transaction or an unused "
        "replication slot that holds them, and for autovacuum_vacuum_cost_limit.",
    )


def _not_hot(config: PostgresStorageConfig) -> Alert:
    hot, all_updates = _table_sum(config, "n_tup_hot_upd", "30m"), _table_sum(config, "n_tup_upd", "30m")
    return Alert(
        "RateLimitPostgresUpdatesNotHot",
        f"{hot} / ({all_updates} > 1) < {HOT!r}",
        "30m",
        "ticket",
        f"Less than {format_percent(HOT)} of the updates stay on their page",
        "The others write to the index, too. Somebody has indexed a column that changes, pages have no room "
        "(fillfactor), or a long transaction keeps old versions on them.",
    )


def _checkpoints() -> Alert:
    newer, older = _of("pg_stat_checkpointer_num_requested_total"), _of("pg_stat_bgwriter_checkpoints_req_total")
    by_clock = 3600 / CHECKPOINT
    return Alert(
        "RateLimitPostgresCheckpointsTooOften",
        f"increase({newer}[1h]) > {by_clock!r} or increase({older}[1h]) > {by_clock!r}",
        "15m",
        "ticket",
        "Checkpoints come because the log is full, and not by the clock",
        f"There were more than {format_amount(by_clock)} in an hour that checkpoint_timeout did not ask for. After each, "
        "the first change of a page writes all of it. Raise max_wal_size.",
    )


def _wraparound() -> Alert:
    return Alert(
        "RateLimitPostgresWraparound",
        f"max by (instance, datname) ({_of('pg_database_wraparound_age_datfrozenxid_seconds')}) > {FREEZE}",
        "15m",
        "page",
        "Vacuums do not freeze the oldest rows",
        f"Each admitted request takes a transaction number, and {format_amount(FREEZE)} are out since the oldest row was "
        "written. At two thousand million the server takes no more writes. Look for what holds vacuums back.",
    )


def _not_moved(config: PostgresStorageConfig) -> Alert:
    return Alert(
        "RateLimitPostgresDefaultPartitionNotEmpty",
        f"sum by (instance) ({_of('pg_stat_user_tables_n_live_tup', _default(config))}) > 0",
        f"{MOVED // 60}m",
        "ticket",
        "Rows stay in the default partition",
        "Upkeep moves them to the partition in use. While they are there, a partition for their time cannot be made without "
        "reading them.",
    )


def _failover() -> Alert:
    replica = _of("pg_replication_is_replica")
    return Alert(
        "RateLimitPostgresFailover",
        f"{replica} == 0 and {replica} offset 10m == 1",
        "1m",
        "ticket",
        "A standby became the primary in the last 10 minutes",
        "What it had not received was forgotten, unless answers waited for it. Look for the primary that was lost.",
    )


def _missing(size: StoreSize) -> Alert:
    streams = _of("pg_stat_replication_pg_wal_lsn_diff", 'state="streaming"')
    said = "No decision that admits is answered while no synchronous standby is there."
    if not size.standby or size.replicas > 1:
        said = "If the primary is lost now, what it counted is lost, too."
    return Alert(
        "RateLimitPostgresStandbyMissing",
        f"(count({streams}) or vector(0)) < {size.replicas}",
        "1m" if size.standby else "5m",
        "page" if size.standby and size.replicas == 1 else "ticket",
        "The primary has no standby" if size.replicas == 1 else f"The primary has fewer than {size.replicas} standbys",
        said,
    )


def _lag(size: StoreSize) -> Alert:
    cost = (
        "Answers wait for it: it is what they are slow by." if size.standby else "A failover to it admits that much again."
    )
    return Alert(
        "RateLimitPostgresStandbyLags",
        f"max by (instance, application_name) ({_of('pg_stat_replication_pg_wal_lsn_diff')}) > {LAG}",
        "1m",
        "ticket",
        f"A standby is more than {format_bytes(LAG)} of the log behind",
        cost,
    )


def _slot() -> Alert:
    return Alert(
        "RateLimitPostgresSlotUnused",
        f"{_of('pg_replication_slots_active')} == 0",
        "15m",
        "ticket",
        "Nobody reads a replication slot",
        "The primary keeps the log for it, up to max_slot_wal_keep_size, and then the standby needs a new copy. Drop the "
        "slot of a standby that will not come back.",
    )
