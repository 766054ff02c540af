"""Lines of Python that `inline_rule` wrote, as lines of Lua that give the same bits.

Only what means the same in both languages is translated: float arithmetic by + - * /, comparisons, `if`, `while`, and a few
functions of `math`. In Lua 0 is true, so a condition must be a comparison.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence

from ratesim.algorithms.codegen.known import Known
from ratesim.algorithms.codegen.return_to_assignment import InlineError

__all__ = ["to_lua"]

_OUTER = re.compile(r"[sp]\d+")  # the state and the parameters
_ARITHMETIC: dict[type[ast.AST], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS: dict[type[ast.AST], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "~=",
}
# `int` cuts off toward 0, as the first result of math.modf does.
_FUNCTIONS = {"floor": "math.floor", "ceil": "math.ceil", "min": "math.min", "max": "math.max", "abs": "math.abs"}


def to_lua(lines: Sequence[str], target: str | None, known: Collection[str] = ()) -> list[str]:
    """Translate statements into a block with its own local variables.

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
    written = [*([f"local {', '.join(own)}"] if own else []), *_block(tree.body)]
    return ["do", *(f"  {line}" for line in written), "end"] if own else written


def _block(statements: Sequence[ast.stmt]) -> list[str]:
    return [line for statement in statements for line in _statement(statement)]


def _statement(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Assign([ast.Name(name)], value):
            yield f"{name} = {_value(value)}"
        case ast.If(test, body, orelse):
            yield f"if {_condition(test)} then"
            yield from (f"  {line}" for line in _block(body))
            if orelse:
                yield "else"
                yield from (f"  {line}" for line in _block(orelse))
            yield "end"
        case ast.While(test, body, []):
            yield f"while {_condition(test)} do"
            yield from (f"  {line}" for line in _block(body))
            yield "end"
        case ast.Break():
            yield "break"
        case ast.Pass():
            pass
        case _:
            raise InlineError(f"no counterpart in Lua: {ast.unparse(node)}")


def _condition(node: ast.expr) -> str:
    match node:
        case ast.Compare(left, operators, comparators) if all(type(each) in _COMPARISONS for each in operators):
            terms = [_value(left), *map(_value, comparators)]
            signs = [_COMPARISONS[type(each)] for each in operators]
            return "(" + " and ".join(map(" ".join, zip(terms, signs, terms[1:], strict=False))) + ")"
        case ast.BoolOp(operator, values):
            return "(" + (" and " if isinstance(operator, ast.And) else " or ").join(map(_condition, values)) + ")"
        case ast.UnaryOp(ast.Not(), operand):
            return f"not {_condition(operand)}"
    raise InlineError(f"no counterpart in Lua: {ast.unparse(node)}")


def _value(node: ast.expr) -> str:
    match node:
        case ast.Name("inf"):
            return "math.huge"
        case ast.Name(name):
            return name
        case ast.Constant(value) if type(value) in (int, float):
            return repr(value)
        case ast.UnaryOp(ast.USub(), operand):
            return f"(-{_value(operand)})"
        case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
            return f"({_value(left)} {_ARITHMETIC[type(operator)]} {_value(right)})"
        case ast.IfExp(test, body, orelse):  # every number is true
            return f"({_condition(test)} and {_value(body)} or {_value(orelse)})"
        case ast.Call(ast.Name("int"), [value], []):
            return f"(math.modf({_value(value)}))"
        case ast.Call(ast.Name("float"), [value], []):
            return _value(value)
        case ast.Subscript(ast.Tuple(values), index):
            return f"({{{', '.join(map(_value, values))}}})[1 + {_value(index)}]"
        case ast.Call(ast.Name(function), values, []) if function in _FUNCTIONS:
            return f"{_FUNCTIONS[function]}({', '.join(map(_value, values))})"
    raise InlineError(f"no counterpart in Lua: {ast.unparse(node)}")
