"""Under which relation spends compose, and how many more fit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.events import (
    ComposedEvent,
    CorrelatedEvent,
    GaussianEvent,
    NonPrivateEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    RepeatedEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.privacy import Adjacency
from tacit.privacy.accounting import epsilon
from tacit.privacy.ledger import Budget, Charge, Total, affordable, is_sampled, spent, within
from tests.unit.privacy.ledger.chains import LOUD, NOISY, rho_accountant

SAMPLED = PoissonSampledEvent(rate=0.1, event=NOISY)
CUT = TruncatedPoissonSampledEvent(rate=0.1, cap=20, population=100, event=NOISY)
NOTHING = Total(events={}, relations=frozenset())


def charge(event: PrivacyEvent, adjacency: Adjacency, count: int = 1) -> Charge:
    return Charge(job="j", run="r", unit="user", adjacency=adjacency, event=event, count=count)


@pytest.mark.parametrize("adjacency", ["add_remove", "zero_out", "replace_one"])
def test_one_relation_is_kept(adjacency: Adjacency) -> None:
    assert spent([charge(SAMPLED, adjacency), charge(NOISY, adjacency)]).adjacency == adjacency


@pytest.mark.parametrize("first", [NOISY, SAMPLED, CUT])
def test_several_relations_are_read_under_one_that_is_as_strong_as_each(first: PrivacyEvent) -> None:
    mixed = spent([charge(first, "add_remove"), charge(LOUD, "zero_out")])
    assert mixed.adjacency == ("zero_out" if first is NOISY else "replace_one")
    assert spent([charge(first, "zero_out"), charge(LOUD, "replace_one")]).adjacency == "replace_one"


@given(
    sampled=st.integers(1, 5),
    plain=st.integers(1, 5),
    noise=st.sampled_from([2.0, 4.0]),
    rate=st.sampled_from([0.05, 0.5]),
)
def test_a_mix_costs_no_less_than_either_part_under_its_own_relation(
    sampled: int, plain: int, noise: float, rate: float
) -> None:
    drawn = PoissonSampledEvent(rate=rate, event=GaussianEvent(noise_multiplier=noise))
    both = spent([charge(drawn, "add_remove", sampled), charge(NOISY, "zero_out", plain)])
    together = both.epsilon(epsilon, 1e-5)
    assert together >= epsilon({drawn: sampled, NOISY: plain}, 1e-5, "add_remove")
    assert together >= epsilon({NOISY: plain}, 1e-5, "zero_out")


def test_fixed_cohorts_never_claim_what_only_samples_may() -> None:
    mixed = spent([charge(NOISY, "zero_out"), charge(NOISY, "add_remove")])
    assert mixed.adjacency != "add_remove"
    assert mixed.plus(SAMPLED, 1, "add_remove").adjacency == "replace_one"


def test_sampling_is_found_however_deep_it_lies() -> None:
    nested = ComposedEvent(events=(NOISY, RepeatedEvent(event=SAMPLED, count=3)))
    assert is_sampled(nested)
    assert is_sampled(CUT)
    correlated = CorrelatedEvent(noise_multiplier=1.0, steps=4, min_separation=2, mechanism="banded_inverse")
    assert not is_sampled(RepeatedEvent(event=ComposedEvent(events=(NOISY, correlated)), count=2))
    assert [type(one).__name__ for one in within(nested)] == [
        "ComposedEvent",
        "GaussianEvent",
        "RepeatedEvent",
        "PoissonSampledEvent",
        "GaussianEvent",
    ]


def test_nothing_costs_nothing_and_asks_nobody() -> None:
    def never(*_: object) -> float:
        raise AssertionError

    assert NOTHING.epsilon(never, 1e-6) == 0.0


@given(before=st.integers(0, 30), limit=st.floats(0.05, 20.0), wanted=st.integers(1, 300))
def test_the_last_that_fits_is_found(before: int, limit: float, wanted: int) -> None:
    total = Total(events={NOISY: before} if before else {}, relations=frozenset({"zero_out"}))
    budget = Budget(epsilon=limit, delta=1e-5)
    found = affordable(total, LOUD, "zero_out", wanted, budget, rho_accountant)

    def fits(count: int) -> bool:
        return rho_accountant({NOISY: before, LOUD: count}, 1e-5, "zero_out") <= limit

    assert 0 <= found <= wanted
    assert not found or fits(found)
    assert found == wanted or not fits(found + 1)


def test_what_fits_as_a_whole_is_looked_at_once() -> None:
    looks: list[int] = []

    def counting(events: dict[PrivacyEvent, int], delta: float, adjacency: Adjacency) -> float:
        looks.append(events[NOISY])
        return 0.1

    budget = Budget(epsilon=1.0, delta=1e-5)
    assert affordable(NOTHING, NOISY, "zero_out", 1000, budget, counting) == 1000  # type: ignore[arg-type]
    assert looks == [1000]


@pytest.mark.parametrize("epsilon_of_all", [math.inf, math.nan])
def test_what_has_no_epsilon_does_not_fit(epsilon_of_all: float) -> None:
    budget = Budget(epsilon=1e9, delta=1e-5)
    event = NonPrivateEvent()
    assert affordable(NOTHING, event, "zero_out", 8, budget, lambda *_: epsilon_of_all) == 0
