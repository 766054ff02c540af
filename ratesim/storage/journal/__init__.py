"""What a storage in memory must not forget, on disk: snapshots and append logs that survive a crash.

`Journal` appends records and recovers them; `records` says what a record is and how it lies in a file; `recovery` reads a
directory and tells a torn tail from damage; `snapshot` writes a new generation; `files` is all that touches the disk.
"""

from ratesim.storage.journal.files import File, FileLayer, Lock, RealFiles
from ratesim.storage.journal.journal import FsyncPolicy, Journal
from ratesim.storage.journal.records import Count, Drop, Forget, Put, Record
from ratesim.storage.journal.recovery import Recovered
from ratesim.storage.journal.snapshot import SnapshotWriter

__all__ = [
    "Count",
    "Drop",
    "File",
    "FileLayer",
    "Forget",
    "FsyncPolicy",
    "Journal",
    "Lock",
    "Put",
    "RealFiles",
    "Record",
    "Recovered",
    "SnapshotWriter",
]
