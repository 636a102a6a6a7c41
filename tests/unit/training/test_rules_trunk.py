"""The trunk of a convolutional model: several layers as one rule, the same updates as torch's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tacit
from tacit.core.examples import Examples
from tacit.core.terms import LocalTerms
from tacit.training.executor import ClientWork
from tacit.training.flat import build
from tacit.training.rules import RulesExecutor
from tacit.training.rules.rewrite import rewritten
from tacit.training.rules.trunk import Trunk
from tacit.training.torch_executor import TorchExecutor


class InPlaceBehind(nn.Module):
    """Writes into what the trunk returned."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.c1, self.c2, self.out = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3), nn.Linear(32, 3)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.c2(functional.relu(self.c1(x))))
        x -= self.factor
        scores: Tensor = self.out(x.flatten(1))
        return scores


def in_place() -> nn.Module:
    return InPlaceBehind(0.2)


def tied() -> nn.Module:
    """One convolution twice: no trunk, or its gradients would be lost."""
    conv = nn.Conv2d(1, 1, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), conv, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def flat_places() -> nn.Module:
    """Ends in one place an image, where flattening is but a view; then writes into it."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 8), nn.ReLU(), nn.Flatten(), nn.Hardtanh(-0.1, 0.1, inplace=True), nn.Linear(3, 3)
    )


def clients(sizes: tuple[int, ...]) -> list[ClientWork]:
    rng = np.random.default_rng(3)
    return [
        ClientWork(
            str(number),
            Examples.of(rng.standard_normal((size, 1, 8, 8)).astype("f4"), rng.integers(0, 3, size)),
            1,
        )
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [(7,), (9, 7, 4)])
@pytest.mark.parametrize("make", [in_place, tied, pooled, flat_places])
def test_updates_are_those_of_torch(
    make: Callable[[], nn.Module], sizes: tuple[int, ...], momentum: float
) -> None:
    task, local = tacit.Task(model=make), tacit.LocalSGD(lr=0.1, batch_size=4, epochs=2, momentum=momentum)
    vector = build(task, 0).vector()
    found = RulesExecutor(task, build(task, 0), local, LocalTerms(), 0).train(vector, clients(sizes))
    expected = TorchExecutor(task, build(task, 0), local, LocalTerms(), 0).train(vector, clients(sizes))
    assert not found.failures
    rows = dict(zip(found.clients, found.rows, strict=True))
    for client, row in zip(expected.clients, expected.rows, strict=True):
        np.testing.assert_allclose(rows[client], row, atol=1e-5)


@pytest.mark.parametrize(("make", "has_trunk"), [(pooled, True), (in_place, True), (tied, False)])
def test_a_trunk_holds_layers_that_are_used_once(make: Callable[[], nn.Module], has_trunk: bool) -> None:
    module = rewritten(make().train())
    assert any(isinstance(part, Trunk) for part in module.modules()) is has_trunk


def test_without_rules_a_trunk_is_plain_torch() -> None:
    model = pooled().train()
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(rewritten(model)(x), model(x))
