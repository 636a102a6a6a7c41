"""The refusal rule: a round that would exceed a budget does not start."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tacit.core.errors import RunError
from tacit.core.events import PrivacyEvent
from tacit.core.part import Record
from tacit.core.privacy import Adjacency, Unit
from tacit.privacy.ledger.facts import Budget, Mark, Reserved
from tacit.privacy.ledger.spent import Accountant, Total, affordable

if TYPE_CHECKING:
    from tacit.privacy.ledger.book import Book


class BudgetExceeded(RunError):  # noqa: N818 - it says what would happen
    """One more round would exceed a budget: the run ends with what it has reached."""

    exit_code = 7


class Allowance(Record, frozen=True):
    """So many more equal rounds fit every budget, as long as nobody else charges the population.

    Computed once for all rounds of a run: while the chain's last charge is the one it was computed
    after, a reservation costs no accounting.

    Attributes:
        population: Whose budget.
        run: The run it is for.
        unit: What its events protect.
        adjacency: Their relation.
        event: The event of one round.
        limit: The run's own limit.
        after: The last entry that charged something or set a budget.
        count: How many more rounds.
    """

    population: str
    run: str
    unit: Unit
    adjacency: Adjacency
    event: PrivacyEvent
    limit: Budget | None
    after: Mark
    count: int

    def covers(self, book: "Book", spend: Reserved, limit: Budget | None) -> bool:
        """Tell whether it allows this spend without another look."""
        asked = (
            book.population,
            spend.run,
            spend.unit,
            spend.adjacency,
            spend.event,
            limit,
            book.last_charge,
        )
        held = (self.population, self.run, self.unit, self.adjacency, self.event, self.limit, self.after)
        return self.count > 0 and asked == held

    def used(self, after: Mark) -> "Allowance":
        """Return what is left when the spend has become the entry ``after``."""
        return replace(self, after=after, count=self.count - 1)


def allow(
    book: "Book", spend: Reserved, *, wanted: int, limit: Budget | None, accountant: Accountant
) -> Allowance:
    """Return how many rounds like this one may follow, at least one and at most ``wanted``.

    Raises:
        BudgetExceeded: Not one fits the population's budget (T340) or the run's own limit (T341).
        RunError: The population's ledger protects other units (T342).
    """
    if book.unit not in (None, spend.unit):
        what = f"this ledger protects each {book.unit} of the population, the run each {spend.unit}"
        fix = (
            f'Give what protects each {spend.unit} a population of its own, such as "{book.population}/site".'
        )
        raise RunError("T342", what, where=f"population {book.population}", fix=fix)
    count = wanted
    for code, whose, before, budget in _limits(book, spend, limit):
        count = affordable(before, spend.event, spend.adjacency, count, budget, accountant)
        if not count:
            reached = before.plus(spend.event, 1, spend.adjacency).epsilon(accountant, budget.delta)
            raise _exceeded(code, whose, reached, budget, book.population)
    return Allowance(
        population=book.population,
        run=spend.run,
        unit=spend.unit,
        adjacency=spend.adjacency,
        event=spend.event,
        limit=limit,
        after=book.last_charge,
        count=count,
    )


def _limits(book: "Book", spend: Reserved, limit: Budget | None) -> Iterator[tuple[str, str, Total, Budget]]:
    if book.budget is not None:
        yield "T340", f"the budget of population {book.population}", book.spent(), book.budget
    if limit is not None:
        yield "T341", f"the limit of run {spend.run}", book.spent(spend.run), limit


def _exceeded(code: str, whose: str, reached: float, budget: Budget, population: str) -> BudgetExceeded:
    would_be = f"one more round would bring epsilon to {reached:.4g} at delta {budget.delta:.3g}"
    otherwise = (
        f"`tacit ledger budget {population} --epsilon E --delta D` sets another budget."
        if code == "T340"
        else "A longer run needs more noise from its beginning, or a larger epsilon."
    )
    return BudgetExceeded(
        code,
        f"{would_be}; {whose} is {budget.epsilon:.4g}",
        where=f"population {population}",
        fix=f"What was released stands. {otherwise}",
    )
