"""Noise that clients add themselves: as much as one of them needs, fresh for each, and never left out."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tacit.codec import Chain, ClipL2
from tacit.core.layout import Rows
from tacit.core.rule import Grid
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.core.stage import StageContext
from tacit.privacy import LocalNoise
from tests.attacks.privacy_checks import P, assert_uncorrelated

SIZE = 200_000
SPEC = UpdateSpec((SegmentSpec("parameters", SIZE, coordinate_bound=2.0, l2_bound=2.0),))


def sent(rows: Rows, number: int = 1, seed: int = 0, spec: UpdateSpec = SPEC, **settings: Any) -> Rows:
    noise = LocalNoise(**{"scale": 3.0, "randomness": "seeded", **settings})
    clients = tuple(f"c{i}" for i in range(len(rows)))
    ctx = StageContext(spec, seed, number, clients, np.ones(len(rows)))
    return noise.encode(rows.copy(), {}, ctx)[0]


def zeros(clients: int = 1) -> Rows:
    return np.zeros((clients, SIZE), np.float32)


@pytest.mark.parametrize(("distribution", "variance", "fourth"), [("normal", 1, 3), ("laplace", 2, 24)])
def test_every_client_adds_all_the_noise_that_protects_it(
    distribution: str, variance: float, fourth: float
) -> None:
    for row in sent(zeros(3), distribution=distribution).astype(np.float64):
        found = np.mean((row / 3.0) ** 2)
        spread = np.sqrt((fourth - variance**2) / SIZE)
        assert abs(found - variance) < stats.norm.isf(P / 2) * spread


def test_no_client_and_no_round_shares_its_noise() -> None:
    for randomness in ("seeded", "system"):
        rows = np.concatenate([sent(zeros(2), number, randomness=randomness) for number in (1, 2)])
        for index, row in enumerate(rows):
            for other in rows[:index]:
                assert_uncorrelated(row, other)


def test_seeded_noise_is_repeated_and_the_systems_is_not() -> None:
    assert np.array_equal(sent(zeros()), sent(zeros()))
    assert not np.array_equal(sent(zeros()), sent(zeros(), seed=1))
    assert not np.array_equal(sent(zeros(), randomness="system"), sent(zeros(), randomness="system"))


def test_the_update_is_in_there() -> None:
    signal = np.full((1, SIZE), 1.5, np.float32)
    np.testing.assert_allclose(sent(signal) - sent(zeros()), 1.5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_an_update_that_is_not_sound_becomes_noise_around_zero(value: float) -> None:
    broken = np.ones((2, SIZE), np.float32)
    broken[0, 7] = value
    found = sent(broken)
    assert np.isfinite(found).all()
    assert abs(found[0].mean()) < 0.05
    assert found[1].mean() == pytest.approx(1.0, abs=0.05)
    assert found[0].std() == pytest.approx(3.0, rel=0.02)


def test_what_is_declared_holds_what_is_sent_and_a_grid_takes_it() -> None:
    spec = UpdateSpec((SegmentSpec("parameters", 50, coordinate_bound=2.0, l2_bound=2.0),))
    noise = LocalNoise(scale=3.0, randomness="seeded")
    planned = noise.plan(spec).segment("parameters")
    rows = np.full((40, 50), 2.0 / np.sqrt(50), np.float32)
    found = sent(rows, spec=spec)
    assert np.abs(found).max() <= planned.coordinate_bound
    assert planned.l2_bound is not None
    assert np.linalg.norm(found.astype(np.float64), axis=1).max() <= planned.l2_bound
    grid = Grid.for_sum(noise.plan(spec), 40)
    total = np.zeros(grid.size, np.int64)
    grid.add_rows(found, total)
    np.testing.assert_allclose(grid.to_float(total), found.sum(axis=0), rtol=1e-4, atol=1e-3)


def test_what_is_sent_lies_on_a_grid_of_its_own() -> None:
    rows = np.random.default_rng(1).uniform(-1, 1, (1, SIZE)).astype(np.float32)
    found = sent(rows).astype(np.float64)
    small = np.abs(found) < 2.0  # further out float32 itself is coarser
    assert not np.mod(found[small], 2.0 ** (1 - 20)).any()


def test_a_client_whose_update_is_not_finite_sends_noise_and_not_zeros() -> None:
    # Zeros would tell everybody that something had gone wrong on this client.
    rows = np.zeros((2, SIZE), dtype=np.float32)
    rows[1, 7] = np.nan
    chain = Chain((ClipL2(bound=1.0), LocalNoise(scale=3.0, randomness="seeded")))
    ctx = StageContext(UpdateSpec.of(parameters=SIZE), 0, 1, ("a", "b"), np.ones(2, dtype=np.int64))
    encoded, _ = chain.encode(rows, {}, ctx)
    assert (encoded.std(axis=1) > 2.5).all()
