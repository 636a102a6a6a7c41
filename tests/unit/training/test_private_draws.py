"""Who takes part, and the noise: independent, at the stated rate, and in deployment never twice the same."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from tacit.training.private_draws import RecordDraws, SecureRecordDraws, SeededRecordDraws

UNLUCKY = 1e-6


def expand(key: bytes, size: int) -> npt.NDArray[np.float64]:
    """Stand in for the AES stream, which the driver brings along."""
    return np.random.default_rng(list(key)).standard_normal(size)


DRAWS = {"seeded": SeededRecordDraws(3), "secure": SecureRecordDraws(expand)}


@pytest.fixture(params=DRAWS)
def draws(request: pytest.FixtureRequest) -> RecordDraws:
    return DRAWS[request.param]


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_every_record_takes_part_at_the_rate(draws: RecordDraws, rate: float) -> None:
    taken = np.array([draws.membership(1, "ann", step, 500, rate) for step in range(200)])
    assert taken.dtype == np.bool_
    assert taken.shape == (200, 500)
    assert stats.binomtest(int(taken.sum()), taken.size, rate).pvalue > UNLUCKY
    # A binomial count per step, not a fixed batch size; and no record is drawn more often than others.
    for counts, trials in ((taken.sum(axis=1), 500), (taken.sum(axis=0), 200)):
        spread = ((counts - trials * rate) ** 2).sum() / (trials * rate * (1 - rate))
        assert UNLUCKY < stats.chi2.cdf(spread, len(counts)) < 1 - UNLUCKY


def test_at_a_rate_of_one_everybody_takes_part(draws: RecordDraws) -> None:
    assert draws.membership(1, "ann", 0, 10_000, 1.0).all()


def test_the_noise_is_standard_normal(draws: RecordDraws) -> None:
    noise = np.concatenate([draws.noise(1, "ann", step, 1000) for step in range(200)])
    assert noise.dtype == np.float64
    assert UNLUCKY < stats.chi2.cdf((noise**2).sum(), noise.size) < 1 - UNLUCKY
    assert stats.kstest(noise, "norm").pvalue > UNLUCKY


def test_rounds_clients_and_steps_have_draws_of_their_own(draws: RecordDraws) -> None:
    places = [(1, "ann", 0), (1, "ann", 1), (2, "ann", 0), (1, "bob", 0)]
    noises = np.array([draws.noise(*place, 4000) for place in places])
    correlations = np.corrcoef(noises)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.1  # six standard deviations
    members = np.array([draws.membership(*place, 4000, 0.5) for place in places])
    assert np.abs(np.corrcoef(members)[np.triu_indices(4, 1)]).max() < 0.1
    assert len({draws.model_seed(round, client) for round, client, _ in places}) == 3 or isinstance(
        draws, SecureRecordDraws
    )


def test_seeded_draws_follow_from_seed_and_address() -> None:
    one, same, other = SeededRecordDraws(3), SeededRecordDraws(3), SeededRecordDraws(4)
    assert np.array_equal(one.noise(1, "ann", 0, 50), same.noise(1, "ann", 0, 50))
    assert np.array_equal(one.membership(1, "ann", 0, 50, 0.5), same.membership(1, "ann", 0, 50, 0.5))
    assert one.model_seed(1, "ann") == same.model_seed(1, "ann")
    assert not np.array_equal(one.noise(1, "ann", 0, 50), other.noise(1, "ann", 0, 50))
    assert one.model_seed(1, "ann") != other.model_seed(1, "ann")


def test_secure_draws_never_come_twice() -> None:
    draws = SecureRecordDraws(expand)
    assert not np.array_equal(draws.noise(1, "ann", 0, 50), draws.noise(1, "ann", 0, 50))
    assert not np.array_equal(draws.membership(1, "ann", 0, 99, 0.5), draws.membership(1, "ann", 0, 99, 0.5))
    assert draws.model_seed(1, "ann") != draws.model_seed(1, "ann")


def test_every_noise_has_a_key_of_32_bytes_from_the_system() -> None:
    keys: list[bytes] = []

    def record(key: bytes, size: int) -> npt.NDArray[np.float64]:
        keys.append(key)
        return np.zeros(size)

    draws = SecureRecordDraws(record)
    for step in range(20):
        draws.noise(1, "ann", step, 3)
    assert len(set(keys)) == 20
    assert {len(key) for key in keys} == {32}
