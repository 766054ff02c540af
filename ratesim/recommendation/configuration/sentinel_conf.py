"""sentinel.conf: what three Sentinels need to watch a primary, for Redis 7 and Valkey 8 or 9.

What the directives mean: https://valkey.io/topics/sentinel/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.formatting import format_seconds
from ratesim.recommendation.assess.topology import SENTINELS
from ratesim.recommendation.configuration.escaping import to_comment
from ratesim.recommendation.configuration.store_size import service_of

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["PRIMARY", "sentinel_conf"]

PRIMARY = "primary.example"  # stands in the place of the primary's host
PORT = 6379
QUORUM = SENTINELS // 2 + 1
RETRIES = 6  # failover-timeout over down-after-milliseconds, as in the defaults


def sentinel_conf(scenario: Scenario, storage: str, title: str = "") -> str:
    """Write the configuration of each Sentinel for a storage URL of redis+sentinel."""
    service = service_of(storage)
    down = scenario.deployment.election
    parts = [
        to_comment(title),
        to_comment(
            f"For each of {SENTINELS} Sentinels, on machines that do not fail together. A Sentinel rewrites this "
            "file, so it must be allowed to, and each has a copy of its own. No password is in here: add "
            f"`requirepass` for the Sentinel itself, and `sentinel auth-pass {service} ...` (with an ACL `sentinel "
            f"auth-user {service} ...` too) for the primary and its replicas, where only its owner can read them. "
            "Clients bring both: the password of the URL is the primary's, and sentinel_password= that of the Sentinels."
        ),
        _part(
            "Names are resolved, and told to clients as names; put the primary's in the place of " + PRIMARY + ".",
            "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes",
        ),
        _part(
            f"{QUORUM} of {SENTINELS} must agree that the primary is lost; a majority elects the one that promotes a "
            "replica. With two Sentinels the loss of one machine would leave none to decide.",
            f"sentinel monitor {service} {PRIMARY} {PORT} {QUORUM}",
        ),
        _part(
            f"A primary without an answer for {format_seconds(down)} is lost for a Sentinel. A replica has taken over about "
            "two seconds later. Shorter, and a pause of a virtual machine is a failover, which forgets what was not "
            "replicated.",
            f"sentinel down-after-milliseconds {service} {round(down * 1000)}",
        ),
        _part(
            "A promotion that has not come to an end by then is tried again, by another Sentinel.",
            f"sentinel failover-timeout {service} {round(down * 1000) * RETRIES}",
        ),
        _part(
            "After it, replicas are pointed at the new primary one at a time: each is away while it copies.",
            f"sentinel parallel-syncs {service} 1",
        ),
    ]
    return "\n".join(part for part in parts if part)


def _part(reason: str, directives: str) -> str:
    return f"{to_comment(reason)}{directives}\n"
