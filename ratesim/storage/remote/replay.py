"""The replay of a decision at the node: the figures of an answer that a server has not computed, to the bit.

A server answers the state that it has decided on. The node decides on it again, by the rule written out for that size of
state, and so has what is left, the wait, and the time until the state is as fresh.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ratesim import algorithms
from ratesim.algorithms.codegen import Layout, render
from ratesim.errors import SerializationError
from ratesim.limit import Decision
from ratesim.storage.retry_after import FOREVER, exact_retry_after

__all__ = ["Replay", "Replayer", "compile_replayer"]

Replay = Callable[[Any, float, float, bool], Decision | SerializationError]
"""(what the server answered, cost, now, consume) -> the decision that was, or would be, taken"""
Replayer = Callable[..., Replay]

_REPLAY = """
def replayer(limit, rule, p, skew, tally, look):
    {parameters} = p
    def replay(raw, cost, now, consume):
        try:
{read}
            rewound = False
            if stored:
                {load}
                if s0 - now > skew:
                    <rewind None now=now>
                    rewound = True
                    if consume:
                        tally[0] += 1
                at = s0 if s0 > now else now
                <refresh None now=at>
            else:
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
            if stored and wait < FOREVER:
                micros = ceil(wait * 1e6)
                if micros < 1:
                    micros = 1
                {load}
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


@lru_cache(maxsize=256)
def compile_replayer(algorithm: algorithms.Algorithm, size: int, parameters: int, read: str, load: str) -> Replayer:
    """Return the function that makes the replay of a limit of an algorithm.

    The lines may use what the replay gets, and `look`, which is given with the limit.

    Parameters
    ----------
    algorithm
        The algorithm.
    size, parameters
        Numbers of floats of a state and of the limit's parameters.
    read
        Lines that read the answer: they assign `verdict`, which is 0 for denied, 1 for admitted and 2 for a peek; `stored`,
        whether there is a state; and `now`, where the server's clock decides.
    load
        A line that assigns the floats of that state, with `{state}` in their place.
    """
    layout = Layout(size)
    texts: Mapping[str, str] = {
        "parameters": "".join(f"p{i}, " for i in range(parameters)),
        "read": textwrap.indent(read, " " * 12),
        "load": load,
        "state": layout.variables,
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
    made: Replayer = namespace["replayer"]
    return made
