"""Lower bounds are valid, known answers come out, and theorems agree with brute force."""

import math

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import binom, nct, norm

from tacit.privacy.audit import (
    Guesses,
    clopper_pearson,
    guess,
    many_runs_epsilon,
    many_runs_mu,
    noise_seen,
    one_run_epsilon,
    one_run_mu,
)
from tacit.privacy.audit.canaries import Exposure
from tacit.privacy.audit.gaussian import cdf, delta_of, epsilon_of
from tacit.privacy.audit.guesses import planned
from tacit.privacy.audit.one_run import p_value

CONFIDENCE = 0.9  # loose, so that a bound that is too large is seen within a few hundred audits


def too_many(audits: int) -> int:
    """The number of wrong bounds that a right method exceeds once in ten thousand tests."""
    return int(binom.ppf(1 - 1e-4, audits, 1 - CONFIDENCE))


# --- the Gaussian mechanism in closed form --------------------------------------------------------


@pytest.mark.parametrize(
    ("mu", "delta"), [(0.1, 1e-3), (0.5, 1e-5), (1.0, 1e-5), (2.0, 1e-6), (5.0, 1e-9), (20.0, 1e-6)]
)
def test_the_closed_form_agrees_with_the_accountant_of_dp_accounting(mu: float, delta: float) -> None:
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    truth = GaussianPrivacyLoss(1 / mu).get_delta_for_epsilon(epsilon_of(mu, delta))
    assert truth == pytest.approx(delta, rel=1e-6)


def test_no_signal_is_no_epsilon_and_no_noise_is_all_of_it() -> None:
    assert epsilon_of(0.0, 1e-5) == 0.0
    assert epsilon_of(1e-9, 1e-5) == 0.0
    assert epsilon_of(1e9, 1e-5) == math.inf
    assert epsilon_of(1.0, 0.0) == math.inf
    assert delta_of(100.0, 4000.0) > 0.99


def test_epsilon_grows_with_mu_far_beyond_what_floats_can_exponentiate() -> None:
    values = [epsilon_of(mu, 1e-6) for mu in (1, 3, 10, 30, 60, 120, 199)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(199**2 / 2 + 199 * norm.isf(1e-6), rel=0.01)


# --- one run ---------------------------------------------------------------------------------------


def test_the_published_example_comes_out() -> None:
    # Steinke, Nasr and Jagielski 2023, appendix D.
    assert one_run_epsilon(Guesses(75, 100, 1000), delta=1e-4, confidence=0.95) == pytest.approx(
        0.673, abs=5e-4
    )


def test_without_delta_the_bound_is_that_of_randomised_response() -> None:
    epsilon = 0.8
    expected = binom.sf(69, 100, 1 / (1 + math.exp(-epsilon)))
    assert p_value(Guesses(70, 100, 1000), epsilon, 0.0) == pytest.approx(expected)


def test_guesses_no_better_than_a_coin_show_nothing() -> None:
    assert one_run_epsilon(Guesses(52, 100, 100), 1e-5, 0.95) == 0.0
    assert one_run_mu(Guesses(52, 100, 100), 0.95) == 0.0


@pytest.mark.parametrize("guesses", [Guesses(5, 6, 6), Guesses(4, 4, 8), Guesses(9, 12, 20)])
@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_the_recursion_finds_the_most_successful_attack_that_the_inequalities_allow(
    guesses: Guesses, mu: float
) -> None:
    low, high = 1e-6, 1 - 1e-6
    for _ in range(20):  # the probability at which exactly this mu is refuted
        middle = (low + high) / 2
        low, high = (middle, high) if one_run_mu(guesses, 1 - middle) < mu else (low, middle)
    best = most_probable_success(guesses, mu)
    assert low >= best - 2e-4  # never below: a p-value too small would make a bound too large
    assert low <= best + 1e-3


def most_probable_success(guesses: Guesses, mu: float) -> float:
    """Maximise the probability of so many correct guesses over all distributions that mu-GDP allows."""
    correct, made, canaries = guesses
    counts = np.arange(made + 1)
    rows, limits = [], []
    for tail in range(1, made + 1):
        right = np.where(counts >= tail, counts, 0) / canaries
        wrong = np.where(counts >= tail - 1, made - counts, 0) / canaries
        for point in norm.cdf(np.linspace(-4, 4, 200)):  # tangents from above: the curve is concave
            value = norm.cdf(norm.ppf(point) + mu)
            slope = norm.pdf(norm.ppf(point) + mu) / norm.pdf(norm.ppf(point))
            rows.append(right - slope * wrong)
            limits.append(value - slope * point)
    found = linprog(
        -(counts >= correct).astype(float), rows, limits, np.ones((1, made + 1)), [1.0], bounds=(0, 1)
    )
    return float(-found.fun)


def test_bounds_from_one_run_of_the_gaussian_mechanism_hold() -> None:
    rng, mu, delta, audits, canaries = np.random.default_rng(1), 1.0, 1e-5, 120, 400
    epsilon, wrong, wrong_mu, found = epsilon_of(mu, delta), 0, 0, []
    for audit in range(audits):
        included = rng.random(canaries) < 0.5
        guesses = guess(rng.standard_normal(canaries) + mu * included, included, made=(40, 400)[audit % 2])
        wrong += one_run_epsilon(guesses, delta, CONFIDENCE) > epsilon
        found.append(one_run_mu(guesses, CONFIDENCE))
        wrong_mu += found[-1] > mu
    assert max(wrong, wrong_mu) <= too_many(audits)
    assert np.mean(found) > 0.4 * mu  # and are not empty


def test_a_mechanism_that_gives_everything_away_now_and_then_does_not_fool_the_bounds() -> None:
    # It is (0, delta)-DP: with probability delta it publishes all coins. Guesses are then all right at once.
    rng, delta, audits, canaries = np.random.default_rng(2), 0.08, 300, 100
    wrong = 0
    for _ in range(audits):
        included = rng.random(canaries) < 0.5
        scores = included * 1.0 if rng.random() < delta else rng.random(canaries)
        wrong += one_run_epsilon(guess(scores, included, canaries), delta, CONFIDENCE) > 0.0
    assert wrong <= too_many(audits)


def test_the_number_of_guesses_is_planned_for_the_best_bound() -> None:
    def worth(guesses: Guesses) -> float:
        return one_run_epsilon(guesses, 1e-5, 0.95)

    plan = planned(1000, mu=1.0, bound=worth)
    assert plan.canaries == 1000
    assert 20 <= plan.made <= 350  # with many guesses too many are wrong, few prove little
    assert planned(1000, mu=None, bound=worth).made == 900  # where nobody errs, nearly all of them count
    assert planned(16, mu=None, bound=worth).made == 8  # but coins need not fall evenly


def test_fewer_canaries_are_looked_at_where_delta_is_large() -> None:
    def worth(guesses: Guesses) -> float:
        return one_run_epsilon(guesses, 1e-3, 0.99)

    plan = planned(800, mu=2.0, bound=worth)
    assert plan.canaries < 800
    assert worth(plan) > 0.5


# --- many runs -------------------------------------------------------------------------------------


def test_clopper_pearson_is_as_published() -> None:
    low, high = clopper_pearson(np.array([0, 5, 20]), 20, confidence=0.975)
    assert low == pytest.approx([0.0, 0.0866, 0.8316], abs=1e-4)
    assert high == pytest.approx([0.1684, 0.4910, 1.0], abs=1e-4)


def test_a_threshold_that_was_sought_is_judged_on_other_scores() -> None:
    # Where nothing leaks some threshold always looks good; chosen and judged on the same scores it would win
    # in most audits.
    rng, audits = np.random.default_rng(9), 200
    scores = rng.standard_normal((audits, 2, 1000))
    wrong = sum(many_runs_mu(included, left_out, 0.5) > 0 for included, left_out in scores)
    assert wrong <= binom.ppf(1 - 1e-4, audits, 0.5)


@pytest.mark.parametrize("runs", [60, 400])
def test_bounds_from_many_runs_of_the_gaussian_mechanism_hold(runs: int) -> None:
    rng, mu, delta, audits = np.random.default_rng(3), 1.0, 1e-5, 300
    epsilon, wrong, wrong_mu, found = epsilon_of(mu, delta), 0, 0, []
    for _ in range(audits):
        scores = rng.standard_normal((2, runs // 2))
        wrong += many_runs_epsilon(scores[0] + mu, scores[1], delta, CONFIDENCE) > epsilon
        found.append(many_runs_mu(scores[0] + mu, scores[1], CONFIDENCE))
        wrong_mu += found[-1] > mu
    assert max(wrong, wrong_mu) <= too_many(audits)
    assert np.mean(found) > (0.3 * mu if runs == 400 else 0.0)


def test_the_order_of_bounds_is_that_of_a_single_release_with_noise_multiplier_one() -> None:
    # The upper bound is 4.38; knowing that noise is Gaussian helps, and many runs tell more than one.
    rng = np.random.default_rng(4)
    included = rng.random(20_000) < 0.5
    scores = rng.standard_normal(20_000) + included
    guesses = Guesses(correct=85, made=100, canaries=1000)  # what is expected of 1000 canaries
    one_run = one_run_epsilon(guesses, 1e-5, 0.95)
    one_run_gaussian = epsilon_of(one_run_mu(guesses, 0.95), 1e-5)
    many_runs = many_runs_epsilon(scores[included], scores[~included], 1e-5, 0.95)
    many_runs_gaussian = epsilon_of(many_runs_mu(scores[included], scores[~included], 0.95), 1e-5)
    assert 0.9 < one_run < min(one_run_gaussian, many_runs)
    assert max(one_run_gaussian, many_runs) < 3.3
    assert 3.6 < many_runs_gaussian < 4.38
    assert epsilon_of(1.0, 1e-5) == pytest.approx(4.377, abs=1e-3)


def test_half_the_noise_is_caught_by_many_gaussian_runs() -> None:
    rng = np.random.default_rng(5)
    scores = rng.standard_normal((2, 5000)) / 2
    assert many_runs_epsilon(scores[0] + 1, scores[1], 1e-5, 0.99) < 4.38
    assert epsilon_of(many_runs_mu(scores[0] + 1, scores[1], 0.99), 1e-5) > 8.0  # the truth is 9.997


def test_too_few_runs_show_nothing() -> None:
    assert many_runs_mu(np.full(3, 9.0), np.zeros(50), 0.9) == 0.0
    assert many_runs_epsilon(np.array([]), np.array([]), 1e-5, 0.9) == 0.0


# --- the noise that canaries see -------------------------------------------------------------------


def audit_of_noise(rng: np.random.Generator, canaries: int, noise_multiplier: float) -> Exposure:
    weights = np.sqrt(rng.integers(1, 5, canaries).astype(float))
    included = rng.random(canaries) < 0.5
    return Exposure(rng.standard_normal(canaries) + included * weights / noise_multiplier, weights, included)


@pytest.mark.parametrize(("canaries", "noise_multiplier"), [(12, 2.0), (60, 1.0), (300, 8.0)])
def test_the_largest_noise_multiplier_is_too_small_as_often_as_stated(
    canaries: int, noise_multiplier: float
) -> None:
    rng, audits = np.random.default_rng(6), 300
    bounds = [
        noise_seen(audit_of_noise(rng, canaries, noise_multiplier), CONFIDENCE).most for _ in range(audits)
    ]
    wrong = sum(bound < noise_multiplier for bound in bounds)
    # Exact: not only no more often, but as often.
    assert binom.ppf(1e-4, audits, 1 - CONFIDENCE) <= wrong <= too_many(audits)


def test_the_estimate_is_the_noise_multiplier() -> None:
    rng = np.random.default_rng(7)
    seen = noise_seen(audit_of_noise(rng, 20_000, 1.3), 0.99)
    assert seen.estimate == pytest.approx(1.3, rel=0.02)
    assert 1.3 < seen.most < 1.4


def test_the_interval_inverts_the_noncentral_t_distribution() -> None:
    rng = np.random.default_rng(8)
    found = audit_of_noise(rng, 40, 1.5)
    seen = noise_seen(found, 0.95)
    exposed = np.where(found.included, found.weights, 0.0)
    energy = math.sqrt(np.sum(exposed**2))
    assert nct.sf(energy / seen.estimate, 39, energy / seen.most) == pytest.approx(0.05, abs=1e-4)


def test_without_noise_none_is_seen_and_without_canaries_nothing_is() -> None:
    included = np.arange(10) % 2 == 0
    assert noise_seen(Exposure(included * 7.0, np.ones(10), included), 0.99) == (0.0, 0.0)
    assert noise_seen(Exposure(included * 7.0, np.ones(10), ~included), 0.99).most == math.inf
    assert noise_seen(Exposure(np.ones(10), np.ones(10), np.zeros(10, bool)), 0.99).most == math.inf


def test_the_normal_distribution_is_precise_in_its_tail() -> None:
    assert cdf(-20.0) == pytest.approx(norm.cdf(-20.0), rel=1e-10)
