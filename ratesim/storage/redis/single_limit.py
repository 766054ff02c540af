"""The decision of one limit, which is the most frequent call: a script of its own, written out for the algorithm.

The script is as short as it can be, because all nodes wait for the one server. It decides, charges, and answers the state as
it was found. From that the node replays the decision and has the figures of the answer, to the bit. Numbers are written by
the server and not by Lua, where each takes half a microsecond.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ratesim import algorithms
from ratesim.algorithms.codegen import InlineError, Layout, inline_rule, render, to_lua
from ratesim.limit import Limit
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.scripts import digest_of, lua_source, script_of
from ratesim.storage.redis.state_fields import prefix_of, to_str
from ratesim.storage.remote.replay import Replay, compile_replayer

__all__ = ["SingleLimit", "number_text"]

MOST_FLOATS = 64  # in a state: Lua has 200 local variables and 32 captures
MOST_LISTED = 30
SERVER_CLOCK = "local time = redis.call('TIME')\nlocal now = time[1] + time[2] / 1e6"

# The node's side, see `compile_replayer`: by the server's clock the answer says which time it was.
READ = """parts = (raw if consume else look(raw, now)).split()
stored = len(parts) > 1
verdict = float(parts[0])"""
READ_WITH_TIME = """parts = (raw if consume else look(raw, now)).split()
now = int(parts[1]) + int(parts[2]) / 1e6
stored = len(parts) > 3
verdict = float(parts[0])"""
LOAD, LOAD_WITH_TIME = "_, {state} = map(float, parts)", "_, _, _, {state} = map(float, parts)"


def number_text(value: float) -> str:
    """Write a float as Redis writes it: a whole number without a point."""
    return repr(value).removesuffix(".0")


class SingleLimit:
    """One limit whose decisions have a script of their own.

    A peek by the clock of the node is a plain HMGET, and so may be answered by a replica.

    Parameters
    ----------
    limits
        The one limit.
    config
        The options.
    tally
        [states that were brought back], which is counted up.
    """

    def __init__(self, limits: tuple[Limit, ...], config: RedisStorageConfig, tally: list[int]) -> None:
        (limit,) = limits
        algorithm, p, size, _ = algorithms.bind(limit)
        assert size is not None
        skew, prefix, rule = min(config.max_clock_skew, limit.period), prefix_of(limit.name), algorithm.rule
        server = config.clock == "server"
        self._digest = _script(algorithm, size, len(p), bool(prefix), server, config.min_ttl)
        self._arguments = (*(number_text(value).encode() for value in (skew, *p)), *([prefix.encode()] if prefix else []))
        names = ("algorithm", "expires_at", *(field.removesuffix("[]") for field in rule.FIELDS))
        self._fields = tuple(f"{prefix}{name}".encode() for name in names)
        self._look_digest = script_of("look") if server else None
        self._name = algorithm.name
        self._listed = size - len(rule.FIELDS) + 1 if rule.FIELDS[-1].endswith("[]") else None
        read, load = (READ_WITH_TIME, LOAD_WITH_TIME) if server else (READ, LOAD)
        make = compile_replayer(algorithm, size, len(p), read, load)
        self.answer: Replay = make(limit, rule, p, skew, tally, self._found)

    @staticmethod
    def suits(limits: Sequence[Limit]) -> bool:
        """Return whether limits are one with a small state of fixed size."""
        if len(limits) > 1:
            return False
        algorithm, _, size, _ = algorithms.bind(limits[0])
        return size is not None and size <= MOST_FLOATS and size - len(algorithm.rule.FIELDS) < MOST_LISTED

    def command(self, key: bytes, cost: float, now: float, consume: bool) -> tuple[Any, ...]:
        """Return the command of a request."""
        if consume:
            time, asked = number_text(now), b"1" if cost == 1.0 else number_text(cost)
            return ("EVALSHA", self._digest, 1, key, time, asked, *self._arguments)
        if self._look_digest is not None:
            return ("EVALSHA", self._look_digest, 1, key, *self._fields)
        return ("HMGET", key, *self._fields)

    def _found(self, values: Sequence[Any], now: float) -> str:
        """Write what a peek has read as the script of an acquire answers it. Raises ValueError."""
        parts = ["2"]
        if self._look_digest is not None:
            seconds, microseconds, values = values
            parts += [to_str(seconds), to_str(microseconds)]
            now = int(seconds) + int(microseconds) / 1e6
        algorithm, expires_at, *state = values
        if algorithm is not None and to_str(algorithm) == self._name and not float(expires_at or "") <= now:
            if None in state:
                raise ValueError("a field is missing")
            texts = [to_str(text) for text in state]
            if self._listed is None or len(texts[-1].split()) == self._listed:  # else it is of another size
                parts += texts
        return " ".join(parts)


@lru_cache(maxsize=256)
def _script(algorithm: algorithms.Algorithm, size: int, parameters: int, named: bool, server: bool, least: float) -> bytes:
    rule, layout = algorithm.rule, Layout(size)
    plain = [field.removesuffix("[]") for field in rule.FIELDS]
    standing = ("algorithm", "expires_at", "request_count", "last_accessed", "created_at")
    names = {name: f"f_{name}" if named else f"'{name}'" for name in (*standing, *plain)}
    variables = [f"s{i}" for i in range(size)]
    own, listed = len(plain) - 1, variables[len(plain) - 1 :]  # the last field may be a list
    as_found = [f"l{i}" for i in range(len(listed))] if len(listed) > 2 else []
    now = "now" if server else "ARGV[1]"
    values = [f"s{i}" if i or server else "s0 == now and ARGV[1] or s0" for i in range(size)]
    load = [f"{', '.join(variables)} = {', '.join(f'found[{4 + i}] - 0' for i in range(size))}"]
    if rule.FIELDS[-1].endswith("[]"):
        load = [f"s{i} = found[{4 + i}] - 0" for i in range(own)]
        load.append(f"{', '.join(listed)} = string.match(found[{4 + own}], '^{' '.join(['(%S+)'] * len(listed))}$')")
        numbers = ", ".join(f"{variable} - 0" for variable in listed)
        load.append(f"if {listed[0]} then {', '.join(listed)} = {numbers} else stored = false end")
        if as_found:
            load.append(f"{', '.join(as_found)} = {', '.join(listed)}")
        is_same = " and ".join(map("{} == {}".format, listed, as_found))  # a history seldom changes: its text is kept
        text = f"string.format('{' '.join(['%.17g'] * len(listed))}', {', '.join(listed)})"
        values[own:] = [f"{is_same} and found[{4 + own}] or {text}" if as_found else text]
    written = {
        "last_accessed": "at" if server else "at == now and ARGV[1] or at",
        "expires_at": f"now + fresh + {EXPIRY_MARGIN}",
    }
    written |= dict(zip(plain, values, strict=True))
    answer = ["verdict", *(["time[1]", "time[2]"] if server else [])]
    state = [f"found[{4 + i}]" for i in range(len(plain))]
    texts = {
        "names": "\n".join(f"local f_{name} = ARGV[{4 + parameters}] .. '{name}'" for name in names) if named else "",
        "fields": ", ".join(names[name] for name in plain),
        "clock": SERVER_CLOCK if server else "local now = ARGV[1] - 0",
        "parameters": ", ".join(f"p{i}" for i in range(parameters)),
        "arguments": ", ".join(f"ARGV[{4 + i}] - 0" for i in range(parameters)),
        "state": ", ".join([*variables, *as_found]),
        "load": "; ".join(load),
        "margin": repr(EXPIRY_MARGIN),
        "least": f"if seconds < {least!r} then seconds = {least!r} end" if least else "",
        "written": ", ".join(f"{names[name]}, {value}" for name, value in written.items()),
        "forget": textwrap.indent(lua_source("forget"), "    ").strip(),
        "prefix": f"ARGV[{4 + parameters}]" if named else "''",
        "now": now,
        "name": algorithm.name,
        "answer": f"stored and {_joined([*answer, *state])} or {_joined(answer)}",
        **{name: names[name] for name in standing},
    }
    called = False

    def write(verb: str, target: str | None, argument: str) -> list[str]:
        """Write a function of the rule out, or a call of its Lua twin."""
        nonlocal called
        try:
            # A decision is never taken at a time before the state's own.
            return to_lua(inline_rule(rule, verb, layout, target, {"now": argument}), target, known={"at >= s0"})
        except InlineError:
            called = True
            own = inspect.signature(getattr(rule, verb)).parameters
            call = f"rule.{verb}({', '.join(argument if name == 'now' else name for name in own)})"
            packed, unpacked = f"  local s = {{{', '.join(variables)}}}", f"  {', '.join(variables)} = unpack(s)"
            return ["do", packed, f"  {f'{target} = ' if target else ''}{call}", unpacked, "end"]

    body = render(lua_source("decide"), rule, layout, {"twin": "{twin}", **texts}, write)
    twin = f"local p = {{{texts['parameters']}}}\nlocal rule = (function()\n{algorithm.lua}\nend)()" if called else ""
    return digest_of(body.replace("{twin}", twin))


def _joined(parts: Sequence[str]) -> str:
    return " .. ' ' .. ".join(parts)
