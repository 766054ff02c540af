"""`Statement`: a call of one of the storage's functions, its parameters, and its rows as answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ratesim.storage.postgres.batches import Group

__all__ = ["SESSION_TYPES", "Statement"]

SESSION_TYPES = ("text", "text")


class Statement(NamedTuple):
    """A call of one of the storage's functions for a group of operations.

    Attributes
    ----------
    template
        The name of the function's template, see `Schema.function`.
    types
        The types of its parameters before those of the session (`schema.SESSION`).
    parameters
        Returns the parameters of a group: values of the types, an array as a list.
    answers
        Returns the answers of a group from the rows, each a sequence of columns.
    names
        The algorithms that the function knows.
    scalar
        Whether the function returns one value, an array of float8 without NULLs; then the only row is (that array,).
    """

    template: str
    types: tuple[str, ...]
    parameters: Callable[[Group], list[Any]]
    answers: Callable[[Group, list[Any]], list[object]]
    names: tuple[str, ...] = ()
    scalar: bool = False

    def call(self, function: str) -> bytes:
        """Return the text of the call. Parameters travel in binary, so that no setting of a session changes a number."""
        types = ", ".join(f"${place}::{each}" for place, each in enumerate((*self.types, *SESSION_TYPES), 1))
        return f"SELECT {'' if self.scalar else '* FROM '}{function}({types})".encode()  # noqa: S608
