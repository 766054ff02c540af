"""The client between a storage and a server, and the storage interface on top of it.

Redis, PostgreSQL and the simulated server are drivers below `Client`; `RemoteStorage` turns the verbs of a storage into
operations.
"""

from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Driver, Operation
from ratesim.storage.remote.server_storage import ServerDriver, ServerStorage
from ratesim.storage.remote.storage import RemoteStorage

__all__ = ["Client", "Driver", "Operation", "RemoteStorage", "ServerDriver", "ServerStorage"]
