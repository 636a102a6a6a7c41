"""How much noise adds up: the published comparison of mechanisms, to its printed digits."""

import numpy as np
import pytest

from tacit.privacy.mechanisms import (
    BandedInverse,
    BandedSquareRoot,
    Gaussian,
    Mechanism,
    best_bands,
    prefix_deviations,
    prefix_error,
    step_deviations,
)

# Steps, separation: full square root, banded square root, banded inverse of 4, 16 and 64 bands.
# jax-privacy 2.0.0 gives the same numbers for the banded square root (0.2714 at 200/50, 0.1711 at 1000/100).
TABLE = {
    (200, 20): ("0.437", "0.327", "0.421", "0.341", "0.412"),
    (200, 50): ("0.323", "0.271", "0.420", "0.287", "0.307"),
    (1000, 100): ("0.222", "0.171", "0.402", "0.226", "0.175"),
    (2048, 342): ("0.139", "0.114", "0.400", "0.218", "0.135"),
    (2048, 2048): ("0.104", "0.104", "0.400", "0.218", "0.134"),
}


def mechanisms(steps: int) -> tuple[Mechanism, ...]:
    inverses = (BandedInverse(bands=bands) for bands in (4, 16, 64))
    return (BandedSquareRoot(bands=steps), BandedSquareRoot(), *inverses)


@pytest.mark.parametrize(("run", "printed"), TABLE.items(), ids=str)
def test_noise_adds_up_as_the_table_says(run: tuple[int, int], printed: tuple[str, ...]) -> None:
    assert tuple(f"{prefix_error(mechanism, *run):.3f}" for mechanism in mechanisms(run[0])) == printed


def test_without_separation_nothing_is_gained() -> None:
    assert f"{prefix_error(BandedSquareRoot(bands=100), 100, 1):.2f}" == "1.68"
    assert f"{prefix_error(BandedSquareRoot(), 100, 1):.2f}" == "1.00"
    assert f"{prefix_error(BandedInverse(bands=4), 100, 1):.2f}" == "1.08"


def test_the_banded_square_root_agrees_with_jax_privacy() -> None:
    assert f"{prefix_error(BandedSquareRoot(), 200, 50):.4f}" == "0.2714"
    assert f"{prefix_error(BandedSquareRoot(), 1000, 100):.4f}" == "0.1711"


@pytest.mark.parametrize("mechanism", [BandedInverse(bands=3), BandedSquareRoot(), Gaussian()], ids=repr)
def test_the_closed_form_is_the_frobenius_norm_of_the_matrices(mechanism: Mechanism) -> None:
    steps, separation = 12, 4
    weights = mechanism.weights(steps - 1, separation)
    inverse = sum(np.diag(np.full(steps - j, weight), -j) for j, weight in enumerate(weights))
    sums = np.tril(np.ones((steps, steps)))
    most = np.linalg.norm(np.linalg.inv(inverse)[:, ::separation].sum(axis=1))
    expected = most * np.linalg.norm(sums @ inverse) / (np.sqrt(3) * np.linalg.norm(sums))
    assert prefix_error(mechanism, steps, separation) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mechanism", [BandedInverse(bands=3), BandedSquareRoot(), Gaussian()], ids=repr)
def test_the_noise_of_steps_and_of_their_sums_has_the_deviations_of_the_matrices(
    mechanism: Mechanism,
) -> None:
    weights = mechanism.weights(11, 4)
    inverse = sum(np.diag(np.full(12 - j, weight), -j) for j, weight in enumerate(weights))
    sums = np.tril(np.ones((12, 12))) @ inverse
    np.testing.assert_allclose(step_deviations(mechanism, 12, 4), np.linalg.norm(inverse, axis=1))
    np.testing.assert_allclose(prefix_deviations(mechanism, 12, 4), np.linalg.norm(sums, axis=1))


@pytest.mark.parametrize(("steps", "separation"), [(200, 20), (200, 50), (100, 1), (20, 2), (1000, 10)])
def test_the_best_number_of_bands_is_no_worse_than_any_other(steps: int, separation: int) -> None:
    best = prefix_error(BandedInverse(bands=best_bands(steps, separation)), steps, separation)
    for bands in (1, 2, 4, 8, 16, 32, 64):
        assert best <= prefix_error(BandedInverse(bands=bands), steps, separation)


def test_the_usual_number_of_bands_is_close_to_the_best() -> None:
    for separation in (20, 30, 50):
        best = best_bands(200, separation)
        usual = prefix_error(BandedInverse(), 200, separation)
        assert usual <= 1.02 * prefix_error(BandedInverse(bands=best), 200, separation)
    assert best_bands(1000, 100, at_most=16) == 16
