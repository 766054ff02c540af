import ast
import builtins
import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic.expression import Expression, ExpressionError

COLUMNS = {"a": np.array([1.0, 2.0, -3.0]), "b_2": np.array([0.5, 4.0, 8.0]), "usage.tokens": np.array([7.0, 7.0, 9.0])}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a", [1.0, 2.0, -3.0]),
        ("a+b_2", [1.5, 6.0, 5.0]),
        ("a + 2*b_2", [2.0, 10.0, 13.0]),
        ("(a + 2)*b_2", [1.5, 16.0, -8.0]),
        ("a - b_2 - 1", [-0.5, -3.0, -12.0]),
        ("-a + +b_2", [-0.5, 2.0, 11.0]),
        ("a/4", [0.25, 0.5, -0.75]),
        (" usage.tokens / 2 ", [3.5, 3.5, 4.5]),
        ("1e3 + .5", [1000.5] * 3),
        ("3", [3.0] * 3),
    ],
)
def test_arithmetic_over_columns_is_done_row_by_row(text: str, values: list[float]) -> None:
    result = Expression.parse(text)(COLUMNS, 3)
    assert result.dtype == np.float64
    assert result.tolist() == values


def test_names_are_those_of_the_columns_in_order_of_appearance() -> None:
    assert Expression.parse("z + usage.tokens*(a - z)").names == ("z", "usage.tokens", "a")


def test_a_column_may_have_any_name_by_itself() -> None:
    expression = Expression.column("Total cost ($)")
    assert expression.names == ("Total cost ($)",)
    assert expression({"Total cost ($)": np.array([2.0])}, 1).tolist() == [2.0]


def test_a_division_by_zero_is_the_callers_to_refuse() -> None:
    assert Expression.parse("1/0")({}, 1).tolist() == [np.inf]
    assert Expression.parse("a/0")(COLUMNS, 3).tolist() == [np.inf, np.inf, -np.inf]
    assert np.isnan(Expression.parse("0/0")({}, 2)).all()


def test_the_result_is_not_the_column_itself() -> None:
    Expression.parse("a")(COLUMNS, 3)[0] = 99.0
    assert COLUMNS["a"][0] == 1.0


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "+", "a b", "a +", "(a", "a)", "()", "a.", ".a", "1.2.3", "(a+a).b", "1 .real"),
        *("f(a)", "a()", "a[0]", "a,a", "[a]", "{a}", "a if a else a", "lambda", "a and a", "1and 2", "not a", "a<b"),
        *("a**2", "a//2", "a%2", "a@a", "a|a", "~a", "a:=1", "a=1", "a;a", "a\na", "a\x00", "await a", "yield"),
        *("'a'", '"a"', "1j", "True", "None", "...", "1e999", "9" * 199 + "0" * 199),
        *("__import__('os').system('true')", "().__class__", "a.__class__()", "(" * 100 + "a" + ")" * 99, "a+" * 100),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.parse(text)
    assert str(caught.value).isprintable()


def test_a_dunder_is_only_the_name_of_a_column() -> None:
    with pytest.raises(KeyError):
        Expression.parse("a.__class__")(COLUMNS, 3)


def test_a_refusal_quotes_the_part_that_is_not_allowed() -> None:
    with pytest.raises(ExpressionError, match=r"'a \+ f\(b\)': 'f\(b\)' is not allowed"):
        Expression.parse("a + f(b)")


def test_an_expression_has_at_most_200_characters() -> None:
    assert Expression.parse("-" * 199 + "a")(COLUMNS, 3).tolist() == [-1.0, -2.0, 3.0]
    with pytest.raises(ExpressionError, match="201 characters"):
        Expression.parse("-" * 200 + "a")


ATOMS = st.sampled_from(["a", "b_2", "usage.tokens"]) | st.floats(0, 1e6).map(repr) | st.integers(0, 1000).map(str)
TEXTS = st.recursive(
    ATOMS,
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner) | st.builds("-{}".format, inner),
    max_leaves=8,
)


@given(TEXTS)
def test_the_value_is_that_of_the_same_arithmetic_in_numpy(text: str) -> None:
    tree = ast.parse(text, mode="eval").body
    operators: dict[type, Any] = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
    }

    def value(node: ast.expr, row: int) -> np.float64:
        if isinstance(node, ast.BinOp):
            result: np.float64 = operators[type(node.op)](value(node.left, row), value(node.right, row))
            return result
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand, row)
        if isinstance(node, ast.Constant):
            assert isinstance(node.value, int | float)
            return np.float64(node.value)
        return np.float64(COLUMNS[ast.unparse(node)][row])

    if len(text) <= 200:
        with np.errstate(all="ignore"):
            expected = [value(tree, row) for row in range(3)]
        np.testing.assert_array_equal(Expression.parse(text)(COLUMNS, 3), expected)


RUNS_CODE = {"exec", "eval", "import", "os.system", "subprocess.Popen", "open"}
seen: list[str] = []
watching = False


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if watching and event in RUNS_CODE:
        seen.append(event)


sys.addaudithook(_watch)  # can never be taken away again, so it does nothing unless it is told to


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fail if anything is executed, imported or opened inside."""
    global watching
    seen.clear()
    watching = True
    try:
        yield
    finally:
        watching = False
    assert seen == []


def test_the_watch_sees_what_would_be_executed() -> None:
    with pytest.raises(AssertionError), nothing_runs():
        exec(compile(ast.parse("a = 1"), "here", "exec"), {})


PIECES = (
    *("a", "b_2", "1", "2.5", "+", "-", "*", "/", "(", ")", "[", "]", ":", "=", "**", "\\", "#", "'os'", "f'{a}'", "1j"),
    *("if", "else", "lambda", "yield", "exec", "open", "eval", "__import__", ".system", "é", " ", "\n", "\x00"),
)
NASTY = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(NASTY | st.text(max_size=30))
def test_no_text_is_ever_executed(text: str) -> None:
    names = set(vars(builtins))
    with nothing_runs():
        try:
            expression = Expression.parse(text)
        except ExpressionError:
            return
        columns = dict.fromkeys(expression.names, np.ones(2))
        assert len(expression(columns, 2)) == 2
    assert set(vars(builtins)) == names
