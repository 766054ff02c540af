"""Lazy exports of a package: a name is imported when it is first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` (PEP 562) of a package whose heavy modules load on first use.

    Parameters
    ----------
    package : str
        The package's `__name__`.
    modules : Mapping[str, str]
        The module of each exported name.

    Returns
    -------
    Callable[[str], Any]
        Imports the module of a name, and keeps the value as an attribute of the package. Raises AttributeError for a
        name that is not exported.
    """

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return getattr_
