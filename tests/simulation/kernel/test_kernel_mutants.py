"""The test of the test: each small change of the kernel's source is noticed by the comparison of the two engines.

A mutant is run uncompiled. One whose text is no longer there, or stands there twice, has to be written anew.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from differential import Question, differences, question

from ratesim.simulation import runner
from ratesim.simulation.engine import node_memory
from ratesim.simulation.kernel import kinds, memory, replay, rule_functions
from ratesim.simulation.kernel.compilation import MODULES, plain_world
from ratesim.simulation.kernel.kinds import covers
from ratesim.simulation.results.run_result import RunResult

# Of a kind, how many runs are tried, always the same, and the most requests of one: the others are left out.
QUESTIONS = {"memory": 200, "redis": 120, "postgres": 24, "redis cluster": 20}
LONGEST = {"memory": 300, "redis": 100, "postgres": 100, "redis cluster": 100}


class Mutant(NamedTuple):
    """A change of the text of one module of the kernel."""

    what: str
    module: str
    before: str
    after: str


MUTANTS: dict[str, list[Mutant]] = {
    "memory": [
        Mutant("another node in turn", "memory_loop", "loop = loops[i % len(loops)]", "loop = loops[(i + 1) % len(loops)]"),
        Mutant("busy at the end of its work", "memory_loop", "if loop[UNTIL] <= now:", "if loop[UNTIL] < now:"),
        Mutant("a wake is no step", "memory_loop", "            loop[CAME] = now\n", ""),
        Mutant("idle since ever", "memory_loop", "        loop[DECIDED] = loop[IDLE]\n", ""),
        Mutant(
            "the queue is forgotten",
            "memory_loop",
            "max(loop[FREE], loop[CAME]) + loop[WORKED]",
            "loop[CAME] + loop[WORKED]",
        ),
        Mutant("always the coldest point", "memory_loop", "cold_idle[place + 1] <= idle", "place < len(cold_idle)"),
        Mutant("nodes share their states", "memory_loop", "code = key[i] * nodes + node[i]", "code = key[i] * nodes"),
        Mutant("all keys are one", "memory_loop", "place = (place + 1) & last", "break"),
        Mutant("an old ring is kept", "memory_rule", "row[ROW_LENGTH] = 0.0", "pass"),
        Mutant("the first use counts", "memory_rule", "touched[pair[i]] = i", "touched[pair[i]] = max(touched[pair[i]], 0)"),
        Mutant("a limit is met before it", "fixed_states", "left >= cost", "left > cost"),
        Mutant(
            "a state lives for ever",
            "fixed_states",
            "lives = row[ROW_EXPIRES_AT] > now",
            "lives = row[ROW_EXPIRES_AT] > 0.0",
        ),
    ],
    "redis": [
        Mutant("later events of a time first", "event_queue", "if above.time <= time:", "if above.time < time:"),
        Mutant("an event before an arrival", "play", "if due <= soonest:", "if due < soonest:"),
        Mutant("alone beside another", "loop_cpu", "event_peek(w) <= w.now + turns * w.turn_seconds", "False"),
        Mutant("no connection for lone requests", "client", "node.free > w.reserve", "node.free > 0"),
        Mutant("all that wait in one batch", "client", "-(-node.waiting_count // shares)", "node.waiting_count"),
        Mutant("the pause before counts less", "coldness", "COLD_LAST = 0.7", "COLD_LAST = 0.8"),
        Mutant("each step has all of the work", "loop_cpu", "share = node.worked / node.came_count", "share = node.worked"),
        Mutant("sent while its node wakes up", "requests", "w.sent[row] = max(w.now, node.woken_at)", "w.sent[row] = w.now"),
        Mutant("a limit is met before it", "fixed_states", "left >= cost", "left > cost"),
    ],
    "postgres": [
        Mutant("nobody waits for a row", "locks", "if before.ticket == want.ticket:", "if False:"),
        Mutant("a look takes no number", "locks", "held and operation_is_denied(w, operation)", "False"),
        Mutant("rows are never free", "locks", "            w.row_holders[operation.key] = NONE\n", "            pass\n"),
        Mutant(
            "each has a flush of its own", "commit", "    return commit.follows\n", "    return commit.follows + seconds\n"
        ),
        Mutant("a denial is flushed", "commit", "if operation_wrote(operation):", "if True:"),
        Mutant("a row of a key twice", "postgres_work", " and row.seen != work.batches", ""),
    ],
    "redis cluster": [
        Mutant(
            "the first primary has all", "redis_cluster", "task.server = owner\n    return", "task.server = 0\n    return"
        ),
        Mutant("a batch forgets its order", "redis_cluster", "w.operations[o].next = w.batch_next[o]", "pass"),
    ],
}


def mutated(mutant: Mutant) -> ModuleType:
    """Make the module with the change."""
    name = f"ratesim.simulation.kernel.{mutant.module}"
    text = inspect.getsource(import_module(name))
    assert text.count(mutant.before) == 1, (
        f"{mutant.before!r} stands {text.count(mutant.before)} times in {mutant.module}.py"
    )
    module = ModuleType(name)
    vars(module)["text"] = text.replace(mutant.before, mutant.after)
    exec(compile(vars(module)["text"], f"<{mutant.what}>", "exec"), vars(module))
    return module


@contextmanager
def memory_with(module: ModuleType | None) -> Iterator[None]:
    """Let memory be played uncompiled, with one module in the place of its original."""
    kernel, name = memory.PLAIN, module.__name__.rpartition(".")[2] if module else ""
    if name == "memory_loop":
        kernel = kernel._replace(loop=lambda: module)
    elif name == "memory_rule":
        kernel = kernel._replace(rule=module.interpret_memory)
    of_rule = (
        patch.object(rule_functions, name, module)
        if hasattr(rule_functions, name)
        else patch.object(memory, "COMPILED", kernel)
    )
    with of_rule, patch.object(kinds, "play_memory", lambda *asked: memory.play_memory(*asked, kernel=kernel)):
        yield


@contextmanager
def stores_with(module: ModuleType | None) -> Iterator[None]:
    """Let runs that ask a store be played uncompiled, with one module in the place of its original."""
    names: dict[str, object] = {}
    for name in MODULES:
        full = f"ratesim.simulation.{name}"
        text = (
            vars(module)["text"]
            if module is not None and module.__name__ == full
            else inspect.getsource(import_module(full))
        )
        tree = ast.parse(text)
        tree.body = [each for each in tree.body if not _is_of_kernel(each)]
        exec(compile(tree, full, "exec"), names)
    kernel = SimpleNamespace(**names)
    short = module.__name__.rpartition(".")[2] if module else ""
    of_rule = patch.object(rule_functions, short, module) if hasattr(rule_functions, short) else nullcontext()
    with (
        of_rule,
        np.errstate(over="ignore"),  # of the hashes of draws
        patch.object(replay, "compiled_kernel", lambda: kernel),
        patch.object(replay, "compiled_world", plain_world),
    ):
        yield


def _is_of_kernel(node: ast.stmt) -> bool:
    """Tell whether a statement imports what stands in one namespace with it here."""
    return isinstance(node, ast.ImportFrom) and str(node.module) in {f"ratesim.simulation.{name}" for name in MODULES}


WITH: dict[str, Callable[[ModuleType | None], object]] = {
    "memory": memory_with,
    **dict.fromkeys(("redis", "postgres", "redis cluster"), stores_with),
}


@cache
def asked(kind: str) -> list[tuple[Question, RunResult]]:
    """Return questions of a kind that the kernel plays, and SimPy's answers."""
    drawn = [question(kind, seed) for seed in range(QUESTIONS[kind])]
    drawn = [each for each in drawn if covers(*each) is None and 1 < len(each.trace) <= LONGEST[kind]]
    return [(each, each.answer("simpy")) for each in drawn]


def first_difference(kind: str) -> str:
    """Return the first difference that the comparison finds, or what else goes wrong; "" for none."""
    with patch.object(runner, "disagreement", lambda *_: None), patch.object(node_memory, "SAMPLE", 10):
        for each, right in asked(kind):
            try:
                found = next(differences(right, each.answer("compiled")), "")
            except Exception as error:  # noqa: BLE001 - it is noticed
                found = repr(error)
            if found:
                return found
    return ""


@pytest.mark.parametrize("kind", MUTANTS)
def test_the_kernel_finds_the_same_uncompiled(kind: str) -> None:
    with WITH[kind](None):
        assert first_difference(kind) == ""


@pytest.mark.parametrize(
    ("kind", "mutant"),
    [(kind, each) for kind in MUTANTS for each in MUTANTS[kind]],
    ids=lambda each: getattr(each, "what", each),
)
def test_a_mutant_is_noticed(kind: str, mutant: Mutant) -> None:
    with WITH[kind](mutated(mutant)):
        assert first_difference(kind), f"nobody notices: {mutant.what}"
