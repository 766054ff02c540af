"""How much of a product or of examples a level of tests tries: a sample in `make test`, everything in `make nightly`."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest
from hypothesis import settings


def examples(usual: int, nightly: int | None = None) -> int:
    """Scale a number of examples to the profile in use.

    Parameters
    ----------
    usual : int
        In `make test` (profile `ci`). The profile `dev` takes a quarter of them.
    nightly : int, optional
        In `make nightly`; ten times the usual number where it is not given.

    Returns
    -------
    int
        At least 10, or `usual` where that is less.
    """
    scale = settings().max_examples / 100
    if scale > 1 and nightly is not None:
        return nightly
    return max(round(usual * scale), min(usual, 10))


def sample(values: Iterable[Any], usual: Container[Any]) -> list[Any]:
    """Parametrize a test with all values, of which `make test` tries only the usual ones."""
    nightly = pytest.mark.nightly
    split = [(value, value if isinstance(value, tuple) else (value,)) for value in values]
    return [value if value in usual else pytest.param(*parts, marks=nightly) for value, parts in split]
