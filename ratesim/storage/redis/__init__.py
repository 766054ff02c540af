"""Redis and Valkey: every decision is taken inside the server, by Lua scripts that are twins of the Python rules.

An identifier is one hash, whose fields are readable names. So several limits of it are decided atomically on one key, also
on a cluster. A batch of operations is one pipeline. `lua/` holds the code around the twins.
"""

from ratesim.storage.redis.driver import RedisDriver
from ratesim.storage.redis.storage import RedisStorage

__all__ = ["RedisDriver", "RedisStorage"]
