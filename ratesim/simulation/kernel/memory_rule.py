"""The decisions of nodes in memory: the functions of a rule on a table of states, with a loop around them."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

from ratesim.limit import Limit
from ratesim.simulation.jit_cache import load
from ratesim.simulation.kernel.fixed_states import rule_decide
from ratesim.simulation.kernel.rule_functions import interpret_rule, rule_text
from ratesim.simulation.kernel.state_access import table_row
from ratesim.simulation.kernel.state_layout import DECIDE_CONSUMES, ROW_EXPIRES_AT, ROW_LENGTH

__all__ = ["compile_memory", "interpret_memory"]


def memory_decide(
    t: Any, pair: Any, time: Any, cost: Any, first: int, last: int, growing: bool, touched: Any, allowed: Any
) -> int:
    """Decide the requests of these rows, each on the state of its pair; returns how many were decided.

    A growing state that expires gets another ring, as `MemoryStorage` makes another entry, once a request is admitted.
    """
    for i in range(first, last):
        row = table_row(t, pair[i])
        length = row[ROW_LENGTH] if growing else 0.0
        if length > 0.0 and row[ROW_EXPIRES_AT] <= time[i]:
            row[ROW_LENGTH] = 0.0
        admitted = rule_decide(t, pair[i], DECIDE_CONSUMES, cost[i], time[i])
        if admitted < 0:
            return i
        if growing and row[ROW_LENGTH] == 0.0:
            row[ROW_LENGTH] = length
        allowed[i] = admitted
        touched[pair[i]] = i
    return last


def compile_memory(limit: Limit) -> Any:
    """Return `memory_decide` for a limit, compiled at its first call or loaded; it takes the address of a table."""
    loop = inspect.getsource(memory_decide).replace("memory_decide", "_decide", 1)
    decide = f"""
{loop}
_decide = _inlined(_decide)

@njit(cache=True, nogil=True, error_model="numpy")
def memory_decide(address, pair, time, cost, first, last, growing, touched, allowed):
    return _decide(_table(address), pair, time, cost, first, last, growing, touched, allowed)
"""
    return load(f"{limit.algorithm}_memory", rule_text(limit) + decide).memory_decide


def interpret_memory(limit: Limit) -> Any:
    """Return `memory_decide` for a limit, uncompiled; it takes `StateTable.plain`."""
    return FunctionType(memory_decide.__code__, {**globals(), "rule_decide": interpret_rule(limit)["rule_decide"]})
