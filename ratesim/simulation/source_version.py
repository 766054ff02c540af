"""The version of the source that a run depends on."""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cache
from importlib import resources
from pathlib import Path

__all__ = ["code_version", "source_files"]

# What a run is made of. The modules beside these packages ask for runs and show them.
_PACKAGES = ("algorithms", "runtime", "servers", "simulation", "storage")
_MODULES = tuple(
    f"{module}.py"
    for module in (
        *("__init__", "_lazy", "atomic_write", "documents", "durations", "errors", "limit", "progress", "safe_text"),
        *("server_url", "state", "suggestion"),
    )
)
# Another release may round, draw or pack otherwise.
_LIBRARIES = ("numba", "numpy", "psycopg", "redis", "scipy", "simpy")


@cache
def code_version() -> str:
    """Return a hash of the source that a run depends on, and of the versions of the libraries that it computes with."""
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    for name, file in source_files():
        digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def source_files() -> list[tuple[str, Path]]:
    """List files by their names within the packages, which may lie elsewhere on another machine."""
    ratesim, traffic = (Path(str(resources.files(package))) for package in ("ratesim", "traffic"))
    folders = [*(ratesim / package for package in _PACKAGES), traffic]
    inside = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".lua", ".sql")]
    root = {file: ratesim if file.is_relative_to(ratesim) else traffic for file in inside}
    root |= {ratesim / module: ratesim for module in _MODULES}
    return sorted((f"{root[file].name}/{file.relative_to(root[file]).as_posix()}", file) for file in root)
