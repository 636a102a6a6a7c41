"""Record-level training against two others on the same draws: the paper's loop over records, and Opacus."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import Task
from tacit.training.flat import build
from tacit.training.losses import loss_of
from tacit.training.tensors import tensors_of
from tests.unit.training.private_cases import CLIP, KINDS, LOCAL, RECORD, Scripted, trained


def plain_loop(
    model: Callable[[], nn.Module], examples: Examples, local: LocalSGD, terms: LocalTerms
) -> npt.NDArray[Any]:
    """Do DP-SGD record by record in float64, as the paper writes it."""
    built, draws, loss = build(Task(model=model), 0), Scripted(), loss_of("cross_entropy")
    inputs, target = tensors_of(examples)
    flat, velocity = built.flat.numpy(), 0.0
    first, weights = flat.astype(np.float64), flat.astype(np.float64)
    rate = local.batch_size / len(target)  # type: ignore[operator]
    for step in range(local.total_steps(len(target))):
        flat[:] = weights
        total = np.zeros(len(weights))
        for i in np.flatnonzero(draws.membership(2, "ann", step, len(target), rate)):
            value = loss(built.module(*(x[i : i + 1] for x in inputs)), target[i : i + 1])
            parts = torch.autograd.grad(value, built.parameters)
            gradient = torch.cat([part.reshape(-1) for part in parts]).double().numpy()
            total += gradient / max(1.0, float(np.linalg.norm(gradient)) / CLIP)
        total += RECORD.noise_multiplier * CLIP * draws.noise(2, "ann", step, len(total))
        step_gradient = total / local.batch_size  # type: ignore[operator]
        step_gradient += local.weight_decay * weights + terms.proximal * (weights - first)
        velocity = local.momentum * velocity + step_gradient
        weights = weights - local.lr * velocity
    return weights - first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("terms", [LocalTerms(), LocalTerms(proximal=0.5)], ids=["plain", "proximal"])
def test_training_is_the_plain_loop_over_records(kind: str, terms: LocalTerms) -> None:
    model, examples = KINDS[kind]
    found = trained(examples, model, terms=terms)
    assert not found.failures
    wanted = plain_loop(model, examples, LOCAL, terms)
    np.testing.assert_allclose(found.rows[0], wanted, rtol=1e-4, atol=1e-5)


class InjectedNoise(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimizer, with the noise of our draws in place of its own."""

    def add_noise(self) -> None:
        sizes = [p.numel() for p in self.params]
        std = self.noise_multiplier * self.max_grad_norm
        normals = Scripted().noise(2, "ann", self.steps_done, sum(sizes))
        for p, part in zip(self.params, torch.from_numpy(normals).float().split(sizes), strict=True):
            p.grad = p.summed_grad + std * part.view_as(p)
            p.summed_grad = None


def opacus(model: Callable[[], nn.Module], examples: Examples, local: LocalSGD) -> npt.NDArray[Any]:
    built = build(Task(model=model), 0)
    first = built.vector()
    module = GradSampleModule(built.module)
    assert isinstance(local.batch_size, int)
    plain = torch.optim.SGD(
        module.parameters(), local.lr, momentum=local.momentum, weight_decay=local.weight_decay
    )
    optimizer = InjectedNoise(
        plain,
        noise_multiplier=RECORD.noise_multiplier,
        max_grad_norm=CLIP,
        expected_batch_size=local.batch_size,
    )
    inputs, target = tensors_of(examples)
    for step in range(local.total_steps(len(target))):
        optimizer.steps_done = step
        members = Scripted().membership(2, "ann", step, len(target), local.batch_size / len(target))
        chosen = torch.from_numpy(np.flatnonzero(members))
        assert len(chosen) not in (0, local.batch_size)
        optimizer.zero_grad()
        loss_of("cross_entropy")(module(*(x[chosen] for x in inputs)), target[chosen]).backward()
        optimizer.step()
    return built.vector() - first


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_what_opacus_does_on_the_same_draws(kind: str) -> None:
    model, examples = KINDS[kind]
    local = LocalSGD(lr=0.3, steps=4, batch_size=7, momentum=0.9, weight_decay=0.01)
    found = trained(examples, model, local)
    np.testing.assert_allclose(found.rows[0], opacus(model, examples, local), rtol=1e-4, atol=2e-5)
