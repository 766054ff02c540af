"""The deciding functions that are written out decide as the rule's own functions do, to the bit."""

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest

from ratesim import Limit, algorithms
from ratesim.algorithms.codegen.inline import Layout, inline_rule
from ratesim.storage import MemoryStorage
from ratesim.storage.memory.compiled_decider import compile_decider
from ratesim.storage.memory.entry import FEW

NOW = 1_700_000_000.0


def cases() -> list[Limit]:
    limits = [Limit(7, 9.0, name) for name in algorithms.names()]
    limits += [Limit(7, 9.0, "sliding_window", options={"buckets": k}) for k in (2, 3, 4, 5, 6, 40)]
    limits += [Limit(7, 9.0, name, burst=11.5, name="named") for name in ("gcra", "leaky_bucket", "token_bucket")]
    return limits


@pytest.mark.parametrize("limit", cases(), ids=lambda limit: f"{limit.algorithm} {limit.options} {limit.name}")
def test_what_is_written_out_decides_as_the_rule(limit: Limit) -> None:
    rng = np.random.default_rng(3)
    fast, plain = MemoryStorage(), MemoryStorage()
    now = NOW
    for step in range(4000):
        now += float(rng.choice([0.0, 0.01, 0.3, 4.5, 30.0, -0.7], p=[0.2, 0.4, 0.3, 0.05, 0.02, 0.03]))
        if step % 50 == 0:
            now = float(np.nextafter((now // 9.0 + 1) * 9.0, rng.choice([-np.inf, np.inf])))
        cost, user = float(rng.choice([0.0, 0.3, 1.0, 1.0, 6.0, 20.0])), f"user {rng.integers(3)}"
        assert fast.acquire_nowait(user, limit, cost, now) == plain._evaluate_rule(limit, user, cost, now)
        left, right = fast.live_entry(user, limit.name), plain.live_entry(user, limit.name)
        assert (left is None) == (right is None)
        if left is not None and right is not None:
            assert left.export() == right.export()
            assert left.expires_at == right.expires_at


@pytest.mark.parametrize("algorithm", ["fixed_window", "gcra", "leaky_bucket", "sliding_window", "token_bucket"])
def test_a_small_state_is_decided_without_a_call_of_its_rule(algorithm: str) -> None:
    """But for the edge of a window, which comes once in a period."""
    bound = algorithms.bind(Limit(7, 9.0, algorithm))
    assert bound.size is not None
    assert bound.size <= FEW
    for verb, target in (("available", "left"), ("reset_after", "fresh"), ("retry_after", "wait")):
        lines = inline_rule(bound.algorithm.rule, verb, Layout(bound.size), target, {"now": "at"})
        assert f"rule.{verb}" not in "\n".join(lines)
    refreshed = "\n".join(inline_rule(bound.algorithm.rule, "refresh", Layout(bound.size), None, {"now": "at"}))
    assert "rule.refresh" not in refreshed
    assert len({compile_decider(bound.algorithm, bound.size, len(bound.params), False, True, False) for _ in range(3)}) == 1


def rule_of(tmp_path, text: str) -> types.ModuleType:
    name = f"rule_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    sys.path.insert(0, str(tmp_path))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(tmp_path))


AWKWARD = '''
from math import inf
A, B = 0, 1

def early(s, p, now):
    """Text."""
    x = 1
    if now > 5.0:
        if s[A] > 2.0:
            return 10.0
        x = 2
    elif now > 3.0:
        x = x + 5
    else:
        return -1.0
    y = 0.0
    for i in range(len(s)):
        y = y + s[i] * (i + x)
    return y

def late(s, p, now):
    for i in range(len(s)):
        if s[i] > now:
            return s[i]
    return inf

def endless(s, p, now):
    x = now
    while x > 1.0:
        x = x / 2.0
    return x

def moving(s, p, now):
    k = int(now)
    if now > 4.0:
        s[A] = s[k % 3] if k > 5 else 0.0
    s[k % 3] = now

def helped(s, p, now):
    return early(s, p, now) + p[1]
'''


@pytest.mark.parametrize("verb", ["early", "late", "endless", "moving", "helped"])
def test_control_flow_keeps_its_meaning(tmp_path, verb: str) -> None:
    rule = rule_of(tmp_path, AWKWARD)
    target = None if verb == "moving" else "x"
    source = "\n".join(inline_rule(rule, verb, Layout(3), target, {"now": "at"}))
    for at in (0.5, 3.5, 4.5, 5.5, 6.5, 7.0):
        for state in ([1.0, 2.0, 3.0], [2.5, 6.0, 0.0], [9.0, 9.0, 9.0]):
            s = list(state)
            expected = getattr(rule, verb)(s, (1.0, 2.0), at)
            space = {
                **vars(math),
                "rule": rule,
                "p": (1.0, 2.0),
                "p0": 1.0,
                "p1": 2.0,
                "at": at,
                **{f"s{i}": v for i, v in enumerate(state)},
            }
            exec(source, space)
            assert space.get("x") == expected
            assert [space[f"s{i}"] for i in range(3)] == s
