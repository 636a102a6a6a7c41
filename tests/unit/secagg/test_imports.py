"""What the source of a secure sum may use: no other randomness, no other library, no files.

The rules read the syntax trees of the package, so that a new import or a new source of secrets has to be
written down here before it passes.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tacit.secagg

FOLDER = Path(tacit.secagg.__path__[0])
SOURCES = {path.stem: ast.parse(path.read_text()) for path in sorted(FOLDER.glob("*.py"))}

NUMPY = {"client", "collected", "events", "intake", "masks", "relay", "ring", "server"}
"""Where whole vectors are handled, or named in a type. No secret is ever an array."""
DRAWS = {"entropy": {"os.urandom"}, "secret": {"os.urandom"}, "shamir": {"secrets.randbelow"}}
"""Where bytes come from the operating system."""
GENERATES = {"identity"}
"""Where the library makes a key pair by itself; all other keys come from secrets drawn above."""
THIRD_PARTY = {"cryptography", "msgspec", "numpy"}
STANDARD = {
    "base64", "bisect", "collections", "dataclasses", "fractions", "functools", "hashlib", "hmac",
    "importlib", "itertools", "math", "operator", "os", "secrets", "typing",
}  # fmt: skip
"""Not ``random``, which can be foreseen; nothing that writes, prints, logs or pickles."""
CALLS = {"__import__", "breakpoint", "compile", "eval", "exec", "input", "print"}
METHODS = {"dump", "memmap", "save", "savetxt", "savez", "tofile", "write_bytes", "write_text"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of all that is imported, wherever."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.AST) -> str:
    """Return an attribute as it is written, ``a.b.c``; empty if it is that of an expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def draws(tree: ast.AST) -> set[str]:
    """Return what of ``os`` and ``secrets`` is used, and what would be drawn under another name."""
    imported = set(imports(tree))
    used = {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    of = {
        name
        for name in used
        if name.count(".") == 1 and name.partition(".")[0] in imported & {"os", "secrets"}
    }
    return of | {name for name in imported if name.startswith(("os.", "secrets."))}


def foreign(name: str, tree: ast.AST) -> Iterator[str]:
    for imported in imports(tree):
        root = imported.partition(".")[0]
        if root == "tacit":
            if not imported.startswith(("tacit.core.", "tacit.secagg")):
                yield f"imports {imported}"
        elif root not in THIRD_PARTY | STANDARD or (root == "importlib" and name != "__init__"):
            yield f"imports {imported}"


def arrays(name: str, tree: ast.AST) -> Iterator[str]:
    if name not in NUMPY and any(imported.partition(".")[0] == "numpy" for imported in imports(tree)):
        yield "imports numpy"
    random = {imported for imported in imports(tree) if imported.startswith("numpy.random")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("random", "Generator", "RandomState"):
            random.add(dotted(node))
    yield from (f"draws from {found}" for found in random)


def sources(name: str, tree: ast.AST) -> Iterator[str]:
    found = draws(tree)
    if found != DRAWS.get(name, set()):
        yield f"draws from {sorted(found)}"
    generates = any(isinstance(n, ast.Attribute) and n.attr == "generate" for n in ast.walk(tree))
    if generates and name not in GENERATES:
        yield "makes keys"


def outlets(name: str, tree: ast.AST) -> Iterator[str]:
    """Find what writes or prints; ``open`` is the channel's, where it is defined or imported."""
    own = any(isinstance(node, ast.FunctionDef) and node.name == "open" for node in ast.walk(tree))
    has_own = own or "tacit.secagg.channel.open" in imports(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and (called.id in CALLS or (called.id == "open" and not has_own)):
            yield f"calls {called.id}"
        if isinstance(called, ast.Attribute) and called.attr in METHODS:
            yield f"calls {called.attr}"


Check = Callable[[str, ast.AST], Iterator[str]]
CHECKS: tuple[Check, ...] = (foreign, arrays, sources, outlets)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_uses_what_it_may(name: str, check: Check) -> None:
    assert list(check(name, SOURCES[name])) == []


def test_every_file_that_is_named_above_is_there() -> None:
    assert set(SOURCES) >= NUMPY | DRAWS.keys() | GENERATES
    assert len(SOURCES) > 20


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (foreign, "import random"),
        (foreign, "from random import randbytes"),
        (foreign, "def f():\n    import torch"),
        (foreign, "import pickle"),
        (foreign, "from pathlib import Path"),
        (foreign, "import logging"),
        (foreign, "from importlib import import_module"),
        (foreign, "from tacit.codec import Chain"),
        (arrays, "import numpy as np"),
        (arrays, "from numpy.random import default_rng"),
        (sources, "import os\nkey = os.urandom(16)"),
        (sources, "from os import urandom as draw"),
        (sources, "import secrets\nkey = secrets.token_bytes(16)"),
        (sources, "key = X25519PrivateKey.generate()"),
        (outlets, "open('key', 'wb')"),
        (outlets, "print(key)"),
        (outlets, "row.tofile('row')"),
        (outlets, "__import__('random')"),
    ],
)
def test_a_source_that_uses_more_is_found(check: Check, source: str) -> None:
    assert list(check("shares", ast.parse(source)))


def test_where_vectors_are_handled_numpy_draws_nothing_either() -> None:
    assert list(arrays("masks", ast.parse("import numpy as np\nnoise = np.random.default_rng(0)")))
    assert list(sources("secret", ast.parse("import os\nos.urandom(1)\nos.remove('x')")))


def test_importing_all_of_it_brings_no_torch() -> None:
    names = [f"tacit.secagg.{name}" for name in SOURCES if name != "__init__"]
    code = (
        f"import sys, importlib\nfor n in {names}: importlib.import_module(n)\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
