"""How much of a product or of examples a level of tests tries: a sample in `make test`, everything in `make nightly`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import combinations
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


def covering(product: Sequence[Mapping[str, str]], together: int) -> list[int]:
    """Choose a few of many combinations of parameters.

    Parameters
    ----------
    product : Sequence[Mapping[str, str]]
        The combinations: values by the names of their parameters.
    together : int
        How many parameters to look at together: 1 takes every value at least once, 2 every pair of values.

    Returns
    -------
    list[int]
        Places in the product. Values that were taken less often come first.
    """
    groups = [set(combinations(sorted(each.items()), together)) for each in product]
    missing, taken, places = set().union(*groups), Counter[tuple[str, str]](), []
    while missing:
        worth = [(len(group & missing), -sum(taken[each] for each in product[i].items())) for i, group in enumerate(groups)]
        best = max(range(len(product)), key=worth.__getitem__)
        missing -= groups[best]
        taken.update(product[best].items())
        places.append(best)
    return places
