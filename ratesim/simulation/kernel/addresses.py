"""Addresses as numbers in compiled code: a pointer made of one, and a call of the function at one.

The generated modules of the kernel and of the rules import these; a world and a table of states hold the numbers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["function_at", "pointer_to"]


def pointer_to(kind: Any) -> Any:
    """Make the function that turns an address into a pointer to values of a numba type."""
    pointer = types.CPointer(kind)

    @intrinsic  # type: ignore[untyped-decorator]
    def point(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(types.int64), generate

    return point


def function_at(result: Any, *parameters: Any) -> Any:
    """Make the function that calls, with a tuple of arguments, what is at an address.

    Parameters
    ----------
    result, parameters
        The numba types of the function that is called.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def call(_: Any, address: Any, arguments: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kinds = [context.get_value_type(each) for each in parameters]
            function = ir.FunctionType(context.get_value_type(result), kinds)
            callee = builder.inttoptr(values[0], function.as_pointer())
            given = signature.args[1].types
            unpacked = [builder.extract_value(values[1], place) for place in range(len(parameters))]
            cast = [context.cast(builder, *each) for each in zip(unpacked, given, parameters, strict=True)]
            return builder.call(callee, cast)

        return result(types.int64, arguments), generate

    return call
