"""Lines of Python that `inline_rule` wrote, as statements of PL/pgSQL that give the same bits.

All numbers are float8. PostgreSQL takes NaN for equal to itself and above all others, and a NULL makes a condition neither
true nor false, so the caller looks for both beforehand. It refuses an overflow, an underflow and a division by 0, where
Python goes on with inf or 0, or raises: the twins in the .sql files refuse the same.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ratesim.algorithms.codegen.known import Known
from ratesim.algorithms.codegen.return_to_assignment import InlineError

__all__ = ["Block", "to_plpgsql"]

_OUTER = re.compile(r"[sp]\d+")  # the state and the parameters
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")  # PostgreSQL folds capitals and cuts off the rest
_ARITHMETIC: dict[type[ast.AST], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS: dict[type[ast.AST], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "=",
    ast.NotEq: "<>",
}
_FUNCTIONS = {"floor": "floor", "ceil": "ceil", "min": "least", "max": "greatest", "abs": "abs", "int": "trunc"}


class Block(NamedTuple):
    """Statements, and the variables of type float8 that they need beside those that are there.

    Attributes
    ----------
    lines : list of str
        The statements.
    variables : list of str
        The names, sorted.
    """

    lines: list[str]
    variables: list[str]


def to_plpgsql(lines: Sequence[str], target: str | None, known: Collection[str] = ()) -> Block:
    """Translate statements.

    Parameters
    ----------
    lines : Sequence[str]
        Statements in Python.
    target : str or None
        The variable outside the block that they assign, beside s0, s1, ...
    known : Collection[str]
        Conditions that hold wherever they stand, as `ast.unparse` writes them.

    Raises
    ------
    InlineError
        For what has no exact counterpart.
    """
    tree = Known(known).visit(ast.parse("\n".join(lines)))
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own = sorted(name for name in stored if name != target and not _OUTER.fullmatch(name))
    return Block(_block(tree.body), own)


def _block(statements: Sequence[ast.stmt]) -> list[str]:
    return [line for statement in statements for line in _statement(statement)]


def _statement(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Assign([ast.Name(name)], value):
            yield f"{_name(name)} := {_value(value)};"
        case ast.If(test, body, orelse):
            yield f"IF {_condition(test)} THEN"
            yield from (f"  {line}" for line in _block(body))
            if orelse:
                yield "ELSE"
                yield from (f"  {line}" for line in _block(orelse))
            yield "END IF;"
        case ast.While(test, body, []):
            yield f"WHILE {_condition(test)} LOOP"
            yield from (f"  {line}" for line in _block(body))
            yield "END LOOP;"
        case ast.Break():
            yield "EXIT;"
        case ast.Pass():
            pass
        case _:
            raise _refusal(node)


def _condition(node: ast.expr) -> str:
    match node:
        case ast.Compare(left, operators, comparators) if all(type(each) in _COMPARISONS for each in operators):
            terms = [_value(left), *map(_value, comparators)]
            signs = [_COMPARISONS[type(each)] for each in operators]
            return "(" + " AND ".join(map(" ".join, zip(terms, signs, terms[1:], strict=False))) + ")"
        case ast.BoolOp(operator, values):
            return "(" + (" AND " if isinstance(operator, ast.And) else " OR ").join(map(_condition, values)) + ")"
        case ast.UnaryOp(ast.Not(), operand):
            return f"(NOT {_condition(operand)})"
    raise _refusal(node)


def _value(node: ast.expr) -> str:
    match node:
        case ast.Name("inf"):
            return "'Infinity'::float8"
        case ast.Name(name):
            return _name(name)
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            return f"'{float(value)!r}'::float8"
        case ast.UnaryOp(ast.USub(), operand):
            return f"(- {_value(operand)})"
        case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
            return f"({_value(left)} {_ARITHMETIC[type(operator)]} {_value(right)})"
        case ast.IfExp(test, body, orelse):
            return f"(CASE WHEN {_condition(test)} THEN {_value(body)} ELSE {_value(orelse)} END)"
        case ast.Call(ast.Name("float"), [value], []):
            return _value(value)
        case ast.Subscript(ast.Tuple(values), index):
            return f"(ARRAY[{', '.join(map(_value, values))}])[({_value(index)})::int + 1]"
        case ast.Call(ast.Name(function), values, []) if function in _FUNCTIONS:
            return f"{_FUNCTIONS[function]}({', '.join(map(_value, values))})"
    raise _refusal(node)


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InlineError(f"no counterpart in PL/pgSQL: the name {name}")
    return name


def _refusal(node: ast.AST) -> InlineError:
    return InlineError(f"no counterpart in PL/pgSQL: {ast.unparse(node)}")
