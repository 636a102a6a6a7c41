"""What a run releases: noise of the variance that its events stand for, in every part, and nothing reused."""

from typing import Any

import numpy as np
import pytest

import tacit
from tacit.core.layout import Layout
from tacit.privacy.noise import lanes_of
from tests.attacks.privacy_checks import (
    check_bit_noise,
    check_claim,
    check_correlated_noise,
    check_fresh_noise,
    check_noise,
    check_seeded_noise,
    multiplier,
)
from tests.rounds.private_runs import FIXED, Machines, plan_of, play, private

WIDE = Layout.of(parameters={"first": (40, 500), "second": (30_000,), "third": (5, 3000)})
HUGE = Layout.of(parameters={"first": (1000, 500), "second": (500_000,), "third": (500, 1000)})
ADAPTIVE = tacit.AdaptiveClipping(initial=1.5)
COHORTS = [tacit.All(), tacit.Poisson(rate=0.5), tacit.FixedSize(3), tacit.TruncatedPoisson(rate=0.5, cap=4)]


def test_the_variance_of_what_is_released_is_right_to_a_percent_in_every_tensor() -> None:
    # A tensor of half a million coordinates shows a percent of the variance at a chance of 1e-6.
    check_noise(plan_of(private(), clients=2, layout=HUGE, rounds=1))


@pytest.mark.parametrize("cohort", COHORTS, ids=repr)
@pytest.mark.parametrize("clipping", [FIXED, ADAPTIVE])
def test_noise_is_as_large_as_the_event_says_whoever_is_drawn(cohort: Any, clipping: Any) -> None:
    check_noise(plan_of(private(clipping=clipping), clients=6, layout=WIDE, cohort=cohort))


@pytest.mark.parametrize(
    "settings",
    [
        {"mechanism": tacit.Laplace()},
        {"epsilon": 1.0},
        {"noise_multiplier": 0.3},
        {"noise_multiplier": 300.0},
        {"clipping": tacit.FixedClipping(bound=1e-6)},
        {"clipping": tacit.FixedClipping(bound=500.0)},
        {"clipping": tacit.SegmentClipping(bounds={"parameters": 2.0})},
        {"adjacency": "replace_one"},
        {"min_separation": 2},
    ],
    ids=repr,
)
def test_noise_is_as_large_as_the_event_says_whatever_the_settings(settings: dict[str, Any]) -> None:
    rounds = 1 if "min_separation" in settings else 2
    cohort = tacit.FixedSize(3) if "min_separation" in settings else tacit.All()
    check_noise(plan_of(private(**settings), clients=6, layout=WIDE, rounds=rounds, cohort=cohort))


def test_the_bits_of_an_adaptive_clip_have_noise_of_their_own() -> None:
    check_bit_noise(plan_of(private(clipping=ADAPTIVE), clients=6))
    check_bit_noise(plan_of(private(clipping=tacit.AdaptiveClipping(bit_noise=7.0)), clients=100))


def test_update_and_bit_together_cost_what_one_event_says() -> None:
    private_plan = plan_of(private(clipping=ADAPTIVE), clients=6).private
    assert private_plan is not None
    assert private_plan.bit_noise is not None
    assert private_plan.event is not None
    joint = (private_plan.update_noise_multiplier**-2 + (2 * private_plan.bit_noise) ** -2) ** -0.5
    assert joint == pytest.approx(multiplier(private_plan.event), rel=1e-12)


@pytest.mark.parametrize("relation", ["zero_out", "replace_one"])
@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_what_is_charged_costs_no_more_than_is_promised(relation: Any, epsilon: float) -> None:
    check_claim(plan_of(private(epsilon=epsilon, adjacency=relation), clients=6, rounds=4))


def test_no_draw_is_used_twice_in_coordinates_rounds_or_runs_of_the_same_seed() -> None:
    check_fresh_noise(lambda: plan_of(private(randomness="system"), clients=4, layout=WIDE))


def test_noise_of_the_operating_system_is_as_large() -> None:
    check_noise(plan_of(private(randomness="system"), clients=4, layout=WIDE, rounds=1))


def test_seeded_noise_follows_from_the_seed() -> None:
    check_seeded_noise(lambda seed: plan_of(private(), clients=4, layout=WIDE, rounds=2, seed=seed))


@pytest.mark.parametrize(
    "mechanism",
    [
        tacit.BandedInverse(bands=1),
        tacit.BandedInverse(bands=3),
        tacit.BandedInverse(bands=40),
        tacit.BandedSquareRoot(),
        tacit.BandedSquareRoot(bands=6),
        tacit.BandedSquareRoot(bands=1),
    ],
    ids=repr,
)
def test_correlated_noise_is_white_under_the_strategy_and_charged_once(mechanism: Any) -> None:
    settings = private(mechanism=mechanism, min_separation=3)
    check_correlated_noise(plan_of(settings, clients=9, layout=WIDE, cohort=tacit.FixedSize(3), rounds=8))


def test_correlated_noise_goes_on_over_abandoned_rounds() -> None:
    plan = plan_of(
        private(mechanism=tacit.BandedInverse(bands=3), min_separation=2),
        clients=16,
        cohort=tacit.FixedSize(3),
        rounds=6,
    )
    whole = play(plan)
    broken = play(plan, answers=lambda client, number: number not in (1, 4))
    assert [record.outcome for record in broken.rounds].count("abandoned") == 2
    assert all(np.array_equal(a, b) for a, b in zip(whole.released, broken.released, strict=True))


def test_what_is_released_lies_on_a_grid_that_does_not_depend_on_the_data() -> None:
    plan = plan_of(private(), clients=6, rounds=1)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((6, plan.parameters + 1)).astype(np.float32)
    (released,) = play(plan, row_of=lambda client, number: rows[int(client[1:])]).released
    lane = lanes_of(plan.grid, [3.0])[0]
    assert 3.0 * 2.0**-21 < lane.release_step <= 3.0 * 2.0**-20
    assert not np.mod(released, lane.release_step).any()
    raw = plan.grid.to_float(play(plan, row_of=lambda client, number: rows[int(client[1:])]).totals[0])  # type: ignore[arg-type]
    assert np.mod(raw, lane.release_step).all()  # so the sum's own bits were rounded away, not absent


def test_an_empty_poisson_cohort_releases_its_noise_and_counts() -> None:
    plan = plan_of(private(), clients=2, cohort=tacit.Poisson(rate=0.5), rounds=40)
    played = play(plan)
    empty = [place for place, record in enumerate(played.rounds) if not record.invited]
    assert len(empty) > 3
    assert all(record.outcome == "committed" for record in played.rounds)
    assert [spend.step for spend in played.spends] == list(range(1, 41))
    noise = np.concatenate([played.released[place] for place in empty])
    assert noise.std() == pytest.approx(3.0, rel=0.2)


@pytest.mark.parametrize("who", ["nobody", "one", "half"])
def test_noise_is_no_smaller_where_clients_vanish(who: str) -> None:
    there = {"nobody": set[str](), "one": {"c1"}, "half": {"c0", "c1", "c2"}}[who]
    plan = plan_of(private(), clients=6, layout=WIDE, cohort=tacit.Poisson(rate=1.0), rounds=2)
    check_noise(plan, answers=lambda client, number: client in there)


def test_noise_that_the_clients_have_added_is_not_added_again() -> None:
    plan = plan_of(private(trust="local"), clients=4, layout=WIDE, rounds=1)
    played = play(plan)
    assert played.totals[0] is not None
    np.testing.assert_array_equal(plan.grid.to_float(played.totals[0]), played.released[0])
    assert played.spends[0].noise_std == pytest.approx(3.0)
    deviation = played.released[0].std() / 3.0
    assert deviation == pytest.approx(2.0, rel=0.02)  # four clients, each with noise of its own


def test_the_key_of_a_step_is_gone_once_it_is_released() -> None:
    for mechanism, left in ((tacit.Gaussian(), 0), (tacit.BandedInverse(bands=4), 3)):
        plan = plan_of(private(mechanism=mechanism, min_separation=1), clients=6, rounds=6)
        machines = Machines(plan)
        first = machines.run.state.privacy
        after = machines.play().state
        assert first is not None
        assert first.key != after.key
        kept = [kept.step for kept in after.past.keys]  # type: ignore[union-attr]
        assert kept == [5, 4, 3][:left]
