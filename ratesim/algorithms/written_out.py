"""The functions of a rule as lines of Python, for states of one fixed size: no call, no loop, no subscript.

A call costs Python more than the arithmetic of most rules. So the function that takes a decision in memory is assembled,
once for each algorithm and size of state, from the rule's own source: `s[TOKENS]` becomes a local variable s1, `p[REFILL]`
becomes p1, loops over the state are unrolled, a `return` becomes an assignment. What cannot be written out that way stays a
call. The operations and their order are the source's, so the decision is the same to the bit.
"""

from __future__ import annotations

import ast
import inspect
from functools import lru_cache
from typing import Any

__all__ = ["written_out"]

MOST_STATEMENTS = 200  # a function that would be longer stays a call

Env = dict[str, ast.Constant]


class _CannotError(Exception):
    """Something that is not written out."""


def written_out(rule: Any, verb: str, size: int, target: str | None, arguments: dict[str, str]) -> list[str]:
    """Lines that do what `target = rule.verb(s, p, **arguments)` does.

    The state is in the variables s0 ... s{size-1}, the parameters in p0, p1, ... and in the tuple p; a call that is left
    goes to `rule`. arguments: by the function's parameter, the variable that holds it.
    """
    function = _functions(rule)[verb]
    try:
        body = _assigned(_writer(rule, verb, function, size, arguments).body(function.body), target)
        if sum(isinstance(node, ast.stmt) for each in body for node in ast.walk(each)) > MOST_STATEMENTS:
            raise _CannotError
    except _CannotError:
        return _called(rule, verb, function, size, target, arguments)
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, []))).splitlines()


@lru_cache(maxsize=64)
def _functions(rule: Any) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(inspect.getsource(rule))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def _called(
    rule: Any, verb: str, function: ast.FunctionDef, size: int, target: str | None, arguments: dict[str, str]
) -> list[str]:
    """The call itself; where all that the function does is conditional, only in the branches that cannot be written out."""
    state = ", ".join(f"s{i}" for i in range(size))
    given = ", ".join(arguments.get(each.arg, each.arg) for each in function.args.args)
    call = [f"s = [{state}]", f"{f'{target} = ' if target else ''}rule.{verb}({given})", f"({state},) = s"]
    body = [each for each in function.body if not _is_text(each)]
    if target is not None or len(body) != 1 or not isinstance(body[0], ast.If):
        return call
    writer = _writer(rule, verb, function, size, arguments)
    try:
        lines = [f"if {ast.unparse(writer.expression(body[0].test, {}))}:"]
    except _CannotError:
        return call
    for start, branch in ((lines, body[0].body), (["else:"], body[0].orelse)):
        try:
            inside = [ast.unparse(ast.fix_missing_locations(each)) for each in writer.body(branch)]
        except _CannotError:
            inside = call
        if inside or start is lines:
            lines = [
                *lines,
                *(start if start is not lines else []),
                *(f"    {line}" for each in inside or ["pass"] for line in each.splitlines()),
            ]
    return lines


def _writer(rule: Any, verb: str, function: ast.FunctionDef, size: int, arguments: dict[str, str]) -> _Writer:
    own = {each.id for each in ast.walk(function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    names = {each.arg: arguments.get(each.arg, each.arg) for each in function.args.args}
    return _Writer(rule, size, names | {name: f"_{verb}_{name}" for name in own})


class _Writer:
    """Writes statements out: constants are folded, loops over known ranges unrolled, names given their place."""

    def __init__(self, rule: Any, size: int, names: dict[str, str]) -> None:
        self._rule = rule
        self._size = size
        self._names = names  # of arguments and local variables

    def body(self, statements: list[ast.stmt], env: Env | None = None) -> list[ast.stmt]:
        env = {} if env is None else env
        written: list[ast.stmt] = []
        for statement in statements:
            written += self._statement(statement, env)
        return written

    def _statement(self, node: ast.stmt, env: Env) -> list[ast.stmt]:
        if _is_text(node) or isinstance(node, ast.Pass):
            return []
        if isinstance(node, ast.Return):
            return [ast.Return(None if node.value is None else self.expression(node.value, env))]
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            return self._assign(node.targets[0], self.expression(node.value, env), env)
        if isinstance(node, ast.If):
            return self._if(node, env)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and not node.orelse:
            return self._for(node, env)
        raise _CannotError

    def _assign(self, target: ast.expr, value: ast.expr, env: Env) -> list[ast.stmt]:
        if isinstance(target, ast.Name):
            if isinstance(value, ast.Constant):
                env[target.id] = value
                return []
            env.pop(target.id, None)
            return [ast.Assign([ast.Name(self._names[target.id], ast.Store())], value)]
        if isinstance(target, ast.Subscript):
            return [ast.Assign([ast.Name(self._place(target, env), ast.Store())], value)]
        raise _CannotError

    def _if(self, node: ast.If, env: Env) -> list[ast.stmt]:
        test = self.expression(node.test, env)
        if isinstance(test, ast.Constant):
            return self.body(node.body if test.value else node.orelse, env)
        # What a branch assigns has a value of its own afterwards, so before it the known value must stand there.
        changed = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        before: list[ast.stmt] = [
            ast.Assign([ast.Name(self._names[name], ast.Store())], env.pop(name)) for name in sorted(changed & env.keys())
        ]
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
            raise _CannotError
        bounds = [self.expression(each, env) for each in call.args]
        values = [each.value for each in bounds if isinstance(each, ast.Constant) and isinstance(each.value, int)]
        if len(values) < len(bounds):
            raise _CannotError
        assert isinstance(node.target, ast.Name)
        written: list[ast.stmt] = []
        for value in range(*values):
            env[node.target.id] = ast.Constant(value)
            written += self.body(node.body, env)
            if len(written) > MOST_STATEMENTS:
                raise _CannotError
        return written

    def expression(self, node: ast.expr, env: Env) -> ast.expr:
        """The expression with names in their places and constants folded."""
        if isinstance(node, ast.Constant):
            return node
        if isinstance(node, ast.Name):
            return self._name(node.id, env)
        if isinstance(node, ast.Subscript):
            index = self.expression(node.slice, env)
            if isinstance(index, ast.Constant) or not (isinstance(node.value, ast.Name) and node.value.id == "s"):
                return ast.Name(self._place(node, env), ast.Load())
            state: list[ast.expr] = [ast.Name(f"s{i}", ast.Load()) for i in range(self._size)]
            return ast.Subscript(ast.Tuple(state, ast.Load()), index, ast.Load())
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
        raise _CannotError

    def _name(self, name: str, env: Env) -> ast.expr:
        if name in env:
            return env[name]
        if name in self._names:
            return ast.Name(self._names[name], ast.Load())
        value = vars(self._rule).get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return ast.Constant(value)
        if name in vars(self._rule):
            return ast.Attribute(ast.Name("rule", ast.Load()), name, ast.Load())
        raise _CannotError

    def _call(self, name: str, arguments: list[ast.expr], env: Env) -> ast.expr:
        if name == "len" and isinstance(arguments[0], ast.Name) and arguments[0].id == "s":
            return ast.Constant(self._size)
        if any(isinstance(each, ast.Name) and each.id == "s" for each in arguments):
            raise _CannotError
        given = [ast.Name("p", ast.Load()) if _is_p(each) else self.expression(each, env) for each in arguments]
        if name in vars(self._rule):
            return ast.Call(ast.Attribute(ast.Name("rule", ast.Load()), name, ast.Load()), given, [])
        if name in {"min", "max", "int", "float", "abs"}:
            return ast.Call(ast.Name(name, ast.Load()), given, [])
        raise _CannotError

    def _place(self, node: ast.Subscript, env: Env) -> str:
        index = self.expression(node.slice, env)
        if isinstance(node.value, ast.Name) and isinstance(index, ast.Constant) and isinstance(index.value, int):
            if node.value.id == "s" and 0 <= index.value < self._size:
                return f"s{index.value}"
            if node.value.id == "p" and isinstance(node.ctx, ast.Load):
                return f"p{index.value}"
        raise _CannotError


def _is_p(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "p"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _folded(node: ast.expr) -> ast.expr:
    """The value, where all that goes into it is a whole number that is known; floats are left as the source has them."""
    parts = [each for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute | ast.Call)]
    if parts or any(isinstance(each, ast.Constant) and not isinstance(each.value, int) for each in ast.walk(node)):
        return node
    return ast.Constant(eval(compile(ast.fix_missing_locations(ast.Expression(node)), "<folded>", "eval"), {}))  # noqa: S307


def _returns(node: ast.stmt) -> bool:
    return any(isinstance(each, ast.Return) for each in ast.walk(node))


def _assigned(body: list[ast.stmt], target: str | None) -> list[ast.stmt]:
    """The statements with every `return x` made `target = x`, and what must not run after it put in the other branch."""
    written: list[ast.stmt] = []
    for place, statement in enumerate(body):
        if isinstance(statement, ast.Return):
            if target is not None and statement.value is not None:
                written.append(ast.Assign([ast.Name(target, ast.Store())], statement.value))
            return written
        if isinstance(statement, ast.If) and _returns(statement):
            rest = body[place + 1 :]
            yes = statement.body if _ends(statement.body) else [*statement.body, *rest]
            no = statement.orelse if _ends(statement.orelse) else [*statement.orelse, *rest]
            written.append(ast.If(statement.test, _assigned(yes, target) or [ast.Pass()], _assigned(no, target)))
            return written
        written.append(statement)
    return written


def _ends(body: list[ast.stmt]) -> bool:
    """Whether every way through returns."""
    if not body:
        return False
    last = body[-1]
    return isinstance(last, ast.Return) or (isinstance(last, ast.If) and _ends(last.body) and _ends(last.orelse))
