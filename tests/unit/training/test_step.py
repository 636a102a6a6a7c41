"""The generalised local step against torch.optim.SGD and against its own formula."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training.flat import FlatModel
from tacit.training.step import Stepper

STEPS = 20


class Summed(nn.Module):
    """Its weight is the sum of two parameters: autograd hands both the very same gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.change = nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.randn(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.base + self.change).T


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(8, 5), torch.randint(0, 3, (8,))) for _ in range(STEPS)]


def stepped(
    module: nn.Module, settings: LocalSGD, terms: LocalTerms = LocalTerms(), anchor: Tensor | None = None
) -> np.ndarray:
    model = FlatModel(module)
    stepper = Stepper(model.parameters, settings, terms)
    stepper.begin(model.flat.clone() if anchor is None else anchor)
    for x, y in batches():
        loss = nn.functional.cross_entropy(model.module(x), y)
        stepper.step(torch.autograd.grad(loss, model.parameters))
    return model.vector()


def reference(module: nn.Module, settings: LocalSGD) -> np.ndarray:
    optimizer = torch.optim.SGD(
        module.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    for x, y in batches():
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        if settings.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), settings.max_grad_norm)
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()


@pytest.mark.parametrize("build", [network, Summed])
@pytest.mark.parametrize(
    "settings",
    [
        LocalSGD(lr=0.3),
        LocalSGD(lr=0.3, momentum=0.9),
        LocalSGD(lr=0.3, weight_decay=0.05),
        LocalSGD(lr=0.3, max_grad_norm=0.1),
        LocalSGD(lr=0.3, max_grad_norm=1e6),
        LocalSGD(lr=0.1, momentum=0.8, weight_decay=0.1, max_grad_norm=0.2),
    ],
    ids=["plain", "momentum", "decay", "clipped", "not-clipped", "all"],
)
def test_twenty_steps_are_those_of_torchs_sgd(build: type[nn.Module], settings: LocalSGD) -> None:
    torch.manual_seed(0)
    module = build()
    twin = copy.deepcopy(module)
    np.testing.assert_allclose(stepped(module, settings), reference(twin, settings), rtol=0, atol=1e-6)


def test_all_terms_together_follow_the_formula() -> None:
    torch.manual_seed(0)
    module = network()
    twin = copy.deepcopy(module)
    parameters = list(twin.parameters())
    size = sum(p.numel() for p in parameters)
    rng = np.random.default_rng(0)
    anchor, correction = (rng.standard_normal(size).astype(np.float32) * 0.1 for _ in range(2))
    settings = LocalSGD(lr=0.1, momentum=0.7, weight_decay=0.05, max_grad_norm=0.3)
    found = stepped(
        module, settings, LocalTerms(proximal=0.4, correction=correction), torch.from_numpy(anchor)
    )

    velocity = None
    for x, y in batches():
        grads = torch.autograd.grad(nn.functional.cross_entropy(twin(x), y), parameters)
        g = torch.cat([grad.reshape(-1) for grad in grads]).double().numpy()
        w = torch.cat([p.detach().reshape(-1) for p in parameters]).double().numpy()
        g = g * min(1.0, 0.3 / (np.linalg.norm(g) + 1e-6))
        direction = g + 0.05 * w + 0.4 * (w - anchor) + correction
        velocity = direction if velocity is None else 0.7 * velocity + direction
        w = w - 0.1 * velocity
        nn.utils.vector_to_parameters(torch.from_numpy(w).float(), parameters)
    np.testing.assert_allclose(found, w, rtol=0, atol=1e-6)


def test_a_gradient_spread_out_from_one_number_can_be_stepped_along() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.ones(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.by

    model = FlatModel(Shift())
    stepper = Stepper(model.parameters, LocalSGD(lr=0.1, weight_decay=0.5), LocalTerms())
    stepper.begin(model.flat.clone())
    stepper.step(torch.autograd.grad(model.module(torch.zeros(4, 3)).sum(), model.parameters))
    np.testing.assert_allclose(model.vector(), 1 - 0.1 * (1 + 0.5), rtol=1e-6)


def test_a_new_client_starts_without_the_last_ones_momentum() -> None:
    parameter = torch.zeros(1)
    stepper = Stepper([parameter], LocalSGD(lr=1.0, momentum=0.9), LocalTerms())
    for _ in range(2):
        stepper.begin(torch.zeros(1))
        parameter.zero_()
        stepper.step([torch.ones(1)])
        assert parameter.item() == -1.0
    stepper.step([torch.ones(1)])
    assert parameter.item() == pytest.approx(-2.9)


def test_the_proximal_term_pulls_toward_this_clients_anchor() -> None:
    parameter = torch.zeros(1)
    stepper = Stepper([parameter], LocalSGD(lr=1.0), LocalTerms(proximal=0.5))
    for anchor in (2.0, -4.0):
        parameter.zero_()
        stepper.begin(torch.tensor([anchor]))
        stepper.step([torch.zeros(1)])
        assert parameter.item() == 0.5 * anchor
