"""Examining a chain against marks kept elsewhere, and charging for what it has lost."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from msgspec.structs import replace

from tacit.privacy.ledger.book import Book
from tacit.privacy.ledger.chain import Finding, Line
from tacit.privacy.ledger.facts import Charge, Gap, Head, Mark


def verify(population: str, lines: Iterable[Line], known: Iterable[Mark] = ()) -> tuple[Finding, ...]:
    """Return what is wrong with a chain: its first broken entry, or the known marks that it lacks.

    A chain proves that nobody changed a part of it. That nobody cut its end off, put back a backup or wrote
    it anew shows only against marks kept elsewhere.

    Args:
        population: Whose chain.
        lines: All of it, in order.
        known: Marks from run folders, checkpoints and assignments.
    """
    book = Book(population)
    for line in lines:
        found = book.take(line)
        if isinstance(found, Finding):
            return (found,)
    absent = sorted({mark for mark in known if not book.knows(mark)}, key=lambda mark: mark.sequence)
    return tuple(_absence(book, mark) for mark in absent)


def gap(lost: Head, lines: Sequence[Line]) -> Gap:
    """Return the entry that charges for what a chain has lost since it had this head.

    Charged is everything up to the lost head beyond the newest entry of its trail that the chain still has.
    That is never less than what was lost: charges are counted without what was abandoned later, and
    entries between that place and the true end of what both have in common count twice.

    Args:
        lost: A head that the chain does not contain.
        lines: All of the chain, in order.
    """
    whole = Book.of(lost.population, lines)
    shared = max((mark.sequence for mark in lost.trail if whole.contains(mark)), default=0)
    kept = Book.of(lost.population, islice(lines, shared)).head
    rest = _counts(lost)
    rest.subtract(_counts(kept))
    return Gap(
        lost=lost, charges=tuple(replace(one, count=count) for one, count in rest.items() if count > 0)
    )


def _counts(head: Head) -> Counter[Charge]:
    """Return how often every charge was made, by the charge made once."""
    return Counter({replace(charge, count=1): charge.count for charge in head.charged})


def _absence(book: Book, mark: Mark) -> Finding:
    if mark.sequence > book.mark.sequence:
        what = (
            f"the ledger ends at entry {book.mark.sequence}, but is known to have had entry {mark.sequence}"
        )
        return Finding(kind="truncated", sequence=mark.sequence, what=what)
    what = f"entry {mark.sequence} is known to have been another one: a backup was put back and written to"
    return Finding(kind="forked", sequence=mark.sequence, what=what)
