"""Python that is translated to Lua gives the same bits, and what has no exact counterpart is refused."""

from __future__ import annotations

import math

import fakeredis
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.algorithms.codegen import InlineError, to_lua

STATEMENTS = [
    "x = a - b / 3.0 * (a + -b) - 1e-9",
    "x = max(a, b) if a < b else min(a, 0.5)",
    "x = float(int(a)) + floor(b) * 2 - ceil(a)",
    "x = (a, b, 3.0)[1 if a > 0.0 else 0 if b > 0.0 else 2]",
    "if a <= b < 2.0 or not a == 1.0:\n    x = 1.0 - a\nelif a != 0.0 and b > 0.0:\n    x = abs(a)\nelse:\n    x = inf",
    "c = abs(a) + 1.0\nwhile c < 1e6:\n    c = c * 2.0 + 1.0\n    if c >= 5e5:\n        break\nx = c",
    "s1 = a\nif s1 > b:\n    s1 = b\nx = s1 * s1",
]
REFUSED = [
    "if a:\n    x = 1.0",
    "x = 1.0 if a else 2.0",
    "while a < 1.0:\n    a = a + 1.0\nelse:\n    x = a",
    "for i in range(3):\n    x = i",
    "x = a and b",
    "x = a < b",
    "x = a % b",
    "x = a // b",
    "x = a ** 2.0",
    "x = a[0]",
    "x = rule.clamp(p, a)",
    "x = round(a)",
    "x = True",
    "x = 'a'",
    "x, y = a, b",
    "x = y = a",
    "x += a",
]
numbers = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 3.0])
SERVER = fakeredis.FakeServer()


@settings(max_examples=examples(100))
@given(statement=st.sampled_from(STATEMENTS), a=numbers, b=numbers)
def test_a_translation_gives_the_same_bits(statement: str, a: float, b: float) -> None:
    names = {"a": a, "b": b, **{name: getattr(math, name) for name in ("floor", "ceil", "inf")}}
    exec(statement, names)
    lines = "\n".join(to_lua(statement.splitlines(), "x"))
    script = f"local s1, x\nlocal a, b = ARGV[1] - 0, ARGV[2] - 0\n{lines}\nreturn string.format('%.17g', x)"
    assert float(fakeredis.FakeRedis(server=SERVER).eval(script, 0, repr(a), repr(b))) == names["x"]


@pytest.mark.parametrize("statement", REFUSED)
def test_what_has_no_exact_counterpart_is_refused(statement: str) -> None:
    with pytest.raises(InlineError, match="no counterpart in Lua"):
        to_lua(statement.splitlines(), "x")


def test_what_is_known_is_not_asked_again() -> None:
    lines = ["if a >= b:", "    x = a", "else:", "    x = rule.late(b)"]
    assert to_lua(lines, "x", known={"a >= b"}) == ["x = a"]
    with pytest.raises(InlineError):
        to_lua(lines, "x")
