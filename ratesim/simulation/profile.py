"""A profile: what the backends cost on a machine that was measured. It names the machine, the versions and the date.

The one that ships with the package serves until `ratesim calibrate` stores one of this machine.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from importlib import resources
from pathlib import Path

import msgspec
import platformdirs

from ratesim.errors import Config

__all__ = ["Backend", "Profile", "stored_path"]

# Where the service-time factors stand: quantiles, in this order.
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """What one operation of a backend costs, in seconds.

    client_cpu: processor time in the client's process, of one decision.
    fixed, item: a batch of n keeps one server busy for fixed + n * item.
    factors: the service time's spread: its quantiles at QUANTILES, as multiples of the median.
    concurrency: batches served at once.
    bytes_per_key: by algorithm, measured.
    latency_p50, latency_p99: of one decision here, one at a time, for comparison; the simulation does not use them.
    """

    client_cpu: float
    fixed: float = 0.0
    item: float = 0.0
    factors: tuple[float, ...] = (1.0,) * len(QUANTILES)
    concurrency: int = 1
    bytes_per_key: dict[str, float] = {}
    latency_p50: float = 0.0
    latency_p99: float = 0.0
    server: str = ""

    def service(self, items: int, uniform: float) -> float:
        """Service time of a batch at a quantile in (0, 1)."""
        i = min(bisect_right(QUANTILES, uniform), len(QUANTILES) - 1) - 1
        left, right = QUANTILES[i], QUANTILES[i + 1]
        share = min((uniform - left) / (right - left), 1.0)
        factor = self.factors[i] + (self.factors[i + 1] - self.factors[i]) * share
        return (self.fixed + items * self.item) * factor


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The backends of one machine. `source`: "shipped", or the path it was read from."""

    machine: str
    measured: str
    versions: dict[str, str]
    backends: dict[str, Backend]
    source: str = "shipped"

    @classmethod
    def load(cls, path: Path | None = None) -> Profile:
        """The profile at `path`; without one that of `ratesim calibrate`, or else the shipped one. Raises Config."""
        if path is None:
            path = stored_path()
            if not path.exists():
                shipped = resources.files("ratesim.simulation") / "profiles" / "shipped.json"
                return cls._decode(shipped.read_bytes(), "shipped")
        try:
            return cls._decode(path.read_bytes(), str(path))
        except OSError as error:
            raise Config(f"profile {path}: cannot be read: {error.strerror}") from error

    @classmethod
    def _decode(cls, data: bytes, source: str) -> Profile:
        try:
            return msgspec.structs.replace(msgspec.json.decode(data, type=cls), source=source)
        except msgspec.MsgspecError as error:
            raise Config(f"profile {source}: {error}; run `ratesim calibrate` to make a new one") from error

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(self, source="shipped")), indent=2)
        partial = path.with_suffix(".partial")
        partial.write_bytes(text + b"\n")
        partial.replace(path)

    def describe(self) -> str:
        """One sentence on where the numbers come from."""
        origin = "the profile shipped with ratesim" if self.source == "shipped" else f"the profile {self.source}"
        return f"Service times are from {origin}, measured on {self.machine} on {self.measured}."


def stored_path() -> Path:
    """Where `ratesim calibrate` puts its profile; RATESIM_PROFILE names another place."""
    return Path(os.environ.get("RATESIM_PROFILE") or platformdirs.user_data_path("ratesim") / "profile.json")
