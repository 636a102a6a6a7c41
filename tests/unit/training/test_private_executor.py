"""Record-level training: every step is a clipped, noisy sum over a Poisson batch, over a public constant."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from tacit.core.events import GaussianEvent, PoissonSampledEvent
from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.record_level import RecordLevel, events_of
from tacit.training import ClientWork
from tacit.training.executor import UnsupportedError
from tacit.training.private_draws import SeededRecordDraws
from tests.unit.training.private_cases import (
    CLIP,
    LOCAL,
    RECORD,
    Scripted,
    Words,
    executor,
    mlp,
    rows_of_numbers,
    sentences,
    trained,
)

UNLUCKY = 1e-6

# --- what one record can do --------------------------------------------------------------------------

ONE_STEP = LocalSGD(lr=1.0, steps=1, batch_size="all")


def linear() -> nn.Module:
    model = nn.Linear(6, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return model


def deep() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3))


def summed(model: Callable[[], nn.Module], examples: Examples, members: Sequence[int]) -> npt.NDArray[Any]:
    """Return the sum of clipped gradients of one step without noise: what the noise is to hide."""
    found = trained(examples, model, ONE_STEP, Scripted([members], amount=0.0))
    assert not found.failures
    return -found.rows[0].astype(np.float64) * len(examples)


@pytest.mark.parametrize("model", [linear, deep])
@pytest.mark.parametrize("place", [0, 11, 23])
@pytest.mark.parametrize("value", [1e3, 3e38, -1e19, np.inf, np.nan, 0.0, 1e-42])
def test_one_record_moves_the_sum_by_at_most_the_clip(
    value: float, place: int, model: Callable[[], nn.Module]
) -> None:
    examples = rows_of_numbers()
    examples.inputs[0][place] = value
    everybody = list(range(24))
    moved = np.linalg.norm(
        summed(model, examples, everybody) - summed(model, examples, [i for i in everybody if i != place])
    )
    assert moved <= CLIP * (1 + 1e-4)  # the row itself is float32, and the difference of two sums


def test_a_record_that_makes_the_model_raise_counts_as_zero() -> None:
    examples = sentences()
    examples.inputs[0][7] = 99  # no such word
    everybody = list(range(24))
    with_it = summed(Words, examples, everybody)
    np.testing.assert_allclose(with_it, summed(Words, examples, [i for i in everybody if i != 7]), atol=1e-5)


def test_the_mean_is_taken_over_the_expected_batch_whoever_was_drawn() -> None:
    local = LocalSGD(lr=1.0, steps=1, batch_size=6)
    examples = rows_of_numbers()
    few = trained(examples, linear, local, Scripted([[3, 4]], amount=0.0)).rows[0]
    twice = np.concatenate([np.arange(24), [3, 4]])
    more = Examples(tuple(x[twice] for x in examples.inputs), examples.target[twice])
    double = trained(more, linear, local, Scripted([[3, 4, 24, 25]], amount=0.0)).rows[0]
    np.testing.assert_allclose(double, 2 * few, rtol=1e-5)
    np.testing.assert_allclose(few, -summed(linear, examples, [3, 4]) / 6, rtol=1e-5, atol=1e-7)


def test_dropout_follows_the_secret_seed_and_no_other() -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))

    examples = rows_of_numbers()
    torch.manual_seed(1)
    one = trained(examples, dropping, draws=Scripted(seed=1)).rows
    torch.manual_seed(2)
    assert np.array_equal(trained(examples, dropping, draws=Scripted(seed=1)).rows, one)
    assert not np.array_equal(trained(examples, dropping, draws=Scripted(seed=2)).rows, one)


# --- noise -------------------------------------------------------------------------------------------


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 500), nn.ReLU(), nn.Linear(500, 3))


@pytest.mark.parametrize("members", [[], [0]], ids=["empty-batch", "nan-record"])
def test_a_step_without_any_gradient_is_noise_of_the_declared_variance(members: list[int]) -> None:
    examples = rows_of_numbers()
    examples.inputs[0][0] = np.nan
    local, record = (
        LocalSGD(lr=1.0, steps=1, batch_size=6),
        RecordLevel(noise_multiplier=1.7, clipping_bound=0.4),
    )
    runner, built = executor(wide, local, Scripted([members]), record=record)
    start = np.zeros_like(built.vector())
    works = [ClientWork(f"client-{i}", examples, round=1) for i in range(20)]
    found = runner.train(start, works)
    assert not found.failures
    parts = np.split(found.rows.astype(np.float64) * 6 / (1.7 * 0.4), [3000, 3500, 5000], axis=1)
    for part in parts:  # each parameter on its own: noise that is missing in one would be lost in the whole
        assert UNLUCKY < stats.chi2.cdf((part**2).sum(), part.size) < 1 - UNLUCKY
        assert stats.kstest(part.reshape(-1), "norm").pvalue > UNLUCKY
    assert np.abs(np.corrcoef(found.rows)[np.triu_indices(20, 1)]).max() < 0.1


def test_every_step_has_noise_of_its_own() -> None:
    local = LocalSGD(lr=1.0, steps=30, batch_size=6)
    runner, built = executor(wide, local, Scripted([[]] * 30))
    found = runner.train(np.zeros_like(built.vector()), [ClientWork("ann", rows_of_numbers(), round=1)])
    variance = 30 * (RECORD.noise_std / 6) ** 2
    row = found.rows[0].astype(np.float64)
    assert UNLUCKY < stats.chi2.cdf((row**2).sum() / variance, row.size) < 1 - UNLUCKY


# --- the contract of an executor ---------------------------------------------------------------------


class Counting(SeededRecordDraws):
    """Notes what was asked for."""

    def __init__(self) -> None:
        super().__init__(0)
        self.rates: list[float] = []
        self.steps: list[int] = []

    def membership(
        self, round: int, client: str, step: int, records: int, rate: float
    ) -> npt.NDArray[np.bool_]:
        self.rates.append(rate)
        return super().membership(round, client, step, records, rate)

    def noise(self, round: int, client: str, step: int, size: int) -> npt.NDArray[np.float64]:
        self.steps.append(step)
        return super().noise(round, client, step, size)


@pytest.mark.parametrize(
    "local", [LOCAL, LocalSGD(lr=0.1, epochs=2, batch_size=7), LocalSGD(lr=0.1, batch_size=99)]
)
def test_what_runs_is_what_the_event_says(local: LocalSGD) -> None:
    draws = Counting()
    trained(rows_of_numbers(), mlp, local, draws)
    step = GaussianEvent(noise_multiplier=RECORD.noise_multiplier)
    ran = [PoissonSampledEvent(rate=rate, event=step) if rate < 1 else step for rate in draws.rates]
    charged = events_of(RECORD, local, 24)
    assert ran == [charged.event] * charged.count
    assert draws.steps == list(range(charged.count))


@pytest.mark.parametrize(("most", "steps"), [(None, 8), (3, 3), (100, 8)])
def test_the_number_of_steps_follows_from_the_public_size(most: int | None, steps: int) -> None:
    draws = Counting()
    runner, built = executor(mlp, LocalSGD(lr=0.1, epochs=2, batch_size=6), draws)
    runner.train(built.vector(), [ClientWork("ann", rows_of_numbers(), round=1, max_steps=most)])
    assert draws.steps == list(range(steps))


def test_a_group_is_its_clients_one_by_one_bit_for_bit() -> None:
    works = [ClientWork(f"client-{i}", rows_of_numbers(8 + i, i), round=3) for i in range(3)]
    runner, built = executor(draws=SeededRecordDraws(1))
    vector = built.vector()
    together = runner.train(vector, works)
    assert together.clients == ("client-0", "client-1", "client-2")
    assert together.examples == (8, 9, 10)
    for work, row in zip(works, together.rows, strict=True):
        assert np.array_equal(executor(draws=SeededRecordDraws(1))[0].train(vector, [work]).rows[0], row)


def test_a_row_holds_no_metric() -> None:
    runner, built = executor()
    assert runner.spec.names == ("parameters",)
    assert runner.spec.size == built.layout.size


def test_a_buffer_that_does_not_move_travels_as_zero() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(6, 3)
            self.register_buffer("shift", torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.out(x + self.shift)
            return scores

    runner, built = executor(Shifted)
    found = runner.train(built.vector(), [ClientWork("ann", rows_of_numbers(), round=1)])
    assert not found.rows[0, runner.spec.slice("buffers")].any()
    assert found.rows[0, runner.spec.slice("parameters")].all()


class Remembering(nn.Module):
    """Keeps a statistic of unusual records alone, which no made-up example shows."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 3)
        self.register_buffer("largest", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        if bool((x > 50).any()):
            self.largest = x.detach().max().reshape(1)
        scores: Tensor = self.out(x / self.largest)
        return scores


def test_a_client_whose_buffers_moved_after_all_sends_nothing() -> None:
    examples = rows_of_numbers()
    assert not trained(examples, Remembering).failures
    examples.inputs[0][:, 0] = 60
    found = trained(examples, Remembering)
    assert len(found.rows) == 0
    assert "buffer moved" in found.failures["ann"].reason


def test_a_client_that_cannot_train_fails_alone() -> None:
    wrong = Examples.of(np.zeros((3, 99), np.float32), np.zeros(3, int))
    works = [
        ClientWork("empty", rows_of_numbers(0), round=1),
        ClientWork("ann", rows_of_numbers(), round=1),
        ClientWork("wrong", wrong, round=1),
    ]
    runner, built = executor()
    found = runner.train(built.vector(), works)
    assert found.clients == ("ann",)
    assert found.failures["empty"].reason == "no data"
    assert "batch of one example" in found.failures["wrong"].reason
    assert np.array_equal(found.rows, trained_alone(works[1]))


def trained_alone(work: ClientWork) -> npt.NDArray[Any]:
    runner, built = executor()
    return runner.train(built.vector(), [work]).rows


def test_batch_norm_is_refused_before_any_data_is_seen() -> None:
    with pytest.raises(UnsupportedError, match=r"`1` \(BatchNorm1d\)"):
        executor(lambda: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)))


def test_what_cannot_be_trained_is_known_before_the_run() -> None:
    runner, _ = executor(loss=lambda outputs, targets: outputs)
    with pytest.raises(UnsupportedError, match="batch of one example"):
        runner.check(ClientWork("ann", rows_of_numbers(), round=1))
