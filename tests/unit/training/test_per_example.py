"""Gradients of single examples: each is what plain autograd says of that example alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tacit.training import Task, per_example
from tacit.training.executor import UnsupportedError
from tacit.training.flat import build
from tacit.training.losses import loss_of
from tacit.training.per_example import PerExampleGradients


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def single_logit() -> nn.Module:
    return nn.Linear(4, 1)


def many_classes() -> nn.Module:
    return nn.Linear(4, 1500)


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )


def frozen_half() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    model[0].weight.requires_grad_(False)
    return model


class Recurrent(nn.Module):
    """Embedding and a recurrent layer."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.embed, self.recur, self.out = nn.Embedding(9, 4), kind(4, 5, batch_first=True), nn.Linear(5, 9)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.out(self.recur(self.embed(tokens))[0])
        return scores


class Tied(nn.Module):
    """Embedding and output share one matrix; another parameter is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.out.weight = self.embed.weight
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.out(self.embed(tokens))
        return scores


class Hidden(nn.Module):
    """Keeps its weight where torch.func does not look, as recurrent layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)
        self.kept = [self.inner.weight]

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.kept[0], self.inner.bias)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 4), nn.Linear(8, 3)

    def forward(self, token: Tensor, x: Tensor) -> Tensor:
        scores: Tensor = self.out(torch.cat([self.embed(token), x], 1))
        return scores


class Branching(nn.Module):
    """Looks at its data, which vmap does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(x)
        return scores * 2 if bool((x > 0).any()) else scores


def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
    """Average a loss over the batch that no built-in has."""
    return functional.cross_entropy(outputs, targets, label_smoothing=0.1) + outputs.square().mean()


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Average a loss over the batch that vmap does not know."""
    return functional.multi_margin_loss(outputs, targets)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def whole(high: int, *shape: int) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(4))


def padded() -> Tensor:
    targets = whole(9, 6, 5)
    targets[0, 2:] = -100
    targets[1] = -100
    return targets


CASES: dict[str, tuple[Callable[[], nn.Module], Any, tuple[Tensor, ...], Tensor, bool]] = {
    "mlp": (mlp, "cross_entropy", (numbers(6, 4),), whole(3, 6), True),
    "one-logit": (single_logit, "binary_cross_entropy", (numbers(6, 4),), whole(2, 6), True),
    "mse": (single_logit, "mse", (numbers(6, 4),), numbers(6), True),
    "custom-loss": (mlp, smoothed, (numbers(6, 4),), whole(3, 6), True),
    "other-loss": (mlp, margin, (numbers(6, 4),), whole(3, 6), False),
    "many-classes": (many_classes, "cross_entropy", (numbers(6, 4),), whole(1500, 6), True),
    "cnn": (cnn, "cross_entropy", (numbers(6, 2, 8, 8),), whole(3, 6), True),
    "frozen": (frozen_half, "cross_entropy", (numbers(6, 4),), whole(3, 6), True),
    "tied": (Tied, "cross_entropy", (whole(9, 6, 5),), padded(), True),
    "two-inputs": (TwoInputs, "cross_entropy", (whole(9, 6), numbers(6, 4)), whole(3, 6), True),
    "gru": (lambda: Recurrent(nn.GRU), "cross_entropy", (whole(9, 6, 5),), padded(), False),
    "lstm": (lambda: Recurrent(nn.LSTM), "cross_entropy", (whole(9, 6, 5),), padded(), False),
    "hidden-weight": (Hidden, "cross_entropy", (numbers(6, 4),), whole(3, 6), False),
    "branching": (Branching, "cross_entropy", (numbers(6, 4),), whole(3, 6), False),
}


def gradients_of(model: Any, loss: Any) -> tuple[PerExampleGradients, Any]:
    built = build(Task(model=model, loss=loss), 0)
    return PerExampleGradients(built, loss_of(loss)), built


def rows(gradients: PerExampleGradients, inputs: tuple[Tensor, ...], target: Tensor) -> np.ndarray:
    return np.concatenate([np.concatenate(chunk, 1) for chunk in gradients.chunks(inputs, target)])


def oracle(built: Any, loss: Any, inputs: tuple[Tensor, ...], target: Tensor) -> np.ndarray:
    """Take the gradient of every example in a batch of one, with nothing but autograd."""
    found = []
    for i in range(len(target)):
        value = loss_of(loss)(built.module(*(x[i : i + 1] for x in inputs)), target[i : i + 1])
        gradients = torch.autograd.grad(value, built.parameters, allow_unused=True)
        pairs = zip(gradients, built.parameters, strict=True)
        found.append(torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs]))
    return torch.stack(found).numpy()


@pytest.mark.parametrize("case", CASES)
def test_every_example_has_the_gradient_that_plain_autograd_gives_it(case: str) -> None:
    model, loss, inputs, target, _ = CASES[case]
    gradients, built = gradients_of(model, loss)
    wanted = oracle(built, loss, inputs, target)
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(rows(gradients, inputs, target), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_what_torch_func_takes_runs_in_one_call_and_the_rest_example_by_example(case: str) -> None:
    model, loss, inputs, target, is_together = CASES[case]
    for _ in range(2):  # a warning that torch gives only once must not decide
        gradients, _ = gradients_of(model, loss)
        sizes = [len(chunk[0]) for chunk in gradients.chunks(inputs, target)]
        assert sizes == ([6] if is_together else [1] * 6)


@pytest.mark.parametrize("examples", [1, 3, 4])
def test_the_number_of_examples_at_a_time_changes_nothing_but_rounding(
    examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, loss, inputs, target, _ = CASES["mlp"]
    at_once = rows(gradients_of(model, loss)[0], inputs, target)
    monkeypatch.setattr(per_example, "_CHUNK_EXAMPLES", examples)
    np.testing.assert_allclose(rows(gradients_of(model, loss)[0], inputs, target), at_once, atol=1e-6)


def test_an_empty_batch_has_no_gradients() -> None:
    gradients, _ = gradients_of(mlp, "cross_entropy")
    assert list(gradients.chunks((numbers(0, 4),), whole(3, 0))) == []


def test_every_example_draws_a_dropout_mask_of_its_own() -> None:
    gradients, _ = gradients_of(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 2)), "cross_entropy")
    inputs, target = (torch.ones(5, 64),), torch.zeros(5, dtype=torch.long)
    assert len(np.unique(rows(gradients, inputs, target) != 0, axis=0)) == 5


# --- what is left out ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, nn.GRU], ids=["together", "one-by-one"])
def test_an_example_that_raises_is_left_out_and_takes_nobody_along(kind: type[nn.Module] | None) -> None:
    model = Tied if kind is None else lambda: Recurrent(kind)
    gradients, built = gradients_of(model, "cross_entropy")
    inputs, target = whole(9, 6, 5), padded()
    wanted = oracle(built, "cross_entropy", (inputs,), target)
    inputs[2, 1] = 99  # no such word
    target[4, 0] = 99  # no such class
    found = rows(gradients, (inputs,), target)
    np.testing.assert_allclose(found, wanted[[0, 1, 3, 5]], rtol=1e-4, atol=1e-6)


class Hungry(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out, self.is_full = nn.Linear(4, 3), False

    def forward(self, x: Tensor) -> Tensor:
        if self.is_full:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        scores: Tensor = self.out(x)
        return scores


def test_a_machine_without_memory_is_not_an_example_that_raises() -> None:
    gradients, built = gradients_of(Hungry, "cross_entropy")
    inputs, target = (numbers(6, 4),), whole(3, 6)
    gradients.check(inputs, target)
    built.module.is_full = True
    with pytest.raises(RuntimeError, match="allocate memory"):
        list(gradients.chunks(inputs, target))


# --- what is refused -----------------------------------------------------------------------------


class Counting(nn.Module):
    """A running mean outside of any norm layer."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        scores: Tensor = self.out(x - self.mean)
        return scores


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.BatchNorm1d(4), "BatchNorm1d"),
        (nn.BatchNorm1d(4, track_running_stats=False), "BatchNorm1d"),
        (nn.SyncBatchNorm(4), "SyncBatchNorm"),
        (nn.InstanceNorm1d(4, track_running_stats=True), "InstanceNorm1d"),
    ],
    ids=["batch-norm", "without-statistics", "sync", "instance-norm"],
)
def test_a_layer_that_mixes_examples_is_refused_by_name(layer: nn.Module, name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"`1` \({name}\) mixes"):
        gradients_of(lambda: nn.Sequential(nn.Linear(4, 4), layer), "cross_entropy")


def test_a_buffer_that_moves_is_refused_by_name() -> None:
    gradients, _ = gradients_of(Counting, "cross_entropy")
    with pytest.raises(UnsupportedError, match="buffer `mean` moves"):
        gradients.check((numbers(6, 4),), whole(3, 6))


def test_a_loss_that_is_no_mean_over_the_batch_is_refused() -> None:
    def per_class(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean(0)

    gradients, _ = gradients_of(mlp, per_class)
    with pytest.raises(UnsupportedError, match="batch of one example"):
        gradients.check((numbers(6, 4),), whole(3, 6))


def test_a_loss_that_needs_several_examples_is_refused() -> None:
    def pairwise(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cosine_similarity(outputs[0], outputs[1], dim=0)

    gradients, _ = gradients_of(mlp, pairwise)
    with pytest.raises(UnsupportedError, match="batch of one example"):
        gradients.check((numbers(6, 4),), whole(3, 6))
