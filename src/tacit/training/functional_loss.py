"""The mean loss of every client of a stack as one function of its weights, by ``torch.vmap``."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tacit.training.executor import UnsupportedError
from tacit.training.flat import PARAMETERS, FlatModel
from tacit.training.functional_layers import Replaced, StackedDraws
from tacit.training.functional_losses import masked_loss
from tacit.training.losses import loss_of
from tacit.training.task import Task


@dataclass(frozen=True)
class StackBatch:
    """One step's examples of several clients, on the device.

    Attributes:
        inputs: Each of shape (clients, batch, ...).
        target: Shape (clients, batch, ...).
        weight: 1 for an example and 0 for padding, shape (clients, batch).
        draws: Uniform numbers for each call of dropout, each of shape (clients, batch, ...).
        axes: Where the axis of the examples lies in what each of these calls fills.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor
    weight: Tensor
    draws: tuple[Tensor, ...] = ()
    axes: tuple[int, ...] = ()

    def cut(self, clients: Tensor, width: int) -> "StackBatch":
        """Return the first ``width`` examples of some clients."""
        parts = [each[clients, :width] for each in (*self.inputs, self.target, self.weight, *self.draws)]
        count = len(self.inputs)
        return StackBatch(
            tuple(parts[:count]), parts[count], parts[count + 1], tuple(parts[count + 2 :]), self.axes
        )


class StackLoss:
    """The losses of a stack of clients, and the gradients of each client's loss with respect to its weights.

    Each client's loss is the mean over its examples, so that the sum over clients has all the gradients at
    once: no client's weights move another's loss.

    Args:
        task: What is learned.
        model: The task's model; frozen parameters and buffers are constants.
        device: Where to compute.

    Attributes:
        is_masked: Whether the loss can leave out padding.

    Raises:
        UnsupportedError: The model has buffers that training changes.
    """

    def __init__(self, task: Task, model: FlatModel, device: str) -> None:
        if model.local is not None or [s.name for s in model.layout.segments] != [PARAMETERS]:
            raise UnsupportedError("buffers that training changes, such as batch-norm statistics")
        self._module, self._device = model.module, torch.device(device)
        self._names = [n for n, p in self._module.named_parameters() if p.requires_grad]
        frozen = {n: p.detach() for n, p in self._module.named_parameters() if not p.requires_grad}
        self._frozen = {name: tensor.to(device) for name, tensor in frozen.items()}
        self._buffers = {name: buffer.to(device) for name, buffer in self._module.named_buffers()}
        self._loss = loss_of(task.loss)
        self._masked = masked_loss(self._loss)
        self.is_masked = self._masked is not None

    def gradients(self, weights: Sequence[Tensor], batch: StackBatch) -> tuple[Tensor, list[Tensor]]:
        """Return every client's loss, shape (clients,), and its gradients, each of shape (clients, ...)."""
        leaves = [weight.detach().requires_grad_() for weight in weights]
        losses = self._losses(leaves, batch)
        found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True, materialize_grads=True)
        return losses.detach(), list(found)

    def _losses(self, weights: Sequence[Tensor], batch: StackBatch) -> Tensor:
        draws = StackedDraws(batch.draws, batch.axes) if batch.draws else nullcontext()
        # A model that makes a tensor without saying where means the device that it is on.
        place = nullcontext() if self._device.type == "cpu" else self._device
        # Attention's fused kernels are not the same on all devices, and some do not repeat to the bit.
        with place, Replaced(), draws as used, sdpa_kernel(SDPBackend.MATH):
            each = vmap(self._loss_of, randomness="different" if batch.draws else "error")
            losses: Tensor = each(tuple(weights), batch.inputs, batch.target, batch.weight)
        if used is not None and used.left:
            raise UnsupportedError("dropout: a call of it was left out")
        return losses

    def _loss_of(
        self, weights: tuple[Tensor, ...], inputs: tuple[Tensor, ...], target: Tensor, weight: Tensor
    ) -> Tensor:
        """Return one client's loss."""
        # Buffers are cloned: one that the model writes into must not be the model's own.
        state = {name: buffer.clone() for name, buffer in self._buffers.items()} | self._frozen
        outputs = functional_call(self._module, state | dict(zip(self._names, weights, strict=True)), inputs)
        if self._masked is not None:
            return self._masked(outputs, target, weight)
        return self._loss(outputs, target)
