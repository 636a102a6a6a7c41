"""The built-in losses as a mean over real examples: what is padding counts nothing, to the last bit."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tacit.training import losses
from tacit.training.losses import IGNORED, Loss, class_rows

_FEW = 64  # classes
MaskedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(outputs, targets, weight) -> scalar``; weight is 1 for an example and 0 for padding, shape (N,)."""


def cross_entropy(outputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy, the mean over the real examples' targets that are not padding themselves.

    A label that is no class makes the loss NaN, where torch raises: a graph cannot raise for one client
    of many.
    """
    real = _over(weight, targets) > 0
    logits, labels = class_rows(outputs, torch.where(real, targets.long(), IGNORED))
    if logits.ndim == 2 and logits.shape[1] <= _FEW:
        return _few_classes(logits, labels)
    # Torch's own shape (N, classes, ...) has the classes second; rows have them last.
    axis, classes = (1, logits.shape[1])
    valid = labels != IGNORED
    known = (labels >= 0) & (labels < classes)
    index = torch.where(known, labels, 0)
    picked = functional.log_softmax(logits, dim=axis).gather(axis, index.unsqueeze(axis)).squeeze(axis)
    total = torch.where(valid, -picked, 0.0).sum()
    wrong = (valid & ~known).any()
    return total / valid.sum().clamp_min(1) * torch.where(wrong, torch.nan, 1.0)


def _few_classes(logits: Tensor, labels: Tensor) -> Tensor:
    total, counted, known, *_ = _SumOverFewClasses.apply(logits, labels)  # type: ignore[no-untyped-call]
    mean: Tensor = total / counted.clamp_min(1.0)
    return mean * torch.where(known == counted, 1.0, torch.nan)


class _SumOverFewClasses(torch.autograd.Function):
    """Summed cross-entropy, how many labels count, and how many of these are classes.

    Labels become a matrix: to gather and scatter by index takes longer than the rest for a few classes.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        logged = functional.log_softmax(logits, dim=1)
        right = (labels[:, None] == torch.arange(logits.shape[1])).to(logits.dtype)
        counts = (labels != IGNORED).to(logits.dtype)
        known = right.sum(dim=1)
        total = -torch.where(right > 0, logged, 0.0).sum()
        return total, counts.sum(), known.sum(), logged, right, counts

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*output[3:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, scale: Tensor, *_: Any) -> tuple[Tensor, None]:
        logged, right, counts = ctx.saved_tensors
        return (logged.exp() - right) * (counts * scale)[:, None], None


def _mean(each: Callable[..., Tensor]) -> MaskedLoss:
    def masked(outputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        wanted = targets.to(outputs.dtype).view_as(outputs)
        rows = each(outputs, wanted, reduction="none")
        total = torch.where(_over(weight, rows) > 0, rows, 0.0).sum()
        return total / (weight.sum().clamp_min(1.0) * math.prod(rows.shape[1:]))

    return masked


def _over(weight: Tensor, rows: Tensor) -> Tensor:
    """Return the weight of each example, shaped to be broadcast over ``rows``."""
    return weight.view(-1, *[1] * (rows.ndim - 1))


_MASKED: dict[Loss, MaskedLoss] = {
    losses.cross_entropy: cross_entropy,
    losses.binary_cross_entropy: _mean(functional.binary_cross_entropy_with_logits),
    losses.mse: _mean(functional.mse_loss),
    losses.l1: _mean(functional.l1_loss),
    losses.huber: _mean(functional.huber_loss),
}


def masked_loss(loss: Loss) -> MaskedLoss | None:
    """Return a built-in loss with a weight per example; None for a loss of the user's own."""
    return _MASKED.get(loss)
