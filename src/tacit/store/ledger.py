"""The privacy ledger, durable: what is reserved is on the disk before anything is released."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from types import TracebackType

import sqlalchemy as sql

from tacit.core.errors import StoreError
from tacit.core.part import Record
from tacit.privacy.ledger import (
    Accountant,
    Allowance,
    Book,
    Budget,
    Entry,
    Fact,
    Finding,
    Gap,
    Head,
    Line,
    Mark,
    Reserved,
    Total,
    allow,
    gap,
    verify,
)
from tacit.store.ledger_file import LEDGER, PATH_VARIABLE, LedgerFile, entries, ledger_path

__all__ = ["LEDGER", "PATH_VARIABLE", "Ledger", "Reservation", "ledger_path"]


class Reservation(Record, frozen=True):
    """A spend that is charged and durable: what it pays for may now be released.

    Attributes:
        population: Whose budget.
        mark: Its entry.
        is_reused: Whether it was there before: an earlier attempt may have released it already.
        allowance: What else was found to fit, to be handed to the next reservation; None if nobody looked.
    """

    population: str
    mark: Mark
    is_reused: bool
    allowance: Allowance | None


class Ledger:
    """Opens a ledger file; several processes may have it open at once, and one writes at a time.

    Every chain is checked from its beginning when it is first looked at, and from there on as it grows.

    Args:
        path: The file; it is made if it is not there.
        read_only: Whether nothing is to be written.
        now: Returns the date of an entry, ISO 8601.

    Raises:
        StoreError: The file cannot be made or opened, is no ledger, or is of another version.
    """

    def __init__(
        self, path: Path | str, *, read_only: bool = False, now: Callable[[], str] | None = None
    ) -> None:
        self.path = Path(path)
        self._now = now or _utc
        self._file = LedgerFile(self.path, read_only=read_only)
        self._books: dict[str, Book] = {}
        self._lock = RLock()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    # --- writing --------------------------------------------------------------------------------

    def reserve(
        self,
        population: str,
        spend: Reserved,
        *,
        accountant: Accountant,
        limit: Budget | None = None,
        allowance: Allowance | None = None,
        wanted: int = 1,
    ) -> Reservation:
        """Charge a spend, durably, before anything of it is released.

        The very same spend asked for again is the same release, and charged once.

        Args:
            population: Whose budget.
            spend: What is about to be released.
            accountant: Interprets events; it is not called while ``allowance`` holds.
            limit: The run's own limit.
            allowance: What came with the last reservation of this run.
            wanted: How many equal spends are expected from now on, this one included: they are looked at
                together, so that the next ones need not be.

        Raises:
            BudgetExceeded: It does not fit the population's budget (T340) or the run's own limit (T341).
            RunError: The population's ledger protects other units (T342).
            StoreError: The ledger cannot be written, or its chain is broken.
        """
        with self._writing(population) as turn:
            if found := turn.book.find(spend):
                return Reservation(population=population, mark=found, is_reused=True, allowance=allowance)
            if allowance is None or not allowance.covers(turn.book, spend, limit):
                allowance = allow(turn.book, spend, wanted=wanted, limit=limit, accountant=accountant)
            turn.write(spend)
            made = turn.book.mark
        return Reservation(population=population, mark=made, is_reused=False, allowance=allowance.used(made))

    def release(self, reservation: Reservation) -> None:
        """Note that what was reserved has been released; once is enough.

        Raises:
            StoreError: There is no such reservation, or it was abandoned.
        """
        with self._writing(reservation.population) as turn:
            if fact := turn.book.release(reservation.mark):
                turn.write(fact)

    def abandon(self, reservation: Reservation) -> bool:
        """Take a charge back, because nothing has left the trust boundary and nothing will.

        Returns:
            Whether it was taken back. A reservation that was found rather than made stays charged: nobody
            knows how far the attempt came that made it.

        Raises:
            StoreError: There is no such reservation, or it was released or abandoned before.
        """
        if reservation.is_reused:
            return False
        with self._writing(reservation.population) as turn:
            turn.write(turn.book.abandon(reservation.mark))
        return True

    def set_budget(self, population: str, epsilon: float, delta: float) -> Budget:
        """Set the most that all jobs on a population may ever spend together."""
        budget = Budget(epsilon=epsilon, delta=delta)
        with self._writing(population) as turn:
            turn.write(budget)
        return budget

    def reconcile(self, population: str, known: Iterable[Head]) -> tuple[Gap, ...]:
        """Charge for what the chain has lost since it had these heads; for a head once.

        A restored backup, a tail that was cut off, or a ledger that was deleted: what may have been spent
        counts as spent. Call it before anything is reserved, with the newest head that is kept elsewhere: of
        two on the same lost branch the older one may be charged as if it were on another.

        Raises:
            StoreError: A head is another population's, or the chain is broken.
        """
        charged = []
        with self._writing(population) as turn:
            for head in sorted(known, key=lambda head: -head.mark.sequence):
                if head.population != population:
                    what = f"this head is of population {head.population}, not {population}"
                    raise StoreError("T429", what, where=str(self.path), fix="Name the run's own population.")
                if not turn.book.knows(head.mark):
                    charged.append(gap(head, turn.lines()))
                    turn.write(charged[-1])
        return tuple(charged)

    # --- reading --------------------------------------------------------------------------------

    def populations(self) -> tuple[str, ...]:
        """Return the populations that have a chain."""
        with self._lock, self._file.reading() as connection:
            names = connection.execute(sql.select(entries.c.population).distinct().order_by("population"))
            return tuple(names.scalars())

    def book(self, population: str) -> Book:
        """Return a population's account as it is now.

        Raises:
            StoreError: Its chain is broken.
        """
        with self._lock, self._file.reading() as connection:
            return self._read_on(connection, population)

    def budget(self, population: str) -> Budget | None:
        """Return a population's budget."""
        return self.book(population).budget

    def spent(self, population: str, run: str | None = None) -> Total:
        """Return what one run has spent, or all have together."""
        return self.book(population).spent(run)

    def head(self, population: str) -> Head:
        """Return how far a chain has come, to be kept elsewhere."""
        return self.book(population).head

    def entries(self, population: str) -> tuple[Entry, ...]:
        """Return all entries of a chain.

        Raises:
            StoreError: It is broken.
        """
        book = Book(population)
        return tuple(book.read(line) for line in self._lines(population))

    def verify(self, population: str, known: Iterable[Mark] = ()) -> tuple[Finding, ...]:
        """Return what is wrong with a chain, looked at from its beginning: nothing, if all is well.

        Args:
            population: Whose chain.
            known: Marks that are kept elsewhere and must be in it.
        """
        return verify(population, self._lines(population), known)

    def _lines(self, population: str) -> tuple[Line, ...]:
        with self._lock, self._file.reading() as connection:
            return tuple(_lines(connection, population))

    # --- one look at the chain, and what follows from it ----------------------------------------

    @contextmanager
    def _writing(self, population: str) -> Iterator["_Turn"]:
        """Take a turn at writing: nobody else writes before what is written is on the disk."""
        with self._lock, ExitStack() as on_failure:
            with self._file.writing() as connection:
                turn = _Turn(connection, self._read_on(connection, population), self._now())
                # The book may have read what never came to the disk: then the next look reads anew.
                on_failure.callback(self._books.pop, population)
                yield turn
            on_failure.pop_all()

    def _read_on(self, connection: sql.Connection, population: str) -> Book:
        """Return the book, read up to the chain's end."""
        book = self._books.setdefault(population, Book(population))
        known = book.mark
        lines = _lines(connection, population, after=max(known.sequence - 1, 0))
        if known.sequence and (not lines or lines[0].sha256 != known.sha256):
            what = f"entry {known.sequence} was here when the ledger was opened, and is gone"
            raise Finding(kind="truncated", sequence=known.sequence, what=what).as_error(population)
        for line in lines[1:] if known.sequence else lines:
            book.read(line)
        return book


class _Turn:
    """One turn at writing to a population's chain."""

    def __init__(self, connection: sql.Connection, book: Book, date: str) -> None:
        self.book = book
        self._connection, self._date = connection, date

    def write(self, fact: Fact) -> None:
        """Append an entry."""
        line = self.book.next(fact, self._date)
        place = self.book.mark.sequence + 1
        self._connection.execute(
            sql.insert(entries).values(
                population=self.book.population, sequence=place, text=line.text, sha256=line.sha256
            )
        )
        self.book.read(line)

    def lines(self) -> tuple[Line, ...]:
        """Return the whole chain as it is now."""
        return _lines(self._connection, self.book.population)


def _lines(connection: sql.Connection, population: str, after: int = 0) -> tuple[Line, ...]:
    # The casts make text of whatever a stranger has put there, so that it is found rather than stumbled over.
    columns = sql.select(sql.cast(entries.c.text, sql.Text), sql.cast(entries.c.sha256, sql.Text))
    wanted = (entries.c.population == population) & (entries.c.sequence > after)
    rows = connection.execute(columns.where(wanted).order_by(entries.c.sequence))
    return tuple(Line(text=text, sha256=sha256) for text, sha256 in rows)


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
