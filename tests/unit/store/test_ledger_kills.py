"""kill -9 between any two lines: never less recorded than released, and nothing charged twice."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tacit.privacy.ledger import Book
from tacit.store.ledger import Ledger
from tests.unit.privacy.ledger.chains import POPULATION, count, rho_accountant, spend
from tests.unit.store.ledger_life import STEPS, live, published


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is one: what a killed process has written is there without any disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def kill_everywhere(place: Path, ledger: str = "Ledger", every: int = 1) -> list[Path]:
    """Return the folders of lives that were killed, in the order of the lines they came to."""
    command = [sys.executable, "-m", "tests.unit.store.ledger_life", "kill", str(place), ledger, str(every)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return sorted(place.iterdir())


def book(folder: Path) -> Book:
    file = folder / "ledger.db"
    if not file.exists():
        return Book(POPULATION)
    with Ledger(file) as ledger:
        assert ledger.verify(POPULATION) == ()
        return ledger.book(POPULATION)


def is_covered(folder: Path) -> bool:
    """Tell whether everything that has left is charged."""
    found = book(folder)
    return all(found.find(spend(step)) is not None for step in published(folder))


def assert_survives(folder: Path) -> None:
    assert is_covered(folder), folder.name
    live(folder)
    assert set(published(folder)) == set(range(STEPS))
    assert count(book(folder)) == STEPS, folder.name


def test_a_kill_between_lines_never_leaves_less_recorded_than_released(place: Path) -> None:
    folders = kill_everywhere(place, every=11)
    assert len(folders) > 40
    assert {len(published(folder)) for folder in folders} == {0, 1, 2}
    assert {count(book(folder)) for folder in folders} == {0, 1, 2}
    for folder in folders:
        assert_survives(folder)


@pytest.mark.slow
def test_a_kill_between_any_two_lines_never_leaves_less_recorded_than_released(place: Path) -> None:
    for folder in kill_everywhere(place):
        assert_survives(folder)


@pytest.mark.parametrize("broken", ["ChargesNever", "ChargesLate"])
def test_a_ledger_that_charges_late_or_never_is_caught(place: Path, broken: str) -> None:
    folders = kill_everywhere(place, broken, every=23)
    assert not all(map(is_covered, folders))


def test_processes_at_once_are_serialised_and_spend_the_budget_exactly(tmp_path: Path) -> None:
    file, rounds = tmp_path / "ledger.db", 31
    with Ledger(file) as ledger:
        exact = rho_accountant({spend(0).event: rounds}, 1e-6, "zero_out")
        ledger.set_budget(POPULATION, exact * (1 + 1e-12), 1e-6)
    command = [sys.executable, "-m", "tests.unit.store.ledger_life", "spend", str(file)]
    started = [
        subprocess.Popen([*command, f"run-{number}", "100"], stdout=subprocess.PIPE) for number in range(3)
    ]
    each = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    assert sum(each) == rounds
    with Ledger(file) as ledger:
        assert ledger.verify(POPULATION) == ()
        found = ledger.book(POPULATION)
    assert count(found) == rounds
    assert [sum(found.spent(f"run-{number}").events.values()) for number in range(3)] == each
