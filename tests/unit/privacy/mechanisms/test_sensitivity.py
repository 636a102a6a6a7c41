"""The sensitivity that is claimed is the largest that any client can reach, found by trying them all."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import PlanError
from tacit.privacy.mechanisms import BandedInverse, BandedSquareRoot, Gaussian, Laplace, Mechanism, toeplitz

CORRELATED = [
    *(BandedInverse(bands=bands) for bands in (1, 2, 3, 5, 16)),
    *(BandedSquareRoot(bands=bands) for bands in (None, 1, 2, 5, 9)),
]


def strategy(mechanism: Mechanism, steps: int, min_separation: int) -> np.ndarray:
    """Return C, as the inverse of the matrix that makes the noise."""
    weights = mechanism.weights(steps - 1, min_separation)
    inverse = sum(np.diag(np.full(steps - j, weight), -j) for j, weight in enumerate(weights))
    return np.linalg.inv(inverse)


def patterns(steps: int, min_separation: int) -> list[tuple[int, ...]]:
    """Return all sets of steps at which one client may take part."""
    return [
        chosen
        for count in range(1, steps + 1)
        for chosen in itertools.combinations(range(steps), count)
        if all(b - a >= min_separation for a, b in itertools.pairwise(chosen))
    ]


@pytest.mark.parametrize("mechanism", CORRELATED, ids=repr)
@pytest.mark.parametrize(
    ("steps", "min_separation"), [(1, 1), (7, 1), (9, 2), (10, 3), (11, 4), (8, 8), (6, 20)]
)
def test_no_client_moves_the_run_by_more_and_one_reaches_it(
    mechanism: Mechanism, steps: int, min_separation: int
) -> None:
    matrix = strategy(mechanism, steps, min_separation)
    reached = [
        np.linalg.norm(matrix[:, list(chosen)].sum(axis=1)) for chosen in patterns(steps, min_separation)
    ]
    assert mechanism.sensitivity(steps, min_separation) == pytest.approx(max(reached), rel=1e-12)


@pytest.mark.parametrize("mechanism", CORRELATED, ids=repr)
def test_different_updates_move_the_run_by_less_than_the_same_one_sent_again(mechanism: Mechanism) -> None:
    rng = np.random.default_rng(0)
    matrix, claimed = strategy(mechanism, 12, 3), mechanism.sensitivity(12, 3)
    for _ in range(200):
        updates = np.zeros((12, 4))
        chosen = np.arange(rng.integers(3), 12, rng.integers(3, 6))
        updates[chosen] = rng.standard_normal((len(chosen), 4))
        updates /= np.maximum(np.linalg.norm(updates, axis=1, keepdims=True), 1e-300)
        assert np.linalg.norm(matrix @ updates) <= claimed * (1 + 1e-12)


@pytest.mark.parametrize("mechanism", CORRELATED, ids=repr)
def test_taking_part_closer_than_declared_moves_the_run_by_more(mechanism: Mechanism) -> None:
    matrix = strategy(mechanism, 12, 6)
    assert np.linalg.norm(matrix[:, ::3].sum(axis=1)) > mechanism.sensitivity(12, 6)
    assert mechanism.sensitivity(12, 3) > mechanism.sensitivity(12, 6) or mechanism == BandedSquareRoot()


@given(bands=st.integers(2, 300), steps=st.integers(2, 400))
def test_the_column_of_the_banded_inverse_never_increases(bands: int, steps: int) -> None:
    column = toeplitz.inverse(toeplitz.inverse_square_root(bands), steps)
    assert (column >= 0).all()
    assert (np.diff(column) <= 0).all()


@given(rows=st.integers(1, 60))
def test_the_square_roots_are_roots_of_the_prefix_sums_and_inverse_to_each_other(rows: int) -> None:
    root, inverse = toeplitz.square_root(rows), toeplitz.inverse_square_root(rows)
    np.testing.assert_allclose(np.convolve(root, root)[:rows], 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.convolve(root, inverse)[:rows], np.eye(rows)[0], atol=1e-13)
    np.testing.assert_allclose(toeplitz.inverse(inverse, rows), root, rtol=1e-12)


@pytest.mark.parametrize("mechanism", [Gaussian(), Laplace()], ids=repr)
def test_independent_noise_is_measured_step_by_step(mechanism: Mechanism) -> None:
    assert mechanism.sensitivity(1000, 1) == mechanism.sensitivity(3, 7) == 1.0
    assert mechanism.weights(5, 1).tolist() == [1.0]


def test_bands_beyond_the_run_change_nothing() -> None:
    assert BandedInverse(bands=10**9).sensitivity(30, 5) == BandedInverse(bands=30).sensitivity(30, 5)
    assert BandedInverse(bands=1).sensitivity(30, 5) == math.sqrt(6)
    assert BandedInverse(bands=4).sensitivity(30, 10**12) == BandedInverse(bands=4).sensitivity(30, 30)


@pytest.mark.parametrize("mechanism", [Gaussian(), Laplace(), *CORRELATED], ids=repr)
@pytest.mark.parametrize(("steps", "min_separation"), [(0, 1), (-1, 1), (5, 0), (5, -3)])
def test_a_run_that_cannot_be_is_refused(mechanism: Mechanism, steps: int, min_separation: int) -> None:
    with pytest.raises(PlanError) as caught:
        mechanism.sensitivity(steps, min_separation)
    assert caught.value.code == "T186"
