"""The decision of one limit, which is the most frequent call: a script of its own, written out for the algorithm.

The script is as short as it can be, because all nodes wait for the one server. It decides, charges, and answers the state as
it was found. From that the node replays the decision and has the figures of the answer, to the bit. Numbers are written by
the server and not by Lua, where each takes half a microsecond.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ratesim import algorithms
from ratesim.algorithms.codegen import InlineError, Layout, inline_rule, render, to_lua
from ratesim.errors import SerializationError
from ratesim.limit import Decision, Limit
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.scripts import digest_of, lua_source, script_of
from ratesim.storage.redis.state_fields import prefix_of, to_str
from ratesim.storage.retry_after import FOREVER, exact_retry_after

__all__ = ["Answer", "SingleLimit", "number_text"]

Answer = Callable[[Any, float, float, bool], Decision | SerializationError]
"""(what the server answered, cost, now, consume) -> the decision that was, or would be, taken"""

MOST_FLOATS = 64  # in a state: Lua has 200 local variables and 32 captures
MOST_LISTED = 30
SERVER_CLOCK = "local time = redis.call('TIME')\nlocal now = time[1] + time[2] / 1e6"

# The node's side: the figures that the script has not computed. `verdict` is 2 for a peek.
_REPLAY = """
def replayer(limit, rule, p, skew, tally, look):
    {parameters} = p
    def replay(raw, cost, now, consume):
        try:
            parts = (raw if consume else look(raw, now)).split()
            {clock}
            rewound = False
            if len(parts) > {head}:
                verdict, {head_names}{state} = map(float, parts)
                if s0 - now > skew:
                    <rewind None now=now>
                    rewound = True
                    if consume:
                        tally[0] += 1
                at = s0 if s0 > now else now
                <refresh None now=at>
            else:
                verdict = float(parts[0])
                at = now
                <start None now=at>
            <available left now=at>
            if verdict == 1.0:
                <charge None now=at>
                <available left now=at>
                <reset_after fresh now=at>
                fresh = fresh + (at - now)
                if left == left and fresh == fresh:
                    return Decision(True, left if left > 0.0 else 0.0, 0.0, fresh, limit)
                raise ValueError("one of its numbers is NaN")
            <reset_after fresh now=at>
            fresh = fresh + (at - now)
            if verdict == 2.0 and left >= cost:
                return Decision(True, left if left > 0.0 else 0.0, 0.0, fresh, limit)
            <retry_after wait now=at>
            wait = wait + (at - now)
            if left != left or fresh != fresh or wait != wait:
                raise ValueError("one of its numbers is NaN")
            if len(parts) > {head} and wait < FOREVER:
                micros = ceil(wait * 1e6)
                if micros < 1:
                    micros = 1
                _, {head_names}{state} = map(float, parts)
                if rewound:
                    <rewind None now=now>
                then = now + micros / 1e6
                if then < s0:
                    then = s0
                s = {listed}
                <refresh None now=then>
                <available again now=then>
                wait = micros / 1e6 if again >= cost else exact_retry_after(rule, s, p, None, cost, now, wait)
            return Decision(False, left if left > 0.0 else 0.0, wait, fresh, limit)
        except (ValueError, OverflowError, ZeroDivisionError) as error:
            return SerializationError(f"a state that cannot be read: {error}; reset it")
    return replay
"""


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
        make = _replayer(algorithm, size, len(p), server)
        self.answer: Answer = make(limit, rule, p, skew, tally, self._found)

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
def _replayer(algorithm: algorithms.Algorithm, size: int, parameters: int, server: bool) -> Callable[..., Any]:
    layout = Layout(size)
    texts = {
        "parameters": "".join(f"p{i}, " for i in range(parameters)),
        "state": layout.variables,
        "clock": "now = int(parts[1]) + int(parts[2]) / 1e6" if server else "",
        "head_names": "_, _, " if server else "",
        "head": "3" if server else "1",
        "listed": f"[{layout.variables}]",
    }
    namespace: dict[str, Any] = {
        **{name: value for name, value in vars(math).items() if not name.startswith("_")},
        "Decision": Decision,
        "FOREVER": FOREVER,
        "SerializationError": SerializationError,
        "exact_retry_after": exact_retry_after,
    }
    source = render(_REPLAY, algorithm.rule, layout, texts)
    exec(compile(source, f"<replaying {algorithm.name}>", "exec"), namespace)  # noqa: S102 - the package's own source
    made: Callable[..., Any] = namespace["replayer"]
    return made


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
