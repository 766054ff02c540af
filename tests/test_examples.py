"""What `make test` samples of a product: every value, or every pair of values, in few combinations."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from examples import covering

PRODUCT = [dict(zip("abc", each, strict=True)) for each in product("01234567", "0123", "01")]


@pytest.mark.parametrize(("together", "size"), [(1, 8), (2, 32), (3, 64)])
def test_each_n_values_meet_and_no_combination_is_more_than_needed(together: int, size: int) -> None:
    chosen = [PRODUCT[place] for place in covering(PRODUCT, together)]
    assert len(chosen) == size
    for names in combinations("abc", together):
        everywhere, kept = ({tuple(each[name] for name in names) for each in rows} for rows in (PRODUCT, chosen))
        assert kept == everywhere
