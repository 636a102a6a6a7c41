"""The mean loss of every client of a stack at once, padding left out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional

from tacit.training import losses
from tacit.training.losses import IGNORED, WIDE, Loss, class_rows
from tacit.training.rules.layers import Linear

_UNDERFLOW = 1e-30  # below it a float32 probability has lost its digits
_LEAST = 1e-38  # computed in place, the loss of one example reads at most 87.5; its gradient is exact
Elementwise = Callable[..., Tensor]
_ELEMENTWISE: dict[Loss, Elementwise] = {
    losses.binary_cross_entropy: functional.binary_cross_entropy_with_logits,
    losses.mse: functional.mse_loss,
    losses.l1: functional.l1_loss,
    losses.huber: functional.huber_loss,
}


def client_losses(loss: Loss, outputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return the mean loss of each client.

    Args:
        loss: One of the built-in losses, or a function of outputs and targets.
        outputs: What the model said, shape (clients * batch, ...).
        targets: What it should say, shape (clients * batch, ...).
        weight: 1 for an example and 0 for padding, shape (clients, batch).

    Returns:
        Shape (clients,).
    """
    if loss is losses.cross_entropy:
        return _cross_entropy(outputs, targets, weight)
    if loss in _ELEMENTWISE:
        elements = _ELEMENTWISE[loss](outputs, targets.to(outputs.dtype).view_as(outputs), reduction="none")
        per_example = elements.reshape(*weight.shape, -1).mean(-1)
        # Not a product: an infinite loss of what is repeated as padding would become no number.
        return torch.where(weight > 0, per_example, 0.0).sum(1) / weight.sum(1)
    if len(weight) == 1:  # no padding; and the outputs may be anything that the loss understands
        return loss(outputs, targets).reshape(1)
    rows = len(outputs) // weight.numel()  # of one example: a model may have flattened its sequences
    counts: list[int] = weight.sum(1).long().tolist()
    clients = zip(outputs.chunk(len(weight)), targets.chunk(len(weight)), counts, strict=True)
    return torch.stack(
        [loss(out[: rows * count], target[:count]).reshape(()) for out, target, count in clients]
    )


def _cross_entropy(outputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    logits, labels = class_rows(outputs, targets)
    if logits.ndim > 2:  # torch's (N, classes, ...): move the classes last
        labels = labels.reshape(-1)
        logits = logits.movedim(1, -1).reshape(-1, logits.shape[1])
    if labels.shape != logits.shape[:1]:
        raise ValueError("as many labels as rows of logits")
    real = weight.reshape(-1, 1).expand(-1, len(labels) // weight.numel()).reshape(-1)
    # Where nothing but padding is left torch says NaN, and the cross-entropy of sequences zero.
    least = 1.0 if outputs.ndim > 2 or logits.shape[1] >= WIDE else 0.0
    writer = _writer(logits) if logits.shape[1] >= WIDE else None
    found: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits, labels, real, len(weight), least, writer
    )
    return found


def _writer(logits: Tensor) -> Any:
    """Return the node of the dense layer that wrote this, which keeps its input alone: nobody reads it again.

    None if it was no dense layer with weights of its own.
    """
    node: Any = logits.grad_fn
    while node is not None and node.name() in (
        "ViewBackward0",
        "UnsafeViewBackward0",
        "ReshapeAliasBackward0",
    ):
        node = node.next_functions[0][0]
    is_dense = getattr(node, "_forward_cls", None) is Linear
    return node if is_dense and node.weight not in node.stack.low_rank else None


class _CrossEntropy(Function):
    """Mean cross-entropy of each client; the softmax of the forward pass becomes the gradient in place."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, real: Tensor, clients: int, least: float, writer: Any
    ) -> Tensor:
        in_place = writer is not None
        valid = labels != IGNORED
        weight = (real * valid).view(clients, -1)
        count = weight.sum(1, keepdim=True).clamp_min(least)
        index = labels.masked_fill(~valid, 0)[:, None]  # any other label out of range still raises
        probability = torch.softmax(logits, dim=1, out=logits.detach() if in_place else None)
        picked = probability.gather(1, index)
        loss = picked.clamp_min(_LEAST).log().neg_().view(-1)
        if not in_place:
            for row in (picked.view(-1) < _UNDERFLOW).nonzero().view(-1).tolist():
                loss[row] = torch.logsumexp(logits[row], 0) - logits[row, index[row, 0]]
        ctx.probability, ctx.index, ctx.share, ctx.writer = probability, index, weight / count, writer
        return (torch.where(weight > 0, loss.view(clients, -1), 0.0).sum(1, keepdim=True) / count).view(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradient = ctx.probability
        gradient.scatter_add_(1, ctx.index, torch.full_like(ctx.index, -1, dtype=gradient.dtype))
        shares = (ctx.share * g[:, None]).view(-1)
        if ctx.writer is None or ctx.writer.stack.clients > 1:  # several small products take longer
            gradient.mul_(shares[:, None])
        else:
            ctx.writer.shares = shares  # which saves a pass over the whole matrix
        ctx.probability = ctx.writer = None
        return gradient, None, None, None, None, None
