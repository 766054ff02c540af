"""The functions of one algorithm that the kernel calls by their addresses, so that it is compiled once for all algorithms.

The source of the algorithm's module is copied into a generated module, with the functions of `fixed_states` or
`growing_states` and of `state_merging` behind it, and numba compiles that, as for the oracle. A call of numbers alone by an
address costs nothing measurable over the same code inlined. A first-class function of numba that takes arrays cost 20 ns a
call more, because an array passes in seven parts.

The functions take a table of states (`StateTable.address`, or `StateTable.plain` interpreted) and the number of a row. They
change a state as `MemoryStorage` does: a denied request changes nothing, but that a state too far ahead is brought back.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.simulation.jit_cache import load, sources
from ratesim.simulation.jitted_rule import jitted_rule
from ratesim.simulation.kernel import fixed_states, growing_states, state_access, state_layout, state_merging
from ratesim.simulation.kernel.state_layout import FUNCTIONS, MARK, RULE_VOID, TABLE
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.retry_after import FOREVER

__all__ = ["compile_rule", "growth_reason", "interpret_rule", "rule_text"]


def growth_reason(limit: Limit) -> str | None:
    """Return why states of a limit cannot be kept in an arena; None if they can, or do not grow."""
    bound = bind(limit)
    if bound.size is None and not (hasattr(bound.algorithm.rule, "is_full") and hasattr(bound.algorithm.rule, "move")):
        return f"states of {limit.algorithm} grow, and its module lacks is_full or move"
    return None


def compile_rule(limit: Limit) -> dict[str, int]:
    """Compile the functions of a limit's algorithm; return their addresses by name, which hold until the process ends."""
    text = "\n".join([rule_text(limit), *(_address_text(name, *kinds) for name, kinds in FUNCTIONS.items())])
    module = load(f"{limit.algorithm}_rule", text)
    return {name: getattr(module, f"{name}_native").address for name in FUNCTIONS}


def rule_text(limit: Limit) -> str:
    """Return the text of the functions of a limit's algorithm, for a generated module that calls them or gives addresses."""
    from ratesim.simulation.kernel.addresses import pointer_to  # here, because numba takes a second

    algorithm, p, _, _ = bind(limit)
    functions = _functions(limit)
    return "\n".join(
        [
            jitted_rule(algorithm),
            f"# What it calls: {sources([pointer_to])}",
            *(f"{name} = {value!r}" for name, value in _constants(limit).items()),
            f"_TABLE = np.dtype({TABLE.descr!r}, align=True)",
            f"_MARK = np.dtype({MARK.descr!r}, align=True)",
            _ACCESS.format(parameters=", ".join(f"p[{i}]" for i in range(len(p)))),
            *map(_source, functions),
            *(f"{function.__name__} = _inlined({function.__name__})" for function in functions),
        ]
    )


@cache
def _source(function: FunctionType) -> str:
    """Return the text of a function; to find it takes a millisecond, and every run asks."""
    return inspect.getsource(function)


def interpret_rule(limit: Limit) -> dict[str, Callable[..., Any]]:
    """Return the same functions in Python, which take `StateTable.plain`."""
    namespace = {**vars(math), **vars(state_access), **vars(bind(limit).algorithm.rule), **_constants(limit)}
    for function in _functions(limit):
        namespace[function.__name__] = FunctionType(function.__code__, namespace, function.__name__)
    return {name: namespace[name] for name in FUNCTIONS}


def _constants(limit: Limit) -> dict[str, Any]:
    algorithm, p, size, head = bind(limit)
    return {
        **{name: value for name, value in vars(state_layout).items() if name.isupper() and isinstance(value, int)},
        "EXPIRY_MARGIN": EXPIRY_MARGIN,
        "FOREVER": FOREVER,
        "_WIDTH": size if head is None else head,
        "_SIZE": algorithm.rule.size(p),
    }


def _functions(limit: Limit) -> list[Any]:
    """List the functions that run with a rule, each after those that it calls."""
    modules = growing_states if bind(limit).size is None else fixed_states, state_merging
    found = [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, FunctionType) and each.__module__ == module.__name__
    ]
    return [state_access.table_begin, *found]


# Access to a table through the addresses in its record.
_ACCESS = """
from math import ceil, floor, inf
from typing import Any
from llvmlite import ir
from numba import carray, cfunc, from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

from ratesim.simulation.kernel.addresses import pointer_to

_FAR = 1 << 60  # a length beyond that of any array


@intrinsic
def _stack(context):
    def generate(context, builder, signature, arguments):
        place = cgutils.alloca_once(builder, ir.ArrayType(ir.DoubleType(), _WIDTH))
        return builder.bitcast(place, ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(), generate


_inlined = njit(forceinline=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
_to_table, _to_mark = pointer_to(from_dtype(_TABLE)), pointer_to(from_dtype(_MARK))
_to_float, _to_int = pointer_to(types.float64), pointer_to(types.int64)


@_inlined
def _table(address):
    return carray(_to_table(address), (1,))[0]


@_inlined
def table_row(t, slot):
    return carray(_to_float(t.rows + 8 * t.stride * slot), (_FAR,))


@_inlined
def table_arena(t):
    return carray(_to_float(t.arena), (_FAR,))


@_inlined
def table_answer(t):
    return carray(_to_float(t.answer), (4,))


@_inlined
def table_marks(t):
    return carray(_to_mark(t.marks), (_FAR,))


@_inlined
def table_marks_first(t):
    return carray(_to_int(t.marks_first), (_FAR,))


@_inlined
def table_parameters(t):
    p = carray(_to_float(t.p), (_FAR,))
    return ({parameters},)


@_inlined
def table_floats(t):
    return carray(_stack(), (_WIDTH,))
"""


def _address_text(name: str, result: str, *kinds: str) -> str:
    """Return the text of the function of numbers that is called by its address."""
    arguments = [f"a{i}" for i in range(len(kinds))]
    tables = {0, *([len(kinds) - 2] if name in ("rule_get", "rule_export") else [])}
    given = ", ".join(f"_table({each})" if i in tables else each for i, each in enumerate(arguments))
    signature = f"{result}({', '.join(kinds)})"
    return f"""
@cfunc({signature}, cache=True, error_model="numpy")
def {name}_native({", ".join(arguments)}):
    {"" if result == RULE_VOID else "return "}{name}({given})
"""
