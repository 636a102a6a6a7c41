"""Losses by name: mean over the batch, padding (target -100) left out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tacit.core.errors import ConfigError
from tacit.core.part import Reference, resolve

Loss = Callable[[Tensor, Tensor], Tensor]
IGNORED = -100
"""A class label with this value is padding: it counts in no cross-entropy and no accuracy."""
WIDE = 1024  # from this many classes on the fused cross-entropy is the faster one


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of class logits, shape (..., classes) or torch's (N, classes, ...)."""
    logits, labels = class_rows(outputs, targets)
    if logits.shape[-1] >= WIDE and logits.ndim == 2 and logits.requires_grad:
        loss: Tensor = _WideCrossEntropy.apply(logits, labels)  # type: ignore[no-untyped-call]
        return loss
    if outputs.ndim > 2 and not bool((labels != IGNORED).any()):
        return logits.sum() * 0.0  # a batch of nothing but padding says nothing, where torch says NaN
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED)


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of one logit per example, shape (N,) or (N, 1), against 0 or 1."""
    return functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype).view_as(outputs))


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error."""
    return functional.mse_loss(outputs, targets.to(outputs.dtype).view_as(outputs))


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error."""
    return functional.l1_loss(outputs, targets.to(outputs.dtype).view_as(outputs))


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """Huber loss with delta 1."""
    return functional.huber_loss(outputs, targets.to(outputs.dtype).view_as(outputs))


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": mse,
    "l1": l1,
    "huber": huber,
}


def loss_of(reference: Reference) -> Loss:
    """Return the loss that a task names.

    Raises:
        ConfigError: No built-in loss has that name and it is no address.
    """
    loss: Loss = named(reference, LOSSES, "loss")
    return loss


def named(reference: Reference, known: dict[str, Any], kind: str) -> Any:
    """Return the callable behind a reference: itself, a built-in's name, or ``"package:function"``."""
    if not isinstance(reference, str):
        return reference
    if ":" in reference:
        return resolve(reference)
    if reference in known:
        return known[reference]
    fix = f'One of {", ".join(known)}, a function, or "package:function".'
    raise ConfigError("T106", f"no {kind} is called `{reference}`", where=f"$.task.{kind}", fix=fix)


def class_rows(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten (N, T, classes) logits against (N, T) targets to rows; leave torch's own shapes alone."""
    if outputs.ndim > 2 and outputs.shape[:-1] == targets.shape:
        return outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1).long()
    return outputs, targets.long()


class _WideCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy over many classes in half the passes over the logits.

    The softmax of the forward pass becomes the gradient in place; ``log_softmax`` and its backward
    would write the (rows, classes) matrix twice more. Equal to torch's to rounding, by test.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        valid = labels != IGNORED
        count = valid.sum().clamp_min(1)  # a batch of nothing but padding: loss and gradient are zero
        index = labels.masked_fill(~valid, 0)[:, None]  # any other label out of range still raises
        probability = torch.softmax(logits, dim=1)
        # log-sum-exp from quantities at hand: the largest probability is exp(max - lse).
        log_sum = logits.amax(dim=1) - probability.amax(dim=1).log()
        picked = logits.gather(1, index)[:, 0]
        ctx.save_for_backward(probability, index, valid, count)
        return torch.where(valid, log_sum - picked, 0.0).sum() / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None]:
        gradient, index, valid, count = ctx.saved_tensors
        gradient.scatter_add_(1, index, torch.full_like(index, -1, dtype=gradient.dtype))
        gradient.mul_((valid * (scale / count))[:, None])
        return gradient, None
