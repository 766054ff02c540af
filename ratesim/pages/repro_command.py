"""The line that makes a page again."""

from __future__ import annotations

import shlex
from typing import Any

__all__ = ["repro_command"]


def repro_command(name: str, **parameters: Any) -> str:
    """`ratesim notebook` with these parameters, quoted for a shell."""
    return shlex.join(
        ["ratesim", "notebook", name, *(part for key in parameters for part in ("-p", key, _said(parameters[key])))]
    )


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
