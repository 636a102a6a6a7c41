"""Models, data and draws that the tests of record-level training share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from opacus.layers import DPGRU
from torch import Tensor, nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.record_level import RecordLevel
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task, Trained
from tacit.training.flat import FlatModel, build
from tacit.training.private_draws import SeededRecordDraws
from tacit.training.private_executor import PrivateExecutor

CLIP = 0.8
RECORD = RecordLevel(noise_multiplier=0.3, clipping_bound=CLIP)


@dataclass(frozen=True)
class Scripted:
    """Draws that a test writes down: the records of each step (None: the seed says), and how much noise."""

    members: Sequence[Sequence[int]] | None = None
    amount: float = 1.0
    seed: int = 5
    seeded: SeededRecordDraws = field(default=SeededRecordDraws(11))

    def membership(
        self, round: int, client: str, step: int, records: int, rate: float
    ) -> npt.NDArray[np.bool_]:
        if self.members is None:
            return self.seeded.membership(round, client, step, records, rate)
        return np.isin(np.arange(records), self.members[step])

    def noise(self, round: int, client: str, step: int, size: int) -> npt.NDArray[np.float64]:
        return self.amount * self.seeded.noise(round, client, step, size)

    def model_seed(self, round: int, client: str) -> int:
        return self.seed


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )


class Words(nn.Module):
    """Embedding and a GRU that Opacus can take apart."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.recur, self.out = nn.Embedding(9, 4), DPGRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.out(self.recur(self.embed(tokens))[0][:, -1])
        return scores


def rows_of_numbers(size: int = 24, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples.of(2 * rng.standard_normal((size, 6)).astype(np.float32), rng.integers(0, 3, size))


def images(size: int = 24) -> Examples:
    rng = np.random.default_rng(1)
    return Examples.of(rng.standard_normal((size, 2, 8, 8)).astype(np.float32), rng.integers(0, 3, size))


def sentences(size: int = 24) -> Examples:
    rng = np.random.default_rng(2)
    return Examples.of(rng.integers(0, 9, (size, 5)), rng.integers(0, 3, size))


KINDS: dict[str, tuple[Callable[[], nn.Module], Examples]] = {
    "mlp": (mlp, rows_of_numbers()),
    "cnn": (cnn, images()),
    "words": (Words, sentences()),
}
LOCAL = LocalSGD(lr=0.3, steps=5, batch_size=6, momentum=0.9, weight_decay=0.01)


def executor(
    model: Callable[[], nn.Module] = mlp,
    local: LocalSGD = LOCAL,
    draws: Any = Scripted(),
    *,
    record: RecordLevel = RECORD,
    terms: LocalTerms = LocalTerms(),
    loss: Any = "cross_entropy",
    buffers: str = "average",
) -> tuple[PrivateExecutor, FlatModel]:
    task = Task(model=model, loss=loss, buffers=buffers)  # type: ignore[arg-type]
    built = build(task, 0)
    return PrivateExecutor(task, built, local, terms, record, draws), built


def trained(examples: Examples, *arguments: Any, **more: Any) -> Trained:
    runner, built = executor(*arguments, **more)
    return runner.train(built.vector(), [ClientWork("ann", examples, round=2)])
