"""What counts as spent."""

import pytest

from tacit.core.errors import StoreError
from tacit.privacy.ledger import Abandoned, Book, Budget, Charge, Released
from tests.unit.privacy.ledger.chains import LOUD, NOISY, POPULATION, Chain, count, spend


def test_what_was_reserved_counts_from_that_moment_released_or_not() -> None:
    chain = Chain(spend(0))
    assert count(chain.book) == 1
    chain.write(Released(reservation=1))
    assert count(chain.book) == 1


def test_what_was_abandoned_does_not_count() -> None:
    chain = Chain(spend(0), spend(1), Abandoned(reservation=1))
    assert count(chain.book) == 1
    assert chain.book.find(spend(0)) is None
    assert chain.book.find(spend(1)) is not None


def test_the_same_spend_is_found_again_and_any_other_is_not() -> None:
    chain = Chain(spend(0))
    reserved = chain.book.mark
    assert chain.book.find(spend(0)) == reserved
    chain.write(Released(reservation=1))
    assert chain.book.find(spend(0)) == reserved
    changes = [
        spend(1),
        spend(0, inputs=1),
        spend(0, event=LOUD),
        spend(0, run="run-2"),
        spend(0, job="other"),
        spend(0, plan_sha256=spend(0).inputs_sha256),
        spend(0, adjacency="add_remove"),
        spend(0, unit="record"),
    ]
    assert [chain.book.find(other) for other in changes] == [None] * len(changes)


def test_a_spend_that_was_abandoned_is_charged_when_it_comes_again() -> None:
    chain = Chain(spend(0), Abandoned(reservation=1), spend(0))
    assert count(chain.book) == 1
    assert chain.book.find(spend(0)) == chain.book.mark


def test_a_release_is_noted_once() -> None:
    chain = Chain(spend(0))
    reserved = chain.book.mark
    assert chain.book.release(reserved) == Released(reservation=1)
    chain.write(Released(reservation=1))
    assert chain.book.release(reserved) is None


def test_what_was_released_stays_charged() -> None:
    chain = Chain(spend(0))
    reserved = chain.book.mark
    chain.write(Released(reservation=1))
    with pytest.raises(StoreError, match="stays charged") as caught:
        chain.book.abandon(reserved)
    assert caught.value.code == "T428"


def test_nothing_is_released_that_is_not_charged() -> None:
    chain = Chain(spend(0), Abandoned(reservation=1))
    elsewhere = Chain(spend(5))
    abandoned = Book.of(POPULATION, chain.lines[:1]).mark
    for mark in (abandoned, elsewhere.book.mark, chain.book.mark):
        for ask in (chain.book.release, chain.book.abandon):
            with pytest.raises(StoreError) as caught:
                ask(mark)
            assert caught.value.code == "T428"


def test_runs_are_told_apart_and_add_up() -> None:
    facts = [spend(0), spend(1), spend(0, run="run-2"), spend(1, run="run-2", event=LOUD)]
    book = Chain(*facts).book
    assert book.spent("run-1").events == {NOISY: 2}
    assert book.spent("run-2").events == {NOISY: 1, LOUD: 1}
    assert book.spent().events == {NOISY: 3, LOUD: 1}
    assert book.spent("run-3").events == {}
    assert book.unit == "user"


def test_the_last_budget_holds() -> None:
    first, second = Budget(epsilon=1.0, delta=1e-6), Budget(epsilon=5.0, delta=1e-5)
    assert Chain(first).book.budget == first
    assert Chain(first, spend(0), second).book.budget == second
    assert Chain(spend(0)).book.budget is None


def test_a_head_says_what_was_ever_charged_and_which_entries_came_before() -> None:
    chain = Chain(*(spend(step) for step in range(9)), Abandoned(reservation=3))
    head = chain.book.head
    assert head.mark == chain.book.mark
    assert head.charged == (
        Charge(job="digits", run="run-1", unit="user", adjacency="zero_out", event=NOISY, count=9),
    )
    assert [mark.sequence for mark in head.trail] == [9, 8, 6, 2]
    assert all(chain.book.contains(mark) for mark in head.trail)
    assert count(chain.book) == 8


def test_only_what_can_raise_the_spend_is_a_charge() -> None:
    chain = Chain(Budget(epsilon=1.0, delta=1e-6), spend(0))
    reserved = chain.book.last_charge
    chain.write(Released(reservation=2))
    assert chain.book.last_charge == reserved
    chain.write(Budget(epsilon=2.0, delta=1e-6))
    assert chain.book.last_charge == chain.book.mark
