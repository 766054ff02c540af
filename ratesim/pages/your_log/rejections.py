"""What a log tells of a service that limits already: its answers 429, and how often the refused came again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from traffic import Trace

__all__ = ["RejectedRequests", "rejected_requests"]

# What nginx's limit_req answers unless told otherwise, https://nginx.org/en/docs/http/ngx_http_limit_req_module.html
UNAVAILABLE = 503


@dataclass(frozen=True)
class RejectedRequests:
    """The rejected requests of a log.

    Attributes
    ----------
    known
        Whether the log has status codes.
    many
        Number of answers 429, of `requests`, to `clients` clients.
    again
        How many of them the same client followed by another request within a period.
    unavailable
        Number of answers 503.
    cost, other_cost
        Mean cost of a request that was, and was not, answered 429; 0 if there is none.
    """

    known: bool
    requests: int
    many: int = 0
    clients: int = 0
    again: int = 0
    unavailable: int = 0
    cost: float = 0.0
    other_cost: float = 0.0

    @property
    def share(self) -> float:
        """The share of requests that were answered 429."""
        return self.many / self.requests


def rejected_requests(trace: Trace, period: float) -> RejectedRequests:
    """Count the rejected requests of a trace with at least one request. `period` is in seconds."""
    if trace.status is None:
        return RejectedRequests(False, len(trace))
    unavailable = int(np.count_nonzero(trace.status == UNAVAILABLE))
    limited = trace.status == 429
    many = int(np.count_nonzero(limited))
    if not many:
        return RejectedRequests(True, len(trace), unavailable=unavailable)
    rows = np.argsort(trace.key, kind="stable")  # of each client in order of time
    key, time = trace.key[rows], trace.time[rows]
    followed = limited[rows[:-1]] & (key[1:] == key[:-1]) & (time[1:] - time[:-1] < period)
    return RejectedRequests(
        known=True,
        requests=len(trace),
        many=many,
        clients=int(np.count_nonzero(np.bincount(trace.key[limited]))),
        again=int(np.count_nonzero(followed)),
        unavailable=unavailable,
        cost=float(trace.cost[limited].mean()),
        other_cost=float(trace.cost[~limited].mean()) if many < len(trace) else 0.0,
    )
