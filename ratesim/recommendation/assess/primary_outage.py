"""What the loss of one primary takes away: the keys without a store, for how long, and what is then admitted twice.

It is worked out from the topology, beside the faults that are simulated (`investigate/fault_impact.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ratesim.formatting import format_amount, format_percent, format_seconds

__all__ = ["PrimaryOutage"]


@dataclass(frozen=True)
class PrimaryOutage:
    """The blast radius of one primary.

    Attributes
    ----------
    primaries
        How many there are.
    key_share
        The share of the keys that are without a store while one of them is down.
    request_share
        The share of the requests that are for those keys, where the primary of the hottest key is down.
    seconds
        From the crash until a replica has taken over; None where there is no replica, and the store is away until it is
        back.
    requests
        Requests that come for those keys meanwhile, in the busiest second's rate; None where `seconds` is.
    over_admitted
        Requests that are admitted a second time, because the replica had not received them, at most; None without a
        replica. A primary that comes back without its memory forgets all that it counted.
    fallback
        What a hybrid's nodes do meanwhile (`on_store_failure`); "" where a request without the store has no decision.
    remembers
        Whether a server that comes back has what it counted, as a PostgreSQL has that logs its tables.
    waits
        Whether answers wait for the replica.
    """

    primaries: int
    key_share: float
    request_share: float
    seconds: float | None
    requests: float | None
    over_admitted: float | None
    fallback: str = ""
    remembers: bool = False
    waits: bool = False

    @property
    def sentence(self) -> str:
        """The same in plain words."""
        which = "While the primary is down, all keys"
        if self.primaries > 1:
            which = f"While one of the {self.primaries} primaries is down, {format_percent(self.key_share)} of the keys"
            if self.request_share > 1.05 * self.key_share:
                which += f" ({format_percent(self.request_share)} of the requests, if the hottest key is among them)"
        what = f"are without their store, and nodes go on by {self.fallback}" if self.fallback else "get no decision"
        if self.seconds is None or self.requests is None or self.over_admitted is None:
            without = "" if self.remembers else ", and it comes back without what it counted"
            return f"{which} {what} until it is back{without}."
        lost = f"What the replica had not received is admitted again, at most {format_amount(self.over_admitted)} requests."
        if self.waits:
            lost = (
                "Answers wait for the replica, so nothing that was answered is lost. While no replica answers, no request "
                "that would be admitted gets its decision."
            )
        return (
            f"{which} {what} for about {format_seconds(self.seconds)}, until a replica has taken over: "
            f"{format_amount(self.requests)} requests. {lost}"
        )
