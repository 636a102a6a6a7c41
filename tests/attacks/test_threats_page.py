"""The page on threats names every attack of the kit, tests that exist, and reasons that are listed."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tacit.testing import CLIENT_ATTACKS, SERVER_ATTACKS, WIRE_ATTACKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/threats.md").read_text()
ATTACKS = (*SERVER_ATTACKS, *CLIENT_ATTACKS, *WIRE_ATTACKS)
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| attack |", "| what |"))
]
PROOFS = sorted({proof for row in ROWS for proof in re.findall(r"`(tests/[^`]+)`", row[-1])})


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of a module's tests."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("proof", PROOFS)
def test_a_proof_exists(proof: str) -> None:
    path, _, name = proof.partition("::")
    assert name.startswith("test_")
    assert name in names_in(path)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_of_the_kit_has_one_row_with_a_proof(attack: type) -> None:
    rows = [row for row in ROWS if row[0] == f"`{attack.__name__}`"]
    assert len(rows) == 1
    assert re.search(r"`tests/\S+::test_\w+`", rows[0][-1])


def test_every_row_has_a_proof_and_no_row_names_an_attack_that_is_not_there() -> None:
    assert len(ROWS) > len(ATTACKS)
    for row in ROWS:
        assert re.search(r"`tests/\S+::test_\w+`", row[-1]), row[0]
    named = {row[0].strip("`") for row in ROWS if row[0].startswith("`")}
    assert named == {attack.__name__ for attack in ATTACKS}


def test_every_attack_of_the_kit_is_on_its_list() -> None:
    """A class that a module of attacks defines is one, unless it is made to be derived from."""
    import tacit.testing.secure_attacks as listed

    modules = ("secure_servers", "secure_survivors", "secure_clients", "secure_wire")
    for module in modules:
        tree = ast.parse((ROOT / "src/tacit/testing" / f"{module}.py").read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        assert defined - {"HostileClient"} <= {attack.__name__ for attack in ATTACKS}
    assert len(set(ATTACKS)) == len(ATTACKS)
    assert listed.SERVER_ATTACKS is SERVER_ATTACKS


def test_every_reason_is_listed_with_the_errors() -> None:
    reasons = {code for row in ROWS for code in re.findall(r"\bT\d{3}\b", " ".join(row[1:-1]))}
    listed = set(re.findall(r"^\| (T\d{3}) \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
    assert reasons
    assert reasons <= listed
