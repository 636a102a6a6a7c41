"""A wrong executor is found out by what it computes; a right one that rounds otherwise is not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.examples import Examples
from tacit.core.layout import Vector
from tacit.core.local import LocalSGD
from tacit.core.spec import SegmentSpec, UpdateSpec
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task, Trained
from tacit.training import torch_executor as torch_executor_module
from tacit.training.agreement import Agreement, compare
from tacit.training.executor import Executor, Failure
from tacit.training.flat import build
from tacit.training.order import epoch_order
from tacit.training.rules import RulesExecutor
from tacit.training.torch_executor import TorchExecutor

FEATURES, CLASSES, SEED = 6, 3, 5
LOCAL = LocalSGD(lr=0.1, epochs=2, batch_size=8, momentum=0.5, weight_decay=1e-3)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def examples(client: int, size: int) -> Examples:
    rng = np.random.default_rng(client)
    inputs = rng.standard_normal((size, FEATURES)).astype(np.float32)
    return Examples.of(inputs, (inputs[:, 0] > 0).astype(np.int64) + (inputs[:, 1] > 0.5))


def works(*sizes: int) -> list[ClientWork]:
    return [ClientWork(f"c{i}", examples(i, size), round=1) for i, size in enumerate(sizes)]


def torch_executor(
    local: LocalSGD = LOCAL,
    *,
    terms: LocalTerms = LocalTerms(),
    seed: int = SEED,
    module: Callable[[], nn.Module] = model,
    loss: Any = "cross_entropy",
    buffers: Any = "average",
) -> tuple[TorchExecutor, Vector]:
    task = Task(model=module, loss=loss, buffers=buffers)
    built = build(task, 1)
    return TorchExecutor(task, built, local, terms, seed), built.vector()


def judged(
    candidate: Executor, local: LocalSGD = LOCAL, *sizes: int, group: int = 4, **made: Any
) -> Agreement:
    reference, vector = torch_executor(local, **made)
    return compare(candidate, reference, vector, works(*(sizes or (40, 24, 16, 16))), local, group)


class Altered:
    """Torch's own executor, with what it is given or gives changed on the way."""

    def __init__(
        self,
        before: Callable[[Sequence[ClientWork]], Sequence[ClientWork]] = lambda group: group,
        after: Callable[[Trained, Sequence[ClientWork]], Trained] = lambda trained, group: trained,
        **made: Any,
    ) -> None:
        self._executor, _ = torch_executor(**made)
        self._before, self._after = before, after

    @property
    def spec(self) -> UpdateSpec:
        return self._executor.spec

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        return self._after(self._executor.train(vector, self._before(group)), group)


# --- right ones -------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [1, 3, 64])
def test_torch_agrees_with_itself(group: int) -> None:
    assert judged(torch_executor()[0], group=group) == Agreement()


@pytest.mark.parametrize("batch", [8, 64, "all"])
def test_executors_that_round_otherwise_agree_and_say_how_closely(batch: Any) -> None:
    local = LocalSGD(lr=0.1, epochs=2, batch_size=batch, momentum=0.9, max_grad_norm=1.0)
    task = Task(model=model)
    rules = RulesExecutor(task, build(task, 1), local, LocalTerms(proximal=0.1), SEED)
    found = judged(rules, local, terms=LocalTerms(proximal=0.1))
    assert found.objection == ""
    assert 0 < found.error < 1e-5


def test_a_tiny_learning_rate_is_no_reason_to_refuse_a_right_executor() -> None:
    local = LocalSGD(lr=1e-6, batch_size=8)
    task = Task(model=model)
    assert not judged(RulesExecutor(task, build(task, 1), local, LocalTerms(), SEED), local).objection


def test_rows_may_come_in_another_order() -> None:
    def backwards(trained: Trained, group: Sequence[ClientWork]) -> Trained:
        return replace(
            trained,
            clients=trained.clients[::-1],
            rows=trained.rows[::-1].copy(),
            examples=trained.examples[::-1],
        )

    assert judged(Altered(after=backwards)) == Agreement()


def test_a_client_may_be_refused_for_its_update_where_torch_refuses_its_data() -> None:
    def untold(trained: Trained, group: Sequence[ClientWork]) -> Trained:
        """Hand in a row that is not finite for every client that failed."""
        lost = np.full((len(trained.failures), trained.rows.shape[1]), np.nan, dtype=np.float32)
        clients = (*trained.clients, *trained.failures)
        counts = (*trained.examples, *[0] * len(trained.failures))
        return Trained(clients, np.concatenate([trained.rows, lost]), counts)

    assert judged(Altered(after=untold)) == Agreement()


# --- wrong ones -------------------------------------------------------------------------------------


def full_batch_mean(outputs: Tensor, targets: Tensor) -> Tensor:
    """Divide by the size of a full batch: right but for a short one."""
    total: Tensor = functional.cross_entropy(outputs, targets, reduction="sum")
    return total / 8


def padded_mean(outputs: Tensor, targets: Tensor) -> Tensor:
    """Fill a short batch up with a blank example: a mask that was forgotten."""
    missing = 8 - len(targets)
    if missing > 0:
        outputs = torch.cat([outputs, outputs.new_zeros(missing, CLASSES)])
        targets = torch.cat([targets, targets.new_zeros(missing)])
    return functional.cross_entropy(outputs, targets)


def without(**settings: Any) -> LocalSGD:
    known = {"lr": 0.1, "epochs": 2, "batch_size": 8, "momentum": 0.5, "weight_decay": 1e-3}
    return LocalSGD(**(known | settings))


@pytest.mark.parametrize(
    "made",
    [
        {"local": without(momentum=0.0)},
        {"local": without(momentum=0.49)},
        {"local": without(weight_decay=0.0)},
        {"local": without(weight_decay=2e-3)},
        {"local": without(lr=0.1001)},
        {"local": without(epochs=1)},
        {"local": without(batch_size=9)},
        {"local": without(shuffle=False)},
        {"local": without(max_grad_norm=0.5)},
        {"terms": LocalTerms(proximal=0.01)},
        {"seed": SEED + 1},
        {"loss": full_batch_mean},
        {"loss": padded_mean},
    ],
    ids=lambda made: str(next(iter(made.values()))).partition(" at ")[0][:60],
)
def test_an_executor_that_computes_something_else_is_found_out(made: dict[str, Any]) -> None:
    assert judged(Altered(**made)).objection.startswith("differs from torch by")


def test_a_short_last_batch_is_tried_even_where_no_client_has_one() -> None:
    assert judged(Altered(loss=padded_mean), LOCAL, 16, 8, 24).objection.startswith("differs")


def test_an_order_that_stays_the_same_in_every_epoch_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small learning rate it hardly shows after whole epochs: only in the middle of one."""
    local = LocalSGD(lr=1e-3, epochs=4, batch_size=8)

    class SameOrder(Altered):
        def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
            with monkeypatch.context() as patch:
                patch.setattr(
                    torch_executor_module, "epoch_order", lambda *at: epoch_order(*at[:3], 0, at[4])
                )
                return super().train(vector, group)

    candidate, (reference, vector) = SameOrder(local=local), torch_executor(local)
    ours, theirs = candidate.train(vector, works(80, 64)), reference.train(vector, works(80, 64))
    assert np.linalg.norm(ours.rows - theirs.rows) < 2e-2 * np.linalg.norm(theirs.rows)
    assert judged(candidate, local, 80, 64).objection.startswith("differs")


def scaled(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    return replace(trained, rows=trained.rows * np.float32(1.001))


def loss_of_the_last_step(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    rows = trained.rows.copy()
    rows[:, -1] *= 1.01
    return replace(trained, rows=rows)


def one_count_too_many(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    return replace(trained, examples=tuple(n + 1 for n in trained.examples))


def stranger(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    return replace(trained, clients=tuple(f"x{client}" for client in trained.clients))


def last_one_lost(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    return Trained(trained.clients[:-1], trained.rows[:-1], trained.examples[:-1], trained.failures)


def swapped(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    return replace(trained, rows=np.roll(trained.rows, 1, axis=0))


def in_double(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    return replace(trained, rows=trained.rows.astype(np.float64))  # type: ignore[arg-type]


def nobody_fails(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    """Count a client that raised as one that learned nothing."""
    lost = np.zeros((len(trained.failures), trained.rows.shape[1]), dtype=np.float32)
    clients = (*trained.clients, *trained.failures)
    counts = (*trained.examples, *[0] * len(trained.failures))
    return Trained(clients, np.concatenate([trained.rows, lost]), counts)


def contagious(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    """Let what is not finite in one client reach all: a mask that multiplies instead of choosing."""
    return replace(trained, rows=trained.rows + 0 * trained.rows.sum(axis=0, dtype=np.float32))


def all_fail_with_one(trained: Trained, group: Sequence[ClientWork]) -> Trained:
    if not trained.failures:
        return trained
    none = np.empty((0, trained.rows.shape[1]), dtype=np.float32)
    return Trained((), none, (), {work.client: Failure("raised") for work in group})


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (scaled, "differs from torch by 1e-03"),
        (loss_of_the_last_step, "differs from torch by 1e-02"),
        (one_count_too_many, "counts other examples"),
        (stranger, "answers for other clients"),
        (last_one_lost, "answers for other clients"),
        (swapped, "differs"),
        (in_double, "shape or dtype"),
        (nobody_fails, "trains a client that torch does not beside damaged clients"),
        (contagious, "refuses a client that torch does not beside damaged clients"),
        (all_fail_with_one, "refuses a client that torch does not beside damaged clients"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_executor_that_answers_something_else_is_found_out(
    after: Callable[[Trained, Sequence[ClientWork]], Trained], words: str
) -> None:
    assert words in judged(Altered(after=after), group=16).objection


def test_steps_that_go_on_beyond_the_clients_time_are_found_out() -> None:
    def whole(group: Sequence[ClientWork]) -> Sequence[ClientWork]:
        return [replace(work, max_steps=None) for work in group]

    assert judged(Altered(whole)).objection.startswith("differs")


def test_other_rows_are_refused_before_anything_is_trained() -> None:
    class Wider:
        spec = UpdateSpec((SegmentSpec("parameters", 3),))

        def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
            raise AssertionError

    assert judged(Wider()).objection == "lays its rows out differently"


@pytest.mark.parametrize("buffers", ["average", "local"])
def test_buffers_are_compared(buffers: str) -> None:
    made: dict[str, Any] = {"module": normalised, "buffers": buffers, "local": LOCAL}

    def drifting(trained: Trained, group: Sequence[ClientWork]) -> Trained:
        rows = trained.rows.copy()
        rows[:, -10:-1] *= 1.01  # running statistics are the last segment before the loss
        return replace(trained, rows=rows, buffers={c: b * 1.01 for c, b in trained.buffers.items()})

    def forgetful(trained: Trained, group: Sequence[ClientWork]) -> Trained:
        return replace(trained, buffers={})

    right = {"module": normalised, "buffers": buffers}
    assert judged(Altered(**made), **right) == Agreement()
    assert judged(Altered(after=drifting, **made), **right).objection.startswith("differs")
    if buffers == "local":
        assert judged(Altered(after=forgetful, **made), **right).objection.startswith("counts other")


def test_where_torch_trains_nobody_nothing_can_be_compared() -> None:
    reference, vector = torch_executor()
    hopeless = [replace(work, examples=examples(0, 0)) for work in works(8, 8)]
    bad = [
        replace(work, examples=Examples.of(np.zeros((8, 99), np.float32), np.zeros(8, int)))
        for work in hopeless
    ]
    assert "torch trains none" in compare(reference, reference, vector, bad, LOCAL, 4).objection


def test_words_that_no_model_knows_are_tried_where_inputs_are_words() -> None:
    class Clamping(nn.Embedding):
        """Takes the nearest word it knows, as a gather without a check might."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.clamp(0, 9))

    def language(embedding: type[nn.Embedding]) -> Callable[[], nn.Module]:
        return lambda: nn.Sequential(embedding(10, 4), nn.Flatten(), nn.Linear(12, CLASSES))

    rng = np.random.default_rng(3)
    group = [
        ClientWork(f"c{i}", Examples.of(rng.integers(0, 10, (size, 3)), rng.integers(0, 3, size)), round=1)
        for i, size in enumerate((20, 9))
    ]
    reference, vector = torch_executor(module=language(nn.Embedding))
    lenient, _ = torch_executor(module=language(Clamping))
    assert compare(reference, reference, vector, group, LOCAL, 4) == Agreement()
    assert (
        "trains a client that torch does not"
        in compare(lenient, reference, vector, group, LOCAL, 4).objection
    )
