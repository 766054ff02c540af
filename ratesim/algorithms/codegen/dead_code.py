"""Dead code: assignments in straight lines and branches whose value nothing reads are left out."""

from __future__ import annotations

import ast
import math

__all__ = ["prune"]

_PURE = {"int", *(name for name in vars(math) if not name.startswith("_"))}


def prune(source: str, live: set[str]) -> str:
    """Return the lines without the assignments to variables that are neither read later nor in `live`.

    Only assignments to a name of an expression without effects go: of arithmetic, and of calls of `math` and `int`. A loop
    stays whole.
    """
    tree = ast.parse(source)
    tree.body, _ = _pruned(tree.body, live)
    return ast.unparse(tree)


def _pruned(body: list[ast.stmt], live: set[str]) -> tuple[list[ast.stmt], set[str]]:
    """Return the statements that count, and the variables that are read before they are written."""
    kept: list[ast.stmt] = []
    for statement in reversed(body):
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            target = statement.targets[0].id
            if target not in live and _is_pure(statement.value):
                continue
            live = (live - {target}) | _read(statement.value)
        elif isinstance(statement, ast.If):
            yes, before_yes = _pruned(statement.body, live)
            no, before_no = _pruned(statement.orelse, live)
            if not yes and not no and _is_pure(statement.test):
                continue
            statement = ast.If(statement.test, yes or [ast.Pass()], no)
            live = before_yes | before_no | _read(statement.test)
        elif isinstance(statement, ast.Pass):
            continue
        else:
            live = live | _read(statement)
        kept.append(statement)
    return kept[::-1], live


def _read(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def _is_pure(node: ast.AST) -> bool:
    return all(
        isinstance(each.func, ast.Name) and each.func.id in _PURE for each in ast.walk(node) if isinstance(each, ast.Call)
    )
