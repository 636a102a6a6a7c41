"""The step between a cohort's sum and everybody else: what is added, what is remembered, what is refused."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.core.errors import LocalProtocolError, PlanError
from tacit.core.rule import Grid, Partial
from tacit.job import Plan
from tacit.privacy.noise import PastKeys, PastVectors, SeededKeys, SystemKeys
from tacit.round.release import PrivacyState, Release, keys_of
from tests.rounds.private_runs import FIXED, plan_of, private

ADAPTIVE = tacit.AdaptiveClipping(initial=2.0, quantile=0.25, learning_rate=0.5)


def made(plan: Plan) -> Release:
    assert plan.private is not None
    return Release(plan.private, plan.codec, plan.grid, keys_of(plan.private, plan.job.seed))


def planned(clients: int = 20, **settings: Any) -> Plan:
    job = {name: settings.pop(name) for name in ("cohort", "rounds") if name in settings}
    return plan_of(private(**settings), clients=clients, **job)


def zeros(plan: Plan) -> Partial:
    return plan.rule.empty(plan.grid)


def bits(plan: Plan, total: float) -> Partial:
    """Return a sum of updates that are zero, and of bits that are not."""
    partial = zeros(plan)
    partial.total[-1] = int(total / plan.grid.lanes[-1].step)
    return partial


# --- what is remembered ------------------------------------------------------------------------


def test_a_run_begins_with_a_key_and_where_it_is_private_with_a_secret_draw() -> None:
    seeded, system = (made(planned(randomness=randomness)).first() for randomness in ("seeded", "system"))
    assert seeded.key == SeededKeys(3).key(0, "update")
    assert seeded.cohort_seed is None
    assert len(system.key) == 32
    assert system.cohort_seed is not None
    again = made(planned(randomness="system")).first()
    assert (again.key, again.cohort_seed) != (system.key, system.cohort_seed)
    assert seeded.step == system.step == 0
    assert (seeded.past, seeded.took_part, seeded.clipping_bound) == (PastKeys(), {}, None)
    assert made(planned(clipping=ADAPTIVE)).first().clipping_bound == 2.0


def test_a_step_takes_the_next_key_and_leaves_the_sum_alone() -> None:
    plan = planned(rounds=5)
    release, partial = made(plan), zeros(plan)
    states = [release.first()]
    for _ in range(4):
        released = release.release(partial, states[-1])
        states.append(released.state)
        assert not partial.total.any()
        assert released.partial.total.any()
        assert released.partial.clients == 0
    assert [state.step for state in states] == [0, 1, 2, 3, 4]
    assert [state.key for state in states] == [SeededKeys(3).key(step, "update") for step in range(5)]


def test_the_same_state_and_sum_release_the_same_numbers_and_another_sum_the_same_noise() -> None:
    plan = planned(randomness="system")
    release, state = made(plan), made(plan).first()
    first, again = (release.release(zeros(plan), state).partial.total for _ in range(2))
    assert np.array_equal(first, again)
    shifted = Partial(np.full(plan.grid.size, 10**15, np.int64), 1)
    other = release.release(shifted, state).partial.total
    assert np.abs(other - first - 10**15).max() <= 1.5 / plan.grid.lanes[0].step * 2.0**-19


@pytest.mark.parametrize(
    ("mechanism", "kept"),
    [(tacit.Gaussian(), 0), (tacit.BandedInverse(bands=1), 0), (tacit.BandedInverse(bands=4), 3)],
)
def test_no_key_is_kept_that_no_later_step_needs(mechanism: Any, kept: int) -> None:
    plan = planned(mechanism=mechanism, min_separation=1, rounds=8)
    release = made(plan)
    state = release.first()
    for step in range(8):
        used = state.key
        state = release.release(zeros(plan), state).state
        assert isinstance(state.past, PastKeys)
        assert [key.step for key in state.past.keys] == list(range(step, max(-1, step - kept), -1))
        assert (used in [key.key for key in state.past.keys]) == bool(kept)


def test_vectors_are_kept_where_noise_cannot_be_drawn_again() -> None:
    plan = planned(mechanism=tacit.BandedSquareRoot(), min_separation=4, rounds=8, cohort=tacit.FixedSize(5))
    release = made(plan)
    state = release.first()
    for _ in range(8):
        state = release.release(zeros(plan), state).state
    assert isinstance(state.past, PastVectors)
    assert len(state.past.vectors) == 3
    assert state.past.step == 7


def test_an_abandoned_step_keeps_its_key_where_nothing_was_released() -> None:
    central, local = made(planned()), made(planned(trust="local"))
    state = PrivacyState(step=1, key=bytes(32))
    assert central.abandon(state) is state
    spent = local.abandon(state)
    assert (spent.step, spent.key) == (2, SeededKeys(3).key(2, "update"))


def test_more_steps_than_were_accounted_for_are_not_released() -> None:
    plan = planned(rounds=2)
    release = made(plan)
    with pytest.raises(LocalProtocolError) as caught:
        release.release(zeros(plan), replace(release.first(), step=2))
    assert caught.value.code == "T512"


# --- how much noise ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"clipping": FIXED}, 2.0 * 1.5),
        ({"clipping": tacit.SegmentClipping(bounds={"parameters": 0.5})}, 1.0),
        ({"mechanism": tacit.Laplace()}, 3.0),
        ({"trust": "local"}, 3.0),
    ],
)
def test_noise_is_the_multiplier_times_the_declared_bound(settings: Any, expected: float) -> None:
    release = made(planned(**settings))
    assert release.noise_std(release.first()) == pytest.approx(expected)
    assert release.record(1, release.first()).noise_std == pytest.approx(expected)


def test_noise_follows_the_bound_of_the_round() -> None:
    release = made(planned(clipping=ADAPTIVE))
    first = release.first()
    for bound in (0.01, 2.0, 70.0):
        ratio = release.noise_std(replace(first, clipping_bound=bound)) / release.noise_std(first)
        assert ratio == pytest.approx(bound / 2.0)


def test_a_grid_that_does_not_suit_the_noise_is_refused_before_anything_runs() -> None:
    plan = planned()
    assert plan.private is not None
    coarse = Grid.for_sum(plan.codec.sent, 2**58)
    fine = Grid.for_sum(plan.codec.sent, 1)
    for grid, code in ((coarse, "T180"), (fine, "T181")):
        with pytest.raises(PlanError) as caught:
            Release(plan.private, plan.codec, grid, SystemKeys())
        assert caught.value.code == code


def test_under_local_trust_nothing_is_added_to_the_sum() -> None:
    plan = planned(trust="local")
    partial = Partial(np.arange(plan.grid.size), 3)
    assert made(plan).release(partial, made(plan).first()).partial is partial


# --- the bound of the next round ---------------------------------------------------------------


def moved(plan: Plan, share: float, bound: float = 2.0) -> float:
    """Return the next bound where, but for noise, that share of the clients was within this one."""
    release = made(plan)
    state = replace(release.first(), clipping_bound=bound)
    found = release.release(bits(plan, (share - 0.5) * plan.population), state).state.clipping_bound
    assert found is not None
    return found


def quiet(clients: int = 100_000) -> Plan:
    """Return a plan of so many clients that the noise of the bits says nothing."""
    clipping = tacit.AdaptiveClipping(initial=2.0, quantile=0.25, learning_rate=0.5, bit_noise=4.0)
    return plan_of(private(clipping=clipping, delta=1e-7), clients=clients)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.6, 1.0])
def test_the_bound_moves_by_the_rule_of_the_paper(share: float) -> None:
    assert moved(quiet(), share) == pytest.approx(2.0 * math.exp(-0.5 * (share - 0.25)), rel=2e-3)


def test_a_share_beyond_all_clients_counts_as_all() -> None:
    assert moved(quiet(), 1.5) == pytest.approx(2.0 * math.exp(-0.5 * 0.75), rel=2e-3)
    assert moved(quiet(), -0.5) == pytest.approx(2.0 * math.exp(0.5 * 0.25), rel=2e-3)


@pytest.mark.parametrize("initial", [1e-12, 1e-3, 1.0, 500.0, 5000.0])
@pytest.mark.parametrize("noise", [0.01, 1.0, 500.0])
@pytest.mark.parametrize("clients", [2, 5000])
def test_the_bound_stays_where_the_clip_and_the_grid_can_follow(
    initial: float, noise: float, clients: int
) -> None:
    for quantile, share in ((0.001, 1.0), (0.999, 0.0)):
        clipping = tacit.AdaptiveClipping(initial=initial, quantile=quantile, learning_rate=1.0)
        settings = private(clipping=clipping, noise_multiplier=noise, delta=1e-6)
        plan = plan_of(settings, clients=clients, rounds=30)
        release, partial = made(plan), bits(plan, (share - 0.5) * clients)
        state = release.first()
        for _ in range(30):
            state = release.release(partial, state).state
        assert state.clipping_bound is not None
        assert 2.0**-16 <= state.clipping_bound / initial <= 2.0**16


def test_a_bound_that_does_not_move_is_not_remembered() -> None:
    plan = planned()
    assert made(plan).release(zeros(plan), made(plan).first()).state.clipping_bound is None


# --- what a round is said to have spent --------------------------------------------------------


def test_epsilon_along_the_run_is_rounded_up_and_ends_with_the_promise() -> None:
    plan = planned(rounds=60, clipping=ADAPTIVE, cohort=tacit.Poisson(rate=0.4))
    assert plan.private is not None
    release = made(plan)
    along = [release.epsilon_along(step) for step in range(1, 61)]
    assert along == sorted(along)
    assert along[-1] == pytest.approx(plan.private.epsilon, abs=1e-9)
    for step in (1, 7, 31, 59):
        assert along[step - 1] >= plan.private.epsilon_of(step) - 1e-9


def test_what_an_earlier_charge_covers_is_not_charged_again() -> None:
    settings = {"min_separation": 3, "cohort": tacit.FixedSize(5), "rounds": 7}
    release = made(planned(**settings))
    charged = [release.record(1, PrivacyState(step=step)).event is not None for step in range(7)]
    assert charged == [True, False, False, True, False, False, True]
    whole = made(planned(mechanism=tacit.BandedInverse(bands=2), **settings))
    charged = [whole.record(1, PrivacyState(step=step)).event is not None for step in range(7)]
    assert charged == [True] + [False] * 6


# --- who took part -----------------------------------------------------------------------------


def test_who_took_part_is_remembered_for_as_long_as_it_bars_them() -> None:
    release = made(planned(min_separation=3, cohort=tacit.FixedSize(5), rounds=9))
    state = release.first()
    for step, clients in enumerate([("a", "b"), ("c",), ("d",), ("a",), ("e",)]):
        state = release.note(clients, replace(state, step=step))
    assert dict(state.took_part) == {"d": 2, "a": 3, "e": 4}


def test_without_a_separation_nobody_is_remembered() -> None:
    release = made(planned())
    state = release.first()
    assert release.note(("a",), state) is state
