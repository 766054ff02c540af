"""`Alert`: one rule for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Alert"]


@dataclass(frozen=True)
class Alert:
    """One rule. lasting: how long it must hold, as Prometheus writes it. severity: page (somebody gets up) or ticket."""

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str
    description: str
