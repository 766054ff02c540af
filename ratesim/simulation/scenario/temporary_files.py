"""Files that last as long as this process: a log that came through a pipe, one that was read, the secret of a run's hashes.

Every run of a scenario reads its log, some of them in processes of their own, and a pipe can be read once.
"""

from __future__ import annotations

import secrets
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import IO

__all__ = ["STANDARD_INPUT", "is_temporary", "keep_stream", "secret_file", "temporary_path"]

STANDARD_INPUT = "-"  # as a log
PREFIX = "ratesim-"


def keep_stream(stream: IO[bytes], name: str) -> Path:
    """Copy what can be read once to a file of that name, and return its path."""
    path = temporary_path(name)
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    return path


def temporary_path(name: str) -> Path:
    """Return the path of a file of that name, which nobody has made yet."""
    return _folder() / name


def secret_file() -> Path:
    """Return a file with a random secret, the same one whenever this process asks."""
    path = temporary_path("secret")
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32) + "\n", "ascii")
    return path


def is_temporary(path: str) -> bool:
    """Tell whether a path is of one of these files, of this process or of another one, so that nobody finds it later."""
    folder = Path(path).parent
    return folder.name.startswith(PREFIX) and folder.parent == Path(gettempdir())


@cache
def _folder() -> Path:
    _kept.append(TemporaryDirectory(prefix=PREFIX))
    return Path(_kept[-1].name)


_kept: list[TemporaryDirectory[str]] = []  # removed when this process ends
