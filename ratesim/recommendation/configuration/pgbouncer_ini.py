"""pgbouncer.ini: a pooler in transaction mode, for nodes that have more connections together than a PostgreSQL should have.

What the settings mean: https://www.pgbouncer.org/config.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.recommendation.configuration.escaping import to_comment
from ratesim.recommendation.configuration.standby_conf import PRIMARY
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario
    from ratesim.storage import PostgresStorageConfig

__all__ = ["MOST_CONNECTIONS", "SESSIONS", "client_connections", "has_pooler", "pgbouncer_ini"]

# A connection is a process with some MB of its own, and every snapshot looks at all of them. Some hundreds are fine.
MOST_CONNECTIONS = 500
# Sessions of the pooler at the server: many times its processors, since most of a session's time is waiting for the disk,
# where commits that come together share a flush.
SESSIONS = 64
PORT = 6432


def client_connections(scenario: Scenario, config: PostgresStorageConfig) -> int:
    """Return the connections of all nodes: each has its pool, and one more while it creates, cleans up or counts."""
    return scenario.deployment.nodes * (config.pool_size + 1)


def has_pooler(scenario: Scenario, config: PostgresStorageConfig) -> bool:
    """Tell whether the nodes have more connections together than a PostgreSQL should have."""
    return client_connections(scenario, config) > MOST_CONNECTIONS


def pgbouncer_ini(scenario: Scenario, storage: str, title: str = "") -> str:
    """Write the file for a storage URL of postgres, or of a hybrid over it. Of the scenario it has nothing but numbers."""
    config: PostgresStorageConfig = StorageURL.parse(storage).config
    clients = client_connections(scenario, config)
    prepared = (
        " The URL says prepared_statements=true: leave that out, or set max_prepared_statements."
        if config.prepared_statements
        else ""
    )

    def remark(text: str) -> str:
        return to_comment(text, ";")

    return (
        remark(title)
        + remark(
            f"For pgbouncer 1.20 and newer, between {scenario.deployment.nodes:,} nodes and PostgreSQL. Put your primary in "
            f"the place of {PRIMARY}, and this pooler with port {PORT} into the storage's URL, with `schema=`: behind a "
            "pooler the search_path of a session may be another client's."
        )
        + f"[databases]\n* = host={PRIMARY} port=5432\n\n[pgbouncer]\nlisten_addr = *\nlisten_port = {PORT}\n"
        + remark("The roles and their SCRAM secrets, as in pg_authid.")
        + "auth_type = scram-sha-256\nauth_file = /etc/pgbouncer/userlist.txt\n"
        + remark(f"A decision needs nothing of a session, so each transaction may take another one.{prepared}")
        + "pool_mode = transaction\n"
        + remark(
            f"Pools of {config.pool_size} connections and one for upkeep, of each node. They share {SESSIONS} sessions at "
            "the server."
        )
        + f"max_client_conn = {clients + 20}\ndefault_pool_size = {SESSIONS}\n"
        + remark("Parameters of a session that a limiter's client may ask for and does not need.")
        + "ignore_startup_parameters = extra_float_digits\n"
        + remark("A request that waited longer has given up already.")
        + f"query_wait_timeout = {max(1, round(config.command_timeout))}\n"
    )
