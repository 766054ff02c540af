"""create_cluster.sh: the commands that make a cluster of servers that run with redis.conf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.recommendation.configuration.escaping import to_comment

if TYPE_CHECKING:
    from ratesim.recommendation.configuration.store_size import StoreSize

__all__ = ["addresses", "create_cluster"]

PORT = 6379


def addresses(size: StoreSize) -> list[str]:
    """Return a placeholder for each server, the primaries first."""
    return [f"node-{number}.example:{PORT}" for number in range(1, size.in_cluster() * (1 + size.replicas) + 1)]


def create_cluster(size: StoreSize, title: str = "") -> str:
    """Write a shell script that makes a cluster of empty servers, and checks it."""
    primaries, replicas, nodes = size.in_cluster(), size.replicas, addresses(size)
    has = (
        f"{primaries} primaries with {replicas} replica{'s' * (replicas > 1)} each" if replicas else f"{primaries} primaries"
    )
    alone = "" if replicas else " Without replicas nobody takes over, and the keys of a primary that is lost begin afresh."
    least = f" Of {size.primaries} primaries it makes no cluster: three is the least." if size.primaries < primaries else ""
    listed = "".join(f"  {node} \\\n" for node in nodes)
    return (
        "#!/bin/sh\n"
        + to_comment(title)
        + to_comment(
            f"Makes a cluster of {has}, once: all servers run with redis.conf, are empty, and reach each other on "
            "their port and on that port + 10000. Put your addresses in the place of node-1.example and so on. The "
            "first are the primaries; put the replicas, which follow, into another zone than these. redis-cli takes the "
            f"same commands.{alone}{least}"
        )
        + to_comment("The password of default is read from REDISCLI_AUTH, and is in no command.")
        + "set -eu\n"
        + ': "${REDISCLI_AUTH:?set it to the password that the servers have as requirepass and masterauth}"\n\n'
        + f"valkey-cli --cluster create \\\n{listed}  --cluster-replicas {replicas}\n\n"
        + to_comment("All slots are covered, and all nodes agree.")
        + f"valkey-cli --cluster check {nodes[0]}\n"
    )
