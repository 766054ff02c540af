"""A load of several processes through faults: small always, and 4 processes of 64 tasks through every fault by night."""

from __future__ import annotations

import pytest
from load import POLICIES, run_all, summary
from stores import STORES
from subjects import Policy


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "policies", "processes", "tasks"),
    [
        ("redis", {"kill": [Policy("eventual", "local")]}, 2, 8),
        ("postgres", {"partition": [Policy()]}, 2, 8),
        *(pytest.param(store, POLICIES, 4, 64, marks=pytest.mark.nightly) for store in STORES),
    ],
)
async def test_a_load_keeps_to_the_table(store: str, policies: dict[str, list[Policy]], processes: int, tasks: int) -> None:
    outcomes = await run_all([store], policies, processes, tasks)
    deviations = [each for outcome in outcomes for each in outcome.deviations]
    assert not deviations, "\n".join([summary(outcomes), *deviations])
