"""Rewriting a model saves passes over memory and changes no result; where it might, it is left alone."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.local import LocalSGD
from tacit.training.rules.rewrite import rewritten
from tests.unit.training.rules_cases import (
    CLASSES,
    Factory,
    by_torch,
    executor,
    group,
    in_float64,
    in_order_of,
    is_stackable,
)

LOCAL = LocalSGD(lr=0.2, batch_size=3, epochs=2)


class Net(nn.Module):
    """Convolutions and dense layers in a forward pass that a subclass writes."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(4, 6, 2), nn.Conv2d(6, 6, 2)
        self.f1, self.f2 = nn.Linear(54, 7), nn.Linear(7, CLASSES)


class Usual(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.c1(x))
        x = functional.max_pool2d(functional.relu(self.c2(x)), 2)
        scores: Tensor = self.f2(functional.relu(self.f1(x.flatten(1))))
        return scores


class ReadTwice(Net):
    """The rectified values and those before them are used again."""

    def forward(self, x: Tensor) -> Tensor:
        before = self.c1(x)
        x = torch.relu(before)
        x = self.c2(x + x.mean((2, 3), keepdim=True) + before.detach()[..., :1])
        y = x.relu()
        x = functional.max_pool2d(y, 2) + functional.avg_pool2d(y, 2)
        scores: Tensor = self.f2(self.f1(x.flatten(1)).relu())
        return scores


class Branches(Net):
    """The gradient of one tensor reaches two rectified layers."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.c2(self.c1(x).relu())
        x = functional.max_pool2d(x, 2).flatten(1)
        hidden = self.f1(x)
        scores: Tensor = self.f2(functional.relu(hidden) + functional.relu(self.f1(x.neg())))
        return scores


class Added(Net):
    """A rectified layer whose gradient is that of its neighbour, too: it must not be overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = functional.relu(self.c1(x)), functional.relu(self.c1(x.flip(3)))
        x = functional.max_pool2d(self.c2(a + b), 2)
        scores: Tensor = self.f2(functional.relu(self.f1(torch.flatten(x, 1))))
        return scores


class Indexed(Net):
    """Pooling that tells where the largest values were."""

    def forward(self, x: Tensor) -> Tensor:
        x, places = functional.max_pool2d(functional.relu(self.c2(self.c1(x))), 2, None, 0, 1, False, True)
        scores: Tensor = self.f2(self.f1((x + places / 100).flatten(1)))
        return scores


def sequence() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 6, 2), nn.ReLU(), nn.Conv2d(6, 6, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1),
        nn.Flatten(), nn.Linear(96, 7), nn.ReLU(inplace=True), nn.Linear(7, CLASSES), nn.ReLU(),
    )  # fmt: skip


REWRITTEN: list[Factory] = [Usual, ReadTwice, Branches, Added, Indexed, sequence]


@pytest.mark.parametrize("model", REWRITTEN)
@pytest.mark.parametrize("clients", [1, 4])
def test_a_rewritten_model_learns_what_torch_teaches(model: Factory, clients: int) -> None:
    works = group("image", (7, 4, 6, 1)[:clients])
    runner, vector, flat = executor(model, LOCAL)
    right = by_torch(model, works, LOCAL)
    np.testing.assert_allclose(in_order_of(runner.train(vector, works), right.clients), right.rows, atol=1e-5)
    exact, vector, _ = executor(model, LOCAL, dtype=torch.float64)
    rows = in_order_of(exact.train(vector, works), right.clients)
    np.testing.assert_allclose(rows, in_float64(model, works, LOCAL), atol=1e-10, rtol=0)
    assert rewritten(flat.module) is not flat.module
    assert is_stackable(runner)


@pytest.mark.parametrize("model", REWRITTEN)
def test_a_rewritten_model_gives_the_same_bits(model: Factory) -> None:
    torch.manual_seed(1)
    built = model().train()
    changed = rewritten(built)
    x = torch.randn(5, 4, 9, 9)
    found = [
        torch.autograd.grad(m(x.clone()).square().sum(), list(built.parameters())) for m in (built, changed)
    ]
    assert torch.equal(built(x.clone()), changed(x.clone()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def _by_own_rules(change: Callable[[Any, Tensor], Tensor]) -> Factory:
    class Left(Net):
        def __init__(self) -> None:
            super().__init__()
            self._calls, self.seen, self.table = 0, [0], torch.arange(9.0)

        def forward(self, x: Tensor) -> Tensor:
            x = change(self, functional.relu(self.c1(x)))
            scores: Tensor = self.f2(self.f1(functional.max_pool2d(self.c2(x), 2).flatten(1)))
            return scores

    return Left


def _counted(m: Any, x: Tensor) -> Tensor:
    m._calls += 1  # noqa: SLF001
    return x * m._calls  # noqa: SLF001


def _listed(m: Any, x: Tensor) -> Tensor:
    m.seen.append(1)
    return x * len(m.seen)


def _kept(m: Any, x: Tensor) -> Tensor:
    m.table.add_(1.0)
    return x * 2


LEFT: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "counts": _counted,
    "lists": _listed,
    "changes a tensor": _kept,
    "draws": lambda m, x: x * torch.rand(()),
    "draws for Python": lambda m, x: x * random.random(),
    "draws for NumPy": lambda m, x: x * float(np.random.rand()),  # noqa: NPY002
    "makes a constant": lambda m, x: x * torch.tensor([2.0]),
    "looks at a shape": lambda m, x: x * 2 if x.shape[0] > 2 else x,
    "looks at values": lambda m, x: x * 2 if x.sum() > 0 else x,
    "loops": lambda m, x: sum(part for part in x.unbind(1))[:, None] + x,
}


@pytest.mark.parametrize("name", LEFT)
def test_a_model_that_a_trace_would_change_is_left_alone(name: str) -> None:
    model = _by_own_rules(LEFT[name])().train()
    assert rewritten(model) is model


def test_a_model_without_convolutions_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    assert rewritten(model) is model


def test_a_model_with_hooks_is_left_alone() -> None:
    model = sequence()
    model[1].register_forward_hook(lambda module, args, result: result * 2)
    assert rewritten(model) is model
