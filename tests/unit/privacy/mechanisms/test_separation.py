"""Who may take part again, and when."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import ConfigError
from tacit.privacy.mechanisms import Separation

FIVE = Separation(min_separation=5)


@given(
    min_separation=st.integers(1, 50),
    last=st.one_of(st.none(), st.integers(0, 100)),
    step=st.integers(0, 200),
)
def test_the_next_step_is_the_first_that_is_allowed(min_separation: int, last: int | None, step: int) -> None:
    separation = Separation(min_separation=min_separation)
    assert separation.allows(step, last) == (step >= separation.next_step(last))


@given(data=st.data(), min_separation=st.integers(1, 6))
def test_no_client_that_obeys_takes_part_twice_within_the_separation(
    data: st.DataObject, min_separation: int
) -> None:
    separation, last, took_part = Separation(min_separation=min_separation), {}, []
    for step in range(20):
        for client in separation.eligible(["ann", "bob"], last, step):
            if data.draw(st.booleans()):
                last[client] = step
                took_part.append((client, step))
    for client in ("ann", "bob"):
        steps = [step for who, step in took_part if who == client]
        assert all(b - a >= min_separation for a, b in itertools.pairwise(steps))


def test_a_round_tried_again_as_the_same_step_asks_nobody_a_second_time() -> None:
    assert FIVE.eligible(["ann", "bob"], {"ann": 7}, step=7) == ("bob",)
    assert not Separation(min_separation=1).allows(step=7, last=7)


def test_a_server_that_went_back_in_time_gets_nobody() -> None:
    assert not FIVE.allows(step=3, last=7)
    assert not FIVE.allows(step=0, last=0)


def test_who_never_took_part_may_and_the_order_stays() -> None:
    assert FIVE.eligible(["dan", "ann", "cat", "bob"], {"ann": 6, "bob": 5, "cat": 0}, step=10) == (
        "dan",
        "cat",
        "bob",
    )


@pytest.mark.parametrize("min_separation", [0, -1, 1.5])
def test_a_separation_is_at_least_one(min_separation: float) -> None:
    with pytest.raises(ConfigError):
        Separation(min_separation=min_separation)  # type: ignore[arg-type]


@given(population=st.integers(1, 200), min_separation=st.integers(1, 20))
def test_the_largest_cohort_can_be_asked_anew_at_every_step(population: int, min_separation: int) -> None:
    separation = Separation(min_separation=min_separation)
    size, last = separation.largest_cohort(population), dict[int, int]()
    for step in range(3 * min_separation):
        eligible = separation.eligible(range(population), last, step)
        assert len(eligible) >= size
        last |= dict.fromkeys(eligible[:size], step)
