"""The one local step: ``w - lr * (grad + mu * (w - anchor) + correction)``, with momentum and decay."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms


class Stepper:
    """Applies the generalised step to a list of parameters, in place.

    Plain SGD, FedProx's proximal term and the linear correction of SCAFFOLD and FedDyn are one
    formula; what is zero costs nothing. Momentum and weight decay act as in ``torch.optim.SGD``, after
    the gradient was clipped.

    Args:
        parameters: The trainable parameters.
        settings: Learning rate and the like.
        terms: What the algorithm adds.
    """

    def __init__(self, parameters: Sequence[Tensor], settings: LocalSGD, terms: LocalTerms) -> None:
        self._parameters = [p.detach() for p in parameters]  # same memory, no graph
        self._settings, self._terms = settings, terms
        self._correction = _like(self._parameters, terms.correction)
        self._velocity: list[Tensor] | None = None
        self._anchor: list[Tensor] = []

    def begin(self, vector: Tensor) -> None:
        """Start a client: forget the last one's momentum, anchor the proximal term at ``vector``."""
        self._velocity = None
        if self._terms.proximal:
            self._anchor = _like(self._parameters, vector)

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the parameters; the gradients are left alone."""
        # Never in place: autograd may hand out one tensor as the gradient of two parameters.
        grads, settings = list(gradients), self._settings
        if settings.max_grad_norm is not None:
            grads = _clipped(grads, settings.max_grad_norm)
        if settings.weight_decay:
            grads = _plus(grads, self._parameters, settings.weight_decay)
        if self._terms.proximal:
            away = torch._foreach_sub(self._parameters, self._anchor)  # noqa: SLF001 - as torch.optim does
            grads = _plus(grads, away, self._terms.proximal)
        if self._correction:
            grads = _plus(grads, self._correction, 1.0)
        if settings.momentum:
            grads = self._with_momentum(grads)
        torch._foreach_add_(self._parameters, grads, alpha=-settings.lr)

    def _with_momentum(self, grads: list[Tensor]) -> list[Tensor]:
        if self._velocity is None:
            self._velocity = [grad.clone() for grad in grads]
        else:
            torch._foreach_mul_(self._velocity, self._settings.momentum)
            torch._foreach_add_(self._velocity, grads)
        return self._velocity


def _plus(grads: list[Tensor], others: Sequence[Tensor], factor: float) -> list[Tensor]:
    return list(torch._foreach_add(grads, list(others), alpha=factor))  # noqa: SLF001 - as torch.optim does


def _clipped(grads: list[Tensor], largest: float) -> list[Tensor]:
    # As torch.nn.utils.clip_grad_norm_, its 1e-6 included.
    norms = torch._foreach_norm(grads)  # noqa: SLF001 - as torch.optim does
    norm = torch.linalg.vector_norm(torch.stack(list(norms)))
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    return list(torch._foreach_mul(grads, scale))  # noqa: SLF001 - as torch.optim does


def _like(parameters: Sequence[Tensor], vector: object) -> list[Tensor]:
    """Cut a flat vector into views shaped like the parameters; an absent one gives none."""
    if vector is None:
        return []
    flat = torch.as_tensor(vector)
    views, start = [], 0
    for parameter in parameters:
        views.append(flat[start : start + parameter.numel()].view(parameter.shape))
        start += parameter.numel()
    return views
