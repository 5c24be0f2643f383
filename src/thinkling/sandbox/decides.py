"""Static analysis of whether the result of a test can depend on the program."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

_ENDS = ("exit", "quit", "sys.exit", "os._exit")
_CAUGHT = ("AssertionError", "Exception", "BaseException")


class Decides(ast.NodeVisitor):
    """Searches tests for assertions. `found`: whether there is an assertion, or an equivalent statement, whose failure
    is not caught."""

    def __init__(self, definitions: Mapping[str, ast.stmt]) -> None:
        """`definitions`: functions and classes of the tests, which are searched if they are used."""
        self.found = False
        self.seen: set[str] = set()
        """Definitions used in places where failed assertions are not caught."""
        self._definitions = definitions
        self._waiting: list[str] = []
        self._caught = False

    def follow(self, names: Iterable[str]) -> bool:
        """Search the definitions that are used, and those in `names`. Returns whether an assertion was found."""
        self._waiting += names
        while self._waiting:
            name = self._waiting.pop()
            if name in self._definitions and name not in self.seen:
                self.seen.add(name)
                definition = self._definitions[name]
                for part in (*getattr(definition, "bases", ()), *getattr(definition, "body", ())):
                    self.visit(part)
        return self.found

    def visit_Assert(self, node: ast.Assert) -> None:
        if not is_true(node.test):
            self._decided()
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._decided()
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if not self._caught:
            self._waiting.append(node.id)

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        if name in _ENDS:
            if node.args and not (isinstance(node.args[0], ast.Constant) and not node.args[0].value):
                self._decided()
        elif (
            (last.startswith("fail") or "assert" in last.lower())
            and name not in self._definitions
            and not (node.args and all(_is_constant(argument) for argument in node.args))
        ):
            self._decided()
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not self._caught and isinstance(node.ctx, ast.Load):
            self._waiting.append(node.attr)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        if not is_false(node.test):
            self._visit_all(node.body)
        if not is_true(node.test):
            self._visit_all(node.orelse)

    def visit_For(self, node: ast.For) -> None:
        if not is_false(node.iter) and ast.unparse(node.iter) != "range(0)":
            self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        if not is_false(node.test):
            self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        self._within(node.body, any(_swallows(handler, self._definitions) for handler in node.handlers))
        for handler in node.handlers:
            self._visit_all(handler.body)
        self._visit_all(node.orelse)
        self._visit_all(node.finalbody)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
        self._within(node.body, any(_suppresses(item.context_expr) for item in node.items))

    def _within(self, body: Iterable[ast.stmt], caught: bool) -> None:
        before = self._caught
        self._caught = before or caught
        self._visit_all(body)
        self._caught = before

    def _visit_all(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def _decided(self) -> None:
        self.found = self.found or not self._caught


def _swallows(handler: ast.ExceptHandler, definitions: Mapping[str, ast.stmt]) -> bool:
    """Whether a handler suppresses a failed assertion."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    if not any(kind is None or ast.unparse(kind).rpartition(".")[2] in _CAUGHT for kind in kinds):
        return False
    inner = Decides(definitions)
    for statement in handler.body:
        inner.visit(statement)
    return not inner.follow([])


def _suppresses(call: ast.expr) -> bool:
    if not isinstance(call, ast.Call) or ast.unparse(call.func).rpartition(".")[2] != "suppress":
        return False
    return any(ast.unparse(argument).rpartition(".")[2] in _CAUGHT for argument in call.args)


def _is_constant(node: ast.expr) -> bool:
    """Whether the value of an expression cannot depend on the program."""
    outside = (ast.Name, ast.Call, ast.Attribute, ast.Await, ast.Yield)
    return not any(isinstance(one, outside) for one in ast.walk(node))


def is_true(node: ast.expr) -> bool:
    """Whether the syntax of an expression shows that it is true for every program."""
    match node:
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return bool(elements)
        case ast.Dict(keys=keys):
            return bool(keys)
        case ast.Lambda() | ast.GeneratorExp():
            return True
        case ast.JoinedStr(values=values):
            return any(isinstance(one, ast.Constant) and one.value for one in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(is_true(value) for value in values)
        case ast.BoolOp(op=ast.And(), values=values):
            return all(is_true(value) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return is_false(operand)
        case ast.NamedExpr(value=value):
            return is_true(value)
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is() | ast.LtE() | ast.GtE()], comparators=[right]):
            same = isinstance(left, ast.Name) and ast.unparse(left) == ast.unparse(right)
            return same or (_is_constant(left) and _is_constant(right))
    if isinstance(node, ast.Constant):
        return bool(node.value)
    return False if isinstance(node, ast.expr) and not _is_constant(node) else not is_false(node)


def is_false(node: ast.expr) -> bool:
    """Whether the syntax of an expression shows that it is false for every program."""
    match node:
        case ast.Constant(value=value):
            return not value
        case ast.Tuple(elts=[]) | ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return is_true(operand)
    return False
