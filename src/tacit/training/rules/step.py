"""The local step of a stack of clients, where more than plain SGD is asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms


def is_plain(settings: LocalSGD, terms: LocalTerms) -> bool:
    """Tell whether a step is nothing but ``w - lr * grad``, which a rule can do while it has the gradient."""
    extras = (settings.momentum, settings.weight_decay, settings.max_grad_norm, terms.proximal)
    return not any(extras) and terms.correction is None


class StackStepper:
    """The step of ``training.step.Stepper`` for a stack: each tensor begins with an axis of clients.

    Args:
        settings: Learning rate and the like.
        terms: What the algorithm adds.
        shapes: The parameters' shapes, in the order of the flat vector.
    """

    def __init__(self, settings: LocalSGD, terms: LocalTerms, shapes: Sequence[torch.Size]) -> None:
        self._settings, self._terms, self._shapes = settings, terms, list(shapes)
        self._correction = None if terms.correction is None else self._cut(torch.as_tensor(terms.correction))
        self._velocity: list[Tensor] = []

    def begin(self, start: Tensor) -> None:
        """Start a stack: forget the last one's momentum; ``start``, shape (size,), is the new anchor."""
        self._velocity, self._anchor = [], self._cut(start)

    def step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Move the weights in place, each of shape (clients, *shape); the gradients may be overwritten."""
        settings, grads = self._settings, list(gradients)
        if settings.max_grad_norm is not None:
            _clip(grads, settings.max_grad_norm)
        if settings.weight_decay:
            torch._foreach_add_(grads, list(weights), alpha=settings.weight_decay)
        if self._terms.proximal:
            away = torch._foreach_sub(list(weights), self._anchor)  # noqa: SLF001 - as torch.optim does
            torch._foreach_add_(grads, away, alpha=self._terms.proximal)
        if self._correction is not None:
            torch._foreach_add_(grads, self._correction)
        if settings.momentum:
            grads = self._with_momentum(grads)
        torch._foreach_add_(list(weights), grads, alpha=-settings.lr)

    def _with_momentum(self, grads: list[Tensor]) -> list[Tensor]:
        if not self._velocity:
            self._velocity = [grad.clone() for grad in grads]
            return self._velocity
        # Clients that have finished drop off the end.
        self._velocity = [v[: len(grad)] for v, grad in zip(self._velocity, grads, strict=True)]
        torch._foreach_mul_(self._velocity, self._settings.momentum)
        torch._foreach_add_(self._velocity, grads)
        return self._velocity

    def _cut(self, vector: Tensor) -> list[Tensor]:
        sizes = [shape.numel() for shape in self._shapes]
        parts = torch.split(vector[: sum(sizes)], sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _clip(grads: list[Tensor], largest: float) -> None:
    # As torch.nn.utils.clip_grad_norm_, its 1e-6 included; each client's gradient by itself.
    squares = [grad.reshape(len(grad), -1).square().sum(1) for grad in grads]
    scale = (largest / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp_(max=1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *[1] * (grad.ndim - 1)))
