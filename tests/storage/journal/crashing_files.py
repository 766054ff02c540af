"""`CrashingFiles`: a disk in memory that loses in a power failure whatever was not synced, in every way a disk may.

Of a file's unsynced sectors any subset arrives, some of them torn at any byte; its length is anything in between, with zeros
where nothing arrived. Of the unsynced changes of a directory any subset arrives, whatever became of the files. A failed
fsync leaves pages that are readable until the power fails, and that no later fsync writes.
"""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np

from ratesim.errors import ConfigurationError

SECTOR = 64  # bytes; smaller than a disk's, so that small records span several


class Stopped(BaseException):
    """The process was killed, or the power failed, in the middle of an operation."""


class Inode:
    """A file's bytes as they are read, and as they are on the disk."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""
        self.lost: list[tuple[int, int]] = []  # never written: their fsync failed

    def sync(self) -> None:
        kept = bytearray(self.data)
        for start, end in self.lost:
            kept[start:end] = self.durable[start:end].ljust(min(end, len(kept)) - start, b"\0")
        self.durable = bytes(kept)

    def fail_sync(self) -> None:
        self.lost.append((len(self.durable), len(self.data)))

    def fail_power(self, generator: np.random.Generator) -> None:
        before, after = self.durable, bytes(self.data)
        self.sync()
        reachable = self.durable if self.lost else after
        length = int(generator.integers(len(before), len(after) + 1))
        result = bytearray(before.ljust(length, b"\0"))
        share = generator.choice([0.0, 0.5, 0.9, 1.0])
        for start in range(0, length, SECTOR):
            if generator.random() < share:
                end = min(start + SECTOR, length, len(reachable))
                if generator.random() < 0.1:
                    end = int(generator.integers(start, max(start, end) + 1))  # torn
                result[start:end] = reachable[start:end]
        self.durable = bytes(result)
        self.data = result
        self.lost = []


class CrashingFiles:
    """The layer. After `stop_after` operations that change something, the next one stops in the middle; `room` is how many
    bytes still fit; `sync_fails` makes the next fsync of a file fail."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.stop_after: int | None = None
        self.room: int | None = None
        self.sync_fails = False
        self._names: dict[str, Inode] = {}
        self._durable: dict[str, Inode] = {}
        self._pending: list[dict[str, Inode | None]] = []
        self._boot = 1
        self._holder: CrashingLock | None = None
        self._marked = False

    # -- what may happen ----------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """The process dies; what it wrote stays in the system's memory."""
        self.stop_after = None
        self._holder = None

    def fail_power(self) -> None:
        """The machine dies, and starts again with what is on its disk."""
        self.kill()
        self._boot += 1
        for change in self._pending:
            if self.generator.random() < 0.5:
                self._apply(self._durable, change)
        self._pending = []
        self._names = dict(self._durable)
        for inode in dict.fromkeys(self._names.values()):
            inode.fail_power(self.generator)

    def step(self) -> bool:
        """Whether the operation that comes now stops in the middle."""
        if self.stop_after is None:
            return False
        self.stop_after -= 1
        return self.stop_after < 0

    # -- the layer ----------------------------------------------------------------------------------------------------

    def make_directory(self, directory: Path) -> None:
        """It is there."""

    def lock(self, path: Path) -> CrashingLock:
        if self._holder is not None:
            raise ConfigurationError(f"{path}: in use")
        self._holder = CrashingLock(self, self._marked)
        self._marked = True
        return self._holder

    def unlock(self, clean: bool) -> None:
        self._holder = None
        self._marked = not clean

    def names(self, directory: Path) -> list[str]:
        return sorted(self._names)

    def read(self, path: Path) -> bytes:
        return bytes(self._names[path.name].data)

    def create(self, path: Path) -> CrashingFile:
        self._change({path.name: Inode()})
        return CrashingFile(self, self._names[path.name])

    def extend(self, path: Path) -> CrashingFile:
        return CrashingFile(self, self._names[path.name])

    def rename(self, source: Path, target: Path) -> None:
        self._change({target.name: self._names[source.name], source.name: None})

    def remove(self, path: Path) -> None:
        assert path.name in self._names
        self._change({path.name: None})

    def sync_directory(self, directory: Path) -> None:
        if self.step():
            raise Stopped
        for change in self._pending:
            self._apply(self._durable, change)
        self._pending = []

    def boot(self) -> bytes:
        return self._boot.to_bytes(16, "little")

    def marker(self) -> bytes:
        return self.generator.bytes(4)

    def _change(self, change: dict[str, Inode | None]) -> None:
        stops = self.step()
        if not stops or self.generator.random() < 0.5:
            self._apply(self._names, change)
            self._pending.append(change)
        if stops:
            raise Stopped

    @staticmethod
    def _apply(names: dict[str, Inode], change: dict[str, Inode | None]) -> None:
        for name, inode in change.items():
            if inode is None:
                names.pop(name, None)
            else:
                names[name] = inode


class CrashingFile:
    """A file of the layer."""

    def __init__(self, files: CrashingFiles, inode: Inode) -> None:
        self._files = files
        self._inode = inode

    def write(self, data: bytes) -> None:
        files = self._files
        if files.step():
            self._inode.data += data[: int(files.generator.integers(0, len(data) + 1))]
            raise Stopped
        if files.room is not None and len(data) > files.room:
            self._inode.data += data[: files.room]
            files.room = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        if files.room is not None:
            files.room -= len(data)
        self._inode.data += data

    def sync(self) -> None:
        if self._files.sync_fails:
            self._files.sync_fails = False
            self._inode.fail_sync()
            raise OSError(errno.EIO, "Input/output error")
        stops = self._files.step()
        if not stops or self._files.generator.random() < 0.5:
            self._inode.sync()
        if stops:
            raise Stopped

    def close(self) -> None:
        """Nothing is synced by it."""


class CrashingLock:
    """Held until released, or until the process dies."""

    def __init__(self, files: CrashingFiles, unclean: bool) -> None:
        self._files = files
        self.unclean = unclean

    def release(self, clean: bool) -> None:
        self._files.unlock(clean)
