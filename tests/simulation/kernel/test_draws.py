"""The draws of a kernel by the time of sending are those of the engine, to the bit, compiled and interpreted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import examples
from numba import njit

from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.cluster import build_cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.remote_storage import SimDriver
from ratesim.simulation.kernel import draws, layout
from ratesim.simulation.kernel.compilation import compiled_kernel, compiled_world, plain_world
from ratesim.simulation.kernel.draw_assembly import draw_parts
from ratesim.simulation.network.links import BACK, LOST, OUT
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from traffic import Trace

SEED, KEYS = 11, ("a", "user:7", "ö")
NETWORKS: dict[str, dict[str, Any]] = {
    "lognormal": {"network": "same_zone"},
    "lossy": {"network": "mobile_edge", "loss": 0.4},
    "measured": {"network": "loopback", "loss": 0.1},
}


@pytest.mark.parametrize("compiled", [False, True], ids=["interpreted", "compiled"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_message_is_on_its_way_as_long_as_its_link_says(network: str, compiled: bool) -> None:
    trace = Trace(np.full(3, 1.7e9), [0, 1, 2], KEYS)
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 1.0, "keys": 3, "duration": 1.0},
            "limit": {"rate": "1 per second"},
            "deployment": NETWORKS[network],
        }
    )
    candidate = Candidate(name="redis", storage="redis://localhost")
    context = RunContext.of(scenario, candidate, Profile.shipped(), SEED, trace)
    cluster = build_cluster(context)
    arrays, scalars = draw_parts(context, cluster)
    arrays = {**{name: np.zeros(1, kind) for name, kind in layout.ARRAYS.items()}, **arrays}
    w = (compiled_world if compiled else plain_world)(arrays, scalars)
    way = compiled_kernel().draw_transit if compiled else draws.draw_transit
    rng, many = np.random.default_rng(5), examples(2_000, 1_000_000)
    times, keys = 1.7e9 + 1e4 * rng.random(many), rng.integers(0, len(KEYS), many)
    driver = cluster.remotes[0].client.driver
    assert isinstance(driver, SimDriver)
    link, names = driver.parts[1], [KEYS[key] for key in keys]
    for purpose in (OUT, BACK):
        found = np.empty(many)
        with np.errstate(over="ignore"):  # of whole numbers that wrap around
            (njit(in_turn) if compiled else in_turn)(way, w, keys, times, purpose, LOST[purpose], found)
        messages = zip(names, times.tolist(), strict=True)
        assert found.tolist() == [link.transit_time(SEED, name, time, purpose) for name, time in messages]


def in_turn(way: Any, w: Any, keys: Any, times: Any, purpose: int, lost: int, found: Any) -> None:
    """Draw the way of each message."""
    for i in range(len(found)):
        found[i] = way(w, keys[i], times[i], purpose, lost)
