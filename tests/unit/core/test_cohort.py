"""Who is invited: uniform, of the right size, and never more than there are."""

import numpy as np
import pytest
from scipy import stats

from tacit.core.cohort import All, Cohort, FixedSize, Poisson
from tacit.core.errors import PlanError


def draws(cohort: Cohort, population: int, times: int) -> list[np.ndarray]:
    rng = np.random.default_rng(20)
    return [cohort.sample(population, rng) for _ in range(times)]


@pytest.mark.parametrize("cohort", [FixedSize(4), FixedSize(3, over_selection=1.5), Poisson(rate=0.25)])
def test_every_client_is_invited_equally_often(cohort: Cohort) -> None:
    times = 3000
    counts = np.bincount(np.concatenate(draws(cohort, 16, times)), minlength=16)
    share = cohort.expected(16) / 16
    # Not multinomial: each client's count is binomial, so each is held against its own variance.
    chi_square = float((((counts - times * share) ** 2) / (times * share * (1 - share))).sum())
    assert 0.001 < stats.chi2(16 if isinstance(cohort, Poisson) else 15).sf(chi_square) < 0.999


def test_every_pair_is_invited_equally_often() -> None:
    pairs = np.zeros((6, 6))
    for drawn in draws(FixedSize(2), 6, 6000):
        pairs[drawn[0], drawn[1]] += 1
    counts = pairs[np.triu_indices(6, 1)]
    assert stats.chisquare(counts).pvalue > 0.001
    assert not np.tril(pairs).any()


def test_a_poisson_cohorts_size_is_binomial() -> None:
    sizes = np.array([len(drawn) for drawn in draws(Poisson(rate=0.3), 20, 4000)])
    expected = stats.binom(20, 0.3).pmf(np.arange(21)) * len(sizes)
    found = np.bincount(sizes, minlength=21)
    usual = expected >= 5
    observed = [*found[usual], found[~usual].sum()]
    assert stats.chisquare(observed, [*expected[usual], expected[~usual].sum()]).pvalue > 0.001


def test_clients_of_a_poisson_cohort_are_independent() -> None:
    chosen = np.zeros((4000, 8))
    for row, drawn in zip(chosen, draws(Poisson(rate=0.4), 8, 4000), strict=True):
        row[drawn] = 1
    correlation = np.corrcoef(chosen.T)[np.triu_indices(8, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(4000)


def test_a_poisson_cohort_may_be_empty() -> None:
    assert min(len(drawn) for drawn in draws(Poisson(rate=0.05), 3, 200)) == 0


def test_all_means_everybody_every_time() -> None:
    assert [drawn.tolist() for drawn in draws(All(), 3, 2)] == [[0, 1, 2]] * 2


@pytest.mark.parametrize(
    ("over_selection", "invited"), [(1.0, 10), (1.1, 11), (1.3, 13), (1.25, 13), (100.0, 40)]
)
def test_over_selection_invites_more_but_wants_the_same(over_selection: float, invited: int) -> None:
    cohort = FixedSize(10, over_selection=over_selection)
    assert len(cohort.sample(40, np.random.default_rng(0))) == invited == cohort.invited(40)
    assert cohort.wanted(invited) == 10
    assert cohort.largest(40) == 10
    assert cohort.expected(40) == invited


def test_without_over_selection_everybody_invited_is_wanted() -> None:
    for cohort in (All(), Poisson(rate=0.5)):
        assert cohort.wanted(7) == 7
        assert cohort.largest(50) == 50
    assert Poisson(rate=0.5).expected(50) == 25


def test_a_cohort_larger_than_the_population_is_refused_with_its_size() -> None:
    FixedSize(5).sample(5, np.random.default_rng(0))
    with pytest.raises(PlanError, match="wants 5 clients, but the population has 4") as caught:
        FixedSize(5).sample(4, np.random.default_rng(0))
    assert (caught.value.code, caught.value.where) == ("T152", "$.cohort.count")


@pytest.mark.parametrize("over_selection", [0.5, 101.0, float("nan"), float("inf")])
def test_over_selection_lies_between_one_and_a_hundred(over_selection: float) -> None:
    with pytest.raises(ValueError, match="over_selection"):
        FixedSize(5, over_selection=over_selection)
