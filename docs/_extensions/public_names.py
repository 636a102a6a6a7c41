"""The reference: a directive that documents public names, and a check that none is missing.

A public name is one that a public package lists in ``__all__``; in ``tacit.core``, whose modules list
nothing, one without underscore that the module defines. A public name fails the build if it is not in the
reference, has no docstring of its own, or is a class with a method or field that is not described.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import msgspec
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import tacit


class Names(SphinxDirective):
    """``{names} tacit.data`` with one name a line: document them, in this order."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        names = [name for line in self.content for name in line.split()]
        text = "\n".join(self._document(module, name) for name in names)
        return self.parse_text_to_nodes(f"```{{eval-rst}}\n{text}\n```")

    def _document(self, module: ModuleType, name: str) -> str:
        if not hasattr(module, name):
            raise self.error(f"{module.__name__} has no name {name!r}")
        _documented(self.env).setdefault(self.env.docname, set()).add(f"{module.__name__}.{name}")
        value = getattr(module, name)
        home = facade_of(value)
        if home and module is not tacit:
            return f"* :py:obj:`tacit.{home}`\n"
        return directive(module, name, value)


def directive(module: ModuleType, name: str, value: Any) -> str:
    """Return the reStructuredText that documents one name."""
    path = f"{module.__name__}.{name}"
    if inspect.ismodule(value):
        return f".. py:data:: {path}\n   :no-index-entry:\n\n   The package :py:mod:`{value.__name__}`.\n"
    if inspect.isclass(value) and value.__name__ != name:
        return f".. py:data:: {path}\n\n   Another name of :py:obj:`{module.__name__}.{value.__name__}`.\n"
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        return f".. {kind}:: {path}\n   :members:\n"
    if inspect.isroutine(value):
        return f".. autofunction:: {path}\n"
    doc, source = constant(module.__name__, name)
    return f".. py:data:: {path}\n   :value: {source}\n\n{textwrap.indent(doc or '', '   ')}\n"


# --- what is public ------------------------------------------------------------------------------


def public_names() -> Iterator[tuple[ModuleType, str]]:
    """Yield every public name with the module that promises it."""
    yield from ((tacit, name) for name in tacit.__all__)
    for info in pkgutil.iter_modules(tacit.__path__, "tacit."):
        module = importlib.import_module(info.name)
        if info.name == "tacit.core":
            yield from _core(module)
        elif not info.name.rpartition(".")[2].startswith("_"):
            yield from ((module, name) for name in getattr(module, "__all__", ()))


def _core(package: ModuleType) -> Iterator[tuple[ModuleType, str]]:
    for info in pkgutil.iter_modules(package.__path__, "tacit.core."):
        module = importlib.import_module(info.name)
        defined = [
            name
            for name, value in vars(module).items()
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == info.name
        ]
        assigned = [
            name for name in assignments(info.name) if type(getattr(module, name)).__name__ != "TypeVar"
        ]
        yield from ((module, name) for name in (*defined, *assigned) if not name.startswith("_"))


def facade_of(value: Any) -> str | None:
    """Return the name under which ``tacit`` itself offers a value, if it does."""
    return next((name for name in tacit.__all__ if name != "data" and getattr(tacit, name) is value), None)


@cache
def assignments(module: str) -> dict[str, str]:
    """Return what a module assigns at its top level: name to source text."""
    tree = ast.parse(ModuleAnalyzer.for_module(module).code)
    return {
        target.id: ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id != "__all__"
    }


def constant(module: str, name: str) -> tuple[str | None, str]:
    """Return a constant's docstring and value, from where it is assigned."""
    if name not in assignments(module):
        for node in ast.parse(ModuleAnalyzer.for_module(module).code).body:
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                return constant(str(node.module), name)
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.analyze()
    doc = analyzer.attr_docs.get(("", name))
    return ("\n".join(doc).strip() or None) if doc else None, assignments(module).get(name, "...")


# --- the check -----------------------------------------------------------------------------------


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Fail the build if a public name is not in the reference or not documented."""
    documented = {path for paths in _documented(env).values() for path in paths}
    problems = []
    for module, name in public_names():
        path = f"{module.__name__}.{name}"
        if path not in documented:
            problems.append(f"{path} is public but not in the reference: name it in docs/reference/")
        if module is tacit or not facade_of(getattr(module, name)):  # told once
            problems += [f"{path} {lack}" for lack in lacks(module, name)]
    if problems:
        raise ExtensionError("the reference is incomplete:\n  " + "\n  ".join(sorted(set(problems))))


def lacks(module: ModuleType, name: str) -> Iterator[str]:
    """Yield what is undocumented about a name."""
    value = getattr(module, name)
    if inspect.ismodule(value):
        return
    if inspect.isclass(value):
        if not vars(value).get("__doc__") or value.__doc__.startswith(f"{name}("):
            yield "has no docstring"
        yield from (
            f"has the field {field!r}, which its docstring does not describe" for field in _dumb_fields(value)
        )
        yield from (f"has the member {member!r} without a docstring" for member in _dumb_members(value))
    elif inspect.isroutine(value):
        if not value.__doc__:
            yield "has no docstring"
    elif not constant(module.__name__, name)[0]:
        yield "has no docstring below its assignment"


def _dumb_fields(kind: type) -> Iterator[str]:
    described = {name for base in kind.__mro__ for name in described_in(vars(base).get("__doc__") or "")}
    yield from (name for name in fields_of(kind) if not name.startswith("_") and name not in described)


def fields_of(kind: type) -> list[str]:
    """Return the names of a class's fields."""
    if issubclass(kind, msgspec.Struct):
        return [field.name for field in msgspec.structs.fields(kind)]
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def described_in(docstring: str) -> set[str]:
    """Return the names that a docstring's sections Attributes and Args describe."""
    sections = re.findall(
        r"^(?:Attributes|Args):\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(docstring), re.MULTILINE
    )
    return {
        name for section in sections for name in re.findall(r"^    (\w+)(?: \(.*\))?:", section, re.MULTILINE)
    }


def _dumb_members(kind: type) -> Iterator[str]:
    for name, member in vars(kind).items():
        function = getattr(member, "fget", getattr(member, "func", getattr(member, "__func__", member)))
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        # A method that fulfils a protocol, or a base's promise, is described there.
        inherited = any(getattr(vars(base).get(name), "__doc__", None) for base in kind.__mro__[1:])
        if not function.__doc__ and not inherited and name not in _protocol_members():
            yield name


@cache
def _protocol_members() -> frozenset[str]:
    protocols = {
        value
        for module, name in public_names()
        if inspect.isclass(value := getattr(module, name)) and getattr(value, "_is_protocol", False)
    }
    return frozenset(
        name
        for protocol in protocols
        for name, member in vars(protocol).items()
        if not name.startswith("_") and getattr(member, "__doc__", None)
    )


def _documented(env: BuildEnvironment) -> dict[str, set[str]]:
    """Return the names that each page documents."""
    if not hasattr(env, "tacit_names"):
        env.tacit_names = {}  # type: ignore[attr-defined]
    return env.tacit_names  # type: ignore[no-any-return,attr-defined]


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Let a page that is read again name its names anew."""
    _documented(env).pop(docname, None)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and the check."""
    app.add_directive("names", Names)
    app.connect("env-purge-doc", forget)
    app.connect("env-check-consistency", check)
    return {"version": "2", "parallel_read_safe": False}
