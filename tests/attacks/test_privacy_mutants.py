"""Weaker protection is found: each fault is put into the real code, and the check for it must fail.

The checks are those that the other tests hold the real code against; here they pass once without a fault.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tacit
from tacit.aggregate import FixedMean
from tacit.codec import AdaptiveClip, ClipL2, Withhold, adaptive_clip, clip
from tacit.core import rule
from tacit.core.layout import Layout
from tacit.core.rule import Partial
from tacit.job import private as job_private
from tacit.privacy import PrivacyPlan
from tacit.privacy import plan as privacy_plan
from tacit.privacy.mechanisms import Separation
from tacit.privacy.noise import PastKeys, SystemKeys
from tacit.round import device, release
from tacit.round.release import Release
from tacit.sim.spending import Spending
from tests.attacks.privacy_checks import (
    check_bit_noise,
    check_charged_before_release,
    check_claim,
    check_correlated_noise,
    check_device_separation,
    check_dropouts,
    check_fresh_noise,
    check_noise,
    check_nothing_else_leaves,
    check_sampling,
    check_sensitivity,
    check_separation,
)
from tests.rounds.private_runs import plan_of, private

WIDE = Layout.of(parameters={"first": (40, 500), "second": (30_000,), "third": (5, 3000)})
ADAPTIVE = tacit.AdaptiveClipping(initial=1.5)
Patch = pytest.MonkeyPatch


# --- the checks, each of a run that suits it ---------------------------------------------------


def noise(folder: Path) -> None:
    check_noise(plan_of(private(noise_multiplier=0.5), clients=4, layout=WIDE, rounds=2))


def adaptive_noise(folder: Path) -> None:
    check_noise(plan_of(private(clipping=ADAPTIVE), clients=4, layout=WIDE, rounds=2))


def bit_noise(folder: Path) -> None:
    check_bit_noise(plan_of(private(clipping=ADAPTIVE), clients=4), rounds=200)


def fresh_noise(folder: Path) -> None:
    check_fresh_noise(lambda: plan_of(private(randomness="system"), clients=4, layout=WIDE, rounds=2))


def correlated_noise(folder: Path) -> None:
    settings = private(mechanism=tacit.BandedInverse(bands=3), min_separation=3)
    check_correlated_noise(plan_of(settings, clients=9, layout=WIDE, cohort=tacit.FixedSize(3), rounds=6))


def stored_noise(folder: Path) -> None:
    settings = private(mechanism=tacit.BandedSquareRoot(), min_separation=3)
    check_correlated_noise(plan_of(settings, clients=9, layout=WIDE, cohort=tacit.FixedSize(3), rounds=6))


def sensitivity(folder: Path) -> None:
    check_sensitivity(plan_of(private(), clients=6, rounds=1))


def adaptive_sensitivity(folder: Path) -> None:
    check_sensitivity(plan_of(private(clipping=ADAPTIVE), clients=6, rounds=1))


def laplace_sensitivity(folder: Path) -> None:
    check_sensitivity(plan_of(private(mechanism=tacit.Laplace()), clients=6, rounds=1))


def dropouts(folder: Path) -> None:
    check_dropouts(plan_of(private(), clients=8, rounds=1, quorum=0.1))


def withheld(folder: Path) -> None:
    check_nothing_else_leaves(plan_of(private(), clients=4, rounds=1))


def sampling(folder: Path) -> None:
    check_sampling(lambda n: plan_of(private(), clients=n, cohort=tacit.Poisson(rate=0.25), rounds=60))


def fixed_sampling(folder: Path) -> None:
    check_sampling(lambda n: plan_of(private(), clients=n, cohort=tacit.FixedSize(10), rounds=60, quorum=0.0))


def separation(folder: Path) -> None:
    settings = private(mechanism=tacit.BandedInverse(bands=2), min_separation=4)
    check_separation(plan_of(settings, clients=40, cohort=tacit.FixedSize(5), rounds=12))


def device_separation(folder: Path) -> None:
    settings = private(mechanism=tacit.BandedInverse(bands=2), min_separation=4)
    check_device_separation(plan_of(settings, clients=40, cohort=tacit.FixedSize(5), rounds=12))


def claim(folder: Path) -> None:
    check_claim(plan_of(private(epsilon=2.0), clients=6, rounds=4))


def strict_claim(folder: Path) -> None:
    check_claim(plan_of(private(epsilon=2.0, adjacency="replace_one"), clients=6, rounds=4))


def charges(folder: Path) -> None:
    check_charged_before_release(folder)


# --- the faults --------------------------------------------------------------------------------


def noise_times(factor: float) -> Callable[[Patch], None]:
    def put(patch: Patch) -> None:
        original = PrivacyPlan.noise_std
        patch.setattr(PrivacyPlan, "noise_std", lambda self, bound: factor * original(self, bound))

    return put


def variance_for_deviation(patch: Patch) -> None:
    original = PrivacyPlan.noise_std
    patch.setattr(PrivacyPlan, "noise_std", lambda self, bound: original(self, bound) ** 2)


def noise_of_the_clip_multiplier_alone(patch: Patch) -> None:
    patch.setattr(PrivacyPlan, "noise_std", lambda self, bound: self.noise_multiplier * bound)


def noise_of_the_multiplier_without_the_bound(patch: Patch) -> None:
    patch.setattr(PrivacyPlan, "noise_std", lambda self, bound: self.update_noise_multiplier)


def _after_noise(patch: Patch, spoil: Callable[[Any, Any], None]) -> None:
    original = release.add_noise

    def add(total: Any, lanes: Any, noise: Any) -> None:
        before = total.copy()
        original(total, lanes, noise)
        spoil(total, before)

    patch.setattr(release, "add_noise", add)


def noise_missing_in_a_tensor(patch: Patch) -> None:
    def spoil(total: Any, before: Any) -> None:
        total[50_000:] = before[50_000:]

    _after_noise(patch, spoil)


def noise_missing_in_the_bit(patch: Patch) -> None:
    def spoil(total: Any, before: Any) -> None:
        total[-1:] = before[-1:]

    _after_noise(patch, spoil)


def one_draw_for_all_coordinates(patch: Patch) -> None:
    def spoil(total: Any, before: Any) -> None:
        total[:] = before + (total[0] - before[0])

    _after_noise(patch, spoil)


def one_draw_for_both_halves(patch: Patch) -> None:
    def spoil(total: Any, before: Any) -> None:
        half = len(total) // 2
        total[half : 2 * half] = before[half : 2 * half] + (total - before)[:half]

    _after_noise(patch, spoil)


def uniform_noise(patch: Patch) -> None:
    def spoil(total: Any, before: Any) -> None:
        spread = (total - before).std() * np.sqrt(12)
        drawn = np.random.default_rng().uniform(-spread / 2, spread / 2, len(total))
        total[:] = before + drawn.astype(np.int64)

    _after_noise(patch, spoil)


def coarse_noise(patch: Patch) -> None:
    def spoil(total: Any, before: Any) -> None:
        unit = int((total - before).std() / 256)
        total[:] = before + (total - before) // unit * unit

    _after_noise(patch, spoil)


def one_key_for_all_runs(patch: Patch) -> None:
    patch.setattr(SystemKeys, "key", lambda self, step, *purpose: bytes([step]) * 32)


def one_key_for_all_steps(patch: Patch) -> None:
    patch.setattr(SystemKeys, "key", lambda self, step, *purpose: bytes(id(self) % 251 for _ in range(32)))


def past_noise_not_taken_back(patch: Patch) -> None:
    def advance(self: PastKeys, key: bytes, kept: int) -> PastKeys:
        return original(self, key, 1)

    original = PastKeys.advance
    patch.setattr(PastKeys, "advance", advance)
    patch.setattr(tacit.BandedInverse, "weights", lambda self, step, separation: np.ones(1))


def no_sensitivity_of_the_strategy(patch: Patch) -> None:
    for mechanism in (tacit.BandedInverse, tacit.BandedSquareRoot):
        patch.setattr(mechanism, "sensitivity", lambda self, steps, separation: 1.0)


def _unclipped(rows: Any, bound: float) -> Any:
    return np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))


def no_clip(patch: Patch) -> None:
    patch.setattr(clip, "clip_rows", _unclipped)
    patch.setattr(adaptive_clip, "clip_rows", _unclipped)
    patch.setattr(clip, "_shorten", lambda rows, norms, bound: None)


def clip_by_the_largest_coordinate(patch: Patch) -> None:
    def clipped(rows: Any, bound: float) -> Any:
        np.clip(rows, -bound, bound, out=rows)
        return np.zeros(len(rows))

    patch.setattr(clip, "clip_rows", clipped)
    patch.setattr(adaptive_clip, "clip_rows", clipped)


def each_layer_clipped_to_the_whole_bound(patch: Patch) -> None:
    original = clip.clip_rows

    def clipped(rows: Any, bound: float) -> Any:
        return sum(original(part, bound) for part in np.array_split(rows, 3, axis=1))

    patch.setattr(clip, "clip_rows", clipped)
    patch.setattr(adaptive_clip, "clip_rows", clipped)


def laplace_clipped_in_l2(patch: Patch) -> None:
    patch.setattr(job_private, "ClipL1", ClipL2)


def a_bit_that_counts_twice(patch: Patch) -> None:
    original = AdaptiveClip.encode

    def encode(self: AdaptiveClip, rows: Any, memory: Any, ctx: Any) -> Any:
        sent, memory = original(self, rows, memory, ctx)
        sent[:, -1] *= 2
        return sent, memory

    patch.setattr(AdaptiveClip, "encode", encode)
    patch.setattr(rule, "_check_bound", lambda rows, lane: None)


def weighted_by_examples(patch: Patch) -> None:
    original = ClipL2.encode

    def encode(self: ClipL2, rows: Any, memory: Any, ctx: Any) -> Any:
        sent, memory = original(self, rows, memory, ctx)
        return sent * ctx.examples[:, None].astype(np.float32), memory

    patch.setattr(ClipL2, "encode", encode)


def mean_over_survivors(patch: Patch) -> None:
    original = Release.release

    def averaged(self: Release, partial: Partial, state: Any) -> Any:
        share = self.plan.denominator / max(1, partial.clients)
        return original(self, Partial((partial.total * share).astype(np.int64), partial.clients), state)

    patch.setattr(Release, "release", averaged)


def mean_over_survivors_after_the_noise(patch: Patch) -> None:
    released, finish = Release.release, FixedMean.finish
    survivors = [1]

    def counted(self: Release, partial: Partial, state: Any) -> Any:
        survivors[0] = max(1, partial.clients)
        return released(self, partial, state)

    def averaged(self: FixedMean, total: Any, spec: Any) -> Any:
        return finish(self, total, spec) * np.float32(self.denominator / survivors[0])

    patch.setattr(Release, "release", counted)
    patch.setattr(FixedMean, "finish", averaged)


def not_a_number_passes(patch: Patch) -> None:
    def all_of_them(rows: Any, *bound: float) -> Any:
        return np.ones(len(rows), dtype=np.bool_)

    patch.setattr(device, "rows_within", all_of_them)
    patch.setattr(rule, "rows_within", all_of_them)
    patch.setattr(clip, "finite_rows", all_of_them)
    patch.setattr(clip, "_shorten", lambda rows, norms, bound: None)


def the_loss_is_sent_in_the_last_coordinate(patch: Patch) -> None:
    original = Withhold.encode

    def encode(self: Withhold, rows: Any, memory: Any, ctx: Any) -> Any:
        rows[:, -2] = rows[:, -1]
        return original(self, rows, memory, ctx)

    patch.setattr(Withhold, "encode", encode)


def a_sample_claimed_of_a_fixed_cohort(patch: Patch) -> None:
    patch.setattr(job_private, "_kind_of", lambda job: ("poisson", 0.25, None, 1.0))


def another_rate_than_claimed(patch: Patch) -> None:
    original = tacit.Poisson.sample
    patch.setattr(
        tacit.Poisson,
        "sample",
        lambda self, population, rng: original(tacit.Poisson(rate=2 * self.rate), population, rng),
    )


def small_cohorts_abandoned(patch: Patch) -> None:
    patch.setattr("tacit.round.policy.RoundPolicy.least", lambda self, wanted: 6)


def add_remove_claimed_of_a_fixed_cohort(patch: Patch) -> None:
    patch.setattr(privacy_plan, "relation_of", lambda privacy, sampling: ("add_remove", "because"))


def replace_one_read_as_zero_out(patch: Patch) -> None:
    original = privacy_plan.epsilon, privacy_plan.calibrate
    patch.setattr(
        privacy_plan, "epsilon", lambda spent, delta, adjacency: original[0](spent, delta, "zero_out")
    )
    patch.setattr(
        privacy_plan,
        "calibrate",
        lambda event_of, count, eps, delta, adjacency: original[1](event_of, count, eps, delta, "zero_out"),
    )


def rounds_not_composed(patch: Patch) -> None:
    original = privacy_plan.calibrate
    patch.setattr(privacy_plan, "calibrate", lambda event_of, count, *rest: original(event_of, 1, *rest))
    patch.setattr(privacy_plan, "epsilon", lambda spent, delta, adjacency: 2.0)


def separation_ignored(patch: Patch) -> None:
    patch.setattr(Separation, "allows", lambda self, step, last: True)


def separation_forgotten_where_a_round_is_abandoned(patch: Patch) -> None:
    original = Release.note
    patch.setattr(
        Release,
        "note",
        lambda self, clients, state: (
            original(self, (), state) if state.step % 4 == 1 else original(self, clients, state)
        ),
    )


def charge_skipped(patch: Patch) -> None:
    patch.setattr(Spending, "reserve", lambda self, run: None)


def charge_after_release(patch: Patch) -> None:
    reserve, settle = Spending.reserve, Spending.settle
    asked: list[Any] = []

    def late(self: Spending, *, is_released: bool) -> None:
        reserve(self, asked.pop())
        settle(self, is_released=is_released)

    patch.setattr(Spending, "reserve", lambda self, run: asked.append(run))
    patch.setattr(Spending, "settle", late)


class Fault(NamedTuple):
    """A fault, and the check that must find it."""

    put: Callable[[Patch], None]
    check: Callable[[Path], None]

    @property
    def name(self) -> str:
        return f"{self.put.__name__}-{self.check.__name__}"


FAULTS = [
    Fault(noise_times(0.5), noise),
    Fault(noise_times(0.9), noise),
    Fault(noise_times(0.5), adaptive_noise),
    Fault(noise_times(0.9), adaptive_noise),
    Fault(noise_times(0.9), correlated_noise),
    Fault(noise_times(0.9), stored_noise),
    Fault(variance_for_deviation, noise),
    Fault(noise_of_the_clip_multiplier_alone, adaptive_noise),
    Fault(noise_of_the_clip_multiplier_alone, correlated_noise),
    Fault(noise_of_the_multiplier_without_the_bound, noise),
    Fault(noise_missing_in_a_tensor, noise),
    Fault(noise_missing_in_the_bit, bit_noise),
    Fault(one_draw_for_all_coordinates, fresh_noise),
    Fault(one_draw_for_both_halves, fresh_noise),
    Fault(uniform_noise, fresh_noise),
    Fault(coarse_noise, fresh_noise),
    Fault(one_key_for_all_runs, fresh_noise),
    Fault(one_key_for_all_steps, fresh_noise),
    Fault(past_noise_not_taken_back, correlated_noise),
    Fault(no_sensitivity_of_the_strategy, correlated_noise),
    Fault(no_sensitivity_of_the_strategy, stored_noise),
    Fault(no_clip, sensitivity),
    Fault(no_clip, adaptive_sensitivity),
    Fault(no_clip, laplace_sensitivity),
    Fault(clip_by_the_largest_coordinate, sensitivity),
    Fault(each_layer_clipped_to_the_whole_bound, sensitivity),
    Fault(each_layer_clipped_to_the_whole_bound, adaptive_sensitivity),
    Fault(laplace_clipped_in_l2, laplace_sensitivity),
    Fault(a_bit_that_counts_twice, adaptive_sensitivity),
    Fault(weighted_by_examples, sensitivity),
    Fault(not_a_number_passes, sensitivity),
    Fault(mean_over_survivors, dropouts),
    Fault(mean_over_survivors_after_the_noise, dropouts),
    Fault(the_loss_is_sent_in_the_last_coordinate, withheld),
    Fault(a_sample_claimed_of_a_fixed_cohort, fixed_sampling),
    Fault(another_rate_than_claimed, sampling),
    Fault(small_cohorts_abandoned, sampling),
    Fault(add_remove_claimed_of_a_fixed_cohort, fixed_sampling),
    Fault(replace_one_read_as_zero_out, strict_claim),
    Fault(rounds_not_composed, claim),
    Fault(separation_ignored, separation),
    Fault(separation_ignored, device_separation),
    Fault(separation_forgotten_where_a_round_is_abandoned, separation),
    Fault(charge_skipped, charges),
    Fault(charge_after_release, charges),
]


@pytest.fixture
def patch() -> Iterator[Patch]:
    with pytest.MonkeyPatch.context() as made:
        yield made


@pytest.mark.parametrize("check", dict.fromkeys(fault.check for fault in FAULTS), ids=lambda c: c.__name__)
def test_without_a_fault_the_check_passes(check: Callable[[Path], None], tmp_path: Path) -> None:
    check(tmp_path / "run")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, patch: Patch, tmp_path: Path) -> None:
    fault.put(patch)
    with pytest.raises(AssertionError):
        fault.check(tmp_path / "run")
