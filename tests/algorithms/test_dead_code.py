"""Dead code: what is left out is what nothing reads, and what is left decides the same."""

from __future__ import annotations

from math import floor, inf

import pytest

from ratesim.algorithms.codegen.dead_code import prune

LINES = """
if a > 1.0:
    x = floor(a)
    if x > 2.0:
        y = x
    else:
        y = 0.0
    b = a
for i in range(3):
    c = c + i
again = b + c
"""


def test_what_nothing_reads_is_left_out_and_the_rest_is_the_same() -> None:
    pruned = prune(LINES, {"again"})
    assert "floor" not in pruned
    assert "y" not in pruned
    for a in (0.5, 1.5, 3.5):
        found = []
        for source in (LINES, pruned):
            space = {"floor": floor, "a": a, "b": 7.0, "c": 0}
            exec(source, space)
            found.append(space["again"])
        assert found[0] == found[1]


@pytest.mark.parametrize(
    "lines",
    [
        "x = told(a)",  # has an effect
        "s[0] = a",
        "told(a)",
        "while a > 0.0:\n    a = a - 1.0",
        "if told(a):\n    x = 1.0",
        "b = a\nagain = b",
        "if a > 0.0:\n    again = a",  # the value of before is read where it is not assigned
    ],
)
def test_what_counts_stays(lines: str) -> None:
    assert prune(lines, {"again"}).split() == lines.replace("x = 1.0", "pass").split()


def test_a_branch_that_is_read_on_one_side_keeps_what_both_need() -> None:
    lines = "x = inf\nif a > 0.0:\n    x = a\nagain = x"
    assert prune(lines, {"again"}) == lines
    space: dict[str, float] = {"inf": inf, "a": -1.0}
    exec(prune(lines, {"again"}), space)
    assert space["again"] == inf
