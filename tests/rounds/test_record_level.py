"""Whole runs that protect records: what is computed, by whom, and what each site is charged for it."""

import os
import signal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import tacit
from tacit.core.errors import ConfigError, PlanError
from tacit.core.randomness import seed64
from tacit.job import make_plan
from tacit.privacy import SamplingFacts, plan_privacy
from tacit.privacy.accounting import epsilon
from tacit.round import PrivacyRecord, RoundRecord
from tacit.sim.observer import Silent
from tacit.store import RunFolder
from tacit.store.ledger import LEDGER, Ledger
from tacit.training.flat import FlatModel, build
from tacit.training.private_draws import SeededRecordDraws
from tests.rounds import worlds
from tests.rounds.record_jobs import DELTA, SIZES, job, population, privacy, rounds_charged, spent
from tests.rounds.worlds import told

LOCAL = tacit.LocalSGD(lr=0.3, batch_size=8)
CALIBRATED = {"privacy": privacy(epsilon=1.5), "rounds": 3}
Vector = npt.NDArray[np.float64]


def vector_of(result: tacit.Result) -> Vector:
    return FlatModel(result.model(), buffers="average").vector().astype(np.float64)


class Stopping(Silent):
    """Asks to stop after a round, and remembers what was spent."""

    def __init__(self, after: int | None = None) -> None:
        self._after = after
        self.seen: list[PrivacyRecord] = []

    def round_closed(self, record: RoundRecord) -> None:
        if record.round == self._after:
            os.kill(os.getpid(), signal.SIGINT)

    def spent(self, record: PrivacyRecord) -> None:
        self.seen.append(record)


# --- what is computed --------------------------------------------------------------------------------


def clipped(gradient: Vector, bound: float) -> Vector:
    return gradient * min(1.0, bound / float(np.linalg.norm(gradient)))


def gradients_of(vector: Vector, inputs: Vector, target: Vector) -> list[Vector]:
    """Return each example's gradient of softmax regression, by hand."""
    weights, bias = vector[:18].reshape(3, 6), vector[18:]
    scores = np.exp(inputs @ weights.T + bias)
    errors = scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[target.astype(int)]
    return [
        np.concatenate([np.outer(error, x).ravel(), error]) for error, x in zip(errors, inputs, strict=True)
    ]


def site_update(vector: Vector, place: int, site: str, number: int, noise: float) -> Vector:
    """Return what a site makes of a model by DP-SGD as it is written down (Abadi et al. 2016)."""
    held, draws = worlds.examples(place, SIZES[site]), SeededRecordDraws(3)
    inputs, target = held.inputs[0].astype(np.float64), held.target.astype(np.float64)
    size = SIZES[site]
    batch = min(8, size)
    here = vector.copy()
    for step in range(-(-size // 8)):
        members = draws.membership(number, site, step, size, batch / size)
        clean = [clipped(each, 0.7) for each in gradients_of(here, inputs[members], target[members])]
        total = np.sum(clean, axis=0) if clean else np.zeros(21)
        total = total + noise * 0.7 * draws.noise(number, site, step, 21)
        here -= 0.3 * total / batch
    return here - vector


def expected_model(rounds: int) -> Vector:
    """Return the model after a plain loop of so many rounds; each site's noise is from a plan of its own."""
    task = job().task
    vector = build(task, seed64(3, "model")).vector().astype(np.float64)
    noises = {
        size: plan_privacy(
            privacy(epsilon=1.5), SamplingFacts.of_batches(LOCAL, size, rounds)
        ).noise_multiplier
        for size in set(SIZES.values())
    }
    for number in range(1, rounds + 1):
        updates = [
            site_update(vector, place, site, number, noises[SIZES[site]]) for place, site in enumerate(SIZES)
        ]
        vector = vector + np.average(updates, axis=0, weights=list(SIZES.values()))
    return vector


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tacit.Result:
    """A run whose four sites each stay within epsilon 1.5."""
    return tacit.run(job(**CALIBRATED), population(), folder=tmp_path_factory.mktemp("calibrated") / "run")


def test_a_run_computes_what_a_plain_loop_over_sites_does(calibrated: tacit.Result) -> None:
    np.testing.assert_allclose(vector_of(calibrated), expected_model(3), atol=2e-5, rtol=0)


def test_two_workers_give_the_same_run_as_one(calibrated: tacit.Result, folder: Path) -> None:
    tacit.run(job(**CALIBRATED), population(), folder=folder, workers=2)
    assert told(folder) == told(calibrated.folder)
    assert rounds_charged(folder) == rounds_charged(calibrated.folder)


def test_an_interrupted_run_ends_with_the_same_model(calibrated: tacit.Result, folder: Path) -> None:
    first = tacit.run(job(**CALIBRATED), population(), folder=folder, observer=Stopping(after=2))
    assert first.outcome == "interrupted"
    assert first.info.guarantee is not None
    assert first.info.guarantee.epsilon < calibrated.info.guarantee.epsilon  # type: ignore[union-attr]
    tacit.run(job(**CALIBRATED), population(), folder=folder, resume=True)
    assert told(folder) == told(calibrated.folder)


class Indifferent(nn.Module):
    """A model whose loss no parameter changes: what it learns is noise alone."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(20_000))

    def forward(self, inputs: Tensor) -> Tensor:
        return 0.0 * self.unused.sum() + inputs[:, : worlds.CLASSES]


def indifferent() -> nn.Module:
    return Indifferent()


def test_noise_from_the_system_has_the_size_that_is_charged_for_and_never_repeats(folder: Path) -> None:
    local = tacit.LocalSGD(lr=1.0, steps=1, batch_size="all")
    secret = job(model=indifferent, local=local, rounds=1, privacy=privacy(randomness="system"))
    sent = []
    for name in ("first", "second"):
        one = tacit.Population.of({"basel": worlds.examples(0, 20)})
        result = tacit.run(secret, one, folder=folder.with_name(name))
        assert result.info.guarantee is not None
        assert result.info.guarantee.is_private
        sent.append(vector_of(result) * 20)
    for noise in sent:
        assert stats.kstest(noise / (1.5 * 0.7), "norm").pvalue > 1e-6
    assert abs(np.corrcoef(sent[0], sent[1])[0, 1]) < 0.05


# --- what is charged ---------------------------------------------------------------------------------


def test_every_site_has_a_ledger_of_its_own_that_says_what_it_spent(calibrated: tacit.Result) -> None:
    assert rounds_charged(calibrated.folder) == dict.fromkeys(SIZES, 3)
    reached = {}
    for site, size in SIZES.items():
        total = spent(calibrated.folder, site)
        assert total.relations == {"add_remove"}
        reached[site] = epsilon(total.events, DELTA, total.adjacency)
        steps = [event.count for event in total.events]  # type: ignore[union-attr]
        assert steps == [-(-size // 8)]
    assert max(reached.values()) == calibrated.info.epsilon
    assert max(reached.values()) <= 1.5
    assert min(reached.values()) > 1.49


def test_the_record_says_what_is_promised_and_who_trained(calibrated: tacit.Result) -> None:
    info = calibrated.info
    assert info.guarantee is not None
    assert (info.guarantee.unit, info.guarantee.adjacency) == ("record", "add_remove")
    assert info.privacy.startswith("seeded, not private: epsilon 1.500 at delta 0.001 for each record")
    assert info.executor == "private"
    assert info.executor_reason == "record-level privacy clips every example"
    assert all(record.train_loss is None for record in RunFolder(calibrated.folder).rounds())


def test_each_round_notes_what_was_spent_so_far(folder: Path) -> None:
    observer = Stopping()
    result = tacit.run(job(), population(), folder=folder, observer=observer)
    spends = RunFolder(folder).spends()
    assert observer.seen == spends
    assert [spend.step for spend in spends] == [1, 2, 3, 4, 5]
    shown = [spend.epsilon for spend in spends if spend.epsilon is not None]
    assert shown == sorted(shown)
    assert shown[-1] == result.info.epsilon
    assert {(spend.noise_std, spend.clipping_bound) for spend in spends} == {(1.5 * 0.7, 0.7)}


def test_only_sites_that_are_asked_are_charged(folder: Path) -> None:
    result = tacit.run(job(cohort=tacit.FixedSize(2)), population(), folder=folder)
    invited = [site for record in RunFolder(folder).rounds() for site in record.invited]
    charged = rounds_charged(folder)
    assert charged == {site: invited.count(site) for site in SIZES}
    assert len(set(charged.values())) > 1
    plan = make_plan(job(), build(job().task, 0).layout, np.array(list(SIZES.values())))
    assert plan.sites is not None
    by_size: dict[int, int] = {}
    for site, size in SIZES.items():
        by_size[size] = max(charged[site], by_size.get(size, 0))
    assert result.info.guarantee == plan.sites.statement(by_size)


def test_a_round_that_does_not_count_is_charged_all_the_same(folder: Path) -> None:
    world = tacit.World(dropout=tacit.RandomDropout(0.5))
    result = tacit.run(job(world=world, quorum=0.75, rounds=2), population(), folder=folder)
    records = RunFolder(folder).rounds()
    assert [record.outcome for record in records] == ["committed", "abandoned"]
    assert [spend.step for spend in RunFolder(folder).spends()] == [1, 2]
    assert rounds_charged(folder) == dict.fromkeys(SIZES, 2)
    assert result.outcome == "exhausted"  # two rounds of noise have left the sites, and one of them counts


def test_a_run_ends_before_the_round_that_one_sites_budget_does_not_allow(folder: Path) -> None:
    sites = make_plan(job(), build(job().task, 0).layout, np.array(list(SIZES.values()))).sites
    assert sites is not None
    folder.mkdir()
    with Ledger(folder / LEDGER) as ledger:
        ledger.set_budget("clinics/chur", sites.statement({20: 3}).epsilon * 1.0001, DELTA)
    result = tacit.run(job(), population(), folder=folder)
    assert (result.outcome, result.info.rounds) == ("exhausted", 3)
    assert "clinics/chur" in result.info.reason
    assert rounds_charged(folder) == dict.fromkeys(SIZES, 3)  # nobody for the round that did not begin
    assert result.info.guarantee == sites.statement(dict.fromkeys(sites.plans, 3))


def test_a_ledger_that_was_lost_is_charged_for_when_the_run_goes_on(folder: Path) -> None:
    tacit.run(job(), population(), folder=folder, observer=Stopping(after=3))
    assert rounds_charged(folder) == dict.fromkeys(SIZES, 3)
    for file in folder.glob(f"{LEDGER}*"):
        file.unlink()
    assert tacit.run(job(), population(), folder=folder, resume=True).outcome == "completed"
    assert rounds_charged(folder) == dict.fromkeys(SIZES, 5)


def test_with_noise_that_cannot_be_drawn_again_an_orderly_stop_costs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {name: worlds.Loader(place, size) for place, (name, size) in enumerate(SIZES.items())}
    secret = job(privacy=privacy(randomness="system"), evaluation=tacit.Evaluation(clients=0))
    monkeypatch.setattr(worlds.Loader, "asked", [])
    monkeypatch.setattr(worlds.Loader, "interrupt_at", 11)  # in the middle of a round: sites have trained
    run = {"folder": folder, "population": tacit.Population.of(held, sizes=SIZES)}
    assert tacit.run(secret, **run).outcome == "interrupted"  # type: ignore[arg-type]
    assert len(RunFolder(folder).rounds()) == 1
    assert rounds_charged(folder) == dict.fromkeys(SIZES, 1)
    assert tacit.run(secret, **run, resume=True).outcome == "completed"  # type: ignore[arg-type]
    assert rounds_charged(folder) == dict.fromkeys(SIZES, 5)


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["torch", "rules", "functional"])
def test_an_executor_that_protects_no_records_is_refused(folder: Path, executor: str) -> None:
    with pytest.raises(PlanError, match="it protects no records; record-level privacy clips every example"):
        tacit.run(job(), population(), folder=folder, executor=executor)
    assert not folder.exists()


def test_the_private_executor_is_for_jobs_that_promise_something_about_records(folder: Path) -> None:
    with pytest.raises(PlanError, match="the job promises nothing about these"):
        tacit.run(job(privacy=None), population(), folder=folder, executor="private")
    named = tacit.run(job(rounds=1), population(), folder=folder, executor="private")
    assert named.info.executor == "private"


def test_a_resumed_run_does_not_change_to_another_executor(folder: Path) -> None:
    tacit.run(job(), population(), folder=folder, observer=Stopping(after=1))
    with pytest.raises(ConfigError, match="began with the executor `private`, not `torch`"):
        tacit.run(job(), population(), folder=folder, resume=True, executor="torch")


def mixing() -> nn.Module:
    return nn.Sequential(
        nn.Linear(worlds.FEATURES, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)
    )


def test_a_model_that_mixes_examples_is_refused_before_anything_runs(folder: Path) -> None:
    with pytest.raises(PlanError, match="mixes the examples of a batch") as caught:
        tacit.run(job(model=mixing), population(), folder=folder)
    assert caught.value.code == "T158"
    assert not folder.exists()
