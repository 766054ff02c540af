"""Inlining: the functions of a rule as lines of Python for one layout of the state, without calls and with few subscripts.

A call costs Python more than the arithmetic of most rules. The function that decides in memory is therefore assembled once
for each algorithm and layout of its state, from the rule's own source. `s[TOKENS]` becomes a local variable s1, `p[REFILL]`
becomes p1, loops over a state of fixed size are unrolled, and a `return` becomes an assignment. Code that cannot be inlined
stays a call. The operations and their order are the source's, so the decision is the same to the bit.
"""

from __future__ import annotations

import ast
import inspect
import math
from functools import lru_cache
from typing import Any, NamedTuple

from ratesim.algorithms.codegen.return_to_assignment import InlineError, returns_to_assignments

__all__ = ["Layout", "inline_rule"]

MOST_STATEMENTS = 200  # a function that would be longer stays a call

Env = dict[str, ast.Constant]


class Layout(NamedTuple):
    """The place of a state during a decision.

    Attributes
    ----------
    local : int
        The state's first `local` floats are in the variables s0, s1, ...
    ring : bool
        Whether the state has more floats, in the list s (`VariableSizeRule`). The list's own first floats stay as they are
        until the decision is taken.
    """

    local: int
    ring: bool = False

    @property
    def variables(self) -> str:
        """The local variables, as the text of a tuple."""
        return "".join(f"s{i}, " for i in range(self.local))


def inline_rule(rule: Any, verb: str, layout: Layout, target: str | None, arguments: dict[str, str]) -> list[str]:
    """Write `target = rule.verb(s, p, **arguments)` out as lines.

    The parameters are in p0, p1, ... and in the tuple p. A remaining call goes to `rule`, or to a name of `math`.

    Parameters
    ----------
    rule : module
        The rule.
    verb : str
        Name of the function.
    layout : Layout
        The place of the state.
    target : str or None
        The variable to assign.
    arguments : dict[str, str]
        By the function's parameter, the variable that holds it.
    """
    function = _functions(rule)[verb]
    try:
        body = returns_to_assignments(_writer(rule, verb, function, layout, arguments).body(function.body), target)
        if sum(isinstance(node, ast.stmt) for each in body for node in ast.walk(each)) > MOST_STATEMENTS:
            raise InlineError
    except InlineError:
        return _called(rule, verb, layout, target, [arguments.get(each.arg, each.arg) for each in function.args.args])
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, []))).splitlines()


@lru_cache(maxsize=64)
def _functions(rule: Any) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(inspect.getsource(rule))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def _called(rule: Any, verb: str, layout: Layout, target: str | None, given: list[str]) -> list[str]:
    """Write a call on a list, into which the variables are put and from which they are taken again."""
    call = f"{f'{target} = ' if target else ''}rule.{verb}({', '.join(given)})"
    if not layout.ring:
        return [f"s = [{layout.variables}]", call, f"{layout.variables} = s"]
    own = f"s[:{layout.local}]"
    return [f"_own = {own}", f"{own} = {layout.variables}", call, f"{layout.variables} = {own}", f"{own} = _own"]


def _writer(rule: Any, verb: str, function: ast.FunctionDef, layout: Layout, arguments: dict[str, str]) -> _Writer:
    own = {each.id for each in ast.walk(function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    names = {each.arg: arguments.get(each.arg, each.arg) for each in function.args.args}
    return _Writer(rule, layout, names | {name: f"_{verb}_{name}" for name in own})


class _Writer:
    """Writes statements out: folds constants, unrolls loops over known ranges, and replaces names by their places."""

    def __init__(self, rule: Any, layout: Layout, names: dict[str, str]) -> None:
        self._rule = rule
        self._layout = layout
        self._names = names  # of arguments and local variables
        self._looping = False  # then no value is known before it is used

    def body(self, statements: list[ast.stmt], env: Env | None = None) -> list[ast.stmt]:
        """Write the statements out one after the other, with the constants known so far in `env`."""
        env = {} if env is None else env
        written: list[ast.stmt] = []
        for statement in statements:
            written += self._statement(statement, env)
        return written

    def _statement(self, node: ast.stmt, env: Env) -> list[ast.stmt]:
        if _is_text(node) or isinstance(node, ast.Pass):
            return []
        if isinstance(node, ast.Break | ast.Continue):
            return [node]
        if isinstance(node, ast.Return):
            return [ast.Return(None if node.value is None else self.expression(node.value, env))]
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            return self._assign(node.targets[0], node.value, env)
        if isinstance(node, ast.If):
            return self._if(node, env)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and not node.orelse:
            return self._for(node, env)
        if isinstance(node, ast.While) and not node.orelse:
            known = self._given(node, env)
            return [*known, ast.While(self.expression(node.test, env), self._looped(node.body, env), [])]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return self._done(node.value, env)
        raise InlineError

    def _assign(self, target: ast.expr, value: ast.expr, env: Env) -> list[ast.stmt]:
        if isinstance(target, ast.Name):
            place: ast.expr = ast.Name(self._names[target.id], ast.Store())
        elif isinstance(target, ast.Subscript):
            place = self._subscript(target, env)
        else:
            raise InlineError
        lines = self._inlined(value, place.id, env) if isinstance(place, ast.Name) else None
        if lines is None:
            value = self.expression(value, env)
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and not self._looping:
                env[target.id] = value
                return []
            lines = [ast.Assign([place], value)]
        if isinstance(target, ast.Name):
            env.pop(target.id, None)
        return lines

    def _inlined(self, value: ast.expr, place: str, env: Env) -> list[ast.stmt] | None:
        """Write the assignment to `place` of a call of a rule's function that takes no state; None for any other value."""
        if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name)) or value.keywords:
            return None
        function = _functions(self._rule).get(value.func.id)
        given = [ast.Name("p", ast.Load()) if _is_p(each) else self.expression(each, env) for each in value.args]
        if function is None or not all(isinstance(each, ast.Name) and each.id != "s" for each in given):
            return None
        names = {
            each.arg: name.id for each, name in zip(function.args.args, given, strict=True) if isinstance(name, ast.Name)
        }
        try:
            return returns_to_assignments(
                _writer(self._rule, function.name, function, self._layout, names).body(function.body), place
            )
        except InlineError:
            return None

    def _done(self, call: ast.Call, env: Env) -> list[ast.stmt]:
        """Write a call of another function of the rule that changes the state."""
        if not (isinstance(call.func, ast.Name) and call.func.id in vars(self._rule)):
            raise InlineError
        whole = ("s", "p")
        given = [
            each if isinstance(each, ast.Name) and each.id in whole else self.expression(each, env) for each in call.args
        ]
        return ast.parse("\n".join(_called(self._rule, call.func.id, self._layout, None, [*map(ast.unparse, given)]))).body

    def _given(self, node: ast.AST, env: Env) -> list[ast.stmt]:
        """Write the known values of the variables that a branch or a loop assigns, which are unknown afterwards."""
        changed = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        return [
            ast.Assign([ast.Name(self._names[name], ast.Store())], env.pop(name)) for name in sorted(changed & env.keys())
        ]

    def _if(self, node: ast.If, env: Env) -> list[ast.stmt]:
        test = self.expression(node.test, env)
        if isinstance(test, ast.Constant):
            return self.body(node.body if test.value else node.orelse, env)
        before = self._given(node, env)
        body = self._branch(node.body, env) or [ast.Pass()]
        return [*before, ast.If(test, body, self._branch(node.orelse, env))]

    def _branch(self, statements: list[ast.stmt], env: Env) -> list[ast.stmt]:
        own = dict(env)
        written = self.body(statements, own)
        if written and isinstance(written[-1], ast.Return):
            return written
        known = [name for name, value in own.items() if env.get(name) is not value]
        return [*written, *(ast.Assign([ast.Name(self._names[name], ast.Store())], own[name]) for name in known)]

    def _for(self, node: ast.For, env: Env) -> list[ast.stmt]:
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            raise InlineError
        assert isinstance(node.target, ast.Name)
        bounds = [self.expression(each, env) for each in call.args]
        values = [each.value for each in bounds if isinstance(each, ast.Constant) and isinstance(each.value, int)]
        if len(values) < len(bounds) or any(isinstance(each, ast.Break | ast.Continue) for each in ast.walk(node)):
            known = self._given(node, env)
            counted = ast.Call(ast.Name("range", ast.Load()), [self.expression(each, env) for each in call.args], [])
            place = ast.Name(self._names[node.target.id], ast.Store())
            return [*known, ast.For(place, counted, self._looped(node.body, env), [])]
        written: list[ast.stmt] = []
        for value in range(*values):
            env[node.target.id] = ast.Constant(value)
            written += self.body(node.body, env)
            if len(written) > MOST_STATEMENTS:
                raise InlineError
        return written

    def _looped(self, statements: list[ast.stmt], env: Env) -> list[ast.stmt]:
        before, self._looping = self._looping, True
        written = self.body(statements, env)
        self._looping = before
        return written

    def expression(self, node: ast.expr, env: Env) -> ast.expr:
        """Write the expression with names in their places and constants folded."""
        if isinstance(node, ast.Constant):
            return node
        if isinstance(node, ast.Name):
            return self._name(node.id, env)
        if isinstance(node, ast.Subscript):
            return self._subscript(node, env)
        if isinstance(node, ast.BinOp):
            return _folded(ast.BinOp(self.expression(node.left, env), node.op, self.expression(node.right, env)))
        if isinstance(node, ast.UnaryOp):
            return _folded(ast.UnaryOp(node.op, self.expression(node.operand, env)))
        if isinstance(node, ast.BoolOp):
            return ast.BoolOp(node.op, [self.expression(each, env) for each in node.values])
        if isinstance(node, ast.Compare):
            compared = [self.expression(each, env) for each in node.comparators]
            return _folded(ast.Compare(self.expression(node.left, env), node.ops, compared))
        if isinstance(node, ast.IfExp):
            test = self.expression(node.test, env)
            if isinstance(test, ast.Constant):
                return self.expression(node.body if test.value else node.orelse, env)
            return ast.IfExp(test, self.expression(node.body, env), self.expression(node.orelse, env))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, node.args, env)
        raise InlineError

    def _name(self, name: str, env: Env) -> ast.expr:
        if name in env:
            return env[name]
        if name in self._names:
            return ast.Name(self._names[name], ast.Load())
        value = vars(self._rule).get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return ast.Constant(value)
        if name in vars(self._rule):
            return self._of_rule(name)
        raise InlineError

    def _of_rule(self, name: str) -> ast.expr:
        if vars(self._rule)[name] is getattr(math, name, None):
            return ast.Name(name, ast.Load())
        return ast.Attribute(ast.Name("rule", ast.Load()), name, ast.Load())

    def _call(self, name: str, arguments: list[ast.expr], env: Env) -> ast.expr:
        if name == "len" and isinstance(arguments[0], ast.Name) and arguments[0].id == "s":
            return (
                ast.Call(ast.Name("len", ast.Load()), arguments, [])
                if self._layout.ring
                else ast.Constant(self._layout.local)
            )
        if name == "int" and self._layout.ring and self._is_whole(arguments[0], env):
            return self.expression(arguments[0], env)
        if any(isinstance(each, ast.Name) and each.id == "s" for each in arguments):
            raise InlineError
        given = [ast.Name("p", ast.Load()) if _is_p(each) else self.expression(each, env) for each in arguments]
        if name in vars(self._rule):
            return ast.Call(self._of_rule(name), given, [])
        if name in {"min", "max", "int", "float", "abs"}:
            return ast.Call(ast.Name(name, ast.Load()), given, [])
        raise InlineError

    def _is_whole(self, node: ast.expr, env: Env) -> bool:
        """Tell whether this is a place of the state in which a list always has an int."""
        whole = {f"s{place}" for place in getattr(self._rule, "WHOLE", ())}
        return isinstance(node, ast.Subscript) and getattr(self.expression(node, env), "id", None) in whole

    def _subscript(self, node: ast.Subscript, env: Env) -> ast.expr:
        index = self.expression(node.slice, env)
        known = index.value if isinstance(index, ast.Constant) and isinstance(index.value, int) else None
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        if of == "p" and known is not None and isinstance(node.ctx, ast.Load):
            return ast.Name(f"p{known}", ast.Load())
        if of != "s" or (known is not None and known < 0):
            raise InlineError
        if known is not None and known < self._layout.local:
            return ast.Name(f"s{known}", node.ctx)
        if self._layout.ring:
            return ast.Subscript(ast.Name("s", ast.Load()), index, node.ctx)
        if known is None and isinstance(node.ctx, ast.Load):
            state: list[ast.expr] = [ast.Name(f"s{i}", ast.Load()) for i in range(self._layout.local)]
            return ast.Subscript(ast.Tuple(state, ast.Load()), index, ast.Load())
        raise InlineError


def _is_p(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "p"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _folded(node: ast.expr) -> ast.expr:
    """Fold an expression of known whole numbers; floats are left as the source has them."""
    parts = [each for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute | ast.Call)]
    if parts or any(isinstance(each, ast.Constant) and not isinstance(each.value, int) for each in ast.walk(node)):
        return node
    return ast.Constant(eval(compile(ast.fix_missing_locations(ast.Expression(node)), "<folded>", "eval"), {}))  # noqa: S307
