"""What an audit is held against is what the plan of the job says."""

import math

import pytest

from tacit.privacy.audit import claim_of, no_claim
from tacit.privacy.mechanisms import BandedInverse, Gaussian, Laplace, Mechanism
from tacit.privacy.plan import PrivacyPlan, plan_privacy
from tacit.privacy.sampling import SamplingFacts
from tacit.privacy.settings import AdaptiveClipping, Clipping, FixedClipping, Privacy

POISSON = SamplingFacts("poisson", 1000, expected_cohort=50, largest_cohort=150, rounds=60, rate=0.05)
FIXED = SamplingFacts("fixed", 1000, expected_cohort=50, largest_cohort=50, rounds=60)


def planned(
    facts: SamplingFacts = POISSON,
    clipping: Clipping = FixedClipping(bound=1.0),
    mechanism: Mechanism = Gaussian(),
    **settings: object,
) -> PrivacyPlan:
    privacy = Privacy(
        unit="user", epsilon=2.0, delta=1e-4, clipping=clipping, mechanism=mechanism, **settings
    )
    return plan_privacy(privacy, facts)


@pytest.mark.parametrize("clipping", [FixedClipping(bound=1.0), AdaptiveClipping()])
@pytest.mark.parametrize("facts", [POISSON, FIXED])
def test_the_claim_is_the_plans_and_noise_as_claimed_gives_it_again(
    facts: SamplingFacts, clipping: Clipping
) -> None:
    plan = planned(facts, clipping)
    claim = claim_of(plan, 60)
    assert (claim.epsilon, claim.delta, claim.adjacency) == (plan.epsilon, 1e-4, plan.adjacency)
    assert claim.noise_multiplier is not None
    assert claim.epsilon_at(claim.noise_multiplier) == pytest.approx(plan.epsilon, rel=1e-9)
    assert claim.epsilon_at(claim.noise_multiplier / 2) > 1.5 * plan.epsilon
    assert claim.hides_participation == (facts is POISSON)
    assert claim.record_epsilon >= claim.epsilon


def test_fewer_steps_are_claimed_to_cost_less() -> None:
    plan = planned()
    assert claim_of(plan, 5).epsilon < claim_of(plan, 60).epsilon == plan.epsilon


def test_the_noise_that_canaries_see_is_that_of_the_update_without_the_bit() -> None:
    plan = planned(clipping=AdaptiveClipping())
    assert claim_of(plan, 60).noise_multiplier == plan.update_noise_multiplier > plan.noise_multiplier


def test_correlated_noise_comes_with_what_makes_it_independent_again() -> None:
    plan = planned(FIXED, mechanism=BandedInverse(bands=8), min_separation=10)
    claim = claim_of(plan, 30)
    assert claim.strategy is not None
    assert claim.strategy.shape == (30, 30)
    assert claim.noise_multiplier == plan.noise_multiplier
    assert claim.epsilon_at(plan.noise_multiplier) == pytest.approx(plan.epsilon, rel=1e-9)


def test_laplace_noise_is_not_audited_as_if_it_were_gaussian() -> None:
    plan = plan_privacy(
        Privacy(unit="user", epsilon=2.0, delta=1e-4, clipping=FixedClipping(bound=1.0), mechanism=Laplace()),
        FIXED,
    )
    assert claim_of(plan, 1).noise_multiplier is None


def test_a_job_without_privacy_claims_nothing() -> None:
    claim = no_claim(1e-5)
    assert not claim.is_private
    assert claim.epsilon == claim.record_epsilon == claim.epsilon_at(100.0) == math.inf
