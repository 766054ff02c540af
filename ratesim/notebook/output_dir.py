"""Where pages go: a directory that can be written, and a workshop beside it, so that what arrives there is whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ratesim.errors import RatesimError

__all__ = ["OutputError", "ensure_writable", "staging_directory"]


class OutputError(RatesimError, ValueError):
    """A place where nothing can be written: one line that names it and the remedy."""


def ensure_writable(out: Path) -> None:
    """Raise OutputError where `out` is no directory, nor can become one."""
    try:
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
def staging_directory(out: Path) -> Iterator[Path]:
    """Provide a temporary directory beside `out`.

    Directories that were made above `out` are removed if the block fails.
    """
    made = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as work:
            yield Path(work)
    finally:
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()
