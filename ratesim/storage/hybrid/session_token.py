"""What travels with a session: how much of L2 it has seen, and what of its own consumption L2 may not know yet.

A token is for one session and one identifier. It is opaque, bounded (`MOST_OWN`) and not secret. One that is damaged, of
another identifier or of another version is ignored and counted: that is no more than dropping it, which a client can do
anyway. One that is forged can only make its own session stricter, or cost a read of L2, since what it says is never kept:
it is charged to a copy of the view, for one decision.
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

__all__ = ["MOST_OWN", "OwnConsumption", "SeenVersion", "SessionToken", "unknown"]

FORMAT = 1
MOST_OWN = 64  # nodes at which a session may have consumed what L2 does not know; what comes on top is told to L2 at once
LONGEST = 16_384  # characters that are looked at
ROUNDING = 1e-9  # relative; sums of costs may differ by it


class OwnConsumption(msgspec.Struct, frozen=True, array_like=True):
    """The session's consumption at a node, in one step of time: `cost` of it, the last at `time`, after which the node had
    admitted `upto` of this key in that epoch."""

    node: str
    epoch: int
    cost: float
    upto: float
    time: float


class SeenVersion(msgspec.Struct, frozen=True, array_like=True):
    """Of one limit: the version of L2's state that the session has seen, and its own consumption that is not in there."""

    version: Version = NOTHING_SEEN
    own: tuple[OwnConsumption, ...] = ()

    def later(self, record: ReplicaState, node: str, cost: float, now: float, heard: bool) -> SeenVersion:
        """What the session has seen after a decision on the record's view, at which `cost` of it was admitted.

        heard: whether L2 could be asked, if it had to be. If so its version is what there is, also where it has gone back.
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
        return SeenVersion(record.version if heard else max(self.version, record.version), tuple(others))


class SessionToken(msgspec.Struct, frozen=True, array_like=True):
    """By the name of each limit, what was seen of it. whose: a hash of the identifier."""

    format: int
    whose: int
    seen: dict[str, SeenVersion]

    @classmethod
    def of(cls, identifier: str, seen: dict[str, SeenVersion]) -> SessionToken:
        return cls(FORMAT, zlib.crc32(identifier.encode()), seen)

    def encode(self) -> str:
        """As it travels: letters, digits, "_" and "-"."""
        data = _encoder.encode(self)
        return urlsafe_b64encode(zlib.crc32(data).to_bytes(4, "big") + data).rstrip(b"=").decode("ascii")

    @classmethod
    def decode(cls, text: str, identifier: str) -> SessionToken | None:
        """None for what is no token of this identifier."""
        if len(text) > LONGEST:
            return None
        try:
            data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
            if data[:4] != zlib.crc32(data[4:]).to_bytes(4, "big"):
                return None
            token = _decoder.decode(data[4:])
        except (binascii.Error, UnicodeError, msgspec.DecodeError, RecursionError):
            return None
        whose = zlib.crc32(identifier.encode())
        right = token.format == FORMAT and token.whose == whose and all(map(_sane, token.seen.values()))
        return token if right else None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SessionToken)


def unknown(seen: SeenVersion, record: ReplicaState, node: str, now: float) -> list[tuple[float, float]]:
    """(time, cost) of the session's own consumption that the record's view lacks.

    Above L2's watermark of a node nothing of it is in the view, so what lies there is never counted twice; and at most that
    much of the session's own lies there.
    """
    found = []
    for own in seen.own:
        cost = 0.0 if _settled(own, record, node, now) or _here(own, record, node) else _above(own, record.marks)
        if cost > 0.0:
            found.append((own.time, cost))
    return sorted(found)


def _above(own: OwnConsumption, marks: dict[str, Watermark]) -> float:
    """What of it is above the watermark of its node."""
    mark = marks.get(own.node)
    if mark is None or mark.epoch < own.epoch:
        return own.cost
    if mark.epoch > own.epoch:  # the node has forgotten that epoch, and flushed it before unless it died
        return 0.0
    return min(own.cost, max(own.upto - mark.consumed, 0.0))


def _settled(own: OwnConsumption, record: ReplicaState, node: str, now: float) -> bool:
    """Whether every node that has seen what this one has seen knows it, or it is too old to matter."""
    if _here(own, record, node):
        return own.upto <= record.acked * (1 + ROUNDING)
    return now - own.time > _memory(record.limit) or _above(own, record.marks) <= own.upto * ROUNDING


def _here(own: OwnConsumption, record: ReplicaState, node: str) -> bool:
    """Whether it is of this node as it is now, whose view has it anyway."""
    return own.node == node and own.epoch == record.epoch


def _memory(limit: Limit) -> float:
    """Seconds after which no algorithm remembers a consumption."""
    burst = limit.rate if limit.burst is None else limit.burst
    return limit.period * max(2.0, burst / limit.rate)


def _same_step(a: float, b: float, time_resolution: float) -> bool:
    # Where every time counts (a resolution of 0), the later one is taken for both. That is stricter by what lies between
    # two flushes.
    return (
        math.isinf(time_resolution)
        or time_resolution == 0.0
        or math.floor(a / time_resolution) == math.floor(b / time_resolution)
    )


def _sane(seen: SeenVersion) -> bool:
    numbers = [seen.version[0], *(number for own in seen.own for number in (own.cost, own.upto, own.time))]
    return len(seen.own) <= MOST_OWN and all(0.0 <= number <= LARGEST for number in numbers)
