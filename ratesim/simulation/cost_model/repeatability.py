"""A calibration beside the one before: figures of the same machine and software should be the same again."""

from __future__ import annotations

from typing import NamedTuple

from ratesim.simulation.cost_model.profile import BackendCosts, Profile

__all__ = ["REPEATS", "Difference", "differences", "is_comparable"]

REPEATS = 0.1  # relative difference within which a second calibration is the same
MANY = 16  # operations of a batch that is compared beside that of one
PAUSE = 0.004  # seconds of idleness before the lone request that is compared


class Difference(NamedTuple):
    """A figure of a backend in seconds, in the profile before and in this one."""

    backend: str
    figure: str
    before: float
    now: float

    @property
    def change(self) -> float:
        """The relative difference."""
        return self.now / self.before - 1.0

    @property
    def exceeds(self) -> bool:
        """Whether it is above REPEATS."""
        return abs(self.change) > REPEATS


def is_comparable(before: Profile, now: Profile) -> bool:
    """Tell whether two profiles are of the same machine and versions."""
    return before.machine == now.machine and before.versions == now.versions


def differences(before: Profile, now: Profile) -> list[Difference]:
    """Compare what two profiles say of the same backends.

    Fixed and item costs are compared as batches of one and of MANY: what one of them gains the other may lose. Figures that
    one of the profiles has not measured are left out.
    """
    found = []
    for name in now.backends.keys() & before.backends.keys():
        earlier, later = figures(before.backends[name]), figures(now.backends[name])
        found += [
            Difference(name, figure, earlier[figure], later[figure]) for figure in later if earlier.get(figure, 0.0) > 0.0
        ]
    order = list(now.backends)
    return sorted(found, key=lambda each: order.index(each.backend))


def figures(costs: BackendCosts) -> dict[str, float]:
    """Return the figures of a backend that are compared, in seconds."""
    found = {"one decision, one at a time": costs.latency_p50}
    if costs.client is not None:
        found |= {
            "client, batch of 1": costs.cpu(1),
            f"client, batch of {MANY}": costs.cpu(MANY),
            "way and service of 1": costs.round_trip + costs.seconds(1),
            f"service of {MANY}": costs.seconds(MANY),
        }
    if costs.cold is not None:
        ask, answer, _ = costs.cold.client(PAUSE)
        busy = costs.client_cpu if costs.client is None else sum(costs.split[:2]) * costs.cpu(1)
        served = 0.0 if costs.client is None else costs.round_trip + costs.seconds(1)
        found[f"one decision after {PAUSE * 1e3:.0f} ms"] = busy + ask + answer + served + costs.cold.serving(PAUSE)
    if costs.commit is not None:
        found["commit"] = costs.commit.of(1)
    return found
