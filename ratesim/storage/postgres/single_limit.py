"""The decision of one limit, which is the most frequent call: functions of its own, written out for the algorithm.

There is one for a request alone, one for requests of different identifiers, and one for requests in turn. Each answers one
array of floats, which costs less than rows. A request that is denied is answered by the state that it was decided on: the
node replays the decision and has the wait, to the bit.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ratesim import algorithms
from ratesim.algorithms import Algorithm
from ratesim.algorithms.codegen import Block, InlineError, Layout, inline_rule, render, to_plpgsql
from ratesim.errors import SerializationError
from ratesim.limit import Decision, InvalidLimitError, Limit
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres.batches import Group
from ratesim.storage.postgres.statement import Statement
from ratesim.storage.remote.replay import compile_replayer

__all__ = ["SIZED", "TEMPLATES", "SingleLimit", "single_templates", "source", "written_out"]

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "acquire_one": (),
    "acquire_each": (),
    "decide_proposal": (),
    "acquire_distinct": ("decide_proposal", "acquire_one"),
}
"""The templates of one limit, each with those of the functions that it calls"""

SIZED = "_sized"
"""Ends the name of a function that calls the algorithm's twin, and so serves states of any size"""

MOST_FLOATS = 16  # in a state whose floats are variables
FRAGMENTS = ("decide_variables", "decide_row", "decide", "seen")  # each may contain those after it
READ = "verdict = 0.0\nstored = len(raw) > 0"
UNREADABLE = "a state that cannot be read: one of its numbers is NULL, or not finite; reset it"


class Form(NamedTuple):
    """The numbers of floats that functions are written out for.

    Attributes
    ----------
    size, parameters
        Of a state, and of the parameters of a limit.
    """

    size: int
    parameters: int


# -- the functions ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def written_out(algorithm: Algorithm) -> Form | None:
    """Return what the functions of an algorithm are written out for: its plainest limit; None where that is not possible."""
    try:
        _, p, size, _ = algorithms.bind(Limit(1.0, 1.0, algorithm.name))
        if size is None or size > MOST_FLOATS:
            return None
        form = Form(size, len(p))
        for verb in ("start", "refresh", "rewind", "available", "charge", "reset_after"):
            _translate(algorithm, form, verb, "room", "at")
    except (InvalidLimitError, InlineError):
        return None
    return form


def single_templates(algorithm: Algorithm) -> list[str]:
    """Return the templates of the functions that single limits of an algorithm call."""
    if algorithm.variable_size is not None:
        return []
    form, listed = written_out(algorithm), algorithm.rule.FIELDS[-1].endswith("[]")
    endings = [*([""] if form else []), *([SIZED] if form is None or listed else [])]
    return [f"{template}{ending}" for ending in endings for template in TEMPLATES]


def _translate(algorithm: Algorithm, form: Form, verb: str, target: str | None, argument: str) -> Block:
    # A decision is never taken at a time before the state's own.
    lines = inline_rule(algorithm.rule, verb, Layout(form.size), target, {"now": argument})
    return to_plpgsql(lines, target, known={"at >= s0"})


def source(
    template: str, algorithm: Algorithm, sized: bool, calls: Mapping[str, str], read: Callable[[str], str]
) -> tuple[str, dict[str, str]]:
    """Return a template with the rule written in, and what else it needs to be filled.

    Parameters
    ----------
    template
        One of TEMPLATES.
    algorithm
        The algorithm.
    sized
        Whether the algorithm's twin is called.
    calls
        Expressions that call the functions of the twin.
    read
        Returns the text of a template.
    """
    text = read(template)
    for fragment in FRAGMENTS:
        text = _included(text, fragment, read(fragment).strip())
    form = None if sized else written_out(algorithm)
    own: set[str] = set()

    def write(verb: str, target: str | None, argument: str) -> list[str]:
        if form is None:
            return [f"{target or 's'} := {calls[verb]};"]
        block = _translate(algorithm, form, verb, target, argument)
        own.update(block.variables)
        return block.lines

    text = render(text, algorithm.rule, Layout(form.size if form else 1), {}, write)
    if form is None:
        state, size, variables = "s", "size", ["s float8[];"]
        holes = {
            "parameters": "p float8[], size int",
            "given": "p, size",
            "load": "s := stored;",
            "time": "s[1]",
            "readable": "array_position(s, NULL) IS NULL AND 'Infinity' > ALL (s) AND '-Infinity' < ALL (s)",
        }
    else:
        floats = [f"s{i}" for i in range(form.size)]
        given = [f"p{i}" for i in range(form.parameters)]
        state, size = f"ARRAY[{', '.join(floats)}]", str(form.size)
        variables = [f"{name} float8;" for name in [*floats, *sorted(own)]]
        holes = {
            "parameters": ", ".join(f"{name} float8" for name in given),
            "given": ", ".join(given),
            "load": " ".join(f"{name} := stored[{place}];" for place, name in enumerate(floats, 1)),
            "time": "s0",
            "readable": f"abs({' + '.join(floats)}) < 'Infinity'::float8",
        }
    live = f"t.algorithm = '{algorithm.name}' AND cardinality(t.state) = {size} AND t.expires_at > to_timestamp"
    head = "1, room, fresh, at, CASE WHEN live THEN 0 ELSE 1 END"
    holes |= {
        "algorithm": algorithm.name,
        "state": state,
        "size": size,
        "variables": "\n  ".join(variables),
        "is_live": f"{live}(now)",
        "is_live_then": f"{live}(q.now)",
        "proposal": f"ARRAY[{head}]::float8[] || s" if form is None else f"ARRAY[{head}, {', '.join(floats)}]",
    }
    return text, holes


def _included(text: str, fragment: str, body: str) -> str:
    """Put the body in the place of the lines that name the fragment."""
    return re.sub(rf"(?m)^( *)\{{\{{{fragment}\}}\}}$", lambda match: textwrap.indent(body, match[1]), text)


# -- the statements --------------------------------------------------------------------------------------------------------


class SingleLimit:
    """One limit whose decisions have functions of their own.

    Parameters
    ----------
    limits
        The one limit.
    config
        The options.
    tally
        [states that were brought back], which is counted up.
    """

    def __init__(self, limits: tuple[Limit, ...], config: PostgresStorageConfig, tally: list[int]) -> None:
        (self._limit,) = limits
        algorithm, p, size, _ = algorithms.bind(self._limit)
        assert size is not None
        self._size = size
        self._tally = tally
        form = written_out(algorithm)
        sized = form != Form(size, len(p))
        suffix = SIZED if sized else ""
        self._tail = [self._limit.name, self._limit.period, *([list(p), size] if sized else p)]
        tail = ("text", "float8", *(("float8[]", "int") if sized else ("float8",) * len(p)))
        skew = min(config.max_clock_skew, self._limit.period)
        make = compile_replayer(algorithm, size, len(p), READ, "{state} = raw")
        self._replay = make(self._limit, algorithm.rule, p, skew, tally, None)
        many, names = ("text[]", "float8[]", "float8[]", "boolean", *tail), (algorithm.name,)
        one = ("text", "float8", "float8", "boolean", *tail)
        self._one = Statement(f"acquire_one{suffix}", one, self._one_parameters, self._answers, names, True)
        self._each = Statement(f"acquire_each{suffix}", many, self._parameters, self._answers, names, True)
        self._distinct = Statement(f"acquire_distinct{suffix}", many, self._parameters, self._answers, names, True)

    @staticmethod
    def suits(limits: Sequence[Limit]) -> bool:
        """Return whether limits are one whose state is of fixed size."""
        return len(limits) == 1 and algorithms.bind(limits[0]).size is not None

    def statement(self, group: Group) -> Statement:
        """Return the statement of a group, which is sorted by identifier."""
        if len(group) == 1:
            return self._one
        before = None
        for _, operation in group:
            if operation.identifier == before:
                return self._each
            before = operation.identifier
        return self._distinct

    def _one_parameters(self, group: Group) -> list[Any]:
        operation = group[0][1]
        return [operation.identifier, float(operation.cost), float(operation.now), operation.consume, *self._tail]

    def _parameters(self, group: Group) -> list[Any]:
        return [
            [operation.identifier for _, operation in group],
            [float(operation.cost) for _, operation in group],
            [float(operation.now) for _, operation in group],
            group[0][1].consume,
            *self._tail,
        ]

    def _answers(self, group: Group, rows: list[Any]) -> list[object]:
        """Read an answer: for n requests n verdicts, n times what is left, n times the reset, and states."""
        figures, n, limit = rows[0][0], len(group), self._limit
        answers: list[object] = []
        place = 3 * n
        for k, (_, operation) in enumerate(group):
            verdict = figures[k]
            if verdict >= 1.0:
                if verdict == 3.0:
                    self._tally[0] += 1
                answers.append(Decision(True, figures[n + k], 0.0, figures[2 * n + k], limit))
            elif verdict < 0.0:
                answers.append(SerializationError(UNREADABLE))
            else:
                behind = place + self._size if figures[2 * n + k] else place
                answers.append(self._replay(figures[place:behind], operation.cost, figures[n + k], operation.consume))
                place = behind
        return answers
