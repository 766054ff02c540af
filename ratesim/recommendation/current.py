"""The configuration in force, as one of the candidates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ratesim.simulation.scenario.deployment import Deployment
from ratesim.simulation.scenario.topology import Servers, servers_of
from ratesim.storage.urls import StorageURL, localhost_url

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Candidate

__all__ = ["CURRENT", "with_current"]

CURRENT = "in force"  # the name under which it competes


def with_current(
    current: Candidate, others: Iterable[Candidate], deployment: Deployment | None = None
) -> tuple[Candidate, ...]:
    """Put the configuration in force before the other candidates.

    A candidate that is the same, on as many servers, or that was in force at an earlier check, is left out.
    """
    at = deployment or Deployment()

    def servers(each: Candidate) -> Servers:
        return servers_of(each.storage, each.primaries, each.replicas, at)

    def same(each: Candidate) -> bool:
        if each.name == current.name:
            return True
        mine, its = (StorageURL.parse(localhost_url(storage)) for storage in (current.storage, each.storage))
        if servers(current) != servers(each):
            return False
        routings = {each.routing or at.routing, current.routing or at.routing}
        return mine == its and each.algorithm == current.algorithm and len(routings) == 1

    return (current, *(each for each in others if not same(each)))
