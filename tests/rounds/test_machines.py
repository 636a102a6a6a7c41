"""Both sides of a round talk to each other in memory: real training, real codec, real bytes."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from tacit.algorithms import FedAvg
from tacit.codec import Weigh
from tacit.core.cohort import All, Cohort, FixedSize
from tacit.core.errors import ProtocolError, RemoteProtocolError
from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.job import Job, Plan, make_plan, model_seed
from tacit.round import RoundDevice, RoundServer
from tacit.round.messages import (
    AssignmentReceived,
    ClientFailed,
    DeadlinePassed,
    Opened,
    RoundClosed,
    SendAssignment,
    SendUpdates,
    TrainingDone,
    UpdatesReceived,
)
from tacit.training import ClientWork, Task
from tacit.training.flat import build
from tacit.training.order import epoch_order
from tacit.training.threads import borrowed_torch
from tacit.training.torch_executor import TorchExecutor
from tacit.wire import pack_update, unpack_update

SIZES = (5, 9, 14, 20)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def job(cohort: Cohort = All(), **more: object) -> Job:
    return Job(
        name="pair",
        task=Task(model=model),
        algorithm=FedAvg(local=LocalSGD(lr=0.2, batch_size=4)),
        cohort=cohort,
        rounds=1,
        **more,  # type: ignore[arg-type]
    )


def data_of(position: int) -> Examples:
    rng = np.random.default_rng(position)
    return Examples.of(
        rng.standard_normal((SIZES[position], 3)).astype(np.float32), rng.integers(0, 2, SIZES[position])
    )


@dataclass
class Pair:
    """One server, one device per client, and a wire between them that carries bytes."""

    plan: Plan
    group: int = 1
    data: dict[str, Examples] = field(
        default_factory=lambda: {f"c{i}": data_of(i) for i in range(len(SIZES))}
    )
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.plan.job
        built = build(settings.task, model_seed(settings))
        self.vector = built.vector()
        terms = settings.algorithm.terms()
        self.executor = TorchExecutor(settings.task, built, settings.algorithm.local, terms, settings.seed)
        self.device = RoundDevice(self.plan.codec, settings.seed)
        self.server = RoundServer("pair", 1, settings.seed, settings.cohort, settings.policy, self.plan.rule)

    def play(self) -> RoundClosed:
        self.closed: list[RoundClosed] = []
        for effect in self.server.receive(Opened(tuple(self.data)), 0.0):
            if isinstance(effect, SendAssignment):
                for start in range(0, len(effect.clients), self.group):
                    self.answer(effect, effect.clients[start : start + self.group])
        if not self.closed:
            self.tell(DeadlinePassed())
        return self.closed[0]

    def answer(self, sent: SendAssignment, clients: tuple[str, ...]) -> None:
        self.device.receive(AssignmentReceived(sent.assignment, clients))
        work = [ClientWork(client, self.data[client], sent.assignment.round) for client in clients]
        (updates,) = self.device.receive(TrainingDone(self.executor.train(self.vector, work)))
        assert isinstance(updates, SendUpdates)
        rows = np.stack([self.carried(row) for row in updates.rows]) if updates.clients else updates.rows
        if updates.clients:
            self.tell(UpdatesReceived(updates.clients, self.plan.rule.lift(rows, self.plan.grid)))
        for client, failure in updates.failures.items():
            self.tell(ClientFailed(client, failure.reason))

    def carried(self, row: np.ndarray) -> np.ndarray:
        message = pack_update(row, self.plan.codec.sent, 1)
        assert len(message) == self.plan.bytes_up_per_client
        return unpack_update(message, self.plan.codec.sent, 1)

    def tell(self, event: object) -> None:
        try:
            effects = self.server.receive(event, 0.0)  # type: ignore[arg-type]
        except RemoteProtocolError as error:
            self.refused.append(error.code)
            return
        self.closed += [effect for effect in effects if isinstance(effect, RoundClosed)]

    def mean(self, closed: RoundClosed) -> np.ndarray:
        assert closed.partial is not None
        mean = self.plan.rule.finish(self.plan.grid.to_float(closed.partial.total), self.plan.codec.sent)
        assert mean is not None
        return mean[: self.plan.layout.size]


def pair(made: Job, **more: object) -> Pair:
    layout = build(made.task, 0).layout
    return Pair(make_plan(made, layout, np.array(SIZES)), **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _lent_torch():  # type: ignore[no-untyped-def]
    with borrowed_torch():
        yield


def by_hand(vector: np.ndarray, weights: list[float]) -> np.ndarray:
    """Train every client with torch's own optimizer, and average the models in float64."""
    updates = []
    for position in range(len(SIZES)):
        module = model()
        nn.utils.vector_to_parameters(torch.from_numpy(vector.copy()), module.parameters())
        optimizer, data = torch.optim.SGD(module.parameters(), lr=0.2), data_of(position)
        order = epoch_order(0, 1, f"c{position}", 0, len(data))
        for begin in range(0, len(data), 4):
            batch = data.take(order[begin : begin + 4])
            optimizer.zero_grad()
            outputs = module(torch.from_numpy(batch.inputs[0]))
            nn.functional.cross_entropy(outputs, torch.from_numpy(batch.target)).backward()
            optimizer.step()
        updates.append(nn.utils.parameters_to_vector(module.parameters()).detach().double().numpy() - vector)
    return np.average(np.stack(updates), axis=0, weights=weights)


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [(Weigh(), [5, 9, 14, 20]), (Weigh(cap=10), [5, 9, 10, 10]), (Weigh(by="uniform"), [1, 1, 1, 1])],
)
def test_a_round_is_federated_averaging_written_by_hand(weighting: Weigh, weights: list[float]) -> None:
    both = pair(job(weighting=weighting))
    closed = both.play()
    assert closed.record.outcome == "committed"
    np.testing.assert_allclose(both.mean(closed), by_hand(both.vector, weights), atol=1e-6)


@pytest.mark.parametrize("group", [2, 3, 4])
def test_phones_one_by_one_and_groups_of_them_hand_over_the_same_sum(group: int) -> None:
    alone, together = pair(job()), pair(job(), group=group)
    a, b = alone.play(), together.play()
    assert a.partial is not None
    assert b.partial is not None
    assert np.array_equal(a.partial.total, b.partial.total)
    assert a.record == b.record


def test_one_update_is_no_longer_than_the_clipping_bound_whatever_the_client_holds() -> None:
    both = pair(job(FixedSize(1), clipping_bound=0.01, quorum=1.0))
    for examples in both.data.values():
        examples.inputs[0][...] *= 100
    norm = np.linalg.norm(both.mean(both.play()).astype(np.float64))
    assert 0.0099 < norm <= 0.01


def test_a_client_with_broken_data_fails_alone_and_says_why_without_its_data() -> None:
    whole, broken = pair(job()), pair(job(), group=4)
    broken.data["c1"] = Examples.of(np.full((5, 3), np.nan, np.float32), np.zeros(5, dtype=np.int64))
    broken.data["c2"] = Examples.of(np.zeros((5, 3), np.float32), np.full(5, 777))
    closed = broken.play()
    assert closed.record.answered == ("c0", "c3")
    assert set(closed.record.failed) == {"c1", "c2"}
    assert "777" not in str(closed.record)
    del whole.data["c1"], whole.data["c2"]
    assert np.array_equal(broken.mean(closed), whole.mean(whole.play()))


def test_over_selection_refuses_the_surplus_and_commits_with_what_it_wanted() -> None:
    both = pair(job(FixedSize(2, over_selection=2.0)))
    closed = both.play()
    assert len(closed.record.answered) == 2
    assert closed.partial is not None
    assert closed.partial.clients == 2
    assert both.refused == ["T511", "T511"]
    assert len(both.closed) == 1


def test_a_round_played_again_on_the_same_device_is_a_replay() -> None:
    both = pair(job())
    both.play()
    both.server = RoundServer("pair", 1, 0, All(), both.plan.job.policy, both.plan.rule)
    with pytest.raises(ProtocolError) as caught:
        both.play()
    assert caught.value.code == "T516"


def test_an_update_of_another_round_does_not_get_through_the_wire() -> None:
    both = pair(job())
    row = np.zeros(both.plan.codec.sent.size, dtype=np.float32)
    with pytest.raises(RemoteProtocolError) as caught:
        unpack_update(pack_update(row, both.plan.codec.sent, 2), both.plan.codec.sent, 1)
    assert caught.value.code == "T524"
