"""Small chains, and an accountant that fits on a line: zero-concentrated differential privacy."""

import math
from collections.abc import Mapping
from typing import Any

from tacit.core.events import GaussianEvent, NonPrivateEvent, PrivacyEvent
from tacit.core.privacy import Adjacency
from tacit.privacy.ledger import Book, Fact, Line, Reserved

POPULATION = "ward-7"
DATE = "2026-01-02T03:04:05+00:00"
NOISY, LOUD = GaussianEvent(noise_multiplier=5.0), GaussianEvent(noise_multiplier=2.0)


def rho_accountant(spent: Mapping[PrivacyEvent, int], delta: float, adjacency: Adjacency) -> float:
    """Bun & Steinke 2016: rho adds up, and epsilon <= rho + 2 sqrt(rho ln(1 / delta))."""
    rho = 0.0
    for event, count in spent.items():
        if isinstance(event, NonPrivateEvent):
            return math.inf
        assert isinstance(event, GaussianEvent)
        rho += count * (2.0 if adjacency == "replace_one" else 1.0) ** 2 / (2 * event.noise_multiplier**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def digest(number: int) -> str:
    return f"{number:064x}"


def spend(step: int, inputs: int = 0, event: PrivacyEvent = NOISY, **changes: Any) -> Reserved:
    """What a step is about to release; every argument makes it another one."""
    facts: dict[str, Any] = {
        "job": "digits",
        "run": "run-1",
        "step": step,
        "inputs_sha256": digest(inputs),
        "plan_sha256": digest(7),
        "unit": "user",
        "adjacency": "zero_out",
        "event": event,
    }
    return Reserved(**{**facts, **changes})


class Chain:
    """A chain that grows in memory."""

    def __init__(self, *facts: Fact, population: str = POPULATION, lines: tuple[Line, ...] = ()) -> None:
        self.population, self.lines = population, list(lines)
        self.book = Book.of(population, lines)
        for fact in facts:
            self.write(fact)

    def write(self, fact: Fact) -> Line:
        line = self.book.next(fact, DATE)
        self.book.read(line)
        self.lines.append(line)
        return line

    def until(self, sequence: int) -> "Chain":
        """A backup of the first entries."""
        return Chain(population=self.population, lines=tuple(self.lines[:sequence]))


def count(book: Book, event: PrivacyEvent = NOISY) -> int:
    """How often an event counts as spent."""
    return book.spent().events.get(event, 0)
