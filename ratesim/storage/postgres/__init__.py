"""PostgreSQL: every decision is taken inside the server, by PL/pgSQL twins of the algorithms.

A batch of one set of limits is one round trip. `sql/` holds the code around the twins.
"""

from ratesim.storage.postgres.driver import PostgresDriver
from ratesim.storage.postgres.storage import PostgresStorage

__all__ = ["PostgresDriver", "PostgresStorage"]
