"""Events are grouped before anything is computed, and grouping changes no meaning."""

import math

import pytest

from tacit.core.errors import PlanError
from tacit.core.events import (
    ComposedEvent,
    CorrelatedEvent,
    GaussianEvent,
    LaplaceEvent,
    NonPrivateEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    RepeatedEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.privacy.accounting import Spend, joint, mu_gdp, unamplified, zcdp

ONE = GaussianEvent(noise_multiplier=2.0)
SAMPLED = PoissonSampledEvent(rate=0.1, event=ONE)


def test_nested_events_are_taken_apart_and_equal_ones_counted() -> None:
    nested = ComposedEvent(events=(RepeatedEvent(event=SAMPLED, count=3), SAMPLED, ONE))
    assert Spend.of({nested: 2, SAMPLED: 5}) == Spend.of({SAMPLED: 13, ONE: 2})
    assert Spend.of({SAMPLED: 13, ONE: 2}).others == ((SAMPLED, 13),)


def test_the_order_of_arrival_is_forgotten() -> None:
    other = PoissonSampledEvent(rate=0.2, event=ONE)
    assert Spend.of({SAMPLED: 1, other: 2}) == Spend.of({other: 2, SAMPLED: 1})


def test_gaussian_and_correlated_releases_become_one() -> None:
    whole = CorrelatedEvent(noise_multiplier=1.0, steps=100, min_separation=10, mechanism="banded_inverse")
    assert Spend.of({ONE: 4, whole: 1}) == Spend(squared_mu=2.0, others=(), is_private=True)


def test_a_sample_of_everybody_is_no_sample() -> None:
    everybody = PoissonSampledEvent(rate=1.0, event=ONE)
    uncut = TruncatedPoissonSampledEvent(rate=1.0, cap=10, population=10, event=ONE)
    cut = TruncatedPoissonSampledEvent(rate=1.0, cap=9, population=10, event=ONE)
    assert Spend.of({everybody: 4, uncut: 4}) == Spend.of({ONE: 8})
    assert Spend.of({cut: 1}).others == ((cut, 1),)


def test_a_release_without_guarantee_is_seen_through_any_nesting() -> None:
    nothing = PoissonSampledEvent(rate=0.1, event=NonPrivateEvent())
    assert not Spend.of({ComposedEvent(events=(ONE, RepeatedEvent(event=nothing, count=2))): 1}).is_private


@pytest.mark.parametrize("inner", [SAMPLED, RepeatedEvent(event=ONE, count=2)])
def test_a_sample_of_what_nobody_analysed_is_refused(inner: PrivacyEvent) -> None:
    with pytest.raises(PlanError) as caught:
        Spend.of({PoissonSampledEvent(rate=0.1, event=inner): 1})
    assert caught.value.code == "T166"


def test_a_truncated_sample_with_laplace_noise_is_refused() -> None:
    event = TruncatedPoissonSampledEvent(
        rate=0.1, cap=5, population=10, event=LaplaceEvent(noise_multiplier=1.0)
    )
    with pytest.raises(PlanError, match="LaplaceEvent"):
        Spend.of({event: 1})


def test_zcdp_and_gaussian_dp_are_stated_where_exact_and_only_there() -> None:
    assert zcdp({ONE: 8}) == 1.0
    assert mu_gdp({ONE: 16}) == 2.0
    # Replacing moves the sum twice as far.
    assert mu_gdp({ONE: 16}, "replace_one") == 4.0
    assert zcdp({ONE: 8}, "replace_one") == 4.0
    for inexact in (SAMPLED, LaplaceEvent(noise_multiplier=1.0), NonPrivateEvent()):
        assert zcdp({inexact: 1}) is None
        assert mu_gdp({ONE: 1, inexact: 1}) is None


def test_without_amplification_only_the_release_itself_is_left() -> None:
    truncated = TruncatedPoissonSampledEvent(rate=0.1, cap=5, population=10, event=ONE)
    nested = ComposedEvent(events=(SAMPLED, RepeatedEvent(event=truncated, count=2)))
    assert Spend.of({unamplified(nested): 1}) == Spend.of({ONE: 3})


def test_jobs_of_one_relation_keep_what_sampling_gains() -> None:
    assert joint([({SAMPLED: 2}, "add_remove"), ({SAMPLED: 3}, "add_remove")]) == ({SAMPLED: 5}, "add_remove")


def test_jobs_of_different_relations_are_accounted_for_under_zero_out_without_amplification() -> None:
    total, adjacency = joint([({SAMPLED: 2}, "add_remove"), ({ONE: 3}, "zero_out")])
    assert (total, adjacency) == ({ONE: 5}, "zero_out")
    assert math.isclose(mu_gdp(total, adjacency) or 0.0, math.sqrt(5) / 2)
