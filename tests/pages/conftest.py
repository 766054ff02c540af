"""A notebook, executed once for each module of tests about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outputs import html_of

from ratesim.notebook import execute, notebooks


@pytest.fixture(scope="session")
def execute_here(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, Any], Path | None], Path]:
    """Executes a notebook that ships, by its file's name, with these parameters, in this directory or an empty one."""

    def executed(name: str, parameters: dict[str, Any], folder: Path | None = None) -> Path:
        out = tmp_path_factory.mktemp("notebook") / "out.ipynb"
        execute(notebooks() / name, out, parameters, folder or out.parent)
        return out

    return executed


@pytest.fixture(scope="session")
def consistency_notebook(execute_here: Callable[..., Path]) -> Path:
    """A page with figures and tables, for tests of pages as such."""
    sizes = {"requests": 600.0, "keys": 8, "skew": 1.0, "nodes": 4, "seed": 3, "seeds": 1, "duration": 2.0}
    return execute_here("consistency.ipynb", {"limit": "40/second", **sizes})


@pytest.fixture(scope="module")
def executed(request: pytest.FixtureRequest, execute_here: Callable[..., Path]) -> Path:
    """The notebook that the module names NOTEBOOK, executed with the parameters that it names SMALL."""
    return execute_here(request.module.NOTEBOOK, request.module.SMALL)


@pytest.fixture(scope="module")
def shown(executed: Path) -> list[str]:
    """What each of its code cells shows, as HTML, and nothing that needs a kernel or a script."""
    return html_of(executed)
