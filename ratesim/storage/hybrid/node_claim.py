"""`NodeClaim`: the lease of L2 on the name of a node, so that no two living nodes have one name.

L2 tells the consumption of nodes apart by their names. Two nodes of one name would take each other's for their own.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import uuid
from collections.abc import Callable
from itertools import chain, repeat

from ratesim.errors import StorageConnectionError, StorageError, StorageTimeoutError, StorageUnavailableError
from ratesim.runtime import Runtime, Supervisor, Task
from ratesim.storage.base import RateLimitStorage

__all__ = ["CLAIM", "NodeClaim"]

logger = logging.getLogger(__name__)

CLAIM = "node claim"  # the name of the background task
TTL = 10.0  # seconds that a name stays taken after its holder was killed
POLL = 0.25  # seconds between two looks whether the holder of a name lives
CLOSER = (0.25, 0.5, 1.0, 2.0)  # seconds to the first renewals, since nodes that share a name often start together
APART = 0.05  # seconds by which the end of a claim must move to count as renewed


class NodeClaim:
    """Claims the name of a node at L2, renews the claim in the background, and gives it back.

    The background task is supervised as "node claim".

    Parameters
    ----------
    l2
        The shared storage.
    node
        The name.
    runtime
        Time and tasks.
    supervisor
        Runs the renewals.
    on_return
        Called when the name is held again after another process has held it.
    """

    def __init__(
        self,
        l2: RateLimitStorage,
        node: str,
        runtime: Runtime,
        supervisor: Supervisor,
        on_return: Callable[[], None],
    ) -> None:
        self._l2 = l2
        self._node = node
        self._runtime = runtime
        self._supervisor = supervisor
        self._on_return = on_return
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._held_until = -math.inf  # monotonic
        self._refused = False
        self._renewal: Task | None = None

    async def take(self) -> None:
        """Claim the name as the node opens.

        The name of a node that was killed is free after `TTL` seconds, which this waits for. A claim that is renewed
        meanwhile has a living holder. While L2 is away nothing is claimed: the next flush does it.

        Raises
        ------
        StorageUnavailableError
            Another living node has the name.
        """
        latest = math.inf  # the monotonic time when the claim of the present holder ends, at most
        former = ""
        while self._runtime.monotonic() >= self._held_until:
            asked = self._runtime.monotonic()
            try:
                holder, seconds = await self._l2.claim(self._node, self._holder, TTL)
            except (StorageConnectionError, StorageTimeoutError) as error:
                logger.warning("node %s is not claimed while L2 is away: %s", self._node, error)
                return
            if holder == self._holder:
                self._hold(asked)
                return
            if former and (holder != former or asked + seconds > latest + APART):
                raise self._taken(holder)
            if not former:
                former, latest = holder, self._runtime.monotonic() + seconds
                logger.warning("node %s belongs to %s: waiting %.1f s, in case it was killed", self._node, holder, seconds)
            await self._runtime.sleep(min(POLL, max(seconds, APART)))

    async def ensure(self) -> None:
        """Return if the name is held, after claiming it again where the claim has run out.

        Raises
        ------
        StorageUnavailableError
            Another node has the name.
        StorageError
            L2 does not answer.
        """
        if self._runtime.monotonic() >= self._held_until:
            await self._claim()

    async def _claim(self) -> None:
        asked = self._runtime.monotonic()
        holder, _ = await self._l2.claim(self._node, self._holder, TTL)
        if holder != self._holder:
            self._held_until, self._refused = -math.inf, True
            raise self._taken(holder)
        self._hold(asked)

    def _hold(self, asked: float) -> None:
        self._held_until = asked + TTL
        if self._refused:
            self._refused = False
            self._on_return()
        if self._renewal is None:
            self._renewal = self._runtime.spawn(self._keep())

    async def _keep(self) -> None:
        for wait in chain(CLOSER, repeat(TTL / 3)):
            await self._runtime.sleep(wait)
            await self._supervisor.attempt(CLAIM, self._claim)

    def _taken(self, holder: str) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"node {self._node!r} is in use by another process ({holder}): give each process a node of its own, "
            "or leave node empty"
        )

    def resume(self) -> None:
        """Go on in a new loop, where the one of the renewals has stopped."""
        if self._renewal is not None:
            self._renewal = self._runtime.spawn(self._keep())

    def stop(self) -> None:
        """Stop renewing. The name becomes free after `TTL` seconds."""
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        self._held_until = -math.inf

    async def release(self) -> None:
        """Stop renewing, and give the name back, unless L2 does not answer."""
        held = self._held_until > -math.inf
        self.stop()
        if not held:
            return
        try:
            await self._l2.claim(self._node, self._holder, 0.0)
        except StorageError as error:
            logger.warning("node %s stays claimed for %g s: %s", self._node, TTL, error)
