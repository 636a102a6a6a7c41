"""What was lost counts as spent: no more than twice, and never less than once."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.events import PrivacyEvent
from tacit.core.part import decode, encode
from tacit.privacy.ledger import Abandoned, Book, Budget, Charge, Head, gap, verify
from tests.unit.privacy.ledger.chains import LOUD, NOISY, Chain, count, spend


def settle(chain: Chain, head: Head) -> None:
    """Charge for a head that was lost."""
    assert not chain.book.knows(head.mark)
    chain.write(gap(head, chain.lines))


def test_a_cut_tail_is_charged_exactly() -> None:
    whole = Chain(*(spend(step) for step in range(5)), *(spend(step, event=LOUD) for step in range(5, 8)))
    backup = whole.until(4)
    settle(backup, whole.book.head)
    assert backup.book.spent().events == whole.book.spent().events
    assert verify(backup.population, backup.lines, [whole.book.mark]) == ()


def test_a_ledger_that_was_deleted_is_charged_exactly() -> None:
    whole = Chain(spend(0), spend(1, run="run-2"), spend(2))
    fresh = Chain()
    settle(fresh, whole.book.head)
    assert fresh.book.spent().events == {NOISY: 3}
    assert fresh.book.spent("run-1").events == {NOISY: 2}
    assert fresh.book.unit == "user"


def test_a_backup_that_was_written_to_is_charged_for_both_branches() -> None:
    whole = Chain(*(spend(step) for step in range(6)))
    backup = whole.until(4)
    for step in range(4, 7):
        backup.write(spend(step, inputs=1))
    settle(backup, whole.book.head)
    assert count(backup.book) == 4 + 2 + 3


def test_a_gap_is_charged_once() -> None:
    whole = Chain(*(spend(step) for step in range(6)))
    backup = whole.until(2)
    settle(backup, whole.book.head)
    assert backup.book.knows(whole.book.mark)
    assert all(backup.book.knows(mark) for mark in whole.book.head.trail)
    assert Book.of(backup.population, backup.lines).knows(whole.book.mark)


def test_what_was_abandoned_in_the_lost_tail_stays_charged_there() -> None:
    # The lost tail took back spend 1 and made spend 3: counts alone would say that nothing was lost.
    whole = Chain(spend(0), spend(1), Abandoned(reservation=1), spend(2))
    backup = whole.until(2)
    backup.write(Abandoned(reservation=1))
    settle(backup, whole.book.head)
    assert count(backup.book) >= 2


def test_the_lost_budget_holds_beside_the_one_that_is_there() -> None:
    whole = Chain(Budget(epsilon=8.0, delta=1e-6), spend(0), Budget(epsilon=2.0, delta=1e-5))
    backup = whole.until(2)
    settle(backup, whole.book.head)
    assert backup.book.budget == Budget(epsilon=2.0, delta=1e-6)
    fresh = Chain()
    settle(fresh, whole.book.head)
    assert fresh.book.budget == Budget(epsilon=2.0, delta=1e-5)
    fresh.write(Budget(epsilon=9.0, delta=1e-5))
    assert fresh.book.budget == Budget(epsilon=9.0, delta=1e-5)


def test_a_gap_ends_every_allowance() -> None:
    whole = Chain(spend(0), spend(1))
    backup = whole.until(1)
    settle(backup, whole.book.head)
    assert backup.book.last_charge == backup.book.mark


Steps = list[tuple[str, int]]
steps = st.lists(st.tuples(st.sampled_from(["noisy", "loud", "abandon"]), st.integers(0, 9)), max_size=25)


def play(chain: Chain, moves: Steps, branch: int, after: int = 0) -> None:
    """Reserve and abandon as told; what was there before, a process that begins anew cannot abandon."""
    for move, which in moves:
        # Which of them count, and could be abandoned.
        mine = sorted(number for number in chain.book._spends if number > after)  # noqa: SLF001
        if move != "abandon":
            event = NOISY if move == "noisy" else LOUD
            chain.write(spend(chain.book.mark.sequence, inputs=branch, event=event))
        elif mine:
            chain.write(Abandoned(reservation=mine[which % len(mine)]))


def reserved(chain: Chain, after: int = 0) -> Counter[PrivacyEvent]:
    """What was reserved after some entry, and not abandoned: the true spend."""
    found = chain.book._spends.items()  # noqa: SLF001
    return Counter(spend.event for number, spend in found if number > after)


@given(common=steps, lost=steps, went_on=steps)
def test_no_history_of_loss_is_charged_less_than_was_spent(
    common: Steps, lost: Steps, went_on: Steps
) -> None:
    backup = Chain()
    play(backup, common, 0)
    whole = Chain(lines=tuple(backup.lines))
    fork = len(backup.lines)
    play(whole, lost, 1)
    head = whole.book.head
    play(backup, went_on, 2, after=fork)
    if backup.book.knows(head.mark):
        return
    truth = reserved(whole, after=fork) + reserved(backup)
    settle(backup, head)
    charged = backup.book.spent().events
    assert all(charged.get(event, 0) >= times for event, times in truth.items())
    assert verify(backup.population, backup.lines, [head.mark]) == ()


@pytest.mark.parametrize("lost", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("length", [16, 21])
def test_a_gap_counts_no_entry_more_than_twice(length: int, lost: int) -> None:
    whole = Chain(*(spend(step) for step in range(length)))
    backup = whole.until(length - lost)
    settle(backup, whole.book.head)
    assert length <= count(backup.book) <= length + lost


def test_a_head_survives_the_file_it_is_kept_in() -> None:
    head = Chain(Budget(epsilon=2.0, delta=1e-6), spend(0), spend(1, event=LOUD)).book.head
    kept = json.loads(json.dumps(encode(head)))
    assert decode(Head, kept) == head
    restored = Chain()
    settle(restored, decode(Head, kept))
    assert restored.book.spent().events == {NOISY: 1, LOUD: 1}


def test_a_gap_keeps_runs_apart() -> None:
    whole = Chain(spend(0), spend(1, run="run-2"), spend(2, run="run-2"))
    backup = whole.until(1)
    made = gap(whole.book.head, backup.lines)
    assert made.charges == (
        Charge(job="digits", run="run-2", unit="user", adjacency="zero_out", event=NOISY, count=2),
    )
