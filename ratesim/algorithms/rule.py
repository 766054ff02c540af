"""The shape of a rule: what every algorithm module offers.

A state `s` is a flat, mutable sequence of floats; s[0] is always the state's own time, in seconds since the epoch. The
parameters `p` are a flat tuple of floats made from a `Limit`. The functions are plain arithmetic on both, so that the same
source runs interpreted, compiled by numba, and has line-by-line twins in Lua and SQL which give the same bits.

Who calls them keeps two promises: `now` is never before s[0] (a decision that comes with an earlier time is taken at the
state's own), except for `charge`, which is told of late consumption at its own time; and `refresh` came first.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass, field
from importlib import resources
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from ratesim.limit import Limit

State = MutableSequence[float]
Params = tuple[float, ...]


class Rule(Protocol):
    """The functions of an algorithm module (`ratesim/algorithms/token_bucket.py` is a good first one to read)."""

    FIELDS: tuple[str, ...]  # what each float of the state is; a last name that ends in "[]" stands for all the rest
    OPTIONS: dict[str, float]  # the limit options it takes beyond rate, period and burst, with their defaults
    BURST: bool  # whether it takes `burst`

    def params(self, limit: Limit) -> Params:
        """The parameters; raises InvalidLimit for options that make no sense."""

    def size(self, p: Params) -> int:
        """Floats in a state."""

    def start(self, s: State, p: Params, now: float) -> None:
        """Make s a fresh state."""

    def refresh(self, s: State, p: Params, now: float) -> None:
        """Bring s forward to `now`: refill, leak, roll windows. Also clamps a state that an earlier, larger limit left."""

    def available(self, s: State, p: Params, now: float) -> float:
        """Cost that would be admitted now; negative after an overdraft."""

    def charge(self, s: State, p: Params, cost: float, now: float) -> None:
        """Consume, even more than is available: merging what other nodes admitted may overdraw."""

    def retry_after(self, s: State, p: Params, cost: float, now: float) -> float:
        """Seconds until `cost`, denied now, could be admitted; inf if never."""

    def fresh_after(self, s: State, p: Params, now: float) -> float:
        """Seconds until s decides like a fresh state."""

    def grain(self, p: Params) -> float:
        """Seconds: charges whose times share a multiple of this may be merged into one without changing any decision.

        inf where the time of a late charge does not matter.
        """


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A registered rule with its three twins."""

    name: str
    rule: Rule
    lua: str = field(repr=False)
    sql: str = field(repr=False)

    @classmethod
    def from_module(cls, module: ModuleType) -> Algorithm:
        """Read the twins that lie beside the module: token_bucket.py, token_bucket.lua, token_bucket.sql."""
        package, _, name = module.__name__.rpartition(".")
        folder = resources.files(package)
        lua, sql = ((folder / f"{name}.{ending}").read_text("utf-8") for ending in ("lua", "sql"))
        return cls(name, cast(Any, module), lua, sql)

    def named(self, s: State) -> dict[str, float | list[float]]:
        """The state by field name, as it is stored where people read it."""
        *fixed, last = self.rule.FIELDS
        if not last.endswith("[]"):
            return dict(zip(self.rule.FIELDS, s, strict=True))
        head = len(fixed)
        return {**dict(zip(fixed, s, strict=False)), last.removesuffix("[]"): list(s[head:])}

    def flat(self, named: dict[str, float | list[float]]) -> list[float]:
        """The inverse of `named`; KeyError for a field that is missing."""
        values: list[float] = []
        for name in self.rule.FIELDS:
            value = named[name.removesuffix("[]")]
            values.extend(value if isinstance(value, list) else [value])
        return values
