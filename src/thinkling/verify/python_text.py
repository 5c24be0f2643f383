"""Text that is Python: whether it compiles, which names it defines and which it uses. Nothing is run."""

from __future__ import annotations

import ast
import builtins
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

KNOWN = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}
"""Names that every module has."""


@dataclass(frozen=True)
class Code:
    """Text that compiles as a Python program."""

    text: str
    tree: ast.Module

    @classmethod
    def of(cls, text: str) -> Code | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes are the model's affair
                tree = ast.parse(text)
                compile(text, "<reply>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return None
        return cls(text, tree)

    @cached_property
    def defines(self) -> frozenset[str]:
        """Names that it binds at its top level, the branches of its statements included."""
        return frozenset(_bound(self.tree.body))

    @cached_property
    def uses(self) -> frozenset[str]:
        """Names that it reads and binds nowhere."""
        nodes = list(ast.walk(self.tree))
        read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        return frozenset(read - _bound_anywhere(nodes) - KNOWN)

    @property
    def acts(self) -> bool:
        """Whether it is more than values: printed output compiles too."""
        return any(not is_value(node) for node in self.tree.body)

    @property
    def constructs(self) -> bool:
        """Whether it defines a function or class, or imports: what a program does and an example of its use rarely."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
        return any(isinstance(node, kinds) for node in self.tree.body)

    def imports_from_elsewhere(self, name: str) -> bool:
        """Whether a name comes from a module that is not in the standard library: mostly an example's import of the
        program itself."""
        return any(
            isinstance(node, ast.ImportFrom)
            and (node.level > 0 or (node.module or "").partition(".")[0] not in sys.stdlib_module_names)
            and any((alias.asname or alias.name) == name for alias in node.names)
            for node in self.tree.body
        )


def error_line(text: str) -> int | None:
    """The line at which a text fails to compile, from 1; None if it compiles."""
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
    """A statement that only writes a value down."""
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
    """Names bound in any scope: which of two equal names is meant matters little here."""
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
