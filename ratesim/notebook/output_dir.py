"""Where pages go: a directory that can be written, and a workshop beside it, so that what arrives there is whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ratesim.errors import RatesimError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

__all__ = ["OutputError", "ensure_writable", "publish", "staging_directory"]


REMOVE_SECONDS = 10.0


class OutputError(RatesimError, ValueError):
    """A place where nothing can be written: one line that names it and the remedy."""


def ensure_writable(out: Path) -> None:
    """Raise OutputError where `out` is no directory, nor can become one."""
    try:
        if not out.name and out.absolute() == Path(out.anchor):
            raise OutputError(f"--out {out}: is the root of all; name a directory below it")
        if out.is_symlink() and not out.exists():
            raise OutputError(f"--out {out}: is a link that leads nowhere; name a directory")
        if out.exists() and not out.is_dir():
            raise OutputError(f"--out {out}: is a file; name a directory")
        above = next(folder for folder in (out, *Path(os.path.abspath(out)).parents) if folder.exists())
    except OSError as error:
        raise OutputError(f"--out {out}: {error.strerror}; name another directory") from error
    if not above.is_dir():
        raise OutputError(f"--out {out}: {above} is a file; name another directory")
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"--out {out}: {above} may not be written by this user; name another directory")


@contextmanager
def staging_directory(out: Path, name: str = "", waiting: Callable[[], None] | None = None) -> Iterator[Path]:
    """Provide a temporary directory beside `out`, for one process at a time; another one waits until it is done.

    What a killed process left there is removed first. Directories that were made above `out` are removed if the block fails.

    Parameters
    ----------
    out
        The directory that the files move into.
    name
        Of what is made there, so that several things can be made in one directory at the same time.
    waiting
        Called if another process must be waited for.
    """
    made = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        stem = f".{out.name}{name and '-'}{name}.staging"
        with _locked(out.with_name(f"{stem}.lock"), waiting):
            work = out.with_name(stem)
            _remove(work)
            work.mkdir(mode=0o700)
            try:
                yield work
            finally:
                _remove(work)
    finally:
        for folder in made:
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _remove(directory: Path) -> None:
    """Remove a directory, if it is there. Processes that a killed report left may still write into it for a moment."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def publish(work: Path, out: Path, obsolete: Sequence[str] = (), last: str = "") -> None:
    """Move the files of a staging directory into `out`.

    All of them appear at once where `out` is new or empty. Elsewhere each takes the place of its predecessor whole, first
    the others and then `last`: whoever sees that one finds the new files beside it.

    Parameters
    ----------
    work, out
        From where, to where.
    obsolete
        Files of `out` that go.
    last
        The file that comes last.
    """
    out.mkdir(exist_ok=True)
    if not any(out.iterdir()):
        work.chmod(out.stat().st_mode)
        with suppress(OSError):  # a mount, or a system that does not rename onto a directory
            work.rename(out)
            return
    for name in obsolete:
        (out / name).unlink(missing_ok=True)
    for file in sorted(work.iterdir(), key=lambda file: (file.name == last, file.name)):
        if file.is_file():
            file.replace(out / file.name)


@contextmanager
def _locked(path: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock of a file for the block, and remove the file. The lock of a process that is killed is free."""
    if fcntl is None:  # on Windows
        yield
        return
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is(path, descriptor):  # who held it has removed it, and others may lock another file of that name
                continue
            try:
                yield
            finally:
                path.unlink()
            return
        finally:
            os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
