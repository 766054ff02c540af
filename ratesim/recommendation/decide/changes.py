"""What a candidate changes beside the storage: the routing, the algorithm, the servers that are named, the clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.recommendation.current import CURRENT
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.recommendation.assess.assessment import Assessment
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["changes", "changes_note", "changing"]


def changes(each: Assessment, scenario: Scenario) -> tuple[str, ...]:
    """List what must change beside the storage, as "the routing from round_robin to sticky".

    The configuration in force changes nothing.
    """
    if each.candidate == CURRENT:
        return ()
    found, deployment = [], scenario.deployment
    if each.routing != deployment.routing and deployment.nodes > 1:
        found.append(f"the routing from {deployment.routing} to {each.routing}")
    if each.algorithm != scenario.limit.algorithm:
        found.append(f"the algorithm from {scenario.limit.algorithm} to {each.algorithm}")
    url = StorageURL.parse(each.storage)
    if url.backend == "redis" and "shards" in deployment.model_fields_set and each.servers not in (0, deployment.shards):
        found.append(f"the primaries of Redis from {deployment.shards} to {each.servers}")
    if url.hybrid is not None and url.hybrid.consistency == "session":
        found.append("the clients, which must return their session's token with each request")
    return tuple(found)


def changing(each: Assessment, scenario: Scenario, reason: str) -> str:
    """Return the reason why a candidate was rejected, after what it changes beside the storage."""
    needed = changes(each, scenario)
    return f"would change {' and '.join(needed)}; {reason}" if needed else reason


def changes_note(each: Assessment | None, scenario: Scenario) -> str:
    """Return a sentence for one that names a candidate which is not chosen; "" where it changes only the storage."""
    needed = () if each is None else changes(each, scenario)
    return f"{each.candidate} would change {' and '.join(needed)}." if each is not None and needed else ""
