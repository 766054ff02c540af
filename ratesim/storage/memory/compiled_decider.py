"""The function that decides one limit in memory, written out for its algorithm (`ratesim/algorithms/codegen/inline.py`).

It decides to the bit as `RuleEvaluator.decide` does for any algorithm, in a third of the time. A test holds them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ratesim.algorithms import Algorithm
from ratesim.algorithms.codegen.inline import Layout
from ratesim.algorithms.codegen.template import render
from ratesim.limit import Decision, check_time
from ratesim.storage.base import EXPIRY_MARGIN, check_identifier
from ratesim.storage.retry_after import FOREVER, exact_retry_after

__all__ = ["DecideFn", "compile_decider"]

DecideFn = Callable[[str, float, float], Decision]
"""(identifier, cost, now) -> Decision"""

# <verb ...> stands for the lines of the rule's function. The state is in s0, s1, ... (and s, where it grows) and goes back
# into the entry only when the request is admitted, so a denied one changes nothing.
_TEMPLATE = """
def decider(limit, rule, p, entries, lock, rules, mine, sequence):
    {parameters} = p
    size = rule.size(p)
    name = limit.name
    get, touch, insert, grew, charged = entries.by_key.get, entries.touch, entries.insert, entries.grew, entries.charged
    wrote = None if entries.change_log is None else entries.change_log.wrote
    tally, give_up, rewind = rules.tally, rules.give_up, rules.rewind
    skew = min(rules.max_clock_skew, limit.period)
    fresh = [0.0] * size
    rule.start(fresh, p, 0.0)
    full = rule.available(fresh, p, 0.0)
    {lock}
    def decide(identifier, cost, now):
        if identifier.__class__ is not str:
            check(identifier)
        key = {key}
        {seize}
        try:
            tally[0] += 1
            entry = get(key)
            if entry is not None:
                touch(key)
                if entry.__class__ is not mine or entry.expires_at <= now:
                    give_up(entry, now)
                    entry = None
            if entry is None:
                if not identifier.isascii():
                    check(identifier)
                check_time(now)
                tally[1] += 1
                {fresh}
                at = now
                <start None now=at>
            else:
                {load}
                if now >= s0:
                    at = now
                elif s0 - now <= skew and now >= 0.0:
                    at = s0
                else:
                    rewind(key, entry, limit, now)
                    {load}
                    at = now
                <refresh None now=at>
            <available left now=at>
            if left >= cost:
                <charge None now=at>
                <available left now=at>
                <reset_after fresh now=at>
                fresh = fresh + (at - now)
                if entry is None:
                    entry = mine(now)
                    insert(identifier, key, entry, now)
                {store}
                entry.limit = limit
                entry.last_accessed = at
                entry.expires_at = now + fresh + EXPIRY_MARGIN
                entry.request_count += 1
                if charged is not None:
                    charged(key, now + fresh, full - left)
                if wrote is not None:
                    wrote(key)
                {grow}
                decision = Decision(True, left if left > 0.0 else 0.0, 0.0, fresh, limit)
            else:
                <reset_after fresh now=at>
                fresh = fresh + (at - now)
                <retry_after wait now=at>
                wait = wait + (at - now)
                if entry is not None and wait < FOREVER:
                    micros = ceil(wait * 1e6)
                    if micros < 1:
                        micros = 1
                    {load}
                    then = now + micros / 1e6
                    if then < s0:
                        then = s0
                    <refresh None now=then>
                    <available again now=then>
                    if again >= cost:
                        wait = micros / 1e6
                    else:
                        wait = exact_retry_after(rule, entry.load(), p, head, cost, now, wait)
                decision = Decision(False, left if left > 0.0 else 0.0, wait, fresh, limit)
            if sequence is not None:
                decision.sequence = sequence()
            return decision
        finally:
            {leave}
    return decide
"""


@lru_cache(maxsize=256)
def compile_decider(
    algorithm: Algorithm, size: int | None, parameters: int, named: bool, locked: bool
) -> Callable[..., DecideFn]:
    """Compile the maker of a limit's deciding function. The template shows the arguments of the maker.

    Parameters
    ----------
    algorithm
        The algorithm of the limit.
    size
        Floats in the state; None for a state that grows.
    parameters
        Floats in the bound parameters of the limit.
    named
        Whether the limit has a name, so that the key is (identifier, name).
    locked
        Whether the function takes a lock, because other threads may decide at the same time.
    """
    growing = algorithm.variable_size
    layout = Layout(growing.HEAD, True) if growing is not None else Layout(size or 0)
    local = range(layout.local)

    own = f"s[:{layout.local}]"
    texts = {
        "parameters": "".join(f"p{i}, " for i in range(parameters)),
        "key": "(identifier, name)" if named else "identifier",
        "lock": "seize, leave = lock.acquire, lock.release" if locked else "",
        "seize": "seize()" if locked else "",
        "leave": "leave()" if locked else "pass",
        "fresh": "s = [0.0] * size" if growing else "",
        "load": f"s = entry.state; {layout.variables} = {own}"
        if growing
        else "; ".join(f"s{i} = entry.s{i}" for i in local),
        "store": f"{own} = {layout.variables}; entry.state = s"
        if growing
        else "; ".join(f"entry.s{i} = s{i}" for i in local),
        "grow": "if len(s) != entry.length: grew(entry, len(s), now)" if growing else "",
    }
    namespace: dict[str, Any] = {
        **{name: value for name, value in vars(math).items() if not name.startswith("_")},
        "Decision": Decision,
        "EXPIRY_MARGIN": EXPIRY_MARGIN,
        "FOREVER": FOREVER,
        "check": check_identifier,
        "check_time": check_time,
        "head": None if growing is None else growing.HEAD,
        "exact_retry_after": exact_retry_after,
    }
    source = render(_TEMPLATE, algorithm.rule, layout, texts)
    exec(compile(source, f"<deciding by {algorithm.name}>", "exec"), namespace)  # noqa: S102 - the package's own source
    made: Callable[..., DecideFn] = namespace["decider"]
    return made
