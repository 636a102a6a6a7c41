"""The closed form of the Gaussian mechanism, against arithmetic of fifty digits and published values."""

import mpmath
import pytest

from tacit.privacy.accounting import gaussian_delta, gaussian_epsilon, gaussian_noise_multiplier


def exact_delta(noise_multiplier: float, epsilon: float) -> float:
    """Balle & Wang 2018, theorem 8, as it is printed."""
    with mpmath.workdps(50):
        mu, eps = 1 / mpmath.mpf(noise_multiplier), mpmath.mpf(epsilon)
        lost = mpmath.exp(eps) * mpmath.ncdf(-mu / 2 - eps / mu)
        return float(mpmath.ncdf(mu / 2 - eps / mu) - lost)


@pytest.mark.parametrize("noise_multiplier", [1e-3, 0.05, 0.3, 1.0, 5.0, 80.0, 1e4])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-10, 1e-14])
def test_epsilon_is_exact_to_a_millionth(noise_multiplier: float, delta: float) -> None:
    epsilon = gaussian_epsilon(noise_multiplier, delta)
    # Delta falls with epsilon, so the true epsilon lies where it crosses: within a millionth of ours.
    assert exact_delta(noise_multiplier, epsilon * (1 + 1e-9) + 1e-9) <= delta
    if epsilon > 1e-6:
        assert exact_delta(noise_multiplier, epsilon * (1 - 1e-9) - 1e-7) >= delta


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 4.0, 40.0])
@pytest.mark.parametrize("noise_multiplier", [0.2, 1.0, 7.0])
def test_delta_is_exact(noise_multiplier: float, epsilon: float) -> None:
    exact = exact_delta(noise_multiplier, epsilon)
    assert gaussian_delta(noise_multiplier, epsilon) == pytest.approx(exact, rel=1e-9, abs=1e-17)


@pytest.mark.parametrize(
    ("noise_multiplier", "delta", "published"), [(1.0, 1e-5, 4.37718), (2.0, 1e-6, 2.25408)]
)
def test_epsilon_is_the_published_one(noise_multiplier: float, delta: float, published: float) -> None:
    assert gaussian_epsilon(noise_multiplier, delta) == pytest.approx(published, abs=1e-5)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-5), (1.0, 1e-6), (10.0, 1e-10), (200.0, 1e-4)])
def test_noise_and_epsilon_are_inverse(epsilon: float, delta: float) -> None:
    assert gaussian_epsilon(gaussian_noise_multiplier(epsilon, delta), delta) == pytest.approx(
        epsilon, rel=1e-9
    )


def test_the_textbook_formula_claims_too_much_above_epsilon_one() -> None:
    textbook = (2 * mpmath.log(1.25 / 1e-5)) ** 0.5 / 10
    assert gaussian_epsilon(float(textbook), 1e-5) == pytest.approx(10.39, abs=0.005)
