"""Models, clients and exported programs for the tests of executors that run programs."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from tacit.core.examples import Examples
from tacit.core.layout import Vector
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task, Trained
from tacit.training.executor import Executor
from tacit.training.executors import Recipe, build_executor
from tacit.training.export import export_program
from tacit.training.flat import FlatModel, build
from tacit.training.program import Kind, Program

SEED, ROUND = 7, 3
KINDS: dict[str, Kind] = {"onnx": "step", "stacked": "stacked"}
LOCAL = LocalSGD(lr=0.1, batch_size=5)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))


def regression() -> nn.Module:
    return nn.Linear(6, 1)


class Words(nn.Module):
    """Averages the embeddings of a few of seven words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.words(x).mean(dim=1))
        return out


class Unit(nn.Module):
    """Divides every example by its norm, which a row of zeros has none of."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(x / x.square().sum(dim=1, keepdim=True).sqrt())
        return out


def rows_of(seed: int, size: int) -> Examples:
    """Draw examples of three classes with six columns."""
    rng = np.random.default_rng(seed)
    return Examples.of(rng.standard_normal((size, 6)).astype(np.float32), rng.integers(0, 3, size))


def words_of(seed: int, size: int) -> Examples:
    """Draw examples of three classes with five words each."""
    rng = np.random.default_rng(seed)
    return Examples.of(rng.integers(0, 7, (size, 5)), rng.integers(0, 3, size))


def work(client: str, examples: Examples, max_steps: int | None = None) -> ClientWork:
    return ClientWork(client, examples, ROUND, max_steps)


def ragged() -> list[ClientWork]:
    """Return clients of very unequal size, two of them stragglers."""
    sizes = (9, 23, 1, 12, 40, 10, 7)
    limits = {3: 2, 6: 0}
    return [work(f"c{i}", rows_of(i, size), limits.get(i)) for i, size in enumerate(sizes)]


@cache
def task_of(model: object, loss: object = "cross_entropy") -> tuple[Task, FlatModel]:
    task = Task(model=model, loss=loss)  # type: ignore[arg-type]
    return task, build(task, 0)


@cache
def program(
    kind: Kind,
    model: object = mlp,
    loss: object = "cross_entropy",
    local: LocalSGD = LOCAL,
    *,
    proximal: bool = False,
    corrected: bool = False,
    words: bool = False,
) -> Program:
    """Export a program; programs that differ in settings the graph is given as numbers are the same."""
    task, flat = task_of(model, loss)
    example = words_of(0, 4) if words else rows_of(0, 4)
    if loss in ("mse", "binary_cross_entropy"):
        example = Examples(example.inputs, example.target.astype(np.float32))
    terms = LocalTerms(0.5 if proximal else 0.0, flat.vector() if corrected else None)
    return export_program(task, flat, local, terms, example, kind)


def executor(
    name: str,
    local: LocalSGD = LOCAL,
    terms: LocalTerms | None = None,
    *,
    model: object = mlp,
    loss: object = "cross_entropy",
    words: bool = False,
    seed: int = SEED,
) -> tuple[Executor, Vector]:
    """Return an executor and the vector to start from."""
    task, flat = task_of(model, loss)
    terms = terms or LocalTerms()
    programs = {}
    if name in KINDS:
        flags = LocalSGD(
            lr=0.1,
            batch_size=5,
            momentum=0.5 if local.momentum else 0.0,
            weight_decay=0.5 if local.weight_decay else 0.0,
            max_grad_norm=0.5 if local.max_grad_norm else None,
        )
        found = program(
            KINDS[name],
            model,
            loss,
            flags,
            proximal=bool(terms.proximal),
            corrected=terms.correction is not None,
            words=words,
        )
        programs[name] = found.data
    recipe = Recipe(task, flat.layout, local, terms, seed, lambda: flat, programs)
    torch.manual_seed(0)
    return build_executor(name, recipe), build(task, 0).vector()


def trained(
    name: str,
    works: Sequence[ClientWork],
    local: LocalSGD = LOCAL,
    terms: LocalTerms | None = None,
    **more: object,
) -> Trained:
    runner, vector = executor(name, local, terms, **more)  # type: ignore[arg-type]
    return runner.train(vector, works)
