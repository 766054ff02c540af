"""`SessionToken`: the version of L2's state that a session has seen, and its own consumption that L2 may not know yet.

A token is for one session and one identifier. It is opaque, bounded (`MAX_OWN`) and not secret. A token that is damaged, or
of another identifier or format, is ignored and counted; a client gains no more by that than by dropping the token. A forged
token can only make its own session stricter or cost a read of L2, because its content is never stored: it is charged to a
copy of the view, for one decision.
"""

from __future__ import annotations

import binascii
import math
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from ratesim.limit import LARGEST, Limit
from ratesim.state import Watermark
from ratesim.storage.hybrid.replica_state import NOTHING_SEEN, ReplicaState, Version

__all__ = ["MAX_OWN", "OwnConsumption", "SeenVersion", "SessionToken", "missing_consumption"]

FORMAT = 1
MAX_OWN = 64  # entries of own consumption in a token; beyond that it is written to L2 at once
MAX_LENGTH = 16_384  # characters; a longer text is no token
ROUNDING = 1e-9  # relative; sums of costs may differ by it


class OwnConsumption(msgspec.Struct, frozen=True, array_like=True):
    """The session's consumption at one node in one step of time.

    Attributes
    ----------
    node, epoch
        The node, and its epoch for the key.
    cost
        The consumed cost.
    upto
        Cost that the node had admitted of the key in this epoch after the last of these requests.
    time
        Time of the last of them, seconds since the epoch.
    """

    node: str
    epoch: int
    cost: float
    upto: float
    time: float


class SeenVersion(msgspec.Struct, frozen=True, array_like=True):
    """The version of a limit's state in L2 that a session has seen, and its own consumption that is not in that state."""

    version: Version = NOTHING_SEEN
    own: tuple[OwnConsumption, ...] = ()

    def after_decision(self, record: ReplicaState, node: str, cost: float, now: float, fresh: bool) -> SeenVersion:
        """Return the version and own consumption that the session has seen after a decision on a view.

        Parameters
        ----------
        record
            The record whose view was decided on.
        node
            This node.
        cost
            The admitted cost, 0 after a denial.
        now
            Time of the decision, seconds since the epoch.
        fresh
            Whether the view was fit to decide on. Its version then replaces the one seen before, also a later one, since L2
            may have gone back.
        """
        others = [each for each in self.own if not _settled(each, record, node, now)]
        if cost:
            mine = OwnConsumption(node, record.epoch, cost, record.position(), now)
            for i, each in enumerate(others):
                if (each.node, each.epoch) == (node, record.epoch) and _same_step(each.time, now, record.time_resolution):
                    mine = OwnConsumption(node, record.epoch, each.cost + cost, mine.upto, max(each.time, now))
                    del others[i]
                    break
            others.append(mine)
        return SeenVersion(record.version if fresh else max(self.version, record.version), tuple(others))


class SessionToken(msgspec.Struct, frozen=True, array_like=True):
    """A session's token for one identifier.

    Attributes
    ----------
    format
        Version of this format.
    identifier_hash
        CRC-32 of the identifier.
    seen
        The version seen of each limit, by the name of the limit.
    """

    format: int
    identifier_hash: int
    seen: dict[str, SeenVersion]

    @classmethod
    def for_identifier(cls, identifier: str, seen: dict[str, SeenVersion]) -> SessionToken:
        """Make the token of an identifier."""
        return cls(FORMAT, zlib.crc32(identifier.encode()), seen)

    def encode(self) -> str:
        """Encode as text of letters, digits, "_" and "-", with a checksum."""
        data = _encoder.encode(self)
        return urlsafe_b64encode(zlib.crc32(data).to_bytes(4, "big") + data).rstrip(b"=").decode("ascii")

    @classmethod
    def decode(cls, text: str, identifier: str) -> SessionToken | None:
        """Decode a text; None where it is no token of this identifier."""
        if len(text) > MAX_LENGTH:
            return None
        try:
            data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
            if data[:4] != zlib.crc32(data[4:]).to_bytes(4, "big"):
                return None
            token = _decoder.decode(data[4:])
        except (binascii.Error, UnicodeError, msgspec.DecodeError, RecursionError):
            return None
        if token.format != FORMAT or token.identifier_hash != zlib.crc32(identifier.encode()):
            return None
        return token if all(map(_is_valid, token.seen.values())) else None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SessionToken)


def missing_consumption(seen: SeenVersion, record: ReplicaState, node: str, now: float) -> list[tuple[float, float]]:
    """Find the session's own consumption that a view lacks.

    The view holds nothing of a node above L2's watermark of that node. Consumption above it is therefore never counted
    twice, and the session's own part of it is at most all of it.

    Parameters
    ----------
    seen
        The version that the session has seen of the limit, with its own consumption.
    record
        The record with the view.
    node
        This node.
    now
        The time, seconds since the epoch.

    Returns
    -------
    list of (float, float)
        Time and cost, in the order of time.
    """
    found = []
    for own in seen.own:
        known = _settled(own, record, node, now) or _is_local(own, record, node)
        cost = 0.0 if known else _above_watermark(own, record.marks)
        if cost > 0.0:
            found.append((own.time, cost))
    return sorted(found)


def _above_watermark(own: OwnConsumption, marks: dict[str, Watermark]) -> float:
    """Return the cost that is above the watermark of its node."""
    mark = marks.get(own.node)
    if mark is None or mark.epoch < own.epoch:
        return own.cost
    if mark.epoch > own.epoch:  # the node has begun a new epoch, and flushed the former unless it died
        return 0.0
    return min(own.cost, max(own.upto - mark.consumed, 0.0))


def _settled(own: OwnConsumption, record: ReplicaState, node: str, now: float) -> bool:
    """Return whether every node that has seen this version knows it, or it is too old to matter."""
    if _is_local(own, record, node):
        return own.upto <= record.acked * (1 + ROUNDING)
    return now - own.time > _horizon(record.limit) or _above_watermark(own, record.marks) <= own.upto * ROUNDING


def _is_local(own: OwnConsumption, record: ReplicaState, node: str) -> bool:
    """Return whether it is of this node's present epoch, whose view has it anyway."""
    return own.node == node and own.epoch == record.epoch


def _horizon(limit: Limit) -> float:
    """Return the seconds after which a consumption affects no algorithm's decisions."""
    burst = limit.rate if limit.burst is None else limit.burst
    return limit.period * max(2.0, burst / limit.rate)


def _same_step(a: float, b: float, time_resolution: float) -> bool:
    # Where every time counts (a resolution of 0), the later time is used for both. That is stricter by the time between two
    # flushes.
    return (
        math.isinf(time_resolution)
        or time_resolution == 0.0
        or math.floor(a / time_resolution) == math.floor(b / time_resolution)
    )


def _is_valid(seen: SeenVersion) -> bool:
    numbers = [seen.version[0], *(number for own in seen.own for number in (own.cost, own.upto, own.time))]
    return len(seen.own) <= MAX_OWN and all(0.0 <= number <= LARGEST for number in numbers)
