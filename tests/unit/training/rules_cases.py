"""Models, clients and a plain loop in float64 that the executor of layer rules is compared with."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task, Trained
from tacit.training.flat import FlatModel, build
from tacit.training.losses import loss_of
from tacit.training.order import epoch_order
from tacit.training.rules import RulesExecutor
from tacit.training.tensors import tensors_of
from tacit.training.torch_executor import TorchExecutor

SEED, CLASSES, WORDS = 5, 4, 11
RAGGED = (7, 4, 6, 1)
LOCAL = LocalSGD(lr=0.2, batch_size=3, epochs=2)
PLAIN = LocalTerms()

Factory = Callable[[], nn.Module]


class Made(nn.Module):
    """A model whose forward pass is a function of it and its inputs."""

    def __init__(self, forward: Callable[..., Any], parts: dict[str, Any]) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def made(forward: Callable[..., Any], **parts: Callable[[], Any]) -> Factory:
    """Return what builds a model of the given parts."""
    return lambda: Made(forward, {name: part() for name, part in parts.items()})


def weights(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(torch.randn(shape) / 2)


def linear(width: int, out: int = CLASSES, **more: Any) -> Callable[[], nn.Linear]:
    return lambda: nn.Linear(width, out, **more)


# --- clients -------------------------------------------------------------------------------------

_SHAPES = {"table": (6,), "signal": (4, 12), "image": (4, 9, 9), "volume": (2, 5, 5, 5), "series": (5, 4)}


def examples(kind: str, size: int, seed: int = 0) -> Examples:
    """Draw a client's data: a named kind of input, and classes."""
    rng = np.random.default_rng([seed, size])
    if kind == "words":
        x = rng.integers(1, WORDS, (size, 6))
    else:
        x = rng.standard_normal((size, *_SHAPES[kind])).astype(np.float32)
    return Examples.of(x, rng.integers(0, CLASSES, size))


def work(client: str, data: Examples, **more: Any) -> ClientWork:
    return ClientWork(client, data, round=2, **more)


def group(kind: str = "table", sizes: Sequence[int] = RAGGED) -> list[ClientWork]:
    return [work(f"c{i}", examples(kind, size, seed=i)) for i, size in enumerate(sizes)]


# --- what trains them ----------------------------------------------------------------------------


def executor(
    model: Factory,
    local: LocalSGD = LOCAL,
    terms: LocalTerms = PLAIN,
    loss: Any = "cross_entropy",
    dtype: torch.dtype = torch.float32,
) -> tuple[RulesExecutor, np.ndarray, FlatModel]:
    """Build the executor of rules; return it, the global vector and the model."""
    task = Task(model=model, loss=loss)
    flat = build(task, 0)
    flat.module.to(dtype)
    return RulesExecutor(task, flat, local, terms, SEED, dtype=dtype), flat.flat.numpy().copy(), flat


def by_rules(model: Factory, works: Sequence[ClientWork], local: LocalSGD = LOCAL, **more: Any) -> Trained:
    runner, vector, _ = executor(model, local, **more)
    return runner.train(vector, works)


def by_torch(
    model: Factory,
    works: Sequence[ClientWork],
    local: LocalSGD = LOCAL,
    terms: LocalTerms = PLAIN,
    loss: Any = "cross_entropy",
) -> Trained:
    task = Task(model=model, loss=loss)
    flat = build(task, 0)
    return TorchExecutor(task, flat, local, terms, SEED).train(flat.vector(), works)


def in_order_of(trained: Trained, clients: Sequence[str]) -> np.ndarray:
    """Return the rows in a given order of the clients."""
    assert sorted(trained.clients) == sorted(clients), trained.failures
    return trained.rows[[trained.clients.index(client) for client in clients]]


def as_a_stack(runner: RulesExecutor, vector: np.ndarray, works: Sequence[ClientWork]) -> Trained:
    """Train a group, and make sure that its clients are not trained one after the other instead."""

    def apart(*args: Any) -> None:
        raise AssertionError("the stack has failed")

    runner._train_apart = apart  # type: ignore[method-assign, assignment]  # noqa: SLF001
    return runner.train(vector, works)


def is_stackable(runner: RulesExecutor) -> bool:
    """Tell what the executor has found out about its model."""
    (nature,) = runner._natures.values()  # noqa: SLF001
    return nature.is_stackable


def in_float64(
    model: Factory,
    works: Sequence[ClientWork],
    local: LocalSGD = LOCAL,
    terms: LocalTerms = PLAIN,
    loss: Any = "cross_entropy",
) -> np.ndarray:
    """Train every client by a plain loop in float64; return the rows, the mean loss last."""
    flat = build(Task(model=model, loss=loss), 0)
    start = torch.from_numpy(flat.vector().copy()).double()
    module = flat.module.double().train()
    parameters = [p for p in module.parameters() if p.requires_grad]
    shapes = [p.shape for p in parameters]
    cuts = [size.numel() for size in shapes]
    correction = (
        start.new_zeros(len(start)) if terms.correction is None else torch.as_tensor(terms.correction)
    )
    rows = []
    for each in works:
        with torch.no_grad():
            for parameter, part in zip(parameters, start.split(cuts), strict=True):
                parameter.copy_(part.view(parameter.shape))
        velocity, losses = torch.zeros_like(start), []
        for inputs, target in _steps(each, local):
            found = loss_of(loss)(module(*inputs), target)
            gradients = torch.autograd.grad(found, parameters, allow_unused=True)
            pairs = zip(gradients, parameters, strict=True)
            grad = torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs])
            if local.max_grad_norm is not None:
                grad = grad * (local.max_grad_norm / (grad.norm() + 1e-6)).clamp(max=1)
            now = torch.cat([p.detach().reshape(-1) for p in parameters])
            grad = grad + local.weight_decay * now + terms.proximal * (now - start) + correction
            velocity = local.momentum * velocity + grad
            with torch.no_grad():
                for parameter, part in zip(parameters, (now - local.lr * velocity).split(cuts), strict=True):
                    parameter.copy_(part.view(parameter.shape))
            losses += [found.item()] * len(target)
        end = torch.cat([p.detach().reshape(-1) for p in parameters])
        rows.append(np.append((end - start).numpy(), np.mean(losses)))
    return np.stack(rows)


def _steps(each: ClientWork, local: LocalSGD) -> list[tuple[list[Tensor], Tensor]]:
    inputs, target = tensors_of(each.examples)
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    target = target.double() if target.is_floating_point() else target
    size, batch = len(target), local.batch(len(target))
    found: list[tuple[list[Tensor], Tensor]] = []
    most = local.total_steps(size)
    limit = most if each.max_steps is None else min(most, each.max_steps)
    epoch = 0
    while len(found) < limit:
        order = epoch_order(SEED, each.round, each.client, epoch, size) if local.shuffle else np.arange(size)
        for begin in range(0, size, batch):
            rows = torch.from_numpy(order[begin : begin + batch])
            found.append(([x[rows] for x in inputs], target[rows]))
        epoch += 1
    return found[:limit]
