"""Python that is translated to PL/pgSQL gives the same bits, and what has no exact counterpart is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import ceil, floor, inf

import psycopg
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lua_codegen import REFUSED, STATEMENTS, numbers

from ratesim.algorithms.codegen import InlineError, to_plpgsql
from ratesim.servers import Server


@pytest.fixture(scope="module")
def connection(postgres_server: Server) -> Iterator[psycopg.Connection]:
    """A connection with a function for each statement."""
    with psycopg.connect(postgres_server.url, autocommit=True) as made:
        for place, statement in enumerate(STATEMENTS):
            block = to_plpgsql(statement.splitlines(), "x")
            declared = "".join(f"{name} float8; " for name in ("s1", *block.variables))
            body = "\n".join(block.lines)
            made.execute(
                f"CREATE FUNCTION pg_temp.f{place}(a float8, b float8, OUT x float8) LANGUAGE plpgsql AS "
                f"$$ DECLARE {declared} BEGIN {body} END $$".encode()
            )
        yield made


@settings(max_examples=examples(100))
@given(place=st.sampled_from(range(len(STATEMENTS))), a=numbers, b=numbers)
def test_a_translation_gives_the_same_bits(connection: psycopg.Connection, place: int, a: float, b: float) -> None:
    names = {"a": a, "b": b, "floor": floor, "ceil": ceil, "inf": inf}
    exec(STATEMENTS[place], names)
    found = connection.execute(f"SELECT pg_temp.f{place}(%b, %b)".encode(), [a, b], binary=True).fetchone()
    assert found is not None
    assert struct.pack("d", found[0] + 0.0) == struct.pack("d", names["x"] + 0.0)  # Python's whole numbers have no -0.0


@pytest.mark.parametrize("statement", [*REFUSED, "X = a", "x = Capital", f"{'long' * 16} = a"])
def test_what_has_no_exact_counterpart_is_refused(statement: str) -> None:
    with pytest.raises(InlineError, match="no counterpart in PL/pgSQL"):
        to_plpgsql(statement.splitlines(), "x")


def test_variables_are_named_beside_the_statements() -> None:
    block = to_plpgsql(["_f_a = 1", "while _f_a < p0:", "    _f_a = _f_a * 2", "s0 = _f_a", "x = s0"], "x")
    assert block.variables == ["_f_a"]
    assert block.lines == [
        "_f_a := '1.0'::float8;",
        "WHILE (_f_a < p0) LOOP",
        "  _f_a := (_f_a * '2.0'::float8);",
        "END LOOP;",
        "s0 := _f_a;",
        "x := s0;",
    ]


def test_what_is_known_is_not_asked_again() -> None:
    assert to_plpgsql(["if a >= b:", "    x = a", "else:", "    x = rule.late(b)"], "x", {"a >= b"}).lines == ["x := a;"]
