"""What more than one test of the pages looks at, made once."""

from __future__ import annotations

from pathlib import Path

import papermill
import pytest

from ratesim.report import notebooks

CONSISTENCY = {
    "limit": "40/second",
    "requests": 600.0,
    "keys": 8,
    "skew": 1.0,
    "nodes": 4,
    "seed": 3,
    "seeds": 1,
    "duration": 2.0,
}


@pytest.fixture(scope="session")
def consistency_parameters() -> dict[str, object]:
    """Few enough requests for a test."""
    return CONSISTENCY


@pytest.fixture(scope="session")
def consistency_notebook(tmp_path_factory) -> Path:
    """The notebook on consistency, executed with these parameters."""
    out = tmp_path_factory.mktemp("consistency") / "out.ipynb"
    source = notebooks() / "consistency.ipynb"
    papermill.execute_notebook(str(source), str(out), parameters=CONSISTENCY, kernel_name="python3", progress_bar=False)
    return out
