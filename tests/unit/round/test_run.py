"""A run of rounds, driven in memory by clients that want to be at a certain point."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tacit.aggregate import WeightedMean
from tacit.algorithms import ServerAdam, ServerOptimizer, ServerSGD
from tacit.codec import Chain, Codec, Weigh
from tacit.core.cohort import All, Cohort, FixedSize, Poisson
from tacit.core.errors import LocalProtocolError
from tacit.core.layout import Layout
from tacit.core.randomness import generator
from tacit.core.rule import Grid
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.core.stage import StageContext
from tacit.round import (
    Evaluation,
    EvaluationRecord,
    Patience,
    RoundPolicy,
    RoundRecord,
    Run,
    RunSettings,
    Snapshot,
    TargetMetric,
)
from tacit.round.messages import ClientsDropped, Opened, RoundClosed, SendAssignment, UpdatesReceived
from tacit.round.run import MOST_ABANDONED, Evaluate, Evaluated, Finish, NoteRound, RunEffect, StartRound

CLIENTS = tuple(f"client-{i}" for i in range(6))
LAYOUT = Layout.of(parameters={"w": (3,)}, buffers={"b": (1,)})
GOAL = np.array([1.0, -2.0, 0.5, 4.0], dtype=np.float32)


def settings(
    rounds: int = 6,
    *,
    every: int = 1,
    stop: tuple[Any, ...] = (),
    optimizer: ServerOptimizer = ServerSGD(),
    cohort: Cohort = All(),
    quorum: float = 0.5,
) -> RunSettings:
    spec = UpdateSpec.for_layout(LAYOUT).append(SegmentSpec("metrics", 1, coordinate_bound=2.0**20))
    codec = Codec(Chain((Weigh(),)), spec)
    return RunSettings(
        job="job",
        seed=0,
        rounds=rounds,
        cohort=cohort,
        policy=RoundPolicy(quorum=quorum),
        rule=WeightedMean(),
        codec=codec,
        grid=Grid.for_sum(codec.sent, len(CLIENTS)),
        layout=LAYOUT,
        optimizer=optimizer,
        stop=stop,
        evaluation=Evaluation(every=every),
    )


def start() -> Snapshot:
    return Snapshot(0, 0, 0, 0.0, np.zeros(LAYOUT.size, dtype=np.float32))


@dataclass
class Driver:
    """Performs a run's effects; its clients move a third of the way to the goal, give or take a draw."""

    run: Run
    nobody_answers: Callable[[int], bool] = lambda number: False
    metric: Callable[[int, np.ndarray], float] | None = None
    log: list[RunEffect] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    def to_the_end(self) -> Finish:
        pending = list(self.run.begin())
        while True:
            effect = pending.pop(0)
            self.log.append(effect)
            match effect:
                case Finish():
                    assert not pending
                    return effect
                case StartRound():
                    pending += self.run.receive(self.play(effect))
                    self.snapshots.append(self.run.snapshot())
                case Evaluate():
                    pending += self.run.receive(Evaluated(self.measure(effect)))
                    self.snapshots.append(self.run.snapshot())

    def play(self, effect: StartRound) -> RoundClosed:
        server, now = effect.server, self.run.state.now_s
        (sent,) = server.receive(Opened(CLIENTS), now)
        if isinstance(sent, RoundClosed):
            return sent
        assert isinstance(sent, SendAssignment)
        if self.nobody_answers(server.number):
            (closed,) = server.receive(ClientsDropped(sent.clients), now + 1)
            assert isinstance(closed, RoundClosed)
            return closed
        rows = np.stack([self.row(effect.vector, server.number, client) for client in sent.clients])
        made = self.run.settings
        ctx = StageContext(made.codec.spec, 0, server.number, sent.clients, np.full(len(rows), 10))
        encoded, _ = made.codec.encode(rows, {}, ctx)
        (closed,) = server.receive(UpdatesReceived(sent.clients, made.rule.lift(encoded, made.grid)), now + 1)
        assert isinstance(closed, RoundClosed)
        return closed

    def row(self, vector: np.ndarray, number: int, client: str) -> np.ndarray:
        noise = generator(0, number, client).standard_normal(len(GOAL)).astype(np.float32)
        move = (GOAL - vector) / 3 + noise / 100
        return np.append(move, np.float32(number)).astype(np.float32)

    def measure(self, effect: Evaluate) -> EvaluationRecord:
        distance = float(np.linalg.norm(effect.vector - GOAL))
        value = distance if self.metric is None else self.metric(effect.round, effect.vector)
        return EvaluationRecord(
            round=effect.round, central={"loss": value}, per_client={"loss": {"a": value}}
        )

    @property
    def records(self) -> list[RoundRecord]:
        return [effect.record for effect in self.log if isinstance(effect, NoteRound)]

    @property
    def measured(self) -> list[int]:
        return [effect.round for effect in self.log if isinstance(effect, Evaluate)]


def driven(made: RunSettings, **more: Any) -> tuple[Driver, Finish]:
    driver = Driver(Run(made, start()), **more)
    return driver, driver.to_the_end()


# --- the model ---------------------------------------------------------------------------------


def test_a_run_goes_where_its_clients_want_to_go_and_ends_after_its_rounds() -> None:
    driver, finish = driven(settings(rounds=12))
    assert finish == Finish("completed", "all 12 rounds are done")
    np.testing.assert_allclose(driver.run.state.vector, GOAL, atol=0.05)
    assert [record.round for record in driver.records] == list(range(1, 13))
    assert driver.run.state.committed == 12
    assert driver.run.state.now_s == 12.0


def test_parameters_move_by_the_server_optimizer_and_buffers_by_their_plain_mean() -> None:
    driver, _ = driven(settings(rounds=1, optimizer=ServerSGD(lr=0.5)))
    mean = np.mean([driver.row(start().vector, 1, client)[:4] for client in CLIENTS], axis=0)
    np.testing.assert_allclose(driver.run.state.vector, [*(0.5 * mean[:3]), mean[3]], rtol=1e-5)


def test_a_rounds_training_loss_is_the_mean_of_what_its_clients_sent() -> None:
    driver, _ = driven(settings(rounds=3))
    assert [record.train_loss for record in driver.records] == [1.0, 2.0, 3.0]


def test_a_snapshot_is_not_changed_by_later_rounds() -> None:
    driver, _ = driven(settings(rounds=4, optimizer=ServerAdam(lr=0.1)))
    again, _ = driven(settings(rounds=4, optimizer=ServerAdam(lr=0.1)))
    vectors = [snapshot.vector for snapshot in driver.snapshots]
    assert len({vector.tobytes() for vector in vectors}) == 5
    for before, after in zip(driver.snapshots, again.snapshots, strict=True):
        assert np.array_equal(before.vector, after.vector)


# --- measuring ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounds", "every", "measured"),
    [(4, 1, [0, 1, 2, 3, 4]), (5, 2, [0, 2, 4, 5]), (4, 2, [0, 2, 4]), (3, 100, [0, 3])],
)
def test_the_first_the_last_and_every_so_many_models_are_measured(
    rounds: int, every: int, measured: list[int]
) -> None:
    driver, _ = driven(settings(rounds=rounds, every=every))
    assert driver.measured == measured
    assert [record.round for record in driver.run.state.history] == measured


def test_history_keeps_no_values_of_single_clients() -> None:
    driver, _ = driven(settings(rounds=2))
    assert all(record.per_client == {} for record in driver.run.state.history)


def test_a_record_is_noted_before_the_model_is_measured() -> None:
    driver, _ = driven(settings(rounds=2))
    kinds = [type(effect).__name__ for effect in driver.log]
    assert kinds == ["Evaluate", *["StartRound", "NoteRound", "Evaluate"] * 2, "Finish"]


# --- stopping ----------------------------------------------------------------------------------


def test_a_reached_target_ends_the_run() -> None:
    driver, finish = driven(settings(rounds=50, stop=(TargetMetric(metric="loss", value=0.5),)))
    assert finish.outcome == "completed"
    assert finish.reason.startswith("loss reached 0.")
    values = [record.central["loss"] for record in driver.run.state.history]
    assert values[-1] <= 0.5 < min(values[:-1])


def test_a_target_reached_at_the_start_ends_the_run_before_its_first_round() -> None:
    driver, finish = driven(settings(stop=(TargetMetric(metric="loss", value=100.0),)))
    assert finish.outcome == "completed"
    assert driver.measured == [0]
    assert driver.run.state.round == 0


def test_patience_ends_a_run_that_stands_still() -> None:
    driver, finish = driven(
        settings(rounds=50, stop=(Patience(rounds=3),)), metric=lambda number, _: max(5.0 - number, 2.0)
    )
    assert finish == Finish("completed", "loss has not improved since round 3")
    assert driver.run.state.round == 6


def test_a_stop_rule_looks_only_at_measured_rounds() -> None:
    driver, _ = driven(
        settings(rounds=50, every=4, stop=(TargetMetric(metric="loss", value=1.0),)),
        metric=lambda number, _: 10.0 - number,
    )
    assert driver.measured == [0, 4, 8, 12]
    assert driver.run.state.round == 12


# --- what goes wrong ---------------------------------------------------------------------------


def test_an_abandoned_round_moves_nothing_and_does_not_count() -> None:
    driver, finish = driven(settings(rounds=3), nobody_answers=lambda number: number in (2, 3, 5))
    assert finish.outcome == "completed"
    assert [record.outcome[0] for record in driver.records] == list("caacac")
    assert driver.measured == [0, 1, 4, 6]
    assert driver.run.state.round == 6
    assert driver.run.state.committed == 3


def test_too_many_abandoned_rounds_in_a_row_fail_the_run_and_keep_the_model() -> None:
    driver, finish = driven(settings(rounds=9), nobody_answers=lambda number: number > 2)
    assert finish.outcome == "failed"
    assert finish.reason == "3 rounds in a row were abandoned: 0 of at least 3 clients answered"
    assert len(driver.records) == 2 + MOST_ABANDONED
    assert np.array_equal(driver.run.state.vector, driver.snapshots[3].vector)


def test_a_committed_round_forgives_the_abandoned_ones_before_it() -> None:
    _, finish = driven(settings(rounds=4), nobody_answers=lambda number: number % 3 != 0)
    assert finish.outcome == "completed"


def test_rounds_to_which_nobody_was_invited_are_nobodys_failure() -> None:
    driver, finish = driven(settings(rounds=4, cohort=Poisson(rate=0.05)))
    assert finish.outcome == "completed"
    empty = [not record.invited for record in driver.records]
    assert any(all(empty[i : i + MOST_ABANDONED]) for i in range(len(empty)))


@dataclass(frozen=True)
class Exploding:
    """A server optimizer that diverges in its third step, in one coordinate."""

    value: float

    def step(self, vector: Any, update: Any, state: Any) -> tuple[Any, Any]:
        count = float(state.get("count", np.zeros(1))[0]) + 1
        moved = vector + update
        if count == 3:
            moved[1] = self.value
        return moved, {"count": np.full(1, count, dtype=np.float32)}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_no_longer_finite_fails_the_run_and_the_last_finite_one_is_kept(value: float) -> None:
    driver, finish = driven(settings(rounds=9, optimizer=Exploding(value)))
    assert finish.outcome == "failed"
    assert "no longer finite after round 3" in finish.reason
    assert driver.run.state.committed == 2
    assert np.isfinite(driver.run.state.vector).all()
    assert np.array_equal(driver.run.state.vector, driver.snapshots[4].vector)
    assert driver.records[-1].train_loss == 3.0


def test_after_its_end_a_run_takes_nothing_more() -> None:
    driver, _ = driven(settings(rounds=1))
    with pytest.raises(LocalProtocolError) as caught:
        driver.run.receive(Evaluated(EvaluationRecord(round=1)))
    assert caught.value.code == "T512"


# --- going on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [ServerSGD(momentum=0.5), ServerAdam(lr=0.3)])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("stop", [(), (Patience(rounds=2, least_gain=0.5),)])
@pytest.mark.parametrize("cohort", [FixedSize(4), Poisson(rate=0.2)], ids=["fixed", "poisson"])
def test_a_run_resumed_from_any_snapshot_ends_like_one_that_was_never_interrupted(
    optimizer: ServerOptimizer, every: int, stop: tuple[Any, ...], cohort: Cohort
) -> None:
    made = settings(rounds=6, every=every, optimizer=optimizer, cohort=cohort, stop=stop)
    missing: Callable[[int], bool] = lambda number: number in (3, 4)  # noqa: E731 - a value, not a function
    whole, finish = driven(made, nobody_answers=missing)
    assert len(whole.snapshots) >= 6
    assert any(not record.invited for record in whole.records) == isinstance(cohort, Poisson)
    for snapshot in whole.snapshots:
        resumed = Driver(Run(made, replace(snapshot)), nobody_answers=missing)
        assert resumed.to_the_end() == finish
        assert np.array_equal(resumed.run.state.vector, whole.run.state.vector)
        assert resumed.run.state.history == whole.run.state.history
        assert resumed.run.state.round == whole.run.state.round


@pytest.mark.parametrize("every", [1, 2, 9])
def test_a_run_killed_before_its_last_measurement_is_measured_when_it_goes_on(every: int) -> None:
    made = settings(rounds=3, every=every)
    whole, _ = driven(made)
    before = next(s for s in whole.snapshots if s.committed == 3 and s.history[-1].round < 3)
    resumed = Driver(Run(made, before))
    resumed.to_the_end()
    assert resumed.measured == [3]
    assert resumed.run.state.history == whole.run.state.history


def test_clients_buffers_are_kept_between_rounds_and_in_snapshots() -> None:
    run = Run(settings(), start())
    run.keep_buffers({"a": np.ones(2, np.float32)})
    kept = run.snapshot()
    run.keep_buffers({"a": np.zeros(2, np.float32), "b": np.ones(2, np.float32)})
    assert kept.buffers["a"].tolist() == [1, 1]
    assert set(kept.buffers) == {"a"}
    resumed = Run(settings(), kept)
    found = resumed.buffers_of("a")
    assert found is not None
    assert found.tolist() == [1, 1]
    assert resumed.buffers_of("b") is None
