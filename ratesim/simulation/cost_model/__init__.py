"""The cost model: how long each backend takes on a measured machine, as a profile.

Use `profile.Profile` to read one and `calibrate.calibrate` to measure one. Its steps are `target_server`, `survey` and
`cost_fit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.cost_fit import measure
    from ratesim.simulation.cost_model.profile import BackendCosts, Cost, Profile
    from ratesim.simulation.cost_model.target_server import open_target

__all__ = ["BackendCosts", "Cost", "Profile", "measure", "open_target"]

__getattr__ = lazy_exports(
    __name__,
    {
        "measure": "ratesim.simulation.cost_model.cost_fit",
        "BackendCosts": "ratesim.simulation.cost_model.profile",
        "Cost": "ratesim.simulation.cost_model.profile",
        "Profile": "ratesim.simulation.cost_model.profile",
        "open_target": "ratesim.simulation.cost_model.target_server",
    },
)
