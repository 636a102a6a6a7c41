"""How large the noise of a job will be: against draws of it, and where it warns."""

import math

import numpy as np
import pytest

from tacit.privacy import FixedClipping, Privacy, PrivacyPlan, SamplingFacts, plan_privacy
from tacit.privacy.mechanisms import BandedInverse, Gaussian, Laplace, Mechanism
from tacit.report.forecast import NoiseForecast

ROUNDS, COHORT, SIZE = 40, 50, 4000


def planned(
    mechanism: Mechanism | None = None, *, noise: float = 2.0, bound: float = 0.5, trust: str = "central"
) -> PrivacyPlan:
    facts = SamplingFacts("fixed", 1000, expected_cohort=COHORT, largest_cohort=COHORT, rounds=ROUNDS)
    privacy = Privacy(
        unit="user",
        delta=1e-5,
        noise_multiplier=noise,
        trust=trust,  # type: ignore[arg-type]
        clipping=FixedClipping(bound=bound),
        mechanism=mechanism or Gaussian(),
        min_separation=20,
    )
    return plan_privacy(privacy, facts)


def drawn(plan: PrivacyPlan) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Draw the noise of a run's sums, shape (steps, coordinates)."""
    rng, mechanism = np.random.default_rng(7), plan.privacy.mechanism
    draw = rng.normal if mechanism.distribution == "normal" else rng.laplace
    fresh = draw(0.0, plan.noise_std(plan.privacy.clipping.first_bound), (ROUNDS, SIZE))
    noise = np.zeros_like(fresh)
    for step in range(ROUNDS):
        for back, weight in enumerate(mechanism.weights(step, plan.min_separation)):
            noise[step] += weight * fresh[step - back]
    return noise


@pytest.mark.parametrize("mechanism", [Gaussian(), BandedInverse(bands=4), Laplace()], ids=lambda m: m.name)
def test_the_forecast_is_the_length_of_noise_that_is_drawn(mechanism: Mechanism) -> None:
    plan = planned(mechanism)
    found, noise = NoiseForecast.of(plan, SIZE), drawn(plan)
    means = noise / plan.denominator
    assert found.std == pytest.approx(noise[-1].std(), rel=0.05)
    assert found.mean_std == pytest.approx(means[-1].std(), rel=0.05)
    assert found.per_step == pytest.approx(np.linalg.norm(means[-1]) / 0.5, rel=0.05)
    assert found.over_run == pytest.approx(np.linalg.norm(means.mean(axis=0)) / 0.5, rel=0.05)


def test_noise_of_every_client_adds_up_under_local_trust() -> None:
    central, local = (NoiseForecast.of(planned(trust=trust), SIZE) for trust in ("central", "local"))
    assert local.std == pytest.approx(central.std * math.sqrt(COHORT))
    assert local.per_step == pytest.approx(central.per_step * math.sqrt(COHORT))


def test_noise_against_signal_does_not_depend_on_the_clipping_bound() -> None:
    small, large = (NoiseForecast.of(planned(bound=bound), SIZE) for bound in (0.1, 10.0))
    assert small.per_step == pytest.approx(large.per_step)
    assert small.std == pytest.approx(large.std / 100)


def test_correlated_noise_is_longer_in_a_step_and_shorter_over_the_run() -> None:
    plain = NoiseForecast.of(planned(), SIZE)
    banded = NoiseForecast.of(planned(BandedInverse(bands=16)), SIZE)
    assert banded.over_run / banded.per_step < 0.6 * plain.over_run / plain.per_step


def test_it_warns_where_neither_a_step_nor_the_run_has_a_signal_left() -> None:
    assert not NoiseForecast.of(planned(noise=2.0), 4000).drowns  # 2.5 a step
    assert not NoiseForecast.of(planned(noise=2.0), 6000).drowns  # 3.1 a step, 0.49 over the run
    assert NoiseForecast.of(planned(noise=2.0), 7000).drowns  # 3.3 and 0.53
    assert NoiseForecast.of(planned(noise=20.0), 1000).drowns
