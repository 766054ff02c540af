"""The function that decides one limit in memory, written out for its algorithm (`ratesim/algorithms/codegen/inline.py`).

It decides to the bit as `RuleEvaluator.decide` does for any algorithm, in a third of the time. A test holds them together.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ratesim.algorithms import Algorithm
from ratesim.algorithms.codegen.dead_code import prune
from ratesim.algorithms.codegen.inline import Layout
from ratesim.algorithms.codegen.template import render
from ratesim.limit import Decision, check_time
from ratesim.storage.base import EXPIRY_MARGIN, check_identifier
from ratesim.storage.retry_after import FOREVER, exact_retry_after

__all__ = ["DecideFn", "compile_decider"]

DecideFn = Callable[[str, float, float], Decision]
"""(identifier, cost, now) -> Decision"""

# <verb ...> stands for the lines of the rule's function. The state is in s0, s1, ... (and s, where it grows) and goes back
# into the entry only when the request is admitted, so a denied one changes nothing. Most requests find an entry that is not
# ahead of them. Those are decided at `now`, by lines of their own without what only the others need.
_TEMPLATE = """
def decider(limit, rule, p, entries, lock, rules, mine, sequence):
    {parameters} = p
    size = rule.size(p)
    name = limit.name
    by_key, room = entries.by_key, entries.plain_room
    get, touch, insert, grew, charged = by_key.get, entries.touch, entries.insert, entries.grew, entries.charged
    wrote = None if entries.change_log is None else entries.change_log.wrote
    watched = charged is not None or wrote is not None
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
                else:
                    {load}
                    if now >= s0:
                        <refresh None now=now>
                        [hit]
                    if s0 - now <= skew and now >= 0.0:
                        at = s0
                    else:
                        rewind(key, entry, limit, now)
                        {load}
                        at = now
                    <refresh None now=at>
            if entry is None:
                if not identifier.isascii():
                    check(identifier)
                check_time(now)
                tally[1] += 1
                {fresh}
                at = now
                <start None now=at>
            [any]
        finally:
            {leave}
    return decide
"""

# `TIME` is the time that is decided at. Lines that end in `# late` are for the requests that may find none, or one ahead.
_ANSWER = """
<available left now=TIME>
if left >= cost:
    <charge None now=TIME>
    <available left now=TIME>
    <reset_after fresh now=TIME>
    fresh = fresh + (at - now)  # late
    if entry is None:  # late
        entry = create(mine)  # late
        entry.origin = now  # late
        entry.request_count = 0  # late
        {empty}  # late
        if {plain}len(by_key) < room:  # late
            by_key[key] = entry  # late
        else:  # late
            insert(identifier, key, entry, now)  # late
    {store}
    entry.limit = limit
    entry.last_accessed = TIME
    entry.expires_at = now + fresh + EXPIRY_MARGIN
    entry.request_count += 1
    if watched:
        if charged is not None:
            charged(key, now + fresh, full - left)
        if wrote is not None:
            wrote(key)
    {grow}
    decision = Decision(True, left if left > 0.0 else 0.0, 0.0, fresh, limit)
else:
    <reset_after fresh now=TIME>
    fresh = fresh + (at - now)  # late
    <retry_after wait now=TIME>
    wait = wait + (at - now)  # late
    if {there}wait < FOREVER:
        micros = ceil(wait * 1e6)
        if micros < 1:
            micros = 1
        {load}
        then = now + micros / 1e6
        if then < s0:
            then = s0
        [trial]
        if again >= cost:
            wait = micros / 1e6
        else:
            wait = exact_retry_after(rule, entry.load(), p, head, cost, now, wait)
    decision = Decision(False, left if left > 0.0 else 0.0, wait, fresh, limit)
{number}
return decision
"""

_TRIAL = """
<refresh None now=then>
<available again now=then>
"""


_PART = re.compile(r"^( *)\[(\w+)\]$", re.MULTILINE)


def _answer(hit: bool) -> str:
    """Return the lines that answer a request: one that found an entry which is not ahead of it, or any other."""
    late = "# late"
    kept = [line.replace(late, "").rstrip() for line in _ANSWER.splitlines() if not (hit and line.endswith(late))]
    return (
        "\n".join(kept).replace("TIME", "now" if hit else "at").replace("{there}", "" if hit else "entry is not None and ")
    )


@lru_cache(maxsize=256)
def compile_decider(
    algorithm: Algorithm, size: int | None, parameters: int, named: bool, locked: bool, numbered: bool
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
    numbered
        Whether the decisions are numbered.
    """
    growing = algorithm.variable_size
    layout = Layout(growing.HEAD, True) if growing is not None else Layout(size or 0)
    local = range(layout.local)

    loads = "; ".join(f"s{i} = {'s[' if growing else 'entry.s'}{i}{']' if growing else ''}" for i in local)
    stores = "; ".join(f"{'s[' if growing else 'entry.s'}{i}{']' if growing else ''} = s{i}" for i in local)
    texts = {
        "parameters": "".join(f"p{i}, " for i in range(parameters)),
        "key": "(identifier, name)" if named else "identifier",
        "lock": "seize, leave = lock.acquire, lock.release" if locked else "",
        "seize": "seize()" if locked else "",
        "leave": "leave()" if locked else "pass",
        "fresh": "s = [0.0] * size" if growing else "",
        "load": f"s = entry.state; {loads}" if growing else loads,
        "store": f"{stores}; entry.state = s" if growing else stores,
        "empty": "entry.length = 0" if growing else "",
        "grow": "if len(s) != entry.length: grew(entry, len(s), now)" if growing else "",
        "plain": "False and " if named else "",
        "number": "decision.sequence = sequence()" if numbered else "",
    }
    namespace: dict[str, Any] = {
        **{name: value for name, value in vars(math).items() if not name.startswith("_")},
        "Decision": Decision,
        "EXPIRY_MARGIN": EXPIRY_MARGIN,
        "FOREVER": FOREVER,
        "check": check_identifier,
        "check_time": check_time,
        "create": object.__new__,
        "head": None if growing is None else growing.HEAD,
        "exact_retry_after": exact_retry_after,
    }
    trial = prune(render(_TRIAL, algorithm.rule, layout, {}), {"again"})
    parts = {"hit": _answer(True), "any": _answer(False), "trial": trial}
    template = _PART.sub(lambda part: textwrap.indent(parts[part[2]], part[1]), _TEMPLATE)
    template = _PART.sub(lambda part: textwrap.indent(parts[part[2]], part[1]), template)
    source = render(template, algorithm.rule, layout, texts)
    exec(compile(source, f"<deciding by {algorithm.name}>", "exec"), namespace)  # noqa: S102 - the package's own source
    made: Callable[..., DecideFn] = namespace["decider"]
    return made
