"""Record-level jobs: every site gets the noise that keeps its own records, and the server adds none."""

from typing import Any

import numpy as np
import pytest
from torch import nn

import tacit
from tacit.aggregate import WeightedMean
from tacit.codec import Weigh
from tacit.core.errors import PlanError
from tacit.core.events import GaussianEvent, PrivacyEvent, RepeatedEvent
from tacit.core.record_level import RecordLevel, events_of
from tacit.job import Plan, make_plan
from tacit.job.private import refuse_scaling
from tacit.job.sites import Sites
from tacit.privacy.accounting import epsilon
from tacit.privacy.accounting.gaussian import gaussian_epsilon
from tacit.training.flat import build
from tests.rounds.record_jobs import DELTA, job, privacy

ALL = tacit.LocalSGD(lr=0.1, steps=2, batch_size="all")


def planned(sizes: list[int], **settings: Any) -> Plan:
    made = job(**settings)
    return make_plan(made, build(made.task, 0).layout, np.array(sizes))


def sites_of(sizes: list[int], **settings: Any) -> Sites:
    sites = planned(sizes, **settings).sites
    assert sites is not None
    return sites


@pytest.fixture(scope="module")
def calibrated() -> Plan:
    """Four sites, each within epsilon 1.5."""
    return planned([20, 44, 20, 8], privacy=privacy(epsilon=1.5))


# --- the noise of a site -----------------------------------------------------------------------------


def test_every_site_ends_within_epsilon_and_wastes_little_of_it(calibrated: Plan) -> None:
    assert calibrated.sites is not None
    assert set(calibrated.sites.levels) == {44, 20, 8}
    for size, level in calibrated.sites.levels.items():
        charges: dict[PrivacyEvent, int] = {
            events_of(level, calibrated.job.algorithm.local, size): calibrated.job.rounds
        }
        reached = epsilon(charges, DELTA, "add_remove")
        assert 1.5 * 0.999 < reached <= 1.5
        assert reached == calibrated.sites.plans[size].epsilon
        assert calibrated.sites.charge(size) in charges


def test_sites_of_different_sizes_have_noise_of_their_own_and_equal_ones_share_a_plan(
    calibrated: Plan,
) -> None:
    assert calibrated.sites is not None
    noises = {level.noise_multiplier for level in calibrated.sites.levels.values()}
    assert len(noises) == 3
    assert all(level.clipping_bound == 0.7 for level in calibrated.sites.levels.values())


def test_a_given_noise_multiplier_is_every_sites_and_its_epsilon_follows() -> None:
    sites = sites_of([10, 44], local=ALL)
    assert set(sites.levels.values()) == {RecordLevel(noise_multiplier=1.5, clipping_bound=0.7)}
    for plan in sites.plans.values():
        assert plan.epsilon == pytest.approx(gaussian_epsilon(1.5 / np.sqrt(2 * 5), DELTA), rel=1e-6)
    assert sites.charge(44) == RepeatedEvent(event=GaussianEvent(noise_multiplier=1.5), count=2)


def test_the_job_promises_what_its_worst_site_does() -> None:
    plan = planned([8, 44])
    assert plan.sites is not None
    worst = max(one.epsilon for one in plan.sites.plans.values())
    assert plan.guarantee is not None
    assert plan.guarantee.epsilon == worst > min(one.epsilon for one in plan.sites.plans.values())
    assert (plan.guarantee.unit, plan.guarantee.adjacency) == ("record", "add_remove")
    assert plan.private is plan.sites.worst
    assert plan.private.epsilon == worst
    assert plan.privacy.startswith("seeded, not private: epsilon")
    assert "for each record (add_remove, central)" in plan.privacy
    assert "own records and adds the noise" in str(plan.guarantee)
    assert "several records of one person" in str(plan.guarantee)


def test_a_relation_that_gains_nothing_by_sampling_is_charged_without_it() -> None:
    sites = sites_of([44], privacy=privacy(adjacency="zero_out"))
    assert sites.charge(44).event == GaussianEvent(noise_multiplier=1.5)
    assert sites.statement().adjacency == "zero_out"


def test_a_step_that_sees_all_records_is_no_sample() -> None:
    stated = sites_of([44], local=ALL).statement()
    assert not stated.is_amplified
    assert "nothing is sampled" in stated.sampling
    assert "Poisson" in sites_of([44]).statement().sampling


def test_epsilon_along_the_run_is_never_less_than_what_was_spent() -> None:
    sites = sites_of([8, 44])
    shown = [sites.epsilon_along({8: 1, 44: rounds}) for rounds in range(1, 6)]
    exact = [sites.statement({8: 1, 44: rounds}).epsilon for rounds in range(1, 6)]
    assert all(a >= b for a, b in zip(shown, exact, strict=True))
    assert shown == sorted(shown)
    assert sites.epsilon_along({}) == 0.0
    assert sites.statement({}).epsilon == 0.0
    assert sites.statement({8: 2}).epsilon == sites.plans[8].epsilon_of(2)


def test_the_figures_of_each_size_are_shown() -> None:
    largest, smallest = planned([44, 8, 0]).as_dict()["sites"]
    assert largest == {
        "records": 44,
        "steps_per_round": 6,
        "rate": 8 / 44,
        "noise_multiplier": 1.5,
        "epsilon": largest["epsilon"],
    }
    assert smallest["rate"] == 1.0


# --- what the server does ----------------------------------------------------------------------------


def test_the_server_takes_a_plain_mean_without_noise_and_gets_no_metrics() -> None:
    plan = planned([20, 44], weighting=Weigh(cap=30))
    assert plan.rule == WeightedMean()
    assert plan.codec.chain.stages == (Weigh(cap=30),)
    assert plan.codec.sent.names == ("parameters", "weight")
    assert plan.run_settings().privacy is None


def test_a_job_about_users_has_no_sites() -> None:
    plan = planned([20] * 8, privacy=tacit.Privacy(unit="user", delta=1e-2, noise_multiplier=2.0))
    assert plan.sites is None
    assert plan.run_settings().privacy is plan.private
    assert planned([20], privacy=None).guarantee is None


# --- what is refused ---------------------------------------------------------------------------------


def code_of(sizes: list[int], **settings: Any) -> str:
    with pytest.raises(PlanError) as caught:
        planned(sizes, **settings)
    return caught.value.code


def test_delta_is_held_against_the_records_of_the_largest_site() -> None:
    assert planned([100, 3]).guarantee is not None
    assert code_of([100, 101]) == "T161"
    with pytest.raises(PlanError, match="10 x 101 records"):
        planned([3, 101])
    assert planned([101], privacy=privacy(allow_large_delta=True)).guarantee is not None


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("code", "settings"),
    [
        ("T169", {"privacy": privacy(clipping=tacit.AdaptiveClipping())}),
        ("T172", {"privacy": privacy(trust="local")}),
        ("T172", {"privacy": privacy(mechanism=tacit.BandedInverse(), min_separation=1)}),
        ("T172", {"privacy": privacy(mechanism=tacit.Laplace())}),
        ("T172", {"privacy": privacy(min_separation=2)}),
        ("T176", {"clipping_bound": 1.0}),
        ("T177", {"model": normalised}),
        ("T178", {"privacy": privacy(clipping=tacit.SegmentClipping(bounds={"weights": 1.0}))}),
        ("T169", {"privacy": privacy(clipping=tacit.SegmentClipping(bounds={"parameters": 1.0}))}),
    ],
)
def test_what_does_not_go_with_record_level_privacy_is_refused(code: str, settings: dict[str, Any]) -> None:
    assert code_of([20], **settings) == code


def test_sites_without_any_record_are_refused_if_all_are() -> None:
    assert code_of([0, 0]) == "T155"
    assert set(sites_of([0, 20]).plans) == {20}


@pytest.mark.parametrize("scaling", ["global", "client"])
def test_features_scaled_by_the_records_themselves_are_refused(scaling: Any) -> None:
    split = tacit.data.breast_cancer().split(tacit.IID(), clients=3, scaling=scaling)
    with pytest.raises(PlanError, match="public constants") as caught:
        refuse_scaling(job(), split)
    assert (caught.value.code, caught.value.where) == ("T172", "$.population.scaling")
    refuse_scaling(job(), tacit.data.breast_cancer().split(tacit.IID(), clients=3))
    refuse_scaling(job(privacy=None), split)
