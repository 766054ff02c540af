"""`Known`: leaves out of written out lines what stands behind a condition that never fails."""

from __future__ import annotations

import ast
from collections.abc import Collection

__all__ = ["Known"]


class Known(ast.NodeTransformer):
    """Puts the body of an `if` in its place where the condition is known to hold.

    Parameters
    ----------
    conditions
        The conditions, as `ast.unparse` writes them.
    """

    def __init__(self, conditions: Collection[str]) -> None:
        self._conditions = conditions

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        """Replace an `if` whose condition is known by its body."""
        self.generic_visit(node)
        return node.body if ast.unparse(node.test) in self._conditions else node
