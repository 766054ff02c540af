"""What the draws of a world by time need: a link, a seed, the hashes of names, and the costs of the kinds of operations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.cost_model.profile import QUANTILES, BackendCosts, MeasuredLink
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.redis_cluster import ShardedDriver
from ratesim.simulation.engine.remote_storage import SimDriver
from ratesim.simulation.kernel import layout
from ratesim.simulation.network.counter_rng import name_codes, salt
from ratesim.simulation.network.draw_column import DRAW_NAME

__all__ = ["draw_parts"]

_PURPOSES = 7


def draw_parts(context: RunContext, cluster: Cluster) -> tuple[dict[str, NDArray[Any]], dict[str, float | int]]:
    """Return the arrays and scalars of the draws by their names in `layout`.

    Parameters
    ----------
    context, cluster
        The run, and its nodes and servers.
    """
    driver = cluster.remotes[0].client.driver
    way = driver._drivers[0] if isinstance(driver, ShardedDriver) else driver
    assert isinstance(way, SimDriver)
    server, link, _, _, seed, _, _ = way.parts
    costs, factors = _kinds(server.costs)
    bits = np.zeros(1)
    measured = link.factors if isinstance(link, MeasuredLink) else ()
    arrays = {
        "bits_float": bits,
        "bits_whole": bits.view(np.uint64),
        "name_products": name_codes(context.trace) * DRAW_NAME,
        "draw_salts": np.array([salt(seed, purpose) for purpose in range(_PURPOSES)], np.uint64),
        "kind_costs": costs,
        "kind_factors": factors,
        "link_factors": np.array([*QUANTILES, *measured]),
    }
    scalars: dict[str, float | int] = {
        "link_median": link.median,
        "link_sigma": link.sigma,
        "link_loss": link.loss,
        "link_rto": link.rto,
        "link_measured": int(isinstance(link, MeasuredLink)),
    }
    return arrays, scalars


def _kinds(costs: BackendCosts) -> tuple[NDArray[Any], NDArray[np.float64]]:
    table, factors = np.zeros(len(layout.KINDS), layout.KIND_COST), [*QUANTILES]
    for row, name in zip(table, layout.KINDS, strict=True):
        other = costs.operations.get(name)
        if other is not None:
            row["fixed"], row["each"], row["own"] = other.fixed, other.item, 1
        factors += costs.factors if other is None else other.factors
    return table, np.array(factors)
