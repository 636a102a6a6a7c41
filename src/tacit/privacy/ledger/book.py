"""A population's account: its chain, read line by line, and the rules of what may follow."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tacit.core.errors import StoreError
from tacit.core.events import PrivacyEvent
from tacit.core.privacy import Adjacency, Unit
from tacit.privacy.ledger.chain import Entry, Finding, Line, append, examine, genesis
from tacit.privacy.ledger.facts import Abandoned, Budget, Charge, Fact, Gap, Head, Mark, Released, Reserved
from tacit.privacy.ledger.spent import Total, spent


class _Account(NamedTuple):
    """Where equal charges are counted together."""

    job: str
    run: str
    unit: Unit
    adjacency: Adjacency
    event: PrivacyEvent


class Book:
    """Reads a chain from its beginning and knows at any moment what was spent.

    What was reserved counts as spent, whether or not it was released: after a crash nobody knows. What was
    abandoned before anything had left does not.

    Args:
        population: Whose chain.

    Attributes:
        population: Whose chain.
        budget: The population's budget, or None.
        last_charge: The last entry that raised the spend or set a budget.
    """

    def __init__(self, population: str) -> None:
        self.population = population
        self.budget: Budget | None = None
        self.last_charge = genesis(population)
        self._digests = [self.last_charge.sha256]
        self._net: Counter[_Account] = Counter()
        self._gross: Counter[_Account] = Counter()
        self._spends: dict[int, Reserved] = {}  # by sequence number; those that count
        self._reusable: dict[Reserved, int] = {}
        self._released: set[int] = set()
        self._accounted: set[Mark] = set()  # marks of lost heads whose gap was charged

    # --- reading --------------------------------------------------------------------------------

    @classmethod
    def of(cls, population: str, lines: Iterable[Line]) -> "Book":
        """Return the book of a whole chain.

        Raises:
            StoreError: The chain is broken.
        """
        book = cls(population)
        for line in lines:
            book.read(line)
        return book

    def read(self, line: Line) -> Entry:
        """Read the next line and return its entry.

        Raises:
            StoreError: It does not continue the chain, or cannot be read.
        """
        entry = self.take(line)
        if isinstance(entry, Finding):
            raise entry.as_error(self.population)
        return entry

    def take(self, line: Line) -> Entry | Finding:
        """Read the next line, or return what is wrong with it and read nothing."""
        entry = examine(line, self.mark, self.population)
        if isinstance(entry, Finding):
            return entry
        mark = Mark(sequence=entry.sequence, sha256=line.sha256)
        return self._note(entry, mark) or entry

    def _note(self, entry: Entry, mark: Mark) -> Finding | None:
        match entry.fact:
            case Reserved() as spend:
                self._reserve(spend, mark)
            case Gap(lost=lost, charges=charges):
                self._accept(lost, charges, mark)
            case Budget() as budget:
                self.budget, self.last_charge = budget, mark
            case Released(reservation=number) | Abandoned(reservation=number) if number not in self._spends:
                what = f"entry {mark.sequence} is about a reservation {number} that does not count"
                return Finding(kind="edited", sequence=mark.sequence, what=what)
            case Released(reservation=number):
                self._released.add(number)
            case Abandoned(reservation=number):
                self._abandon(number)
        self._digests.append(mark.sha256)
        return None

    def _reserve(self, spend: Reserved, mark: Mark) -> None:
        account = _account(spend)
        self._net[account] += 1
        self._gross[account] += 1
        self._spends[mark.sequence] = spend
        self._reusable[spend] = mark.sequence
        self.last_charge = mark

    def _accept(self, lost: Head, charges: tuple[Charge, ...], mark: Mark) -> None:
        for charge in charges:
            self._net[_account(charge)] += charge.count
            self._gross[_account(charge)] += charge.count
        self._accounted |= {lost.mark, *lost.trail}
        self.budget = self.budget if lost.budget is None else lost.budget.and_also(self.budget)
        self.last_charge = mark

    def _abandon(self, number: int) -> None:
        spend = self._spends.pop(number)
        self._net[_account(spend)] -= 1
        self._reusable.pop(spend, None)

    # --- what is known --------------------------------------------------------------------------

    @property
    def mark(self) -> Mark:
        """The last entry."""
        return Mark(sequence=len(self._digests) - 1, sha256=self._digests[-1])

    @property
    def head(self) -> Head:
        """The last entry, with what is needed to charge for it should it be lost."""
        steps = (1 << power for power in range(self.mark.sequence.bit_length()))
        return Head(
            population=self.population,
            mark=self.mark,
            charged=_charges(self._gross),
            budget=self.budget,
            trail=tuple(self._mark(self.mark.sequence - step) for step in steps),
        )

    @property
    def unit(self) -> Unit | None:
        """What the spends protect; None if there are none."""
        return next((account.unit for account in self._gross), None)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All that counts as spent."""
        return _charges(self._net)

    def spent(self, run: str | None = None) -> Total:
        """Return what one run has spent, or all have together."""
        return spent(charge for charge in self.charges if run in (None, charge.run))

    def knows(self, mark: Mark) -> bool:
        """Tell whether the chain contains an entry, or has been charged for its loss."""
        return mark in self._accounted or self.contains(mark)

    def contains(self, mark: Mark) -> bool:
        """Tell whether the chain has this very entry."""
        return mark.sequence < len(self._digests) and self._digests[mark.sequence] == mark.sha256

    def find(self, spend: Reserved) -> Mark | None:
        """Return the reservation of this very spend that still counts, or None."""
        number = self._reusable.get(spend)
        return None if number is None else self._mark(number)

    def _mark(self, sequence: int) -> Mark:
        return Mark(sequence=sequence, sha256=self._digests[sequence])

    # --- what may follow ------------------------------------------------------------------------

    def next(self, fact: Fact, date: str) -> Line:
        """Return the line that states a fact; the book has not read it yet."""
        return append(self.mark, self.population, fact, date)

    def release(self, reservation: Mark) -> Released | None:
        """Return the fact that a reserved spend was released; None if the chain says so already.

        Raises:
            StoreError: There is no such reservation, or it was abandoned and so does not count.
        """
        self._check(reservation)
        return None if reservation.sequence in self._released else Released(reservation=reservation.sequence)

    def abandon(self, reservation: Mark) -> Abandoned:
        """Return the fact that nothing of a reserved spend has left.

        Raises:
            StoreError: There is no such reservation, or it was released or abandoned before.
        """
        self._check(reservation)
        if reservation.sequence in self._released:
            raise self._misused(reservation, "was released, and stays charged")
        return Abandoned(reservation=reservation.sequence)

    def _check(self, reservation: Mark) -> None:
        if not self.contains(reservation) or reservation.sequence not in self._spends:
            raise self._misused(reservation, "is not in the ledger, or was abandoned")

    def _misused(self, reservation: Mark, why: str) -> StoreError:
        what = f"reservation {reservation.sequence} {why}"
        fix = "Reserve before each release, and release nothing whose reservation was abandoned."
        return StoreError("T428", what, where=f"population {self.population}", fix=fix)


def _account(counted: Reserved | Charge) -> _Account:
    return _Account(counted.job, counted.run, counted.unit, counted.adjacency, counted.event)


def _charges(counts: Counter[_Account]) -> tuple[Charge, ...]:
    counted = ((account, count) for account, count in counts.items() if count > 0)
    return tuple(Charge(**account._asdict(), count=count) for account, count in counted)
