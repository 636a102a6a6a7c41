"""A round that would exceed a budget does not start, and looking costs nothing twice."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import RunError
from tacit.core.events import NonPrivateEvent, PrivacyEvent
from tacit.core.privacy import Adjacency
from tacit.privacy.ledger import Abandoned, Budget, BudgetExceeded, Released, Reserved, allow
from tests.unit.privacy.ledger.chains import LOUD, NOISY, Chain, rho_accountant, spend

DELTA = 1e-5


def budget(rounds: float, event: PrivacyEvent = NOISY, before: int = 0) -> Budget:
    """A budget that so many rounds just fit."""
    counts = {event: rounds, NOISY: before} if event != NOISY else {NOISY: rounds + before}
    return Budget(epsilon=rho_accountant(counts, DELTA, "zero_out") * (1 + 1e-12), delta=DELTA)


class Counting:
    """The accountant, counting how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, spent: Mapping[PrivacyEvent, int], delta: float, adjacency: Adjacency) -> float:
        self.asked += 1
        return rho_accountant(spent, delta, adjacency)


def run_until_refused(chain: Chain, limit: Budget | None, wanted: int = 1, run: str = "run-1") -> str:
    """Reserve and release step after step; return the refusal's number."""
    allowance = None
    for step in range(200):
        asked = spend(step, run=run)
        if allowance is None or not allowance.covers(chain.book, asked, limit):
            try:
                allowance = allow(chain.book, asked, wanted=wanted, limit=limit, accountant=rho_accountant)
            except BudgetExceeded as refused:
                return refused.code
        chain.write(asked)
        allowance = allowance.used(chain.book.mark)
        chain.write(Released(reservation=chain.book.mark.sequence))
    return "never"


@given(rounds=st.integers(1, 40), before=st.integers(0, 20), wanted=st.integers(1, 60))
def test_the_population_is_refused_at_the_exact_round(rounds: int, before: int, wanted: int) -> None:
    chain = Chain(*(spend(step, run="earlier") for step in range(before)), budget(rounds, before=before))
    assert run_until_refused(chain, None, wanted) == "T340"
    assert chain.book.spent().events == {NOISY: rounds + before}


@given(rounds=st.integers(1, 40), wanted=st.integers(1, 60))
def test_a_run_is_refused_at_the_exact_round_whatever_others_have_spent(rounds: int, wanted: int) -> None:
    chain = Chain(*(spend(step, run="earlier", event=LOUD) for step in range(5)))
    assert run_until_refused(chain, budget(rounds), wanted) == "T341"
    assert chain.book.spent("run-1").events == {NOISY: rounds}


@pytest.mark.parametrize(("own", "shared", "code", "reached"), [(7, 9, "T341", 7), (9, 7, "T340", 7)])
def test_the_tighter_limit_counts(own: int, shared: int, code: str, reached: int) -> None:
    chain = Chain(budget(shared))
    assert run_until_refused(chain, budget(own), wanted=100) == code
    assert chain.book.spent().events == {NOISY: reached}


def test_one_population_is_shared_by_all_its_runs() -> None:
    chain = Chain(budget(10))
    assert run_until_refused(chain, budget(4), run="run-1") == "T341"
    assert run_until_refused(chain, budget(100), run="run-2") == "T340"
    assert chain.book.spent("run-2").events == {NOISY: 6}
    assert run_until_refused(chain, None, run="run-3") == "T340"
    assert chain.book.spent("run-3").events == {}


def test_a_refusal_says_what_was_reached_and_ends_with_a_code_of_its_own() -> None:
    chain = Chain(budget(2), spend(0), spend(1))
    with pytest.raises(BudgetExceeded) as caught:
        allow(chain.book, spend(2), wanted=1, limit=None, accountant=rho_accountant)
    reached = rho_accountant({NOISY: 3}, DELTA, "zero_out")
    assert f"epsilon to {reached:.4g}" in caught.value.what
    assert "tacit ledger budget ward-7" in caught.value.fix
    assert caught.value.exit_code == 7


def test_without_any_limit_nobody_is_asked() -> None:
    accountant = Counting()
    allowance = allow(Chain().book, spend(0), wanted=9, limit=None, accountant=accountant)
    assert (allowance.count, accountant.asked) == (9, 0)


def test_one_look_serves_a_whole_run() -> None:
    chain, accountant = Chain(budget(1000)), Counting()
    allowance = allow(chain.book, spend(0), wanted=1000, limit=budget(1000), accountant=accountant)
    asked = accountant.asked
    assert asked == 2  # one for each limit
    for step in range(1000):
        assert allowance.covers(chain.book, spend(step), budget(1000))
        chain.write(spend(step))
        allowance = allowance.used(chain.book.mark)
        chain.write(Released(reservation=chain.book.mark.sequence))
    assert not allowance.covers(chain.book, spend(1000), budget(1000))


def moves(chain: Chain) -> list[Reserved | Budget]:
    return [spend(0, run="run-2"), budget(3)]


@pytest.mark.parametrize("move", moves(Chain()))
def test_an_allowance_ends_when_the_head_of_charges_moves(move: Reserved | Budget) -> None:
    chain = Chain(budget(10))
    allowance = allow(chain.book, spend(0), wanted=10, limit=None, accountant=rho_accountant)
    chain.write(move)
    assert not allowance.covers(chain.book, spend(0), None)


def test_an_allowance_outlives_what_costs_nothing() -> None:
    chain = Chain(budget(10), spend(0), spend(1))
    allowance = allow(chain.book, spend(2), wanted=8, limit=None, accountant=rho_accountant)
    chain.write(Released(reservation=2))
    chain.write(Abandoned(reservation=3))
    assert allowance.covers(chain.book, spend(2), None)


@pytest.mark.parametrize(
    "other",
    [
        spend(1, event=LOUD),
        spend(1, run="run-2"),
        spend(1, adjacency="replace_one"),
        spend(1, unit="record"),
    ],
)
def test_an_allowance_is_for_one_event_of_one_run(other: Reserved) -> None:
    chain = Chain(budget(10))
    allowance = allow(chain.book, spend(0), wanted=10, limit=None, accountant=rho_accountant)
    assert allowance.covers(chain.book, spend(1), None)
    assert not allowance.covers(chain.book, other, None)
    assert not allowance.covers(chain.book, spend(1), budget(3))
    assert not allowance.covers(Chain(budget(10), population="ward-8").book, spend(1), None)


def test_a_stronger_relation_makes_all_that_came_before_dearer() -> None:
    chain = Chain(budget(20), *(spend(step) for step in range(10)))
    weak = allow(chain.book, spend(10), wanted=99, limit=None, accountant=rho_accountant)
    assert weak.count == 10
    with pytest.raises(BudgetExceeded):
        allow(
            chain.book,
            spend(10, adjacency="replace_one"),
            wanted=99,
            limit=None,
            accountant=rho_accountant,
        )


def test_a_release_without_guarantee_fits_no_budget_and_leaves_room_for_nothing() -> None:
    chain = Chain(budget(5))
    bare = spend(0, event=NonPrivateEvent())
    with pytest.raises(BudgetExceeded) as caught:
        allow(chain.book, bare, wanted=1, limit=None, accountant=rho_accountant)
    assert caught.value.code == "T340"
    chain.write(bare)
    assert math.isinf(chain.book.spent().epsilon(rho_accountant, DELTA))
    with pytest.raises(BudgetExceeded):
        allow(chain.book, spend(1), wanted=1, limit=None, accountant=rho_accountant)


def test_users_and_records_do_not_add_up() -> None:
    chain = Chain(spend(0))
    with pytest.raises(RunError) as caught:
        allow(chain.book, spend(1, unit="record"), wanted=1, limit=None, accountant=rho_accountant)
    assert caught.value.code == "T342"
    assert not isinstance(caught.value, BudgetExceeded)
