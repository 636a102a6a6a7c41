"""Noise from epsilon: within the limit always, and hardly more than it takes."""

from collections.abc import Callable

import pytest

from tacit.core.errors import PlanError
from tacit.core.events import (
    GaussianEvent,
    LaplaceEvent,
    NonPrivateEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.privacy import Adjacency
from tacit.privacy.accounting import calibrate, epsilon, gaussian_noise_multiplier


def sampled(rate: float) -> Callable[[float], PrivacyEvent]:
    return lambda noise: PoissonSampledEvent(rate=rate, event=GaussianEvent(noise_multiplier=noise))


def gaussian(noise: float) -> PrivacyEvent:
    return GaussianEvent(noise_multiplier=noise)


def laplace(noise: float) -> PrivacyEvent:
    return LaplaceEvent(noise_multiplier=noise)


def truncated(noise: float) -> PrivacyEvent:
    return TruncatedPoissonSampledEvent(
        rate=0.05, cap=80, population=1000, event=GaussianEvent(noise_multiplier=noise)
    )


@pytest.mark.parametrize(
    ("event_of", "count", "limit", "delta", "adjacency"),
    [
        (sampled(0.05), 60, 2.0, 1e-4, "add_remove"),
        (sampled(0.05), 60, 0.05, 1e-4, "add_remove"),
        (sampled(0.5), 20, 8.0, 1e-3, "add_remove"),
        (sampled(0.01), 500, 1.0, 1e-6, "replace_one"),
        (truncated, 60, 2.0, 1e-4, "add_remove"),
        (gaussian, 1000, 2.0, 1e-6, "zero_out"),
        (gaussian, 10, 2.0, 1e-6, "replace_one"),
        (laplace, 5, 1.0, 1e-5, "zero_out"),
        (gaussian, 1, 1e-3, 1e-5, "zero_out"),
        (gaussian, 1, 500.0, 1e-5, "zero_out"),
    ],
)
def test_the_noise_keeps_the_limit_and_leaves_little_of_it_over(
    event_of: Callable[[float], PrivacyEvent], count: int, limit: float, delta: float, adjacency: Adjacency
) -> None:
    noise = calibrate(event_of, count, limit, delta, adjacency)
    assert 0.9995 * limit <= epsilon({event_of(noise): count}, delta, adjacency) <= limit
    assert epsilon({event_of(0.998 * noise): count}, delta, adjacency) > limit


def test_the_noise_is_the_published_one() -> None:
    assert calibrate(sampled(0.01), 1000, 2.0, 1e-6, "add_remove") == pytest.approx(1.0292, rel=1e-3)


def test_the_noise_of_one_release_is_that_of_the_closed_form() -> None:
    assert calibrate(gaussian, 1, 3.0, 1e-6, "zero_out") == pytest.approx(
        gaussian_noise_multiplier(3.0, 1e-6), rel=5e-4
    )


def test_noise_that_nothing_can_replace_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        calibrate(lambda _: NonPrivateEvent(), 1, 3.0, 1e-6, "zero_out")
    assert caught.value.code == "T167"
