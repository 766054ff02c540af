"""A load of several processes through faults: small always, and 4 processes of 64 tasks through every fault by night."""

from __future__ import annotations

from itertools import product

import pytest
from load import FAULTS, POLICIES, run_all, summary
from stores import STORES
from subjects import Policy


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "fault", "policies", "processes", "tasks"),
    [
        ("redis", "kill", [Policy("eventual", "local")], 2, 8),
        ("postgres", "partition", [Policy()], 2, 8),
        *(pytest.param(*each, POLICIES, 4, 64, marks=pytest.mark.nightly) for each in product(STORES, FAULTS)),
    ],
)
async def test_a_load_keeps_to_the_table(store: str, fault: str, policies: list[Policy], processes: int, tasks: int) -> None:
    outcomes = await run_all([store], [fault], policies, processes, tasks)
    deviations = [each for outcome in outcomes for each in outcome.deviations]
    assert not deviations, "\n".join([summary(outcomes), *deviations])
