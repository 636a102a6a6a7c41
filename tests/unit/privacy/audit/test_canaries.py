"""Canaries see what a mechanism does: how it clips, how much noise it adds, and nothing that is not there."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tacit.core.errors import PlanError
from tacit.core.layout import Rows
from tacit.privacy.audit import (
    Bound,
    Canaries,
    Claim,
    RunScores,
    audit_mechanism,
    blind_scores,
    canary_bounds,
    exposure,
    no_claim,
    noise_seen,
    record_bound,
    strategy_of,
)
from tacit.privacy.audit.gaussian import epsilon_of
from tacit.privacy.mechanisms import BandedInverse

SIZE, DELTA = 800, 1e-5
Release = Callable[[Rows], np.ndarray]


def claim_of(noise_multiplier: float) -> Claim:
    return Claim(
        epsilon=epsilon_of(1 / noise_multiplier, DELTA),
        delta=DELTA,
        unit="user",
        noise_multiplier=noise_multiplier,
        epsilon_at=lambda other: epsilon_of(1 / other, DELTA),
    )


def clipped(rows: Rows, bound: float = 1.0) -> np.ndarray:
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return rows * np.minimum(1.0, bound / np.maximum(norms, 1e-12))


def gaussian(noise_multiplier: float) -> Release:
    normals = noise(noise_multiplier)
    return lambda rows: clipped(rows).sum(axis=0) + normals(rows)


def audited(release: Release, claim: Claim, seed: int = 0, **settings: float) -> dict[str, Bound]:
    options = {"canaries": 200, "length": 20.0, **settings}
    bounds = audit_mechanism(release, SIZE, claim, np.random.default_rng(seed), **options)
    return {bound.method: bound for bound in bounds}


def refuted(bounds: dict[str, Bound], claim: Claim) -> bool:
    return any(bound.refutes(claim) for bound in bounds.values())


# --- directions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(1, 5), (7, 100), (50, 50)])
def test_each_canary_is_seen_in_its_own_direction_alone(count: int, size: int) -> None:
    canaries = Canaries(count, size, np.random.default_rng(0))
    seen = np.stack([canaries.scores(canaries.row(index, 3.0)) for index in range(count)])
    assert seen == pytest.approx(3.0 * np.eye(count), abs=1e-6)
    assert np.linalg.norm(canaries.row(0, 3.0)) == pytest.approx(3.0, rel=1e-6)


def test_more_canaries_than_coordinates_are_refused() -> None:
    with pytest.raises(PlanError) as caught:
        Canaries(11, 10, np.random.default_rng(0))
    assert caught.value.code == "T195"


# --- a mechanism by itself -------------------------------------------------------------------------


def test_no_bound_is_above_the_truth_more_often_than_stated() -> None:
    # Confidence 0.8 for all bounds together: of 60 audits 12 may fail on average, 22 with probability 0.002.
    claim, release = claim_of(1.0), gaussian(1.0)
    wrong = sum(
        refuted(audited(release, claim, seed, canaries=60, confidence=0.8), claim) for seed in range(60)
    )
    assert wrong <= 22


def noise(noise_multiplier: float) -> Release:
    rng = np.random.default_rng(0)
    return lambda rows: noise_multiplier * rng.standard_normal(rows.shape[1])


def unclipped(noise_multiplier: float) -> Release:
    normals = noise(noise_multiplier)
    return lambda rows: rows.sum(axis=0) + normals(rows)


def clipped_by_coordinate(noise_multiplier: float) -> Release:
    normals = noise(noise_multiplier)
    return lambda rows: np.clip(rows, -1, 1).sum(axis=0) + normals(rows)


def half_bare(noise_multiplier: float) -> Release:
    normals, noised = noise(noise_multiplier), np.arange(SIZE) % 2
    return lambda rows: clipped(rows).sum(axis=0) + noised * normals(rows)


MUTANTS: dict[str, Callable[[float], Release]] = {
    "half of the noise": lambda z: gaussian(z / 2),
    "variance for standard deviation": lambda z: gaussian(z * z),
    "no noise": lambda z: gaussian(0.0 * z),
    "no clip": unclipped,
    "each coordinate clipped by itself": clipped_by_coordinate,
    "noise missing in half of the vector": half_bare,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mechanism_that_protects_less_than_it_claims_is_caught(mutant: str) -> None:
    claim = claim_of(0.7)
    assert not refuted(audited(gaussian(0.7), claim), claim)
    assert refuted(audited(MUTANTS[mutant](0.7), claim), claim)


def test_a_tenth_of_the_noise_missing_is_caught_with_more_canaries() -> None:
    claim = claim_of(1.0)
    assert not refuted(audited(gaussian(1.0), claim, canaries=400, runs=20), claim)
    assert refuted(audited(gaussian(0.9), claim, canaries=400, runs=20), claim)


def test_no_noise_at_all_is_an_epsilon_without_limit() -> None:
    bounds = audited(gaussian(0.0), claim_of(1.0))
    assert bounds["noise"].epsilon == math.inf
    assert bounds["noise"].detail == "noise multiplier 0, at most 0"


def test_a_released_mean_is_audited_like_a_sum() -> None:
    claim, release = claim_of(1.0), gaussian(1.0)
    sums = audited(release, claim)
    release = gaussian(1.0)
    means = audited(lambda rows: release(rows) / 1000, claim)
    assert means["noise"].epsilon == pytest.approx(sums["noise"].epsilon)


def test_without_a_claim_only_bounds_that_assume_nothing_are_given() -> None:
    bounds = audited(gaussian(0.1), no_claim(DELTA), runs=20)
    assert set(bounds) == {"one_run", "many_runs"}
    assert not any(bound.is_gaussian for bound in bounds.values())
    assert bounds["one_run"].epsilon > 4
    assert not refuted(bounds, no_claim(DELTA))


def test_without_a_claim_and_without_noise_there_is_no_limit() -> None:
    assert audited(gaussian(0.0), no_claim(DELTA))["noise"].epsilon == math.inf


def test_laplace_noise_that_is_missing_is_caught() -> None:
    claim = Claim(epsilon=1.0, delta=DELTA, unit="user")  # no noise multiplier: not Gaussian
    assert refuted(audited(gaussian(0.0), claim), claim)


def test_bounds_share_the_confidence_between_them() -> None:
    bounds = audited(gaussian(1.0), claim_of(1.0), runs=20, canaries=20)
    assert len(bounds) == 5
    assert sum(1 - bound.confidence for bound in bounds.values()) == pytest.approx(0.01)


# --- several steps ---------------------------------------------------------------------------------


def played(
    rng: np.random.Generator, steps: int, canaries: int, rate: float, mixing: np.ndarray, scale: float
) -> RunScores:
    """Scores of a run: an included canary reaches 1 where it takes part, noise is ``mixing @ z``."""
    taken, included = rng.random((steps, canaries)) < rate, rng.random(canaries) < 0.5
    noise = scale * mixing @ rng.standard_normal((steps, 2 * canaries))
    scores = noise[:, :canaries] + taken * included
    return RunScores(7 * scores, 7 * noise[:, canaries:], taken, included)  # whatever the unit is


def test_several_steps_count_together() -> None:
    rng = np.random.default_rng(0)
    run = played(rng, 25, 4000, rate=0.3, mixing=np.eye(25), scale=2.0)
    assert noise_seen(exposure(run), 0.99).estimate == pytest.approx(2.0, rel=0.03)


def test_correlated_noise_is_seen_as_the_noise_multiplier_that_was_calibrated() -> None:
    rng, mechanism, steps, separation = np.random.default_rng(1), BandedInverse(bands=8), 30, 10
    mixing = np.array(
        [
            [mechanism.weights(t, separation)[t - s] if 0 <= t - s < 8 else 0.0 for s in range(steps)]
            for t in range(steps)
        ]
    )
    scale = 1.5 * mechanism.sensitivity(steps, separation)
    run = played(rng, steps, 3000, rate=0.0, mixing=mixing, scale=scale)
    taken = np.zeros_like(run.taken)
    first = rng.integers(0, separation, 3000)
    for again in range(3):
        taken[first + again * separation, np.arange(3000)] = True
    run = RunScores(run.scores + 7 * (taken & run.included), run.idle, taken, run.included)
    found = exposure(run, strategy_of(mechanism, steps, separation))
    assert noise_seen(found, 0.99).estimate == pytest.approx(1.5, rel=0.03)
    assert found.weights.max() == pytest.approx(1.0, abs=1e-9)  # who comes first and as often as allowed
    # Read as independent noise, the same scores would say something else.
    assert noise_seen(exposure(run), 0.99).estimate != pytest.approx(1.5, rel=0.2)


def test_canaries_that_took_no_part_say_nothing() -> None:
    run = played(np.random.default_rng(2), 3, 500, rate=0.1, mixing=np.eye(3), scale=1.0)
    found = exposure(run)
    assert len(found.scores) == np.count_nonzero(run.taken.any(axis=0)) < 500
    assert (found.weights >= 1).all()


def test_a_claim_that_rests_on_secret_sampling_is_audited_without_looking_at_who_took_part() -> None:
    run = played(np.random.default_rng(3), 10, 100, rate=0.2, mixing=np.eye(10), scale=0.5)
    others = RunScores(run.scores, run.idle, ~run.taken, run.included)
    assert np.array_equal(blind_scores(run), blind_scores(others))
    claim = Claim(
        2.0, DELTA, "user", noise_multiplier=0.5, epsilon_at=lambda z: 1 / z, hides_participation=True
    )
    details = [canary_bounds([one], claim, 0.9)[0].detail for one in (run, others)]
    assert details[0] == details[1]


def test_a_run_in_which_no_canary_took_part_gives_empty_bounds() -> None:
    run = played(np.random.default_rng(4), 2, 20, rate=0.0, mixing=np.eye(2), scale=1.0)
    assert [bound.epsilon for bound in canary_bounds([run], claim_of(1.0), 0.9)] == [0.0, 0.0, 0.0]


def test_records_are_audited_by_their_scores() -> None:
    rng = np.random.default_rng(5)
    included = rng.random(500) < 0.5
    assert record_bound(rng.standard_normal(500), included, DELTA, 0.99).epsilon == 0.0
    assert record_bound(rng.standard_normal(500) + 4 * included, included, DELTA, 0.99).epsilon > 2.0


def test_the_same_noise_in_two_steps_is_an_epsilon_without_limit() -> None:
    run = played(np.random.default_rng(6), 12, 40, rate=0.2, mixing=np.eye(12), scale=2.0)
    claim = claim_of(2.0)
    assert not any(bound.method == "repeated_noise" for bound in canary_bounds([run], claim, 0.99))
    idle = run.idle.copy()
    idle[9] = 3 * idle[4]  # whatever the clipping bound was
    (bound,) = [
        bound
        for bound in canary_bounds([replace(run, idle=idle)], claim, 0.99)
        if bound.method == "repeated_noise"
    ]
    assert bound.refutes(claim)
    assert bound.detail.startswith("steps 5 and 10")
