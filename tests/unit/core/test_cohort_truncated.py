"""A Poisson sample that is cut at random: its law is the one that is accounted for."""

import numpy as np
import pytest
from scipy import stats

from tacit.core.cohort import TruncatedPoisson
from tacit.core.errors import ConfigError

COHORT = TruncatedPoisson(rate=0.4, cap=6)
POPULATION = 12


def draws(times: int = 4000, cohort: TruncatedPoisson = COHORT, population: int = POPULATION) -> np.ndarray:
    """Return who was drawn, shape (times, population)."""
    rng, table = np.random.default_rng(5), np.zeros((times, population))
    for row in table:
        row[cohort.sample(population, rng)] = 1
    return table


def test_its_size_is_binomial_and_cut_at_the_cap() -> None:
    sizes = draws().sum(axis=1).astype(int)
    law = stats.binom(POPULATION, 0.4).pmf(np.arange(POPULATION + 1))
    law[6], law[7:] = law[6:].sum(), 0
    assert sizes.max() == 6
    found = np.bincount(sizes, minlength=7)
    assert stats.chisquare(found, law[:7] * len(sizes)).pvalue > 1e-6


def test_of_a_cut_sample_everybody_is_as_likely_to_stay() -> None:
    table = draws()
    for full in (True, False):
        rows = table[(table.sum(axis=1) == 6) == full]
        share = rows.mean()
        score = (rows.mean(axis=0) - share) / np.sqrt(share * (1 - share) / len(rows))
        assert np.abs(score).max() < stats.norm.isf(1e-6)


def test_pairs_are_as_likely_as_each_other() -> None:
    together = (draws(8000).T @ draws(8000))[np.triu_indices(POPULATION, 1)] / 8000
    assert together.std() < 1.6 * np.sqrt(together.mean() / 8000)


def test_without_a_cap_that_matters_it_is_a_poisson_sample() -> None:
    table = draws(cohort=TruncatedPoisson(rate=0.4, cap=12))
    correlation = np.corrcoef(table.T)[np.triu_indices(POPULATION, 1)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(len(table))


@pytest.mark.parametrize(("rate", "cap", "population"), [(1.0, 1, 1), (1.0, 3, 10), (1e-9, 5, 10)])
def test_extreme_rates_and_caps(rate: float, cap: int, population: int) -> None:
    cohort = TruncatedPoisson(rate=rate, cap=cap)
    sizes = draws(20, cohort, population).sum(axis=1)
    assert sizes.max() <= cohort.largest(population) <= cap
    assert set(sizes) == ({cap} if rate == 1.0 else {0})
    assert cohort.expected(population) == min(rate * population, cap)


@pytest.mark.parametrize(
    "settings", [{"rate": 0.0, "cap": 2}, {"rate": 0.5, "cap": 0}, {"rate": 1.1, "cap": 2}]
)
def test_what_is_no_rate_or_cap_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TruncatedPoisson(**settings)  # type: ignore[arg-type]
