"""The built-in losses of one client of a stack: the mean over its examples, whatever padding is beside."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tacit.training import losses
from tacit.training.losses import IGNORED, WIDE, Loss, class_rows

MaskedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(outputs, targets, weight) -> scalar``; weight is 1 for an example and 0 for padding, shape (N,)."""


def cross_entropy(outputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy, the mean over the examples' labels that are not padding themselves.

    A label that is no class makes the loss no number: torch would raise for all clients on a processor, and
    end the process's use of a GPU.
    """
    is_real = _beside(weight, targets) > 0
    logits, labels = class_rows(outputs, torch.where(is_real, targets.long(), IGNORED))
    counts = labels != IGNORED
    is_class = (labels >= 0) & (labels < logits.shape[1])
    index = torch.where(is_class, labels, 0).unsqueeze(1)  # (N, classes, ...) has the classes second
    each = -functional.log_softmax(logits, dim=1).gather(1, index).squeeze(1)
    # Not a product: an infinite loss of what is padding would become no number.
    total = torch.where(counts, torch.where(is_class, each, torch.nan), 0.0).sum()
    # Where nothing but padding is left torch says NaN, and the cross-entropy of sequences zero.
    least = 1 if outputs.ndim > 2 or logits.shape[1] >= WIDE else 0
    return total / counts.sum().clamp_min(least)


def _mean(elementwise: Callable[..., Tensor]) -> MaskedLoss:
    def masked(outputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        each = elementwise(outputs, targets.to(outputs.dtype).view_as(outputs), reduction="none")
        total = torch.where(_beside(weight, each) > 0, each, 0.0).sum()
        return total / (weight.sum() * math.prod(each.shape[1:]))

    return masked


def _beside(weight: Tensor, tensor: Tensor) -> Tensor:
    """Return the examples' weights in a shape that goes with a tensor of as many examples."""
    return weight.view(-1, *[1] * (tensor.ndim - 1))


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
