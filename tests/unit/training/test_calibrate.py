"""The fastest executor is chosen that computes what torch does; the clock is pushed on by the executors."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tacit.core.examples import Examples
from tacit.core.layout import Vector
from tacit.core.local import LocalSGD
from tacit.core.spec import UpdateSpec
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task, Trained
from tacit.training.calibrate import Calibration, Pace, draws_random_numbers
from tacit.training.executor import Executor, UnsupportedError
from tacit.training.flat import build
from tacit.training.torch_executor import TorchExecutor

LOCAL = LocalSGD(lr=0.1, batch_size=4)
SIZES = (1, 2, 4, 8)


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Paced:
    """Torch's own executor on a clock: seconds for a call, and for each step of a client in it.

    Args:
        clock: What it moves on.
        call_s: Seconds for every call.
        step_s: Seconds for every step, by the number of clients in the call.
        factor: What its updates are multiplied with: anything but 1 is wrong.
        local: With what it trains.
    """

    def __init__(
        self,
        clock: Clock,
        step_s: Callable[[int], float],
        *,
        call_s: float = 0.0,
        factor: float = 1.0,
        local: LocalSGD = LOCAL,
    ) -> None:
        task = Task(model=model)
        self._executor = TorchExecutor(task, build(task, 1), local, LocalTerms(), 0)
        self._clock, self._step_s, self._call_s = clock, step_s, call_s
        self._factor, self._local = np.float32(factor), local
        self.calls: list[int] = []

    @property
    def spec(self) -> UpdateSpec:
        return self._executor.spec

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        self.calls.append(len(group))
        steps = [self._local.total_steps(len(work.examples)) for work in group]
        done = sum(
            n if w.max_steps is None else min(n, w.max_steps) for n, w in zip(steps, group, strict=True)
        )
        self._clock.now += self._call_s + done * self._step_s(len(group))
        trained = self._executor.train(vector, group)
        return replace(trained, rows=trained.rows * self._factor)


class Breaking(Paced):
    """Breaks with groups of a certain size."""

    def __init__(self, clock: Clock, error: Exception, at: int = 1) -> None:
        super().__init__(clock, constant(1e-6))
        self._error, self._at = error, at

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        if len(group) >= self._at:
            raise self._error
        return super().train(vector, group)


def constant(seconds: float) -> Callable[[int], float]:
    return lambda clients: seconds


def shared(seconds: float) -> Callable[[int], float]:
    """Return the pace of an executor to which a group is as much work as one client."""
    return lambda clients: seconds / clients


def model() -> nn.Module:
    return nn.Linear(5, 2)


def works(count: int = 8) -> list[ClientWork]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        inputs = rng.standard_normal((20 - i, 5)).astype(np.float32)
        found.append(ClientWork(f"c{i}", Examples.of(inputs, (inputs[:, 0] > 0).astype(np.int64)), round=1))
    return found


def calibration(clock: Clock, step_s: float = 1e-3, **settings: Any) -> Calibration:
    reference = Paced(clock, constant(step_s))
    vector = build(Task(model=model), 1).vector()
    known: dict[str, Any] = {"group": 16, "stretch": lambda group: 1.0, "sample": works()}
    made = Calibration(reference, vector, local=LOCAL, clock=clock, **(known | settings))
    made.time_torch()
    return made


def test_the_fastest_is_chosen_with_its_best_group_and_a_reason() -> None:
    clock = Clock()
    trial = calibration(clock)
    trial.try_out("rules", lambda: Paced(clock, shared(8e-4)), SIZES)
    trial.try_out("stacked", lambda: Paced(clock, constant(5e-4)), SIZES)
    choice = trial.choose()
    assert (choice.executor, choice.group) == ("rules", 8)
    assert choice.reason == "10 times as fast as torch, equal to 0e+00"
    assert trial.best_s == pytest.approx(1e-4)


def test_torch_stays_where_nobody_is_clearly_faster() -> None:
    clock = Clock()
    trial = calibration(clock)
    trial.try_out("rules", lambda: Paced(clock, constant(0.95e-3)), SIZES)
    assert (trial.choose().executor, trial.choose().group) == ("torch", 16)
    assert trial.choose().reason == "no slower than rules"


def test_a_wrong_executor_is_never_chosen_however_fast() -> None:
    clock = Clock()
    trial = calibration(clock)
    trial.try_out("rules", lambda: Paced(clock, constant(1e-6), factor=1.001), SIZES)
    trial.try_out(
        "stacked", lambda: Paced(clock, constant(1e-6), local=LocalSGD(lr=0.1, batch_size=5)), SIZES
    )
    trial.try_out("onnx", lambda: Paced(clock, constant(5e-4)), (1,))
    choice = trial.choose()
    assert choice.executor == "onnx"
    assert "rules: differs from torch by 1e-03 after one step" in choice.reason
    assert "stacked: differs from torch" in choice.reason
    assert trial.best_s == pytest.approx(5e-4)


def test_with_nobody_left_torch_trains() -> None:
    clock = Clock()
    trial = calibration(clock)
    trial.try_out("rules", lambda: Paced(clock, constant(1e-6), factor=1.01), SIZES)

    def unsupported() -> Executor:
        raise UnsupportedError("no rule for nn.Bilinear")

    trial.try_out("stacked", unsupported, SIZES)
    trial.try_out("onnx", unsupported, (1,))
    choice = trial.choose()
    assert (choice.executor, choice.group) == ("torch", 16)
    assert "stacked and onnx: no rule for nn.Bilinear" in choice.reason


@pytest.mark.parametrize("error", [RuntimeError("a shape"), MemoryError(), ValueError("a value of the data")])
def test_an_executor_that_breaks_is_not_taken_and_its_words_are_not_repeated(error: Exception) -> None:
    clock = Clock()
    trial = calibration(clock)
    trial.try_out("rules", lambda: Breaking(clock, error), SIZES)
    choice = trial.choose()
    assert choice.executor == "torch"
    assert f"rules: raised {type(error).__name__}" in choice.reason
    assert "data" not in choice.reason


def test_an_executor_that_breaks_when_it_is_compared_is_not_taken() -> None:
    clock = Clock()
    trial = calibration(clock)
    trial.try_out("rules", lambda: Breaking(clock, RuntimeError(), at=4), (2,))
    assert trial.choose().executor == "rules"  # it is only ever given two at a time
    trial = calibration(clock)
    trial.try_out("rules", lambda: Touchy(clock), (1,))
    assert "rules: raised RuntimeError" in trial.choose().reason


def test_groups_that_do_not_fit_memory_leave_smaller_ones() -> None:
    clock = Clock()
    trial = calibration(clock)
    trial.try_out("rules", lambda: Breaking(clock, MemoryError(), at=4), SIZES)
    assert (trial.choose().executor, trial.choose().group) == ("rules", 1)


class Touchy(Paced):
    """Breaks when a client has no data."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, constant(1e-6))

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        if not all(len(work.examples) for work in group):
            raise RuntimeError
        return super().train(vector, group)


def test_larger_groups_are_tried_only_as_long_as_they_are_faster() -> None:
    clock = Clock()
    executor = Paced(clock, lambda clients: {1: 4e-4, 2: 2e-4}.get(clients, 3e-4))
    trial = calibration(clock)
    trial.try_out("rules", lambda: executor, SIZES)
    assert set(executor.calls) == {1, 2, 4, 8}  # two in a row are enough
    assert trial.choose().group == 2


def test_one_size_that_is_not_faster_does_not_hide_the_next() -> None:
    clock = Clock()
    executor = Paced(clock, lambda clients: {1: 4e-4, 2: 4e-4, 4: 2e-4}.get(clients, 3e-4))
    trial = calibration(clock)
    trial.try_out("rules", lambda: executor, SIZES)
    assert trial.choose().group == 4


def test_no_more_is_timed_when_the_time_is_over() -> None:
    clock = Clock()
    executor = Paced(clock, shared(0.2))
    trial = calibration(clock, step_s=0.5, budget_s=1.0)
    began = clock.now
    trial.try_out("rules", lambda: executor, SIZES)
    assert set(executor.calls) == {1}
    assert clock.now - began < 2


def test_a_hopeless_executor_is_timed_once() -> None:
    clock = Clock()
    executor = Paced(clock, constant(0.006))
    calibration(clock).try_out("rules", lambda: executor, SIZES)
    assert executor.calls[0] == 1
    assert executor.calls.count(1) == 1


def test_long_work_is_cut_short_for_timing() -> None:
    """A step of a second: torch is timed with two steps at a time, not with all of a client's."""
    clock = Clock()
    trial = calibration(clock, step_s=1.0)
    assert clock.now == pytest.approx(4.0)
    assert trial.paces == [Pace("torch", 16, 1.0)]


def test_a_large_group_must_be_worth_that_it_is_harder_to_spread() -> None:
    clock = Clock()
    found = []
    for stretch in (lambda group: 1.0, float):
        trial = calibration(clock, stretch=stretch, group=1)
        trial.try_out("rules", lambda: Paced(clock, lambda clients: 6e-4 / clients**0.5), SIZES)
        found.append(trial.choose().group)
    assert found == [8, 1]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_cohort_smaller_than_the_group_will_do(count: int) -> None:
    clock = Clock()
    trial = calibration(clock, sample=works(count))
    trial.try_out("rules", lambda: Paced(clock, constant(1e-4)), SIZES)
    assert trial.choose().executor == "rules"


def test_two_processes_compare_on_the_same_clients_whatever_their_pace() -> None:
    quick, slow = Clock(), Clock()
    asked = []
    for clock, step_s in ((quick, 1e-6), (slow, 3.0)):
        executor = Paced(clock, constant(step_s))
        trial = calibration(clock, step_s=step_s, checked=3)
        assert not trial.check(executor, 2).objection
        asked.append(executor.calls)
    assert asked[0] == asked[1]


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(x + 0.1 * torch.randn_like(x))
        return out


@pytest.mark.parametrize(
    ("module", "draws"),
    [
        (model, False),
        (Noisy, True),
        (lambda: nn.Sequential(nn.Dropout(0.1), nn.Linear(5, 2)), True),
        (lambda: nn.Sequential(nn.Dropout(0.0), nn.Linear(5, 2)), False),
    ],
)
def test_models_that_draw_random_numbers_are_recognised(module: Callable[[], nn.Module], draws: bool) -> None:
    task = Task(model=module)
    built = build(task, 1)
    executor = TorchExecutor(task, built, LOCAL, LocalTerms(), 7)
    assert draws_random_numbers(executor, built.vector(), works()[0], 7) is draws
