"""The tests of faults share the pooler of the tests of PostgreSQL's storage."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "storage"))


@pytest.fixture(autouse=True)
def _no_existing_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RATESIM_REDIS_URL", raising=False)
    monkeypatch.delenv("RATESIM_POSTGRES_URL", raising=False)
