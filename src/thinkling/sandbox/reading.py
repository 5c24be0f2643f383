"""Static analysis of tests: which names of the program the tests use, which definitions have to be run, and whether the
tests can judge a program at all. No test is run and no sandbox is needed, so that problems can be checked before a
stage starts.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import symtable
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from thinkling.sandbox.decides import Decides
from thinkling.sandbox.limits import Tests
from thinkling.sandbox.tester import PROGRAM_MODULES

_NOT_THERE = {"tkinter", "turtle", "turtledemo", "idlelib", "ensurepip", "test", "curses", "readline"}
"""Modules of the standard library that are not available in the sandbox."""
_SHARED_MODULES = frozenset(
    (
        *("bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq"),
        *("itertools", "json", "math", "operator", "os", "random", "re", "statistics", "string", "sys", "time"),
        "typing",
    )
)
"""Modules of the standard library that the tester provides itself if the program imports them and tests use them as
modules."""
_BUILTINS = frozenset(dir(builtins)) | {"exit", "quit", "__file__", "__name__", "__builtins__"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LONGEST = 80


class UnreadableTests(Exception):
    """Raised for tests that cannot judge any program. `reason` states the reason without quoting the tests."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


def read(tests: Sequence[str], setup: str = "", packages: AbstractSet[str] = frozenset()) -> Tests:
    """Parse tests into the input of a tester. `packages`: modules that are available in addition to the standard
    library. Raises UnreadableTests if the tests cannot judge any program."""
    if not tests:
        raise UnreadableTests("there are no tests")
    return _Reader(tests, setup, packages).read()


class _Reader:
    def __init__(self, tests: Sequence[str], setup: str, packages: AbstractSet[str]) -> None:
        self.packages = packages
        self.setup = _parse(setup)
        self.doctests = {at: text for at, test in enumerate(tests) if (text := _doctest(test))}
        self.trees = [ast.Module([], []) if at in self.doctests else _parse(test) for at, test in enumerate(tests)]
        self.tests = tests
        self.modules = (self.setup, *self.trees)
        for tree in self.modules:
            _Prepared().visit(tree)
            ast.fix_missing_locations(tree)

    def read(self) -> Tests:
        self._check_imports()
        self._check_loops()
        names = self._names()
        self._check_bases(names)
        runs = self._runs()
        if not self.doctests:
            self._check_that_they_decide(runs)
        if not names and not self.doctests and not self._imports_the_program():
            raise UnreadableTests("the tests use nothing of the program")
        return Tests(
            tests=tuple((ast.unparse(tree), tuple(run)) for tree, run in zip(self.trees, runs, strict=True)),
            setup=ast.unparse(self.setup),
            prelude=self._prelude(names),
            names=tuple(sorted(names)),
            modules=tuple(sorted(name for name in names if name in _SHARED_MODULES and self._is_module(name))),
            classes=tuple(self._classes(names)),
            operators=self._makes_objects(names),
        )

    def _nodes(self) -> Iterator[ast.AST]:
        for tree in self.modules:
            yield from ast.walk(tree)

    def _check_imports(self) -> None:
        guarded = {
            id(node)
            for one in self._nodes()
            if isinstance(one, ast.Try) and any(_catches(handler, "ImportError") for handler in one.handlers)
            for statement in one.body
            for node in ast.walk(statement)
        }
        for node in self._nodes():
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                if id(node) not in guarded and not self._is_there(module.partition(".")[0]):
                    raise UnreadableTests(f"the tests import {module}, which the sandbox has not")

    def _is_there(self, name: str) -> bool:
        known = name in sys.stdlib_module_names and name not in _NOT_THERE
        return known or name in self.packages or name in PROGRAM_MODULES

    def _imports_the_program(self) -> bool:
        return any(
            (isinstance(node, ast.ImportFrom) and node.module in PROGRAM_MODULES)
            or (isinstance(node, ast.Import) and any(alias.name in PROGRAM_MODULES for alias in node.names))
            for node in self._nodes()
        )

    def _check_loops(self) -> None:
        for node in self._nodes():
            if isinstance(node, ast.While) and isinstance(node.test, ast.Constant) and node.test.value:
                ways_out = (ast.Break, ast.Return, ast.Raise, ast.Call, ast.Assert, ast.Yield, ast.Await)
                if not any(isinstance(one, ways_out) for statement in node.body for one in ast.walk(statement)):
                    raise UnreadableTests("a loop of the tests never ends")

    def _names(self) -> set[str]:
        """Return the names that the tests use but do not define."""
        bound, used = set[str](), set[str]()
        doctests = [_examples(text) for text in self.doctests.values()]
        for source in (*(ast.unparse(tree) for tree in self.modules), *doctests):
            _scan(symtable.symtable(source, "<test>", "exec"), bound, used)
        names = used - bound - _BUILTINS
        if any(name not in _SHARED_MODULES for name in names) or self._imports_the_program():
            return names
        return names | self._targets_among_builtins(used - bound)

    def _targets_among_builtins(self, used: AbstractSet[str]) -> set[str]:
        """Return the builtins that the tests call, except those whose arguments call other builtins. This method is
        used for problems that ask for a function with the name of a builtin."""
        outer, called = set[str](), set[str]()
        for node in self._nodes():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in used & _BUILTINS:
                called.add(node.func.id)
                inner = {
                    one.func.id
                    for part in (*node.args, *node.keywords)
                    for one in ast.walk(part)
                    if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)
                }
                if inner & _BUILTINS - {node.func.id}:
                    outer.add(node.func.id)
        return called - outer

    def _is_module(self, name: str) -> bool:
        """Whether the tests use a name only to access attributes of the module with this name."""
        attributes = [
            node.attr
            for node in self._nodes()
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
        ]
        uses = sum(isinstance(node, ast.Name) and node.id == name for node in self._nodes())
        if uses != len(attributes):
            return False
        module = importlib.import_module(name)
        return all(hasattr(module, attribute) for attribute in attributes)

    def _check_bases(self, names: AbstractSet[str]) -> None:
        for node in self._nodes():
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if isinstance(base, ast.Name) and base.id in names:
                        raise UnreadableTests(
                            f"the class {node.name} of the tests derives from the program's {base.id}"
                        )

    def _runs(self) -> list[list[tuple[str, str]]]:
        """Return, for each test, the definitions that the tester has to run because the tests do not call them. The
        definitions are those that unittest, pytest and doctest would find."""
        used = {node.id for node in self._nodes() if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        cases = self._cases()
        runs: list[list[tuple[str, str]]] = []
        for at, tree in enumerate(self.trees):
            found: list[tuple[str, str]] = [("doctest", self.doctests[at])] if at in self.doctests else []
            for node in tree.body:
                match node:
                    case ast.ClassDef(name=name) if name in cases:
                        if _test_methods(node):
                            found.append(("case", name))
                    case ast.ClassDef(name=name) if name.startswith("Test") and name not in used:
                        if _test_methods(node):
                            found.append(("class", name))
                    case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("test"):
                        if name not in used:
                            if _needs_arguments(node):
                                raise UnreadableTests(f"{name} takes arguments, and nothing calls it")
                            found.append(("function", name))
            runs.append(found)
        return runs

    def _cases(self) -> set[str]:
        """Return the classes of the tests that derive from unittest.TestCase."""
        found: set[str] = set()
        for node in self._nodes():
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                if any(base.endswith("TestCase") or base in found for base in bases):
                    found.add(node.name)
        return found

    def _check_that_they_decide(self, runs: Sequence[Sequence[tuple[str, str]]]) -> None:
        """Raise UnreadableTests unless the tests contain an assertion that is run and can fail because of the
        program."""
        definitions: dict[str, ast.stmt] = {}
        for tree in self.modules:
            definitions |= {one.name: one for one in tree.body if isinstance(one, (*_FUNCTIONS, ast.ClassDef))}
        found = Decides(definitions)
        for tree in self.modules:
            for statement in tree.body:
                if not isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
                    found.visit(statement)
        if found.follow([name for run in runs for _, name in run]):
            return
        used = {node.id for node in self._nodes() if isinstance(node, ast.Name)}
        for name, definition in definitions.items():
            if name not in used and isinstance(definition, _FUNCTIONS) and Decides(definitions).follow([name]):
                raise UnreadableTests(f"{name} is defined and never called: end the tests with {name}(NAME)")
        raise UnreadableTests("the tests assert nothing that depends on the program")

    def _prelude(self, names: AbstractSet[str]) -> str:
        """Return the definitions that the program may use. Functions of tests are excluded, because they may contain
        answers."""
        body = [one for one in self.setup.body if isinstance(one, (*_FUNCTIONS, *_DEFINITIONS))]
        if self._first_only_defines():
            body += [one for one in self.trees[0].body if isinstance(one, _DEFINITIONS)]
        kept = [one for one in body if not (isinstance(one, ast.ImportFrom) and one.module in PROGRAM_MODULES)]
        return "\n".join(ast.unparse(one) for one in kept)

    def _first_only_defines(self) -> bool:
        first = self.trees[0].body
        return bool(first) and all(isinstance(one, (*_FUNCTIONS, *_DEFINITIONS, ast.Assign, ast.Expr)) for one in first)

    def _classes(self, names: AbstractSet[str]) -> Iterable[str]:
        cases = self._cases()
        trees = (self.setup, self.trees[0]) if self._first_only_defines() else (self.setup,)
        found = [one.name for tree in trees for one in tree.body if isinstance(one, ast.ClassDef)]
        return dict.fromkeys(name for name in found if name not in cases and not name.startswith("Test"))

    def _makes_objects(self, names: AbstractSet[str]) -> bool:
        """Whether the tests create objects of a class of the program. An object that is only created to call a method
        directly, as in Solution().f(), does not count."""
        called_on = {id(node.value) for node in self._nodes() if isinstance(node, ast.Attribute)}
        return any(
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in names
            and node.func.id.lstrip("_")[:1].isupper()
            and node.func.id != "Solution"
            and id(node) not in called_on
            for node in self._nodes()
        )


_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.ClassDef)


class _Prepared(ast.NodeTransformer):
    """Adapts tests to the tester. Calls of unittest.main and pytest.main are removed, because the tester runs test
    classes itself. Relative imports are replaced by imports of the program."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in ("unittest.main", "pytest.main"):
            return ast.Pass()
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level:
            node.level, node.module = 0, PROGRAM_MODULES[0]
        return node


def _parse(source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings in tests are irrelevant
            tree = ast.parse(source)
            compile(source, "<test>", "exec", dont_inherit=True)  # detects, e.g., a return outside a function
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnreadableTests(f"{source[:_LONGEST]!r}: {type(error).__name__}", "the tests are not Python") from None
    return tree


def _doctest(test: str) -> str:
    """Return the text of a test that is an interpreter session or a docstring with a session; otherwise an empty
    string."""
    if test.lstrip().startswith(">>>"):
        return test
    try:
        body = ast.parse(test).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    match body:
        case [ast.Expr(value=ast.Constant(value=str(text)))] if ">>> " in text:
            return text
    return ""


def _examples(text: str) -> str:
    """Return the code of a doctest."""
    lines = [line.strip() for line in text.splitlines()]
    code = "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ")))
    try:
        ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise UnreadableTests(f"{text[:_LONGEST]!r}: {type(error).__name__}", "the tests are not Python") from None
    return code


def _scan(table: symtable.SymbolTable, bound: set[str], used: set[str]) -> None:
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if top or symbol.is_global():
            if symbol.is_referenced():
                used.add(symbol.get_name())
            if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
                bound.add(symbol.get_name())
    for child in table.get_children():
        _scan(child, bound, used)


def _test_methods(node: ast.ClassDef) -> list[str]:
    return [one.name for one in node.body if isinstance(one, _FUNCTIONS) and one.name.startswith("test")]


def _needs_arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return len(node.args.posonlyargs) + len(node.args.args) > len(node.args.defaults)


def _catches(handler: ast.ExceptHandler, name: str) -> bool:
    text = ast.unparse(handler.type) if handler.type else "Exception"
    return name in text or text in ("Exception", "BaseException", "ModuleNotFoundError")
