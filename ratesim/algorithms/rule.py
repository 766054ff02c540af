"""The contract of an algorithm module.

A state `s` is a flat, mutable sequence of floats; s[0] is always the state's own time, in seconds since the epoch. The
parameters `p` are a flat tuple of floats made from a `Limit`. The functions are plain arithmetic on both. So the same source
runs interpreted and compiled by numba, and has line-by-line twins in Lua and SQL that give the same bits.

The caller keeps two promises. `now` is never before s[0]: a decision with an earlier time is taken at the state's own time.
There are two exceptions: `charge` gets late consumption with its own time, and `rewind` brings a state that is too far ahead
back to `now`. And `refresh` is called first.
"""

from __future__ import annotations

import re
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from importlib import resources
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from ratesim.limit import Limit

_NAME = re.compile(r"[a-z][a-z0-9_]{0,33}")  # each state in a store carries it
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
# What every stored record has beside the fields of its algorithm.
RESERVED = ("algorithm", "created_at", "last_accessed", "expires_at", "request_count", "metadata")

State = MutableSequence[float]
Params = tuple[float, ...]


class Rule(Protocol):
    """The functions of an algorithm module (`ratesim/algorithms/token_bucket.py` is a good first one to read).

    Attributes
    ----------
    FIELDS : tuple[str, ...]
        Names of the floats of a stored state.
    OPTIONS : dict[str, float | None]
        Defaults of the options of a limit.
    BURST : bool
        Whether a limit may have a burst of its own.
    """

    FIELDS: tuple[str, ...]  # a name for each float of the state; a last name that ends in "[]" stands for all the rest
    OPTIONS: dict[str, float | None]  # the limit options it takes beyond rate, period and burst; None: depends on the rate
    BURST: bool  # whether it takes `burst`

    def params(self, limit: Limit) -> Params:
        """Return the parameters; raise InvalidLimitError for options that make no sense."""

    def size(self, p: Params) -> int:
        """Return the number of floats in a fresh state."""

    def start(self, s: State, p: Params, now: float) -> None:
        """Make s a fresh state."""

    def refresh(self, s: State, p: Params, now: float) -> None:
        """Bring s forward to `now`: refill, leak, roll windows.

        It also clamps a state that an earlier, larger limit left.
        """

    def rewind(self, s: State, p: Params, now: float) -> None:
        """Bring s back to an earlier `now`, because a wrong clock has written it.

        Every time in s that is ahead of `now` becomes `now`, and the start of a window the start of the window of `now`.
        All consumption that s remembers still counts.
        """

    def available(self, s: State, p: Params, now: float) -> float:
        """Return the cost that would be admitted now; negative after an overdraft."""

    def charge(self, s: State, p: Params, cost: float, now: float) -> None:
        """Consume, even more than is available: merging the consumption of other nodes may overdraw."""

    def retry_after(self, s: State, p: Params, cost: float, now: float) -> float:
        """Return the seconds until `cost`, denied now, could be admitted, but for rounding; inf for never."""

    def reset_after(self, s: State, p: Params, now: float) -> float:
        """Return the seconds until s decides like a fresh state."""

    def time_resolution(self, p: Params) -> float:
        """Return the resolution of charge times, in seconds.

        Charges whose times share a multiple of it may be merged into one without changing any decision. It is inf where the
        time of a late charge does not matter, and 0 where only charges of the same time may be merged.
        """


class AdaptiveRule(Rule, Protocol):
    """A rule that adapts to the health of the service behind the limit."""

    def observe(self, s: State, p: Params, score: float, now: float) -> None:
        """Take in a score from 0 (failing) to 1 (fine)."""


class VariableSizeRule(Rule, Protocol):
    """A rule whose state has no fixed length.

    It works on a ring with room to spare, and is stored without the room. It may name the places whose numbers are whole, as
    the tuple WHOLE: `start` and `working` put ints there, and no function puts anything else.
    """

    HEAD: int  # how many leading floats `refresh` may write; the rest only `charge` does

    def grow(self, s: State) -> None:
        """Make room for more; `charge` calls it when s is full.

        It is not compiled, because compiled code gets states that are long enough.
        """

    def longest(self, p: Params, requests: int, smallest: float) -> int:
        """Return the number of floats that a state never outgrows, given so many requests of at least cost `smallest`."""

    def stored(self, s: State) -> list[float]:
        """Return the state as FIELDS describe it."""

    def working(self, values: list[float]) -> list[float]:
        """Invert `stored`; ValueError for values that cannot be a state."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A registered rule with its three twins.

    Attributes
    ----------
    name : str
        The registered name.
    rule : Rule
        The Python twin.
    lua, sql : str
        Sources of the other twins.
    feedback : AdaptiveRule or None
        The rule again, if it is adaptive.
    variable_size : VariableSizeRule or None
        The rule again, if its states vary in size.
    pairs : bool
        Whether a stored state is a time, a sum, and pairs of a time and a cost in the order of times (PAIRS in the module).
        A store may keep such a state in pieces. Its Lua twin reads it by `ratesim/storage/redis/lua/log.lua`.
    """

    name: str
    rule: Rule
    lua: str = field(repr=False)
    sql: str = field(repr=False)
    feedback: AdaptiveRule | None = field(init=False, repr=False)
    variable_size: VariableSizeRule | None = field(init=False, repr=False)
    pairs: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()
        for kind, sign in (("feedback", "observe"), ("variable_size", "grow")):
            object.__setattr__(self, kind, self.rule if hasattr(self.rule, sign) else None)
        object.__setattr__(self, "pairs", getattr(self.rule, "PAIRS", False))

    @classmethod
    def from_module(cls, module: object) -> Algorithm:
        """Read the twins that lie beside the module: token_bucket.py, token_bucket.lua, token_bucket.sql."""
        package, _, name = getattr(module, "__name__", "").rpartition(".")
        if not isinstance(module, ModuleType) or not package:
            raise ValueError(f"{module!r}: an algorithm is a module inside a package, with its .lua and .sql beside it")
        folder = resources.files(package)
        lua, sql = ((folder / f"{name}.{ending}").read_text("utf-8") for ending in ("lua", "sql"))
        return cls(name, cast(Any, module), lua, sql)

    def _check(self) -> None:
        """Raise ValueError for a defect that would fail later, in one of the twins or in all."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"algorithm {self.name!r}: name it with at most 34 of a-z, 0-9 and _, a letter first")
        wanted = [name for name in vars(Rule) if not name.startswith("_")] + [*Rule.__annotations__]
        for name in wanted:
            if not hasattr(self.rule, name):
                raise ValueError(f"algorithm {self.name}: its module lacks {name}")
        for place, name in enumerate(self.rule.FIELDS, 1):
            plain = name.removesuffix("[]") if place == len(self.rule.FIELDS) else name
            if not _FIELD.fullmatch(plain) or plain in RESERVED:
                raise ValueError(
                    f"algorithm {self.name}: the field {name!r} is no name, or that of something else in a record"
                )
        for verb in ("start", "rewind"):
            if f"ratesim_{self.name}_{verb}" not in self.sql:
                raise ValueError(f"algorithm {self.name}: its SQL twin has no function ratesim_{self.name}_{verb}")
        if "function rule.rewind" not in self.lua and "rule.rewind =" not in self.lua:
            raise ValueError(f"algorithm {self.name}: its Lua twin has no function rule.rewind")
        if "return rule" not in self.lua:
            raise ValueError(f"algorithm {self.name}: its Lua twin does not end in `return rule`")

    def named(self, values: list[float]) -> dict[str, float | list[float]]:
        """Name the floats of a stored state; ValueError if its length is wrong."""
        *fixed, last = self.rule.FIELDS
        if not last.endswith("[]"):
            return dict(zip(self.rule.FIELDS, values, strict=True))
        head = len(fixed)
        return {**dict(zip(fixed, values[:head], strict=True)), last.removesuffix("[]"): values[head:]}

    def flat(self, named: dict[str, float | list[float]]) -> list[float]:
        """Invert `named`; KeyError for a missing field, ValueError for an unknown one."""
        values: list[float] = []
        for name in self.rule.FIELDS:
            value = named[name.removesuffix("[]")]
            if isinstance(value, list) != name.endswith("[]"):
                raise ValueError(
                    f"{name.removesuffix('[]')} {value!r}: must be a {'list' if name.endswith('[]') else 'number'}"
                )
            values.extend(value if isinstance(value, list) else [value])
        if len(named) > len(self.rule.FIELDS):
            known = [name.removesuffix("[]") for name in self.rule.FIELDS]
            raise ValueError(f"unknown field {next(name for name in named if name not in known)!r}")
        return values

    def stored(self, s: State) -> list[float]:
        """Return a working state as it is stored."""
        return list(s) if self.variable_size is None else self.variable_size.stored(s)

    def working(self, values: list[float]) -> list[float]:
        """Invert `stored`; ValueError for values that cannot be a state."""
        return values if self.variable_size is None else self.variable_size.working(values)
