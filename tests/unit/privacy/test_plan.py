"""The plan: what is claimed only where it is true, and the noise that follows."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest

from tacit.core.errors import PlanError
from tacit.core.events import (
    CorrelatedEvent,
    GaussianEvent,
    LaplaceEvent,
    PoissonSampledEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.local import LocalSGD
from tacit.privacy import (
    AdaptiveClipping,
    FixedClipping,
    Privacy,
    PrivacyPlan,
    SamplingFacts,
    SegmentClipping,
    plan_privacy,
)
from tacit.privacy.accounting import epsilon, epsilon_at, gaussian_epsilon
from tacit.privacy.guarantee import rounded_up
from tacit.privacy.mechanisms import BandedInverse, BandedSquareRoot, Laplace, Mechanism

POISSON = SamplingFacts(
    kind="poisson", population=1000, expected_cohort=50, largest_cohort=151, rounds=60, rate=0.05
)
TRUNCATED = replace(POISSON, kind="truncated_poisson", cap=80, largest_cohort=80)
FIXED = SamplingFacts(kind="fixed", population=1000, expected_cohort=50, largest_cohort=50, rounds=200)
EVERYBODY = SamplingFacts(kind="all", population=4, expected_cohort=4, largest_cohort=4, rounds=30)
CLIP = FixedClipping(bound=1.0)
NOISE = GaussianEvent(noise_multiplier=1.5)


def private(**changed: object) -> Privacy:
    """Return user-level privacy with noise 1.5 and a fixed clip, unless told otherwise."""
    given: dict[str, object] = {"unit": "user", "delta": 1e-5, "clipping": CLIP}
    if "epsilon" not in changed:
        given["noise_multiplier"] = 1.5
    return Privacy(**{**given, **changed})  # type: ignore[arg-type]


def refusal(privacy: Privacy, sampling: SamplingFacts) -> PlanError:
    with pytest.raises(PlanError) as caught:
        plan_privacy(privacy, sampling)
    assert caught.value.where.startswith("$.privacy")
    assert caught.value.fix
    return caught.value


# --- amplification ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampling", "event"),
    [
        (POISSON, PoissonSampledEvent(rate=0.05, event=NOISE)),
        (TRUNCATED, TruncatedPoissonSampledEvent(rate=0.05, cap=80, population=1000, event=NOISE)),
    ],
)
def test_amplification_is_claimed_for_a_secret_poisson_sample(
    sampling: SamplingFacts, event: PoissonSampledEvent | TruncatedPoissonSampledEvent
) -> None:
    plan = plan_privacy(private(), sampling)
    assert plan.is_amplified
    assert (plan.adjacency, plan.event) == ("add_remove", event)
    assert plan.epsilon == epsilon({event: 60}, 1e-5, "add_remove")
    assert "kept secret" in plan.statement().sampling


NOT_SECRET = [
    (FIXED, private(), "fixed size"),
    (EVERYBODY, private(), "everybody"),
    (replace(POISSON, over_selection=1.3), private(), "1.3 times as many"),
    (replace(POISSON, deadline_closes_at_count=True), private(), "as soon as enough"),
    (replace(POISSON, has_quorum=True), private(), "abandoned"),
    (replace(TRUNCATED, has_quorum=True), private(), "abandoned"),
    (replace(POISSON, is_participation_public=True), private(), "others than the operator"),
    (POISSON, private(trust="local"), "the server sees"),
    (POISSON, private(min_separation=2), "depend on those before"),
    (POISSON, private(mechanism=BandedInverse(bands=4), min_separation=1), "correlated"),
    (TRUNCATED, private(mechanism=Laplace()), "Gaussian noise only"),
]


@pytest.mark.parametrize(("sampling", "privacy", "reason"), NOT_SECRET)
def test_nothing_else_is_amplified_and_the_plan_says_why(
    sampling: SamplingFacts, privacy: Privacy, reason: str
) -> None:
    plan = plan_privacy(privacy, sampling)
    assert not plan.is_amplified
    assert plan.adjacency == "zero_out"
    assert isinstance(plan.event or plan.whole_run_event, GaussianEvent | LaplaceEvent | CorrelatedEvent)
    assert reason in plan.unamplified_because
    assert reason in plan.statement().sampling


@pytest.mark.parametrize(("sampling", "privacy", "reason"), NOT_SECRET)
def test_add_remove_is_refused_there_with_the_reason(
    sampling: SamplingFacts, privacy: Privacy, reason: str
) -> None:
    error = refusal(Privacy(**{**_fields(privacy), "adjacency": "add_remove"}), sampling)
    assert error.code == "T162"
    assert reason in error.what


def _fields(privacy: Privacy) -> dict[str, object]:
    return {name: getattr(privacy, name) for name in privacy.__struct_fields__}


def test_zero_out_asked_for_on_a_poisson_sample_gains_nothing_by_it() -> None:
    plan = plan_privacy(private(adjacency="zero_out"), POISSON)
    assert not plan.is_amplified
    assert plan.epsilon == gaussian_epsilon(1.5 / math.sqrt(60), 1e-5)


def test_replace_one_is_accounted_for_with_and_without_a_secret_sample() -> None:
    secret = plan_privacy(private(adjacency="replace_one"), POISSON)
    assert secret.is_amplified
    assert secret.epsilon > plan_privacy(private(), POISSON).epsilon
    fixed = plan_privacy(private(adjacency="replace_one"), replace(FIXED, rounds=60))
    assert fixed.epsilon == gaussian_epsilon(1.5 / 2 / math.sqrt(60), 1e-5)
    laplace = plan_privacy(private(adjacency="replace_one", mechanism=Laplace()), POISSON)
    assert not laplace.is_amplified


# --- epsilon and noise --------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [POISSON, FIXED])
@pytest.mark.parametrize("limit", [0.5, 4.0])
def test_noise_follows_from_epsilon_and_stays_within_it(sampling: SamplingFacts, limit: float) -> None:
    plan = plan_privacy(private(epsilon=limit), sampling)
    assert 0.9995 * limit <= plan.epsilon <= limit
    again = plan_privacy(private(noise_multiplier=plan.noise_multiplier), sampling)
    assert again.epsilon == plan.epsilon


def test_noise_on_the_sum_is_the_multiplier_times_the_declared_bound() -> None:
    plan = plan_privacy(private(), POISSON)
    assert plan.update_noise_multiplier == plan.noise_multiplier == 1.5
    assert plan.noise_std(bound=0.4) == pytest.approx(0.6)
    assert plan.bit_noise is None


def test_the_denominator_is_the_expected_cohort_and_never_below_one() -> None:
    assert plan_privacy(private(), POISSON).denominator == 50
    few = replace(POISSON, expected_cohort=0.5, rate=0.0005)
    assert plan_privacy(private(), few).denominator == 1


def test_a_plan_cannot_be_changed() -> None:
    plan = plan_privacy(private(), POISSON)
    with pytest.raises(FrozenInstanceError):
        plan.noise_multiplier = 0.1  # type: ignore[misc]


def test_a_thousandth_more_than_a_tenth_of_one_over_the_population_is_too_large_a_delta() -> None:
    assert plan_privacy(private(delta=1e-4), POISSON).epsilon > 0
    assert refusal(private(delta=1.001e-4), POISSON).code == "T161"
    assert refusal(private(delta=1e-3, epsilon=2.0), FIXED).code == "T161"
    insisted = private(delta=1e-3, allow_large_delta=True)
    assert plan_privacy(insisted, POISSON).statement().delta == 1e-3


def test_noise_too_weak_for_any_epsilon_is_no_plan() -> None:
    # Below what double precision can tell of so many sampled releases, nothing can be claimed.
    assert refusal(private(delta=1e-15), POISSON).code == "T175"


def test_noise_that_clients_add_together_is_left_for_later() -> None:
    assert refusal(private(trust="distributed"), POISSON).code == "T163"


# --- adaptive clipping --------------------------------------------------------------------------


@pytest.mark.parametrize("bit_noise", [None, 1.0, 40.0])
def test_update_and_bit_together_cost_the_noise_multiplier(bit_noise: float | None) -> None:
    plan = plan_privacy(private(clipping=AdaptiveClipping(bit_noise=bit_noise)), POISSON)
    assert plan.bit_noise is not None
    assert plan.update_noise_multiplier > plan.noise_multiplier
    # A bit of plus or minus a half has sensitivity a half: released apart, both cost what the plan says.
    apart = {
        GaussianEvent(noise_multiplier=plan.update_noise_multiplier): 1,
        GaussianEvent(noise_multiplier=plan.bit_noise / 0.5): 1,
    }
    assert epsilon(apart, 1e-5, "zero_out") == pytest.approx(gaussian_epsilon(1.5, 1e-5), rel=1e-9)
    assert plan.event == PoissonSampledEvent(rate=0.05, event=NOISE)


def test_the_bits_noise_is_a_twentieth_of_the_cohort_or_twice_the_noise_multiplier() -> None:
    large = replace(POISSON, expected_cohort=500, rate=0.5)
    assert plan_privacy(private(clipping=AdaptiveClipping()), large).bit_noise == 25
    small = plan_privacy(private(clipping=AdaptiveClipping()), POISSON)
    assert small.bit_noise == 3.0
    assert small.update_noise_multiplier == pytest.approx(1.5 * math.sqrt(16 / 15))


def test_a_bit_that_costs_all_there_is_is_refused() -> None:
    assert refusal(private(clipping=AdaptiveClipping(bit_noise=0.75)), POISSON).code == "T168"


@pytest.mark.parametrize(
    ("privacy", "code"),
    [
        (private(mechanism=BandedInverse(), min_separation=20, clipping=AdaptiveClipping()), "T164"),
        (private(mechanism=Laplace(), clipping=AdaptiveClipping()), "T169"),
        (private(mechanism=Laplace(), clipping=SegmentClipping(bounds={"parameters": 1.0})), "T169"),
        (private(trust="local", clipping=AdaptiveClipping()), "T169"),
    ],
)
def test_a_moving_bound_is_refused_where_noise_cannot_follow(privacy: Privacy, code: str) -> None:
    error = refusal(privacy, FIXED)
    assert (error.code, error.where) == (code, "$.privacy.clipping")


# --- separation and correlated noise ------------------------------------------------------------


@pytest.mark.parametrize("mechanism", [BandedInverse(bands=16), BandedSquareRoot()])
def test_a_correlated_run_is_one_event_and_its_sensitivity_is_in_the_noise(mechanism: Mechanism) -> None:
    plan = plan_privacy(private(mechanism=mechanism, min_separation=20), FIXED)
    whole = CorrelatedEvent(noise_multiplier=1.5, steps=200, min_separation=20, mechanism=mechanism.name)
    assert (plan.event, plan.whole_run_event) == (None, whole)
    assert plan.update_noise_multiplier == 1.5 * mechanism.sensitivity(200, 20)
    assert plan.noise_std(2.0) == pytest.approx(3.0 * mechanism.sensitivity(200, 20))
    assert plan.epsilon == plan.epsilon_of(1) == plan.epsilon_of(200) == gaussian_epsilon(1.5, 1e-5)
    assert [plan.charge(step) for step in (1, 2, 200)] == [whole, None, None]
    assert (plan.charges(200), plan.steps_for(1), plan.steps_for(0)) == (1, 200, 0)
    assert plan.curve() == ((200, plan.epsilon),)


def test_correlated_noise_needs_a_separation_unless_everybody_takes_part_anyway() -> None:
    assert refusal(private(mechanism=BandedInverse()), FIXED).code == "T165"
    everybody = plan_privacy(private(mechanism=BandedInverse()), EVERYBODY)
    assert everybody.whole_run_event is not None
    assert everybody.whole_run_event.min_separation == 1


def test_a_separation_that_leaves_too_few_to_ask_is_refused() -> None:
    assert plan_privacy(private(min_separation=20), FIXED).min_separation == 20
    assert refusal(private(min_separation=21), FIXED).code == "T173"
    assert refusal(private(min_separation=20), replace(FIXED, over_selection=1.1)).code == "T173"
    assert refusal(private(min_separation=2), EVERYBODY).code == "T173"


def test_with_a_separation_a_client_is_charged_for_the_steps_it_can_take_part_in() -> None:
    plan = plan_privacy(private(min_separation=20), FIXED)
    assert [step for step in range(1, 201) if plan.charge(step)] == list(range(1, 201, 20))
    for steps in (1, 20, 21, 200):
        taken = sum(plan.charge(step) is not None for step in range(1, steps + 1))
        assert taken == plan.charges(steps) == math.ceil(steps / 20)
        assert plan.epsilon_of(steps) == gaussian_epsilon(1.5 / math.sqrt(taken), 1e-5)
    assert (plan.steps_for(3), plan.steps_for(100)) == (60, 200)
    assert plan.epsilon < plan_privacy(private(), FIXED).epsilon


def test_a_secret_sample_is_charged_at_every_step() -> None:
    plan = plan_privacy(private(), POISSON)
    assert [plan.charge(step) for step in (1, 2, 60)] == [plan.event] * 3
    assert plan.spent(7) == {plan.event: 7}
    assert plan.spent(0) == {}


@pytest.mark.parametrize(
    ("privacy", "sampling"), [(private(), POISSON), (private(min_separation=20), FIXED), (private(), FIXED)]
)
def test_the_curve_ends_at_the_plans_epsilon_and_is_nowhere_below_what_is_spent(
    privacy: Privacy, sampling: SamplingFacts
) -> None:
    plan = plan_privacy(privacy, sampling)
    curve = plan.curve()
    assert curve[-1] == (sampling.rounds, plan.epsilon)
    for step in (1, 17, 41, sampling.rounds):
        assert epsilon_at(curve, step) >= plan.epsilon_of(step) * 0.999


# --- local trust --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "event"), [({}, NOISE), ({"mechanism": Laplace()}, LaplaceEvent(noise_multiplier=1.5))]
)
def test_under_local_trust_every_participation_is_charged_in_full(
    mechanism: dict[str, object], event: GaussianEvent | LaplaceEvent
) -> None:
    plan = plan_privacy(private(trust="local", **mechanism), POISSON)
    assert plan.spent(60) == {event: 60}
    seldom = plan_privacy(private(trust="local", min_separation=20, **mechanism), POISSON)
    assert seldom.spent(60) == {event: 3}
    assert plan.statement().covered == ("everything that a client sends for the model",)


# --- records inside a site ----------------------------------------------------------------------


def test_records_are_sampled_by_poisson_batches_inside_their_site() -> None:
    site = SamplingFacts.of_batches(LocalSGD(lr=0.1, epochs=2, batch_size=16), examples=200, rounds=10)
    assert (site.rate, site.expected_cohort, site.rounds) == (0.08, 16, 10 * 2 * 13)
    plan = plan_privacy(private(unit="record", delta=1e-4), site)
    assert plan.event == PoissonSampledEvent(rate=0.08, event=NOISE)
    assert plan.denominator == 16
    assert "each site is trusted with its own records" in str(plan.statement())


def test_a_site_smaller_than_a_batch_takes_part_with_all_it_has() -> None:
    for local in (LocalSGD(lr=0.1, batch_size=32), LocalSGD(lr=0.1, batch_size="all")):
        site = SamplingFacts.of_batches(local, examples=20, rounds=3)
        assert (site.rate, site.expected_cohort, site.rounds) == (1.0, 20, 3)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"trust": "local"}, "T172"),
        ({"mechanism": BandedInverse(), "min_separation": 1}, "T172"),
        ({"mechanism": Laplace()}, "T172"),
        ({"min_separation": 2}, "T172"),
        ({"clipping": AdaptiveClipping()}, "T169"),
    ],
)
def test_records_want_independent_normal_noise_and_a_fixed_clip(
    changed: dict[str, object], code: str
) -> None:
    site = SamplingFacts.of_batches(LocalSGD(lr=0.1, batch_size=16), examples=200, rounds=10)
    assert refusal(private(unit="record", **changed), site).code == code


# --- what is said -------------------------------------------------------------------------------


def test_the_statement_names_relation_sampling_and_what_is_not_covered() -> None:
    text = str(plan_privacy(private(epsilon=2.0, clipping=AdaptiveClipping()), POISSON).statement())
    assert text.startswith("epsilon 2.000 at delta 1e-05, with or without any one user's data (add_remove)")
    for said in (
        "probability 0.05",
        "the clipping bound's path",
        "choosing settings",
        "who took part is not",
    ):
        assert said in text
    assert "zCDP" not in text


def test_zcdp_and_gaussian_dp_are_printed_where_exact() -> None:
    guarantee = plan_privacy(private(), FIXED).statement(steps=9)
    assert guarantee.mu_gdp == pytest.approx(2.0)
    assert guarantee.zcdp == pytest.approx(2.0)
    assert "zCDP: rho 2; Gaussian DP: mu 2" in str(guarantee)
    assert "which users took part" in str(guarantee)


def test_seeded_noise_is_said_to_protect_nobody() -> None:
    guarantee = plan_privacy(private(randomness="seeded"), POISSON).statement()
    assert not guarantee.is_private
    assert str(guarantee).startswith("seeded, not private")
    assert plan_privacy(private(), POISSON).statement().is_private


def test_a_public_cap_on_weights_is_stated() -> None:
    text = str(plan_privacy(private(), replace(POISSON, weight_cap=4.0)).statement())
    assert "weights: at most 4, a public constant" in text


def test_an_epsilon_is_never_written_smaller_than_it_is() -> None:
    assert (rounded_up(1.2341), rounded_up(2.0), rounded_up(math.inf)) == ("1.235", "2.000", "unbounded")


def test_a_statement_of_part_of_the_run_says_what_was_reached() -> None:
    plan: PrivacyPlan = plan_privacy(private(), POISSON)
    half = plan.statement(steps=30)
    assert (half.steps, half.epsilon) == (30, plan.epsilon_of(30))
    assert half.epsilon < plan.statement().epsilon
