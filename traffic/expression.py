"""Arithmetic over columns of numbers, as a person writes it: `ContextTokens + 3 * GeneratedTokens`.

Python's own parser reads the text. It is kept only if it consists of names, numbers, + - * / and parentheses. numpy
evaluates it, node by node. Nothing of it is ever executed as Python.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Expression", "ExpressionError"]

Column = NDArray[np.float64]

MAX_CHARACTERS = 200  # bounds the depth of parsing and evaluation, too
ALLOWED = re.compile(r"[\w.+\-*/() \t]+")
BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
REMEDY = "use names of columns, numbers, + - * / and parentheses"


class ExpressionError(ValueError):
    """Text that is no arithmetic over columns.

    The message is one line that quotes it.
    """


@dataclass(frozen=True, slots=True)
class Expression:
    """Arithmetic over the columns in `names`, in order of appearance.

    A dotted name, "usage.tokens", is the name of a column like any other. Make one with `parse`, or with `column` for a
    column whose name is no Python name.
    """

    text: str
    names: tuple[str, ...]
    _root: ast.expr

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression.

        Raises ExpressionError for anything but names, numbers, + - * / and parentheses.
        """
        if len(text) > MAX_CHARACTERS:
            raise ExpressionError(f"an expression of {len(text)} characters is too long; use {MAX_CHARACTERS} at most")
        if not ALLOWED.fullmatch(text):
            raise ExpressionError(f"{text!r} is not an expression; {REMEDY}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # "1and 2" is only warned about
                root = ast.parse(text.strip(), mode="eval").body
        # CPython's parser raises MemoryError for nesting that is too deep for it.
        except (SyntaxError, Warning, ValueError, MemoryError, RecursionError) as error:
            raise ExpressionError(f"{text!r} is not an expression; {REMEDY}") from error
        names: dict[str, None] = {}
        _check(root, text, names)
        return cls(text, tuple(names), root)

    @classmethod
    def column(cls, name: str) -> Expression:
        """Make the expression of one column, whatever characters are in its name."""
        return cls(name, (name,), ast.Name(name))

    def renamed(self, names: Mapping[str, str]) -> Expression:
        """Return the same arithmetic over other columns: `names[name]` in the place of each name."""
        root = _renamed(self._root, names)
        return Expression(self.text, tuple(dict.fromkeys(names[name] for name in self.names)), root)

    def __call__(self, columns: Mapping[str, Column], n: int) -> Column:
        """Evaluate the expression in each of n rows.

        Parameters
        ----------
        columns : Mapping[str, Column]
            A column of length n for each of `names`.
        n : int
            Number of rows.

        Returns
        -------
        Column
            The values, shape (n,). They follow IEEE 754: a division by zero gives an infinity or nan, which the caller
            refuses.
        """
        with np.errstate(all="ignore"):
            value = np.asarray(_value(self._root, columns), np.float64)
        return np.array(np.broadcast_to(value, n))


def _check(node: ast.expr, text: str, names: dict[str, None]) -> None:
    """Raise ExpressionError unless the tree is arithmetic; collect the names in it."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in BINARY:
            _check(left, text, names)
            _check(right, text, names)
        case ast.UnaryOp(op, operand) if type(op) in UNARY:
            _check(operand, text, names)
        case ast.Name() | ast.Attribute():
            names[_dotted(node, text)] = None
        case ast.Constant(value) if _finite(value):
            pass
        case _:
            shown = ast.get_source_segment(text.strip(), node) or text
            raise ExpressionError(f"{text!r}: {shown!r} is not allowed in an expression; {REMEDY}")


def _renamed(node: ast.expr, names: Mapping[str, str]) -> ast.expr:
    match node:
        case ast.BinOp(left, op, right):
            return ast.BinOp(_renamed(left, names), op, _renamed(right, names))
        case ast.UnaryOp(op, operand):
            return ast.UnaryOp(op, _renamed(operand, names))
        case ast.Name() | ast.Attribute():
            return ast.Name(names[_dotted(node)])
    return node


def _finite(value: object) -> bool:
    """Whether this is a number (True is none) that a float can be."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that no float reaches
        return False


def _dotted(node: ast.expr, text: str = "") -> str:
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, name):
            return f"{_dotted(value, text)}.{name}"
    raise ExpressionError(f"{text!r} is not an expression; {REMEDY}")


def _value(node: ast.expr, columns: Mapping[str, Column]) -> Any:
    match node:
        case ast.BinOp(left, op, right):
            # Of float64, so that 1 / 0 is an infinity here, too, and not an exception.
            return BINARY[type(op)](_value(left, columns), _value(right, columns))
        case ast.UnaryOp(op, operand):
            return UNARY[type(op)](_value(operand, columns))
        case ast.Constant(value):
            return np.float64(value)  # type: ignore[arg-type]  # _check let only int and float through
        case _:
            return columns[_dotted(node)]
