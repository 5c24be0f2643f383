"""Static analysis of Python source: whether the source compiles, and which names it defines and uses."""

from __future__ import annotations

import ast
import builtins
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

KNOWN = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}
"""Names that are defined in every module."""


@dataclass(frozen=True)
class Code:
    """Text that compiles as a Python program."""

    text: str
    tree: ast.Module

    @classmethod
    def of(cls, text: str) -> Code | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as warnings about invalid escapes in the model's code
                tree = ast.parse(text)
                compile(text, "<reply>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return None
        return cls(text, tree)

    @cached_property
    def defines(self) -> frozenset[str]:
        """Names bound at the top level, including inside compound statements."""
        return frozenset(_bound(self.tree.body))

    @cached_property
    def uses(self) -> frozenset[str]:
        """Names that are read but never bound."""
        nodes = list(ast.walk(self.tree))
        read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        return frozenset(read - _bound_anywhere(nodes) - KNOWN)

    @property
    def acts(self) -> bool:
        """Whether the code contains a statement other than a bare value. Text printed by a program often compiles, but
        only as bare values."""
        return any(not is_value(node) for node in self.tree.body)

    @property
    def constructs(self) -> bool:
        """Whether the code defines a function or class, or imports a module. Programs usually do this, but examples of
        how to use a program rarely do."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
        return any(isinstance(node, kinds) for node in self.tree.body)

    def imports_from_elsewhere(self, name: str) -> bool:
        """Whether a name is imported from outside the standard library, as in examples that import the program."""
        return any(
            isinstance(node, ast.ImportFrom)
            and (node.level > 0 or (node.module or "").partition(".")[0] not in sys.stdlib_module_names)
            and any((alias.asname or alias.name) == name for alias in node.names)
            for node in self.tree.body
        )


def error_line(text: str) -> int | None:
    """Return the line, counted from 1, at which a text fails to compile; None if it compiles."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "<reply>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return 1
    return None


def is_value(node: ast.stmt) -> bool:
    """Whether a statement is a bare value, that is, an expression without calls."""
    return isinstance(node, ast.Expr) and not any(isinstance(part, ast.Call) for part in ast.walk(node))


def _bound(body: Sequence[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            for name in ast.iter_child_nodes(node):
                found |= _targets(name)
            for part in ("body", "orelse", "finalbody"):
                found |= _bound(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                found |= _bound(handler.body)
    return found


def _targets(node: ast.AST) -> set[str]:
    if isinstance(node, ast.stmt):
        return set()
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _bound_anywhere(nodes: Sequence[ast.AST]) -> set[str]:
    """Return the names bound in any scope. Scopes are not distinguished, which rarely matters here."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            found.add(node.name)
    return found
