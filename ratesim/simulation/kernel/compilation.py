"""The compiled kernel: the sources of its modules as one generated module for numba.

The functions of the kernel are plain Python without decorators. Their sources are joined, without docstrings and imports, so
that a hash of all of it names the compiled code on disk (`simulation.jit_cache`). numba would pass the arrays of a world
from function to function as a hundred numbers. There they are one record of addresses:

- `w.nodes`, an array of `layout.ARRAYS`, becomes a view made of the address and the length in the record;
- `w.nodes[i]` becomes a view of that row alone, so that nothing asks whether `i` counts from the end; it never does;
- `w.rule_decide(...)`, a function of `layout.CALLED`, becomes a call through the address in the record;
- `w.now`, a scalar of `layout.SCALARS`, stays what it is.

Uncompiled, a world is an object with attributes of these names, and the same functions run as they are.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.jit_cache import load, note, noted
from ratesim.simulation.kernel import layout

__all__ = ["MODULES", "compiled_kernel", "compiled_world", "joined_source", "plain_kernel", "plain_world", "source_digest"]

# The modules of the kernel, each after those whose constants it uses.
MODULES = (
    "queueing.station_account",
    "kernel.state_layout",
    "network.wire_sample",
    "network.draw_column",
    "kernel.layout",
    "kernel.event_queue",
    "kernel.station",
    "kernel.coldness",
    "kernel.loop_cpu",
    "kernel.hybrid_node",
    "kernel.decision",
    "kernel.locks",
    "kernel.cores",
    "kernel.postgres_work",
    "kernel.draws",
    "kernel.commit",
    "kernel.wire",
    "kernel.server",
    "kernel.driver",
    "kernel.redis_cluster",
    "kernel.client",
    "kernel.lease",
    "kernel.lease_manager",
    "kernel.replica_state",
    "kernel.session_token",
    "kernel.read_cache",
    "kernel.write_behind",
    "kernel.local_decisions",
    "kernel.requests",
    "kernel.task_steps",
    "kernel.play",
)

_HEAD = """
import math
from math import inf

import numpy as np
from numba import carray, from_dtype, njit, types

from ratesim.simulation.kernel.addresses import function_at, pointer_to

_compiled = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
_inlined = njit(forceinline=True, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""
_VIEW = """
_pointer_{name} = pointer_to(from_dtype(ARRAYS["{name}"]))


@_compiled
def _view_{name}(w):
    return carray(_pointer_{name}(w.{name}), (w.{name}_length,))


@_compiled
def _row_{name}(w, place):
    return carray(_pointer_{name}(w.{name} + {size} * place), (1,))
"""

INLINED = ("account_add", "account_advance")  # they take two arrays, which pass as seven numbers each
ENTRIES = ("play_until", "play_settle")  # what Python calls
_ENTRY = """
{0} = njit(nogil=True, error_model="numpy", cache=True)({0}.py_func)
"""


class _Compilable(ast.NodeTransformer):
    """Rewrites what a world is asked for, and removes annotations and docstrings."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        for argument in node.args.args:
            argument.annotation = None
        node.returns = None
        node.decorator_list = [ast.Name("_inlined" if node.name in INLINED else "_compiled", ast.Load())]
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        asked = node.func
        if isinstance(asked, ast.Attribute) and _is_world(asked.value) and asked.attr in layout.CALLED:
            arguments = ast.Tuple(node.args, ast.Load())
            return ast.Call(ast.Name(f"_call_{asked.attr}", ast.Load()), [asked, arguments], [])
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        asked = node.value
        if isinstance(asked, ast.Attribute) and _is_array(asked) and not isinstance(node.slice, ast.Slice):
            row = ast.Call(ast.Name(f"_row_{asked.attr}", ast.Load()), [asked.value, self.visit(node.slice)], [])
            return ast.Subscript(row, ast.Constant(0), node.ctx)
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if _is_array(node) and isinstance(node.ctx, ast.Load):
            return ast.Call(ast.Name(f"_view_{node.attr}", ast.Load()), [node.value], [])
        return node


def _is_world(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "w"


def _is_array(node: ast.Attribute) -> bool:
    return _is_world(node.value) and node.attr in layout.ARRAYS


def joined_source(sources: Mapping[str, str] | None = None) -> str:
    """Join the kernel's modules into the text of one.

    Parameters
    ----------
    sources
        The texts of the modules by name; those that are installed unless given.
    """
    texts = sources or {name: inspect.getsource(_module(name)) for name in MODULES}
    parts = [_HEAD]
    for name in MODULES:
        tree = ast.parse(texts[name])
        kept = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]
        kept = [node for node in kept if not (isinstance(node, ast.Assign) and _is_for_python(node))]
        parts += [ast.unparse(ast.fix_missing_locations(_Compilable().visit(node))) for node in kept]
        if name == "kernel.layout":
            parts += [_VIEW.format(name=each, size=dtype.itemsize) for each, dtype in layout.ARRAYS.items()]
            parts += [f"_call_{name} = function_at({', '.join(kinds)})" for name, kinds in layout.CALLED.items()]
    return "\n\n".join(parts) + "".join(map(_ENTRY.format, ENTRIES))


def _is_for_python(node: ast.Assign) -> bool:
    """Tell whether an assignment is of `__all__`, or of a name for a type."""
    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names == ["__all__"] or (isinstance(node.value, ast.Name) and node.value.id == "Any")


def _module(name: str) -> ModuleType:
    return import_module(f"ratesim.simulation.{name}")


@cache
def source_digest() -> str:
    """Return a hash of all that the generated module is made of."""
    texts = [inspect.getsource(_module(name)) for name in (*MODULES, "kernel.addresses", "kernel.compilation")]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@cache
def compiled_kernel() -> ModuleType:
    """Return the generated module; what is called of it is compiled, or loaded, at its first call.

    Its text is kept on disk as well, because joining it takes half a second.
    """
    name = f"kernel_source_{source_digest()[:32]}"
    text = noted(name)
    if text is None:
        text = joined_source()
        note(name, text)
    return load("kernel", text)


def plain_kernel() -> ModuleType:
    """Return the module with the same entries that runs uncompiled."""
    return _module("kernel.play")


WORLD = np.dtype(
    [(name, "f8" if isinstance(value, float) else "i8") for name, value in layout.SCALARS.items()]
    + [(name, "i8") for name in layout.CALLED]
    + [(field, "i8") for name in layout.ARRAYS for field in (name, f"{name}_length")],
    align=True,
)


def compiled_world(arrays: Mapping[str, NDArray[Any]], scalars: Mapping[str, float | int]) -> Any:
    """Make the record of addresses. The arrays must live as long as it is used, and stay where they are.

    Parameters
    ----------
    arrays, scalars
        By the names in `layout.ARRAYS`, and in `layout.SCALARS` and `layout.CALLED`; a scalar that is missing begins as
        it says there.
    """
    world = np.zeros(1, WORLD).view(np.recarray)
    for name, dtype in layout.ARRAYS.items():
        array = arrays[name]
        if array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
            raise TypeError(f"{name}: must be a contiguous array of {dtype}, not {array.ndim}-d of {array.dtype}")
        world[name], world[f"{name}_length"] = array.ctypes.data, len(array)
    for name, value in {**layout.SCALARS, **scalars}.items():
        world[name] = value
    return world[0]


def plain_world(arrays: Mapping[str, NDArray[Any]], scalars: Mapping[str, Any]) -> Any:
    """Make an object with the same names; functions are Python's, and records have attributes."""
    records = {name: array.view(np.recarray) if array.dtype.names else array for name, array in arrays.items()}
    return SimpleNamespace(**records, **{**layout.SCALARS, **scalars})
