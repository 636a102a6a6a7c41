"""What a job with privacy is compiled to, and what it is refused for."""

import numpy as np
import pytest
from torch import nn

import tacit
from tacit.aggregate import FixedMean
from tacit.codec import AdaptiveClip, ClipL1, ClipL2, Withhold
from tacit.core.errors import PlanError
from tacit.core.rule import Grid
from tacit.job import Plan, make_plan, model_seed
from tacit.job.private import noise_in_updates, refuse_scaling
from tacit.privacy import LocalNoise
from tacit.privacy.noise import FreshNoise, check_lanes, lanes_of
from tacit.training.flat import build
from tests.rounds import worlds

CLIENTS = 40


def with_buffers() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def plan(*, privacy: dict[str, object] | None = None, **settings: object) -> Plan:
    known = {"unit": "user", "epsilon": 8.0, "delta": 1e-4, "randomness": "seeded"} | (privacy or {})
    given = {"cohort": tacit.Poisson(rate=0.25), "rounds": 5} | settings
    job = worlds.job(privacy=tacit.Privacy(**known), **given)  # type: ignore[arg-type]
    return make_plan(job, build(job.task, model_seed(job)).layout, np.full(CLIENTS, 12))


def refused(**settings: object) -> str:
    with pytest.raises(PlanError) as caught:
        plan(**settings)  # type: ignore[arg-type]
    return caught.value.code


def test_nothing_but_the_clipped_parameters_and_the_bit_is_sent() -> None:
    found = plan()
    assert [type(stage) for stage in found.codec.chain.stages] == [Withhold, AdaptiveClip]
    assert found.codec.sent.names == ("parameters", "within_bound")
    assert found.rule == FixedMean(denominator=10.0)


def test_the_clip_follows_from_mechanism_and_trust() -> None:
    fixed = tacit.FixedClipping(bound=2.0)
    assert plan(privacy={"clipping": fixed}).codec.chain.stages[1:] == (ClipL2(bound=2.0),)
    laplace = plan(privacy={"clipping": fixed, "mechanism": tacit.Laplace()})
    assert laplace.codec.chain.stages[1:] == (ClipL1(bound=2.0),)
    each = tacit.SegmentClipping(bounds={"parameters": 3.0})
    assert plan(privacy={"clipping": each}).codec.chain.stages[1:] == (ClipL2(bound=3.0),)
    local = plan(privacy={"clipping": fixed, "trust": "local"}).codec.chain.stages[-1]
    assert isinstance(local, LocalNoise)


def test_a_secret_cohort_has_no_quorum_unless_the_job_insists() -> None:
    assert plan().job.policy.quorum == 0.0
    insisting = plan(quorum=0.5)
    assert insisting.job.policy.quorum == 0.5
    assert insisting.private is not None
    assert not insisting.private.is_amplified
    assert plan(cohort=tacit.FixedSize(4)).job.policy.quorum == 0.5


@pytest.mark.parametrize("cohort", [tacit.All(), tacit.FixedSize(4), tacit.FixedSize(4, over_selection=1.5)])
def test_other_cohorts_gain_nothing(cohort: object) -> None:
    found = plan(cohort=cohort)
    assert found.private is not None
    assert found.private.adjacency == "zero_out"
    assert not found.private.is_amplified


def test_a_truncated_sample_is_accounted_for_as_such() -> None:
    found = plan(cohort=tacit.TruncatedPoisson(rate=0.25, cap=15))
    assert found.private is not None
    assert found.private.is_amplified
    assert "at most 15" in found.private.statement().sampling


@pytest.mark.parametrize(
    "privacy",
    [
        {},
        {"epsilon": 0.05},
        {"epsilon": None, "noise_multiplier": 500.0},
        {"clipping": tacit.FixedClipping(bound=1e-3)},
        {
            "clipping": tacit.FixedClipping(bound=1.0),
            "mechanism": tacit.BandedInverse(bands=4),
            "min_separation": 2,
            "epsilon": 0.5,
        },
    ],
)
def test_the_grid_has_room_for_the_noise(privacy: dict[str, object]) -> None:
    found = plan(privacy=privacy)
    assert found.private is not None
    clipping, mechanism = found.private.privacy.clipping, found.private.privacy.mechanism
    weights = tuple(mechanism.weights(4, found.private.min_separation).tolist())
    largest = FreshNoise(tuple(bytes(32) for _ in weights), weights, mechanism.distribution).largest
    for stretch in (1.0, 2.0**16, 2.0**-16) if clipping.is_adaptive else (1.0,):
        scale = found.private.noise_std(clipping.first_bound * stretch)
        scales = [
            found.private.bit_noise or 0.0 if name == "within_bound" else scale
            for name in found.codec.sent.names
        ]
        check_lanes(lanes_of(found.grid, scales), largest)
    narrow = Grid.for_sum(found.codec.sent, found.job.cohort.largest(CLIENTS))
    if noise_in_updates(found.private, found.codec.sent) > narrow.clients:  # else there was room anyway
        assert found.grid.lanes[0].step > narrow.lanes[0].step


def test_what_does_not_go_together_is_refused() -> None:
    assert refused(clipping_bound=1.0) == "T176"
    assert refused(model=with_buffers) == "T177"
    assert refused(privacy={"clipping": tacit.SegmentClipping(bounds={"head": 1.0})}) == "T178"
    on_clients = tacit.TargetMetric(metric="accuracy", value=0.9, on="clients")
    assert refused(stop=(on_clients,)) == "T179"
    assert plan(stop=(tacit.TargetMetric(metric="accuracy", value=0.9),)).private is not None
    assert refused(privacy={"delta": 0.01}) == "T161"
    assert refused(cohort=tacit.FixedSize(4), privacy={"adjacency": "add_remove"}) == "T162"
    assert refused(privacy={"trust": "distributed"}) == "T163"
    assert refused(privacy={"epsilon": None, "noise_multiplier": 1e-12}) == "T175"
    alone = {"trust": "local", "mechanism": tacit.BandedInverse(), "min_separation": 1}
    assert refused(privacy={**alone, "clipping": tacit.FixedClipping(bound=1.0)}) == "T166"


def test_features_scaled_by_everybody_are_refused() -> None:
    job = worlds.job(privacy=tacit.Privacy(unit="user", epsilon=8.0, delta=1e-4))
    split = tacit.data.breast_cancer().split(tacit.IID(), clients=5, scaling="global")
    with pytest.raises(PlanError, match="T172"):
        refuse_scaling(job, split)
    refuse_scaling(job, tacit.data.breast_cancer().split(tacit.IID(), clients=5, scaling="client"))
