"""What a report hands over beside its answer, ready to use: one module for each kind of file.

What comes from a scenario is a value in these files and nothing else: it cannot add a line to any of them. No file holds a
password.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ratesim.recommendation.assess.topology import cluster_url
from ratesim.recommendation.configuration.alerts import alerts_yaml
from ratesim.recommendation.configuration.create_cluster import create_cluster
from ratesim.recommendation.configuration.pg_hba_conf import pg_hba_conf
from ratesim.recommendation.configuration.pgbouncer_ini import has_pooler, pgbouncer_ini
from ratesim.recommendation.configuration.postgresql_conf import postgresql_conf, schema_sql
from ratesim.recommendation.configuration.python_line import python_line
from ratesim.recommendation.configuration.redis_conf import redis_conf
from ratesim.recommendation.configuration.sentinel_conf import sentinel_conf
from ratesim.recommendation.configuration.standby_conf import create_standby
from ratesim.recommendation.configuration.storage_toml import StorageConfiguration, storage_toml
from ratesim.recommendation.configuration.store_size import StoreSize
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["StorageConfiguration", "StoreSize", "files"]


def files(
    scenario: Scenario,
    storage: str,
    routing: str,
    bytes_per_key: float = math.nan,
    title: str = "",
    size: StoreSize | None = None,
) -> dict[str, str]:
    """Return the files for a candidate, by name: those that apply to its backend.

    Parameters
    ----------
    scenario
        The scenario.
    storage
        The storage URL.
    routing
        The routing of the load balancer.
    bytes_per_key
        Bytes that the server needs for one key, without the memory of the nodes; nan if not measured.
    title
        A sentence for the first line of each file.
    size
        How many servers the store has; one unless given. A Redis of several primaries is opened as a cluster, whatever its
        URL says; the replicas of a PostgreSQL are its standbys.

    Raises
    ------
    ConfigurationError
        The URL is invalid, or its password cannot be told apart.
    """
    size = size or StoreSize()
    backend, topology = StorageURL.parse(storage).backend, size.topology(storage)
    if topology == "cluster":
        storage = cluster_url(storage)
    found = {
        "storage.toml": storage_toml(scenario, storage, routing, title, size),
        "open_storage.py": python_line(scenario, storage, title),
        "alerts.yaml": alerts_yaml(scenario, storage, title, size),
    }
    if backend == "redis":
        found["redis.conf"] = redis_conf(scenario, storage, bytes_per_key, title, size)
        if topology == "cluster":
            found["create_cluster.sh"] = create_cluster(size, title)
        if topology == "sentinel":
            found["sentinel.conf"] = sentinel_conf(scenario, storage, title)
    if backend == "postgres":
        found["postgresql.conf"] = postgresql_conf(scenario, storage, bytes_per_key, title, size)
        found["pg_hba.conf"] = pg_hba_conf(storage, title, size)
        found["schema.sql"] = schema_sql(scenario, storage, title)
        if size.replicas:
            found["create_standby.sh"] = create_standby(size, title)
        if has_pooler(scenario, StorageURL.parse(storage).config):
            found["pgbouncer.ini"] = pgbouncer_ini(scenario, storage, title)
    return found
