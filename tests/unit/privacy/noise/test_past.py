"""What a server remembers of past noise: enough to draw it again, and no more."""

import numpy as np
import pytest

from tacit.core.errors import PlanError
from tacit.privacy.mechanisms import BandedInverse, BandedSquareRoot, Gaussian, Laplace, Mechanism
from tacit.privacy.noise import PastKeys, PastVectors, SeededKeys, StepKey, standard_normals
from tacit.privacy.noise.draws import BLOCK
from tacit.privacy.noise.sources import Noise

SIZE = BLOCK + 11
KEYS = SeededKeys(4)


def vector(noise: Noise, size: int = SIZE) -> np.ndarray:
    return np.concatenate([block.copy() for block in noise.blocks(size)])


def after(steps: int, mechanism: Mechanism) -> PastKeys:
    past = PastKeys()
    for step in range(steps):
        past = past.advance(KEYS.key(step, "update"), mechanism.kept_keys(20))
    return past


def matrix_noise(mechanism: Mechanism, steps: int, min_separation: int) -> np.ndarray:
    """Multiply C^-1, inverted by LAPACK, with all draws: the definition, with everything in memory."""
    draws = np.array([standard_normals(KEYS.key(step, "update"), SIZE) for step in range(steps)])
    column = mechanism.weights(steps - 1, min_separation)
    if isinstance(mechanism, BandedSquareRoot):
        column = mechanism.coefficients(min_separation)
    matrix = sum(np.diag(np.full(steps - j, weight), -j) for j, weight in enumerate(column[:steps]))
    return np.linalg.solve(matrix, draws) if isinstance(mechanism, BandedSquareRoot) else matrix @ draws


@pytest.mark.parametrize("mechanism", [BandedInverse(bands=1), BandedInverse(bands=4), BandedInverse()])
def test_noise_of_the_banded_inverse_is_its_matrix_times_the_draws(mechanism: BandedInverse) -> None:
    expected = matrix_noise(mechanism, 7, 20)
    for step in range(7):
        found = vector(after(step + 1, mechanism).noise_for_step(mechanism, 20))
        np.testing.assert_allclose(found, expected[step], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "mechanism", [BandedSquareRoot(), BandedSquareRoot(bands=1), BandedSquareRoot(bands=6)]
)
def test_noise_of_the_banded_square_root_solves_its_matrix(mechanism: BandedSquareRoot) -> None:
    past, expected = PastVectors(), matrix_noise(mechanism, 8, 3)
    for step in range(8):
        past = past.advance(KEYS.key(step, "update"), SIZE, mechanism, 3)
        assert past.step == step
        np.testing.assert_allclose(vector(past.noise), expected[step], rtol=0, atol=1e-12)
        assert len(past.vectors) <= max(1, mechanism.kept_vectors(3))


def test_a_step_that_is_tried_again_has_new_noise_and_the_same_past() -> None:
    mechanism, past = BandedInverse(bands=4), after(6, BandedInverse(bands=4))
    again = past.renewed(KEYS.key(5, "second try"))
    assert again.step == past.step
    first, second = (vector(p.noise_for_step(mechanism, 20)) for p in (past, again))
    fresh = standard_normals(KEYS.key(5, "update"), SIZE), standard_normals(KEYS.key(5, "second try"), SIZE)
    np.testing.assert_allclose(first - fresh[0], second - fresh[1], rtol=0, atol=1e-12)
    assert abs(np.corrcoef(*fresh)[0, 1]) < 0.03


def test_only_the_keys_of_the_last_steps_are_kept() -> None:
    past = after(9, BandedInverse(bands=4))
    assert [key.step for key in past.keys] == [8, 7, 6, 5]
    assert after(9, Gaussian()).keys == (StepKey(8, KEYS.key(8, "update")),)


def test_a_restarted_server_draws_the_same_noise_from_what_it_saved() -> None:
    mechanism, past = BandedInverse(bands=4), after(6, BandedInverse(bands=4))
    saved = [(key.step, bytes(key.key)) for key in past.keys]
    again = PastKeys(tuple(StepKey(step, key) for step, key in saved))
    assert np.array_equal(
        vector(past.noise_for_step(mechanism, 20)), vector(again.noise_for_step(mechanism, 20))
    )


def test_what_is_kept_does_not_undo_the_noise_of_older_steps() -> None:
    mechanism = BandedInverse(bands=3)
    kept = {key.key for key in after(10, mechanism).keys}
    noise = after(7, mechanism).noise_for_step(
        mechanism, 20
    )  # step 6: three steps before the oldest that is kept
    assert not kept & set(noise.keys)


@pytest.mark.parametrize("mechanism", [Gaussian(), Laplace()])
def test_independent_noise_follows_from_the_newest_key_alone(mechanism: Mechanism) -> None:
    noise = after(5, mechanism).noise_for_step(mechanism, 1)
    assert noise.keys == (KEYS.key(4, "update"),)
    assert noise.weights == (1.0,)
    assert noise.distribution == mechanism.distribution


@pytest.mark.parametrize(
    "past",
    [
        PastKeys(),
        PastKeys(after(9, BandedInverse(bands=4)).keys[:3]),
        PastKeys(after(9, BandedInverse(bands=4)).keys[::-1]),
        PastKeys((*after(9, BandedInverse(bands=4)).keys[:2], *after(5, BandedInverse(bands=4)).keys)),
    ],
    ids=["none", "short", "reversed", "gap"],
)
def test_noise_that_is_short_of_a_key_is_refused(past: PastKeys) -> None:
    with pytest.raises(PlanError, match="T184"):
        past.noise_for_step(BandedInverse(bands=4), 20)


def test_keys_alone_do_not_make_the_noise_of_the_banded_square_root() -> None:
    with pytest.raises(PlanError, match="T184"):
        after(2, Gaussian()).noise_for_step(BandedSquareRoot(), 20)


def test_secrets_are_not_shown() -> None:
    past = after(2, Gaussian())
    assert repr(past) == "PastKeys(keys=(StepKey(step=1),))"
    assert "array" not in repr(PastVectors().advance(KEYS.key(0), 3, BandedSquareRoot(), 5))
