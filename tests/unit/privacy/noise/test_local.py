"""Noise that each client adds to its own row."""

import numpy as np
import pytest

from tacit.core.errors import PlanError
from tacit.core.rule import Grid, Lane
from tacit.privacy.noise import FreshNoise, NoiseLane, SeededKeys, add_local_noise
from tests.unit.privacy.noise.checks import noise_faults

CLIENTS, SIZE = 6, 220_000
LANES = (NoiseLane(SIZE - 1000, 2.0**-40, 0.8), NoiseLane(1000, 2.0**-38, 0.8))


def noises(clients: int = CLIENTS, seed: int = 0) -> list[FreshNoise]:
    keys = SeededKeys(seed)
    return [FreshNoise((keys.key(0, "local", f"client {i}"),)) for i in range(clients)]


def test_every_row_has_the_whole_noise_of_its_own() -> None:
    rows = np.tile(np.float32([0.25]), (CLIENTS, SIZE))
    add_local_noise(rows, LANES, noises())
    assert noise_faults(rows.astype(np.float64) - 0.25, 0.8) == []


def test_one_draw_shared_by_the_clients_would_be_seen() -> None:
    rows = np.zeros((CLIENTS, SIZE), dtype=np.float32)
    add_local_noise(rows, LANES, noises()[:1] * CLIENTS)
    assert noise_faults(rows.astype(np.float64), 0.8, checks=["releases"]) == ["releases"]


def test_what_leaves_a_client_lies_on_the_grid_of_release_and_its_sum_is_exact() -> None:
    rows = np.linspace(-1, 1, CLIENTS * SIZE, dtype=np.float32).reshape(CLIENTS, SIZE)
    add_local_noise(rows, LANES, noises())
    step = LANES[0].release_step
    assert step == 2.0**-21
    left = rows.astype(np.float64)
    assert np.array_equal(left, np.rint(left / step) * step)
    total = np.zeros(SIZE, dtype=np.int64)
    Grid((Lane(SIZE, 2.0**-30, -16.0, 16.0),), clients=64).add_rows(rows, total)
    assert np.array_equal(total * 2.0**-30, left.sum(axis=0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 2.0**30])
def test_a_row_that_is_broken_is_noise_alone(value: float) -> None:
    rows = np.zeros((2, SIZE), dtype=np.float32)
    rows[1, :5] = 0.5
    rows[1, 7] = value
    add_local_noise(rows, LANES, noises(2))
    empty = np.zeros((2, SIZE), dtype=np.float32)
    add_local_noise(empty, LANES, noises(2))
    assert np.array_equal(rows, empty)


def test_a_row_without_noise_is_refused() -> None:
    with pytest.raises(PlanError, match="T182"):
        add_local_noise(np.zeros((1, 3), np.float32), (NoiseLane(3, 2.0**-40, 0.0),), noises(1))
    with pytest.raises(PlanError, match="T183"):
        add_local_noise(np.zeros((1, 4), np.float32), (NoiseLane(3, 2.0**-40, 1.0),), noises(1))
    with pytest.raises(ValueError, match="shorter"):
        add_local_noise(np.zeros((2, 3), np.float32), (NoiseLane(3, 2.0**-40, 1.0),), noises(1))


def test_laplace_noise_protects_a_row_too() -> None:
    rows = np.zeros((CLIENTS, SIZE), dtype=np.float32)
    keys = SeededKeys(1)
    add_local_noise(rows, LANES, [FreshNoise((keys.key(i),), distribution="laplace") for i in range(CLIENTS)])
    assert (
        noise_faults(rows.astype(np.float64), 0.8, "laplace", ["variance", "part", "shape", "releases"]) == []
    )
