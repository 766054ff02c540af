"""The statements of a function for use inside another one: every `return x` becomes `target = x`."""

from __future__ import annotations

import ast

from ratesim.errors import RatesimError

__all__ = ["InlineError", "returns_to_assignments"]


class InlineError(RatesimError):
    """Code that cannot be inlined."""


def returns_to_assignments(body: list[ast.stmt], target: str | None) -> list[ast.stmt]:
    """Replace returns by assignments.

    A statement that must not run after a return moves: into the other branch of an `if`, or into the `else` of the loop that
    was left.

    Parameters
    ----------
    body : list[ast.stmt]
        The statements.
    target : str or None
        The variable to assign; None where nothing is returned.

    Raises
    ------
    InlineError
        For a loop that is left in two ways.
    """
    written: list[ast.stmt] = []
    for place, statement in enumerate(body):
        rest = body[place + 1 :]
        if isinstance(statement, ast.Return):
            return written + _assign(statement, target)
        if isinstance(statement, ast.If) and _returns(statement):
            yes = statement.body if _ends(statement.body) else [*statement.body, *rest]
            no = statement.orelse if _ends(statement.orelse) else [*statement.orelse, *rest]
            return [
                *written,
                ast.If(
                    statement.test, returns_to_assignments(yes, target) or [ast.Pass()], returns_to_assignments(no, target)
                ),
            ]
        if isinstance(statement, ast.For | ast.While) and _returns(statement):
            if statement.orelse or any(isinstance(each, ast.For | ast.While | ast.Break) for each in _inside(statement)):
                raise InlineError
            statement.body = _left(statement.body, target)
            statement.orelse = returns_to_assignments(rest, target)
            return [*written, statement]
        written.append(statement)
    return written


def _assign(statement: ast.Return, target: str | None) -> list[ast.stmt]:
    if target is None or statement.value is None:
        return []
    return [ast.Assign([ast.Name(target, ast.Store())], statement.value)]


def _left(body: list[ast.stmt], target: str | None) -> list[ast.stmt]:
    """Replace the returns of a loop's body by an assignment and a break."""
    written: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.Return):
            return [*written, *_assign(statement, target), ast.Break()]
        if isinstance(statement, ast.If):
            statement = ast.If(statement.test, _left(statement.body, target), _left(statement.orelse, target))
        written.append(statement)
    return written


def _inside(loop: ast.For | ast.While) -> list[ast.AST]:
    return [node for statement in loop.body for node in ast.walk(statement)]


def _returns(node: ast.stmt) -> bool:
    return any(isinstance(each, ast.Return) for each in ast.walk(node))


def _ends(body: list[ast.stmt]) -> bool:
    """Tell whether every path returns."""
    if not body:
        return False
    last = body[-1]
    return isinstance(last, ast.Return) or (isinstance(last, ast.If) and _ends(last.body) and _ends(last.orelse))
