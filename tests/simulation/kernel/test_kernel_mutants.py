"""The test of the test: each small change of the kernel's source is noticed by the comparison of the two engines.

A mutant is run uncompiled. One whose text is no longer there, or stands there twice, has to be written anew.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from differential import Question, busy_question, differences, question, seldom_question
from numpy.typing import NDArray

from ratesim.simulation import runner
from ratesim.simulation.engine import node_memory
from ratesim.simulation.jit_cache import compiled
from ratesim.simulation.kernel import assembly, kinds, memory, replay, rule_functions
from ratesim.simulation.kernel.compilation import MODULES, plain_world
from ratesim.simulation.kernel.kinds import covers
from ratesim.simulation.queueing import station_account
from ratesim.simulation.results.run_result import RunResult

# Of a kind, how many runs are tried, always the same, and the most requests of one: the others are left out.
QUESTIONS = {"memory": 200, "redis": 120, "postgres": 24, "redis cluster": 20}
LONGEST = {"memory": 300, "redis": 100, "postgres": 100, "redis cluster": 100}
BUSY = {"strong": 8, "eventual": 12, "session": 12, "lease": 13}  # of a hybrid, how many busy runs are tried


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
    "strong": [
        Mutant("no more work than its client has", "driver", "    if w.hybrid:\n", "    if False:\n"),
        Mutant(
            "each operation is cold",
            "driver",
            "asked * w.hybrid_ask + told * w.hybrid_tell + cold",
            "asked * (w.hybrid_ask + cold) + told * w.hybrid_tell",
        ),
        Mutant("it waits as long as for a command", "requests", "deadline_add(w, w.wait_class)", "deadline_add(w, 0)"),
        Mutant(
            "its work is after the answer",
            "driver",
            "task.answer += driver_beside(w, task, driver.pause)",
            "task.after += driver_beside(w, task, driver.pause)",
        ),
        Mutant(
            "what is asked counts as told",
            "driver",
            "told += w.operations[o].kind == APPLY",
            "told += w.operations[o].kind != APPLY",
        ),
        Mutant(
            "sent while its node wakes up",
            "requests",
            "w.sent[row] = max(w.now, node.woken_at)",
            "w.sent[row] = w.now",
        ),
    ],
    "eventual": [
        Mutant("decided at the end of what is fresh", "local_decisions", "w.now >= r.fresh_until", "w.now > r.fresh_until"),
        Mutant("flushing is woken unseen", "requests", "w.running = w.least_outstanding | w.sessions", "w.running = 1"),
        Mutant("fresh at its end", "local_decisions", "if now < r.fresh_until:", "if now <= r.fresh_until:"),
        Mutant(
            "a full batch lingers",
            "write_behind",
            "queue.dirty_count < w.flush_batch",
            "queue.dirty_count <= w.flush_batch",
        ),
        Mutant(
            "a flush that is overdue is forgotten",
            "write_behind",
            "r.overdue = r.sending_first == NONE",
            "r.overdue = 0",
        ),
        Mutant(
            "a view before what was told is settled",
            "write_behind",
            "        requests = replica_settle(w, w.replicas[operation.pair])\n"
            "        if w.flush_lingers:\n"
            "            queue.waiting -= requests\n"
            "        cache_store(w, operation.pair, 1, o)\n",
            "        cache_store(w, operation.pair, 1, o)\n"
            "        requests = replica_settle(w, w.replicas[operation.pair])\n"
            "        if w.flush_lingers:\n"
            "            queue.waiting -= requests\n",
        ),
        Mutant(
            "a view that is dropped stays",
            "read_cache",
            "    r.fresh_until = -inf\n    cache_remove(w, r, pair)",
            "    r.fresh_until = -inf",
        ),
        Mutant(
            "a write is done by the flush before it",
            "local_decisions",
            "task.wanted = r.started + 1",
            "task.wanted = r.started",
        ),
        Mutant(
            "told at the time of its node",
            "decision",
            "    moved = w.epoch + w.now - operation.sent if w.server_clock else 0.0\n    store, key, d",
            "    moved = 0.0\n    store, key, d",
        ),
        Mutant(
            "a state is told before it is merged",
            "decision",
            "        operation_merge(w, operation)\n"
            "        w.rule_export(w.store, operation.key, w.answer_table, operation.number)\n",
            "        w.rule_export(w.store, operation.key, w.answer_table, operation.number)\n"
            "        operation_merge(w, operation)\n",
        ),
        Mutant("who only tells is cold", "driver", "    if asked > 0:\n", "    if task.count > 0:\n"),
        Mutant(
            "the last that is dirty is flushed first",
            "write_behind",
            "    r.dirty_before = queue.dirty_last\n"
            "    r.dirty_after = NONE\n"
            "    if queue.dirty_count == 0:\n"
            "        queue.dirty_first = pair\n"
            "        r.dirty_before = NONE\n"
            "    else:\n"
            "        w.replicas[queue.dirty_last].dirty_after = pair\n"
            "    queue.dirty_last = pair\n",
            "    r.dirty_before = NONE\n"
            "    r.dirty_after = queue.dirty_first\n"
            "    if queue.dirty_count == 0:\n"
            "        queue.dirty_last = pair\n"
            "        r.dirty_after = NONE\n"
            "    else:\n"
            "        w.replicas[queue.dirty_first].dirty_before = pair\n"
            "    queue.dirty_first = pair\n",
        ),
        Mutant("told as if it were the first", "hybrid_samples", 'before = float(replica["acked"])', "before = 0.0"),
        Mutant("a delta is one request", "state_merging", "[ROW_REQUESTS] += requests", "[ROW_REQUESTS] += 1"),
    ],
    "session": [
        Mutant(
            "a version as far is ahead",
            "session_token",
            "task.seen_requests > r.seen_requests",
            "task.seen_requests >= r.seen_requests",
        ),
        Mutant("only the last of its costs", "session_token", "mine_cost = own.cost + cost", "mine_cost = cost"),
        Mutant("a version is seen for ever", "session_token", "    token.seen_requests = r.seen_requests\n", ""),
        Mutant(
            "the view does not count",
            "session_token",
            "if not w.rule_get(w.view_table, pair, now, w.answer_table, copy):",
            "if True:",
        ),
        Mutant(
            "who has no watermark has told all",
            "session_token",
            "    if mark == 0.0:\n        return own.cost\n",
            "    if mark == 0.0:\n        return 0.0\n",
        ),
        Mutant(
            "its place without the others' costs",
            "session_token",
            "own_new(w, r.node, mine_cost, replica_position(w, r), mine_time)",
            "own_new(w, r.node, mine_cost, r.acked + mine_cost, mine_time)",
        ),
        Mutant(
            "the open delta has no place",
            "replica_state",
            "    if r.requests > 0:\n        total += r.cost\n    return",
            "    return",
        ),
        Mutant(
            "a state begun for a copy is over",
            "session_token",
            "        w.answer_rows[copy * w.state_stride + ROW_EXPIRES_AT] = inf\n",
            "",
        ),
        Mutant(
            "its own node's costs count twice",
            "session_token",
            "if own.node != r.node and not own_is_settled",
            "if not own_is_settled",
        ),
        Mutant("costs of two nodes become one", "session_token", "not merged and own.node == r.node and", "not merged and"),
        Mutant(
            "a denial takes no number",
            "local_decisions",
            "        w.sequence += 1\n"
            "        w.sequences[row] = w.sequence\n"
            "        w.view_age[row] = w.epoch + w.now - r.read_at\n"
            "        return",
            "        w.sequences[row] = w.sequence\n        w.view_age[row] = w.epoch + w.now - r.read_at\n        return",
        ),
    ],
    "lease": [
        Mutant("denied with its slice is denied", "lease_manager", "if not allowed and task.more > 0.0:", "if False:"),
        Mutant("an equal cost asks again", "lease_manager", "cost >= lease.denied", "cost > lease.denied"),
        Mutant("renewed a round trip later", "lease_manager", "lease.left < 2.0 * lease.rate", "lease.left < lease.rate"),
        Mutant("a cost counts in two rates", "lease", "        lease.spent = 0.0\n", ""),
        Mutant(
            "all expires with the last slice",
            "lease",
            "        expires = min(expires, lease.expires)\n",
            "        pass\n",
        ),
        Mutant("all returns are one", "lease_manager", "manager.returns += 1", "pass"),
        Mutant("watched for ever", "lease_manager", "lease.watched = 0", "lease.watched = 1"),
        Mutant("a look at once after another", "lease_manager", "LEASE_SOONEST = 0.005", "LEASE_SOONEST = 0.0"),
        Mutant(
            "who waits goes on behind the return",
            "lease_manager",
            "    if task.own_flight:\n"
            "        lease_land(w, lease)\n"
            "    lease_on_grant(lease, allowed, w.cost[row], task.begin, retry_after, w.lease_ttl)\n"
            "    if allowed:\n"
            "        lease.spent += w.cost[row]\n"
            "        lease_keep(w, task.node, task.pair, task.more, w.time[row])\n",
            "    lease_on_grant(lease, allowed, w.cost[row], task.begin, retry_after, w.lease_ttl)\n"
            "    if allowed:\n"
            "        lease.spent += w.cost[row]\n"
            "        lease_keep(w, task.node, task.pair, task.more, w.time[row])\n"
            "    if task.own_flight:\n"
            "        lease_land(w, lease)\n",
        ),
        Mutant("a round trip from the request on", "lease_manager", "end - task.begin_ask", "end - task.begin"),
        Mutant("an old slice is never given back", "lease_manager", "(over and w.lease_resolution != 0.0)", "over"),
        Mutant(
            "a slice while another is under way",
            "lease_manager",
            "if task.own_flight and w.cost[row] > 0.0:",
            "if w.cost[row] > 0.0:",
        ),
        Mutant(
            "the last who waits goes on first",
            "lease_manager",
            "        w.tasks[lease.waiting_last].next = t\n",
            "        w.tasks[t].next = lease.waiting_first\n        lease.waiting_first = t\n        return\n",
        ),
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


class Row:
    """A record of an array: two times as fast as numpy's own."""

    __slots__ = ("columns", "place")

    def __init__(self, columns: Mapping[str, NDArray[Any]], place: int) -> None:
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "place", place)

    def __getattr__(self, name: str) -> Any:
        return self.columns[name][self.place]

    def __setattr__(self, name: str, value: Any) -> None:
        self.columns[name][self.place] = value


class Rows(dict[int, Row]):
    """The records of an array, made when they are asked for."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.columns, self.length = {name: array[name] for name in array.dtype.names or ()}, len(array)

    def __missing__(self, place: int) -> Row:
        self[place] = row = Row(self.columns, place)
        return row

    def __len__(self) -> int:
        return self.length


def world_of_rows(arrays: Mapping[str, NDArray[Any]], scalars: Mapping[str, Any]) -> Any:
    """Make a world as `plain_world` does, with quicker records where nobody asks for a part of the array."""
    world = plain_world(arrays, scalars)
    for name, array in arrays.items():
        if array.dtype.names and name not in ("accounts", "bins", "guests", "leases_due"):
            setattr(world, name, Rows(array))
    return world


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
        if name == "queueing.station_account":  # more than half of the time if it were uncompiled, and SimPy's as well
            names |= {each: getattr(compiled(station_account), each) for each in names if each.startswith("account_")}
    kernel = SimpleNamespace(**names)
    short = module.__name__.rpartition(".")[2] if module else ""
    of_rule = patch.object(rule_functions, short, module) if hasattr(rule_functions, short) else nullcontext()
    if short in OF_WORLD:
        of_rule = patch.object(assembly, OF_WORLD[short], getattr(module, OF_WORLD[short]))
    with (
        of_rule,
        np.errstate(over="ignore"),  # of the hashes of draws
        patch.object(replay, "compiled_kernel", lambda: kernel),
        patch.object(replay, "compiled_world", world_of_rows),
    ):
        yield


def _is_of_kernel(node: ast.stmt) -> bool:
    """Tell whether a statement imports what stands in one namespace with it here."""
    return isinstance(node, ast.ImportFrom) and str(node.module) in {f"ratesim.simulation.{name}" for name in MODULES}


# What a world calls in Python, by its module.
OF_WORLD = {"hybrid_samples": "HybridSamples", "view_bytes": "view_bytes"}

WITH: dict[str, Callable[[ModuleType | None], AbstractContextManager[None]]] = {
    "memory": memory_with,
    **dict.fromkeys(("redis", "postgres", "redis cluster", *BUSY), stores_with),
}


@cache
def asked(kind: str) -> list[tuple[Question, RunResult]]:
    """Return questions of a kind that the kernel plays, and SimPy's answers."""
    if kind in BUSY:
        drawn = [seldom_question()] * (kind == "eventual") + [busy_question(kind, seed) for seed in range(BUSY[kind])]
    else:
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
