"""An audit plays a job's own rounds, sees what they release, and catches a promise that is not kept."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from torch import nn

import tacit
import tacit.round.release
from tacit.aggregate import WeightedMean
from tacit.codec import Chain, Codec
from tacit.core.layout import Rows, Vector
from tacit.core.part import Part
from tacit.core.rule import Partial
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Memory, StageContext, Total
from tacit.data import Population
from tacit.job import make_plan
from tacit.privacy import PrivacyPlan
from tacit.privacy.audit import Claim, canary_bounds, exposure, noise_seen
from tacit.privacy.audit.gaussian import epsilon_of
from tacit.privacy.mechanisms import BandedInverse
from tacit.round.release import PrivacyState, Release, Released
from tacit.sim.audit_canaries import canary_run, local_run
from tacit.sim.audit_job import FINDINGS, Effort, audit, audit_stage
from tacit.sim.audit_rounds import Stage
from tacit.training.flat import build

CLIENTS, BOUND, DELTA = 60, 0.5, 1e-4


def model() -> nn.Module:
    return nn.Linear(20, 5)


def people(clients: int = CLIENTS, records: int = 6) -> Population:
    rng = np.random.default_rng(0)

    def one() -> tuple[np.ndarray, np.ndarray]:
        return rng.random((records, 20), dtype=np.float32), rng.integers(0, 5, records)

    return Population.of({f"c{number}": one() for number in range(clients)}, test=one())


def job(**settings: Any) -> tacit.Job:
    return tacit.Job(
        **{
            "name": "audited",
            "task": tacit.Task(model=model, metrics=["accuracy"]),
            "algorithm": tacit.FedAvg(local=tacit.LocalSGD(lr=0.5)),
            "cohort": tacit.All(),
            "rounds": 1,
            "weighting": tacit.Weigh(by="uniform"),
            "clipping_bound": BOUND,
            **settings,
        }
    )


class NoisyMean(WeightedMean, frozen=True, tag="noisy_mean_of_a_test"):
    """A sum with Gaussian noise over a public constant: what the private path of a run does."""

    noise_multiplier: float
    denominator: float

    def finish(self, total: Total, spec: UpdateSpec) -> Vector | None:
        size = spec.slice("weight").start
        noise = self.noise_multiplier * BOUND * _SYSTEM.standard_normal(size)
        return ((total[:size] + noise) / self.denominator).astype(np.float32)


class LocalNoise(Part, frozen=True, tag="local_noise_of_a_test"):
    """A stage that adds noise to every client's own update."""

    noise_multiplier: float

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        return spec

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        place = ctx.spec.slice("parameters")
        noise = self.noise_multiplier * BOUND * _SYSTEM.standard_normal(rows[:, place].shape)
        rows[:, place] += noise.astype(np.float32)
        return rows, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        return total


_SYSTEM = np.random.default_rng(0)  # goes on from run to run, as an operating system's does


def stage_of(job: tacit.Job, population: Population, **options: Any) -> Stage:
    flat = build(job.task, 0)
    return Stage(make_plan(job, flat.layout, population.sizes), population, flat, **options)


def noisy(stage: Stage, noise_multiplier: float) -> Stage:
    rule = NoisyMean(noise_multiplier=noise_multiplier, denominator=30.0)
    return replace(stage, plan=replace(stage.plan, rule=rule))


def claim_of(noise_multiplier: float, rounds: int = 1) -> Claim:
    def epsilon_at(noise: float) -> float:
        return epsilon_of(math.sqrt(rounds) / noise, DELTA)

    return Claim(
        epsilon_at(noise_multiplier),
        DELTA,
        "user",
        noise_multiplier=noise_multiplier,
        epsilon_at=epsilon_at,
        record_epsilon=epsilon_of(2 * math.sqrt(rounds) / noise_multiplier, DELTA),
    )


# --- rounds ----------------------------------------------------------------------------------------


def test_an_included_canary_reaches_the_clipping_bound_in_the_released_mean() -> None:
    run = canary_run(stage_of(job(), people()), canaries=20, rounds=1, number=0)
    assert run.taken.all()
    assert run.scores[0] == pytest.approx(np.where(run.included, BOUND / CLIENTS, 0.0), abs=1e-6)
    assert run.is_noiseless


def test_a_canary_is_seen_in_the_rounds_it_takes_part_in() -> None:
    run = canary_run(stage_of(job(cohort=tacit.FixedSize(10), rounds=8), people()), 30, rounds=8, number=0)
    assert 0 < run.taken.mean() < 0.4
    assert np.array_equal(run.scores > 1e-4, run.taken & run.included)


def test_every_run_has_coins_and_directions_of_its_own() -> None:
    stage = stage_of(job(), people())
    one, other = (canary_run(stage, 30, rounds=1, number=number).included for number in (0, 1))
    assert not np.array_equal(one, other)
    assert np.array_equal(one, canary_run(stage, 30, rounds=1, number=0).included)


def test_clients_that_train_hide_canaries_a_little() -> None:
    quiet = canary_run(stage_of(job(), people()), 20, rounds=1, number=0)
    loud = canary_run(stage_of(job(), people(), train=True), 20, rounds=1, number=0)
    assert quiet.is_noiseless
    assert not loud.is_noiseless
    assert loud.idle.std() < BOUND


def test_the_noise_of_the_run_is_what_canaries_see() -> None:
    stage = noisy(stage_of(job(cohort=tacit.FixedSize(20), rounds=40), people()), 1.5)
    run = canary_run(stage, 30, rounds=40, number=0)
    seen = noise_seen(exposure(run), 0.99)
    assert seen.estimate == pytest.approx(1.5, rel=0.15)
    assert seen.most > 1.5


def test_half_the_noise_of_a_run_is_caught_and_all_of_it_is_not() -> None:
    stage, claim = stage_of(job(), people()), claim_of(1.0)
    for noise_multiplier, is_caught in ((1.0, False), (0.5, True)):
        runs = [canary_run(noisy(stage, noise_multiplier), 40, rounds=1, number=n) for n in range(20)]
        bounds = canary_bounds(runs, claim, 0.99)
        assert any(bound.refutes(claim) for bound in bounds) == is_caught, bounds


def test_a_clip_that_lets_more_through_than_the_noise_is_measured_against_is_caught() -> None:
    claim, wide = claim_of(1.0), noisy(stage_of(job(clipping_bound=2 * BOUND), people()), 1.0)
    run = canary_run(wide, 40, rounds=1, number=0)
    assert any(bound.refutes(claim) for bound in canary_bounds([run], claim, 0.99))


def test_noise_that_clients_add_themselves_is_seen_in_what_each_of_them_sends() -> None:
    stage = stage_of(job(), people())
    chain = Chain((*stage.plan.codec.chain.stages, LocalNoise(noise_multiplier=1.5)))
    codec = Codec(chain, stage.plan.codec.spec)
    stage = replace(stage, plan=replace(stage.plan, codec=codec))
    runs = [local_run(stage, canaries=50, number=number) for number in range(10)]
    assert not any(bound.refutes(claim_of(1.5)) for bound in canary_bounds(runs, claim_of(1.5), 0.99))
    assert any(bound.refutes(claim_of(3.0)) for bound in canary_bounds(runs, claim_of(3.0), 0.99))


def test_rounds_that_cannot_be_played_are_an_error() -> None:
    vanishing = job(world=tacit.World(dropout=tacit.RandomDropout(0.99)), quorum=1.0)
    with pytest.raises(tacit.RunError) as caught:
        canary_run(stage_of(vanishing, people()), 10, rounds=2, number=0)
    assert caught.value.code == "T352"


QUICK = Effort(records=0, pictures=0)
SURE = 1 - 1e-6  # their noise comes from the operating system: such bounds are wrong once in a million tests

# --- private jobs ----------------------------------------------------------------------------------

FIXED = tacit.FixedClipping(bound=BOUND)
PRIVATE: dict[str, dict[str, Any]] = {
    "Poisson, adaptive clip": {"cohort": tacit.Poisson(rate=0.5), "quorum": 0.0},
    "Poisson, fixed clip": {"cohort": tacit.Poisson(rate=0.5), "quorum": 0.0, "clipping": FIXED},
    "fixed cohort": {"cohort": tacit.FixedSize(20), "clipping": FIXED},
    "correlated noise": {
        "cohort": tacit.FixedSize(10),
        "clipping": FIXED,
        "mechanism": BandedInverse(bands=4),
        "min_separation": 5,
    },
    "local noise": {"cohort": tacit.FixedSize(20), "clipping": FIXED, "trust": "local"},
}


def private_job(name: str, rounds: int = 10) -> tacit.Job:
    settings = dict(PRIVATE[name])
    asked = {key: settings.pop(key) for key in ("cohort", "quorum") if key in settings}
    privacy = tacit.Privacy(unit="user", noise_multiplier=1.0, delta=1e-3, **settings)
    return job(rounds=rounds, clipping_bound=None, privacy=privacy, **asked)


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_job_keeps_its_promise_and_with_half_the_noise_it_is_caught(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effort = Effort(records=0, pictures=0, canaries=50, runs=8, confidence=SURE)
    kept = audit(private_job(name), people(), effort=effort, folder=tmp_path / "kept").findings
    assert kept.claim.noise_multiplier == pytest.approx(1.0, rel=0.05)  # a little more beside an adaptive bit
    assert kept.verdict == "held", kept.bounds
    assert kept.highest is not None
    assert kept.highest.epsilon > 0.1 * kept.claim.epsilon
    whole = PrivacyPlan.noise_std
    monkeypatch.setattr(PrivacyPlan, "noise_std", lambda plan, bound: whole(plan, bound) / 2)
    broken = audit(private_job(name), people(), effort=effort, folder=tmp_path / "broken").findings
    assert broken.verdict == "refuted", broken.bounds


def test_noise_that_is_drawn_once_and_used_again_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Release.release

    def same(self: Release, partial: Partial, state: PrivacyState) -> Released:
        return release(self, partial, replace(state, key=bytes(32)))

    monkeypatch.setattr(Release, "release", same)
    effort = Effort(records=0, pictures=0, runs=1)
    found = audit(private_job("fixed cohort"), people(), effort=effort, folder=tmp_path / "one").findings
    assert "repeated_noise" in {bound.method for bound in found.refuting}


def test_noise_that_is_missing_in_part_of_the_vector_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere = tacit.round.release.add_noise

    def nowhere_in_the_first_half(total: Any, *others: Any) -> None:
        bare = total.copy()
        everywhere(total, *others)
        total[:50] = bare[:50]

    monkeypatch.setattr(tacit.round.release, "add_noise", nowhere_in_the_first_half)
    effort = Effort(records=0, pictures=0, runs=8)
    found = audit(private_job("fixed cohort"), people(), effort=effort, folder=tmp_path / "one").findings
    assert found.verdict == "refuted"


def test_a_private_job_is_audited_in_full(tmp_path: Path) -> None:
    effort = Effort(records=40, pictures=4, runs=2, confidence=SURE)
    found = audit(
        private_job("Poisson, fixed clip"), people(), effort=effort, folder=tmp_path / "one"
    ).findings
    assert found.verdict == "held"
    assert "epsilon" in found.privacy
    assert found.claim.record_epsilon > found.claim.epsilon
    assert found.membership is not None
    assert np.mean([picture.likeness_after.correlation for picture in found.pictures]) < 0.6


def test_a_promise_about_records_is_audited_with_records(tmp_path: Path) -> None:
    privacy = tacit.Privacy(unit="record", epsilon=3.0, delta=1e-3, clipping=FIXED)
    sites = job(rounds=2, clipping_bound=None, privacy=privacy)
    effort = Effort(records=60, pictures=2, confidence=SURE)
    found = audit(sites, people(4, records=40), effort=effort, folder=tmp_path / "one").findings
    assert found.verdict == "held"
    assert [bound.method for bound in found.bounds] == ["records"]
    assert found.claim.unit == "record"
    assert found.claim.record_epsilon > found.claim.epsilon > 0
    assert [reason.partition(":")[0] for reason in found.left_out] == ["canary clients", "gradient inversion"]


def test_noise_from_a_seed_is_said_to_protect_nobody(tmp_path: Path) -> None:
    whole = private_job("fixed cohort")
    assert whole.privacy is not None
    seeded = msgspec.structs.replace(
        whole, privacy=msgspec.structs.replace(whole.privacy, randomness="seeded")
    )
    found = audit(seeded, people(), effort=QUICK, folder=tmp_path / "one").findings
    assert any("whoever knows that can" in reason for reason in found.left_out)


# --- whole audits ----------------------------------------------------------------------------------


def test_an_audit_of_a_job_without_privacy_shows_what_an_attacker_gains(tmp_path: Path) -> None:
    result = audit(job(rounds=3), people(), effort=Effort(records=60, pictures=2), folder=tmp_path / "one")
    found = result.findings
    assert found.verdict == "none"
    assert {bound.method for bound in found.bounds} == {"one_run", "noise", "records"}
    assert found.highest is not None
    assert found.highest.epsilon == math.inf
    assert found.membership is not None
    assert [one.likeness_after.correlation for one in found.pictures] == pytest.approx([1, 1], abs=1e-3)
    plain = json.loads((tmp_path / "one" / FINDINGS).read_text())
    assert plain == json.loads(msgspec.json.encode(found.as_dict()))
    assert plain["bounds"][1]["epsilon"] is None  # JSON has no infinity
    assert "Not private" in result.report.read_text()
    assert Path(result.as_dict()["report"]).is_file()


@pytest.mark.parametrize(("noise_multiplier", "verdict"), [(1.0, "held"), (0.5, "refuted")])
def test_the_verdict_is_that_of_the_noise_that_was_really_added(
    tmp_path: Path, noise_multiplier: float, verdict: str
) -> None:
    stage = noisy(stage_of(job(rounds=4), people()), noise_multiplier)
    effort = Effort(records=0, pictures=2, runs=10)
    result = audit_stage(stage, claim_of(1.0, rounds=4), effort, tmp_path)
    assert result.findings.verdict == verdict
    assert bool(result.findings.refuting) == (verdict == "refuted")
    assert result.as_dict()["verdict"] == verdict


def test_a_promise_about_the_whole_run_is_audited_in_its_first_rounds(tmp_path: Path) -> None:
    stage = noisy(stage_of(job(rounds=50), people()), 0.5)
    effort = Effort(records=0, pictures=0, rounds=1, runs=20)
    assert audit_stage(stage, claim_of(1.0), effort, tmp_path).findings.verdict == "refuted"


def test_noise_hides_the_example_behind_an_update(tmp_path: Path) -> None:
    stage = noisy(stage_of(job(), people()), 1.0)
    pictures = audit_stage(stage, claim_of(1.0), Effort(records=0, pictures=6), tmp_path).findings.pictures
    assert np.mean([picture.likeness_before.correlation for picture in pictures]) > 0.999
    assert np.mean([picture.likeness_after.correlation for picture in pictures]) < 0.5


def test_records_that_were_learned_by_heart_are_recognised(tmp_path: Path) -> None:
    def deep() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))

    hard = job(
        task=tacit.Task(model=deep),
        algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.5, epochs=20, batch_size=10)),
        rounds=6,
        clipping_bound=None,
    )
    effort = Effort(records=100, pictures=0, rounds=1)
    found = audit(hard, people(4, records=50), effort=effort, folder=tmp_path / "one").findings
    assert found.membership is not None
    assert found.membership.auc > 0.65
    assert found.membership.members + found.membership.others == 100
    assert next(bound for bound in found.bounds if bound.method == "records").epsilon > 0


def test_a_promise_about_records_is_not_audited_with_clients(tmp_path: Path) -> None:
    claim = replace(claim_of(1.0), unit="record")
    found = audit_stage(stage_of(job(), people()), claim, QUICK, tmp_path).findings
    assert found.bounds == ()
    assert found.verdict == "held"
    assert found.left_out[0] == "canary clients: the promise is about records"


def test_what_a_model_does_not_allow_is_left_out_with_the_reason(tmp_path: Path) -> None:
    def words() -> nn.Module:
        return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 5))

    rng = np.random.default_rng(0)
    spoken = {f"c{n}": (rng.integers(0, 9, (4, 3)), rng.integers(0, 5, 4)) for n in range(20)}
    silent = job(task=tacit.Task(model=words), clipping_bound=None)
    found = audit(silent, spoken, effort=Effort(records=0, pictures=2), folder=tmp_path / "one").findings
    assert found.pictures == ()
    assert any("not words" in reason for reason in found.left_out)


def test_few_clients_are_made_up_for_by_more_runs(tmp_path: Path) -> None:
    found = audit(job(), people(10), effort=QUICK, folder=tmp_path / "one").findings
    assert (found.canaries, found.runs) == (10, 20)
    assert "many_runs" in {bound.method for bound in found.bounds}


@pytest.mark.parametrize(
    ("effort", "code"),
    [({"canaries": 61}, "T197"), ({"rounds": 2}, "T199"), ({"confidence": 0.3}, "T196")],
)
def test_an_audit_that_cannot_be_done_is_refused(tmp_path: Path, effort: dict[str, Any], code: str) -> None:
    def tried() -> object:
        quick = Effort(**{"records": 0, "pictures": 0, **effort})
        return audit(job(), people(), effort=quick, folder=tmp_path / "one")

    with pytest.raises(tacit.PlanError) as caught:
        tried()
    assert caught.value.code == code


def test_a_finished_audit_is_not_overwritten(tmp_path: Path) -> None:
    audit(job(), people(), effort=QUICK, folder=tmp_path)
    with pytest.raises(tacit.PlanError) as caught:
        audit(job(), people(), effort=QUICK, folder=tmp_path)
    assert caught.value.code == "T198"


def test_the_same_audit_finds_the_same(tmp_path: Path) -> None:
    one, other = (audit(job(), people(), effort=QUICK, folder=tmp_path / name).findings for name in "ab")
    assert replace(one, seconds=0.0) == replace(other, seconds=0.0)
