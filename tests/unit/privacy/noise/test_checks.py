"""The checks of noise: honest noise passes, and every mutant is flagged."""

from collections.abc import Callable

import numpy as np
import pytest

from tacit.privacy.mechanisms import BandedInverse, BandedSquareRoot
from tacit.privacy.noise import FreshNoise, NoiseKeys, NoiseLane, SeededKeys, SystemKeys, add_noise
from tacit.privacy.noise.past import PastKeys, PastVectors
from tests.unit.privacy.noise.checks import ALARM, Samples, covariance_p, noise_faults, variance_p

STEP, SCALE, SIZE, STEPS, RUNS = 2.0**-45, 1.7, 220_000, 3, 2
LANES = (NoiseLane(SIZE * 6 // 10, STEP, SCALE), NoiseLane(SIZE * 4 // 10, STEP * 2, SCALE))

Release = Callable[[NoiseKeys, int], Samples]


def released(lanes: tuple[NoiseLane, ...], key: bytes) -> Samples:
    """Release a sum that is zero."""
    total = np.zeros(sum(lane.size for lane in lanes), dtype=np.int64)
    add_noise(total, lanes, FreshNoise((key,)))
    return total * np.repeat([lane.step for lane in lanes], [lane.size for lane in lanes])


def honest(keys: NoiseKeys, step: int) -> Samples:
    return released(LANES, keys.key(step, "update"))


def half_noise(keys: NoiseKeys, step: int) -> Samples:
    return honest(keys, step) / 2


def ten_percent_short(keys: NoiseKeys, step: int) -> Samples:
    return released(tuple(lane._replace(scale=0.9 * SCALE) for lane in LANES), keys.key(step, "update"))


def variance_one_percent_short(keys: NoiseKeys, step: int) -> Samples:
    return honest(keys, step) * np.sqrt(0.99)


def variance_for_deviation(keys: NoiseKeys, step: int) -> Samples:
    return released(tuple(lane._replace(scale=SCALE**2) for lane in LANES), keys.key(step, "update"))


def missing_in_a_part(keys: NoiseKeys, step: int) -> Samples:
    noise = honest(keys, step)
    noise[-SIZE // 100 :] = 0.0  # the last layer's bias, say
    return noise


def one_shared_draw(keys: NoiseKeys, step: int) -> Samples:
    return np.full(SIZE, honest(keys, step)[0])


def the_same_for_every_tensor(keys: NoiseKeys, step: int) -> Samples:
    return np.tile(honest(keys, step)[: SIZE // 2], 2)


def one_key_for_all_steps(keys: NoiseKeys, step: int) -> Samples:
    return honest(keys, 0)


def fixed_seed(keys: NoiseKeys, step: int) -> Samples:
    return honest(SeededKeys(0), step)


def one_draw_reused_with_the_other_sign(keys: NoiseKeys, step: int) -> Samples:
    return honest(SeededKeys(0), 0) * (-1) ** step


def uniform(keys: NoiseKeys, step: int) -> Samples:
    words = np.frombuffer(keys.key(step), dtype=np.uint8).sum() + np.arange(SIZE)
    return SCALE * np.sqrt(3) * (2 * ((words * 0.6180339887498949) % 1) - 1)


def few_values(keys: NoiseKeys, step: int) -> Samples:
    return np.rint(honest(keys, step) / SCALE * 4) / 4 * SCALE


def a_table_of_noise(keys: NoiseKeys, step: int) -> Samples:
    noise = honest(keys, step)
    noise[100_000:100_040] = noise[50_000:50_040]  # too few to show in a correlation
    return noise


MUTANTS: dict[Release, str] = {
    half_noise: "variance",
    ten_percent_short: "variance",
    variance_one_percent_short: "variance",
    variance_for_deviation: "variance",
    missing_in_a_part: "part",
    one_shared_draw: "coordinates",
    the_same_for_every_tensor: "coordinates",
    one_key_for_all_steps: "releases",
    fixed_seed: "releases",
    one_draw_reused_with_the_other_sign: "releases",
    uniform: "shape",
    few_values: "shape",
    a_table_of_noise: "repeats",
}


def two_runs(release: Release, keys: Callable[[int], NoiseKeys]) -> Samples:
    return np.array([release(keys(run), step) for run in range(RUNS) for step in range(STEPS)])


def test_honest_noise_has_no_fault() -> None:
    assert noise_faults(two_runs(honest, SeededKeys), SCALE) == []


def test_noise_keyed_by_the_operating_system_has_no_fault() -> None:
    # Drawn anew each time: a false alarm comes once in a hundred thousand times.
    assert noise_faults(two_runs(honest, lambda run: SystemKeys()), SCALE) == []


@pytest.mark.parametrize(("mutant", "fault"), MUTANTS.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_a_mutant_is_flagged(mutant: Release, fault: str) -> None:
    assert noise_faults(two_runs(mutant, SeededKeys), SCALE, checks=[fault]) == [fault]


@pytest.mark.parametrize("keys", [SeededKeys(3), SystemKeys()], ids=["seeded", "system"])
def test_laplace_noise_has_no_fault_and_is_flagged_when_short(keys: NoiseKeys) -> None:
    releases = np.zeros((STEPS * RUNS, SIZE), dtype=np.int64)
    lane = NoiseLane(SIZE, STEP, SCALE)
    for step, total in enumerate(releases):
        add_noise(total, (lane,), FreshNoise((keys.key(step),), distribution="laplace"))
    assert noise_faults(releases * STEP, SCALE, "laplace") == []
    assert noise_faults(releases * STEP * 0.99, SCALE, "laplace", ["variance"]) == ["variance"]
    assert noise_faults(releases * STEP, SCALE * np.sqrt(2), "normal", ["shape"]) == ["shape"]


# --- correlated noise ---------------------------------------------------------------------------


def expected_covariance(weights: np.ndarray, steps: int) -> Samples:
    inverse = np.zeros((steps, steps))
    for row in range(steps):
        for column in range(row + 1):
            inverse[row, column] = weights[row - column] if row - column < len(weights) else 0.0
    return inverse @ inverse.T


def banded_inverse_run(mechanism: BandedInverse, steps: int, keys: NoiseKeys) -> Samples:
    past, rows = PastKeys(), []
    for step in range(steps):
        past = past.advance(keys.key(step, "update"), mechanism.kept_keys(2))
        rows.append(np.concatenate([b.copy() for b in past.noise_for_step(mechanism, 2).blocks(SIZE)]))
    return np.array(rows)


@pytest.mark.parametrize("keys", [SeededKeys(1), SystemKeys()], ids=["seeded", "system"])
def test_noise_of_the_banded_inverse_has_the_covariance_of_its_matrix(keys: NoiseKeys) -> None:
    mechanism = BandedInverse(bands=3)
    releases = banded_inverse_run(mechanism, 6, keys)
    expected = expected_covariance(mechanism.weights(5, 2), 6)
    assert covariance_p(releases, expected) > ALARM
    # A window of the past that is short of a step, past noise added in place of taken back, none at all.
    assert covariance_p(releases, expected_covariance(mechanism.weights(1, 2), 6)) < ALARM
    assert covariance_p(releases, expected_covariance(np.abs(mechanism.weights(5, 2)), 6)) < ALARM
    assert covariance_p(releases, np.eye(6)) < ALARM


def test_noise_of_the_banded_square_root_has_the_covariance_of_its_matrix() -> None:
    mechanism, past, rows = BandedSquareRoot(), PastVectors(), []
    for step in range(7):
        past = past.advance(SeededKeys(2).key(step), SIZE, mechanism, min_separation=3)
        rows.append(past.noise.vector)
    expected = expected_covariance(mechanism.weights(6, 3), 7)
    assert covariance_p(np.array(rows), expected) > ALARM
    assert covariance_p(np.array(rows), expected_covariance(mechanism.weights(2, 3), 7)) < ALARM
    assert covariance_p(np.array(rows), np.eye(7)) < ALARM


def test_undoing_the_correlation_gives_back_independent_draws() -> None:
    mechanism = BandedInverse(bands=4)
    releases = banded_inverse_run(mechanism, 6, SeededKeys(7))
    weights = mechanism.weights(5, 2)
    matrix = sum(np.diag(np.full(6 - j, weight), -j) for j, weight in enumerate(weights))
    assert noise_faults(np.linalg.solve(matrix, releases), 1.0) == []
    assert noise_faults(releases, 1.0, checks=["releases"]) == ["releases"]


def test_fewer_draws_would_not_show_a_variance_that_is_one_percent_off() -> None:
    draws = two_runs(honest, SeededKeys) / SCALE
    assert variance_p(draws * np.sqrt(1.01)) < ALARM
    assert variance_p(draws[:1] * np.sqrt(1.01)) > ALARM
