"""Signatures and fields in the words of the source.

What Python evaluates an annotation to is long: ``Annotated[int, Meta(ge=1, le=9007199254740992)]`` where the
source says ``Count``. So signatures are taken from the source text, and every field that a docstring
describes gets the type that the source gives it. Short names in them link to the reference.
"""

import ast
import builtins
import dataclasses
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import tacit

# Names that annotations use and that other projects document.
_ELSEWHERE = frozenset(
    {
        *dir(builtins),
        *typing.__all__,
        *dir(np),
        "NDArray",
        "Path",
        "RenderableType",
        "TracebackType",
        "Module",
        "Ed25519PrivateKey",
        "X25519PrivateKey",
    }
)
# What public signatures mention and is nobody's business outside.
_INTERNAL = frozenset({"Holdings", "References", "RunData", "Secret"})


def signature(app: Sphinx, what: str, name: str, thing: Any, *_: Any) -> tuple[str, str] | None:
    """Return signature and return annotation as the source has them."""
    if what in ("class", "exception"):
        return _class_signature(thing), ""
    if what in ("function", "method"):
        return _arguments(inspect.unwrap(thing), is_method=what == "method")
    return None


def _class_signature(kind: type) -> str:
    if getattr(kind, "_is_protocol", False):
        return ""
    if issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind):
        arguments = [
            one for one in inspect.signature(kind).parameters.values() if not one.name.startswith("_")
        ]
        first = next((i for i, one in enumerate(arguments) if one.kind is one.KEYWORD_ONLY), None)
        fields = [_field(kind, one.name) for one in arguments]
        return f"({', '.join(fields if first is None else [*fields[:first], '*', *fields[first:]])})"
    init = vars(kind).get("__init__")
    return _arguments(init, is_method=True)[0] if inspect.isfunction(init) else ""


def _field(kind: type, name: str) -> str:
    node = annotated(kind).get(name)
    if node is None or node.value is None:
        return name
    default = ast.unparse(node.value)
    made = re.fullmatch(r"field\(default_factory=(.*)\)", default)
    return f"{name}={ {'dict': '{}', 'list': '[]'}.get(made[1], '...') if made else default }"


@cache
def annotated(kind: type) -> dict[str, ast.AnnAssign]:
    """Return the annotated fields of a class and its bases, by name."""
    found: dict[str, ast.AnnAssign] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] == "tacit":
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            assert isinstance(body, ast.ClassDef)
            nodes_ = (node for node in body.body if isinstance(node, ast.AnnAssign))
            found |= {node.target.id: node for node in nodes_ if isinstance(node.target, ast.Name)}
    return found


def _arguments(function: Any, *, is_method: bool) -> tuple[str, str] | None:
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (TypeError, OSError):
        return None
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    bound = is_method and not any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
    if bound and (node.args.posonlyargs or node.args.args):
        (node.args.posonlyargs or node.args.args).pop(0)
    qualify = _Qualify(getattr(function, "__globals__", {}))
    for argument in (*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
        if argument is not None and argument.annotation is not None:
            argument.annotation = qualify.visit(argument.annotation)
    returns = "" if node.returns is None else _plain(ast.unparse(qualify.visit(node.returns)))
    return f"({_plain(ast.unparse(node.args))})", returns


class _Qualify(ast.NodeTransformer):
    """Turns names of tacit's classes into full paths, shown by their last word: two may share a name."""

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = self._known.get(node.id)
        if inspect.isclass(value) and value.__module__.partition(".")[0] == "tacit":
            return ast.parse(f"~{value.__module__}.{value.__qualname__}", mode="eval").body
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str) and inspect.isclass(self._known.get(node.value)):
            return self.visit_Name(ast.Name(node.value))
        return node


def _plain(annotation: str) -> str:
    """Return an annotation without quotes around names and without the modules that everybody knows."""
    annotation = re.sub(r"'([A-Za-z_][\w.]*)'(?=[,\]\)]|$| )", r"\1", annotation)
    return re.sub(r"\b(np|npt|bounds|nn)\.", "", annotation)


def fields(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Give every described field of a class its type: ``rounds: ...`` becomes ``rounds (Count): ...``."""
    if what != "class" or not (issubclass(thing, msgspec.Struct) or dataclasses.is_dataclass(thing)):
        return
    known, qualify = annotated(thing), _Qualify(vars(sys.modules[thing.__module__]))
    inside = False
    for number, line in enumerate(lines):
        if line and not line.startswith(" "):
            inside = line == "Attributes:"
        found = re.match(r"    (\w+): ", line) if inside else None
        if found and found[1] in known:
            lines[number] = (
                f"    {found[1]} ({_type(qualify.visit(known[found[1]].annotation))}): {line[found.end() :]}"
            )


class _Bare(ast.NodeTransformer):
    """Turns ``Annotated[X, ...]`` and ``ClassVar[X]`` into ``X``."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        match ast.unparse(node.value), node.slice:
            case "Annotated", ast.Tuple(elts=[first, *_]):
                return self.visit(first)  # type: ignore[no-any-return]
            case "ClassVar", inner:
                return self.visit(inner)  # type: ignore[no-any-return]
        return self.generic_visit(node)


def _type(annotation: ast.expr) -> str:
    text = ast.unparse(_Bare().visit(annotation))
    literal = re.sub(
        r"Literal\[(.*?)\]", lambda found: found[1].replace("'", '"').replace(", ", " or "), text
    )
    return _plain(literal)


# --- links ---------------------------------------------------------------------------------------


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, contnode: nodes.Element
) -> nodes.Node | None:
    """Link a short name to the one thing of that name in the reference; leave other projects' names alone."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    last = target.rpartition(".")[2]
    found = sorted(set(_of_name(env, last)))
    if len(found) == 1:
        docname, anchor, path = found[0]
        return make_refnode(app.builder, str(node["refdoc"]), docname, anchor, contnode, path)
    known = last in _ELSEWHERE or last in _INTERNAL or last in _aliases() or not last.isidentifier()
    return contnode if known else None


@cache
def _aliases() -> frozenset[str]:
    """Return the names that tacit's modules give to types."""
    modules = (path for path in Path(tacit.__file__).parent.rglob("*.py"))
    bodies = (ast.parse(path.read_text(encoding="utf-8")).body for path in modules)
    targets = (
        target for body in bodies for node in body if isinstance(node, ast.Assign) for target in node.targets
    )
    return frozenset(target.id for target in targets if isinstance(target, ast.Name))


def _of_name(env: BuildEnvironment, last: str) -> Iterator[tuple[str, str, str]]:
    for path, entry in env.domains.python_domain.objects.items():
        if path.rpartition(".")[2] == last and entry.objtype in ("class", "exception", "function", "data"):
            yield entry.docname, entry.node_id, path if not entry.aliased else last


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hooks."""
    for kind in PyObject.doc_field_types:
        if kind.name == "variable":
            kind.label = "Fields"
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", fields, priority=100)  # before napoleon reads the sections
    app.connect("missing-reference", resolve)
    return {"version": "1", "parallel_read_safe": True}
