"""The weights of a stack of clients, and where the gradient of each parameter goes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tacit.training.executor import UnsupportedError
from tacit.training.rules.products import product

LOW_RANK_SIZE = 1 << 16
"""Smallest dense layer, in weights, that is worth keeping as base plus factors."""


class NotStackable(Exception):  # noqa: N818 - a message between two modules, no error
    """The model does something for which a stack of several clients has no rule; one client works."""


@dataclass(frozen=True)
class Use:
    """One use of a parameter in a forward pass.

    Attributes:
        reads: Whether its backward pass reads the parameter.
        rows: As the weight of a dense layer: rows of a client's input. 0 for any other use.
    """

    reads: bool
    rows: int = 0


class Stack:
    """Parameters of several clients that train in step.

    A rule adds its gradient to a *sink*. With plain SGD the sink is the parameter itself, scaled by the
    learning rate: the update is fused into the product that makes the gradient. Where an earlier use of
    the same parameter still has to read it, or where the step needs the whole gradient (momentum, decay,
    ...), the sink is a gradient. Autograd runs backward passes in the reverse order of the forward.

    Args:
        shapes: The parameters' shapes, in the order of the flat vector.
        lr: Learning rate.
        fused: Whether the update may be fused.
    """

    def __init__(self, shapes: Sequence[torch.Size], lr: float, *, fused: bool) -> None:
        self.lr, self._shapes, self._fused = lr, list(shapes), fused
        stops = torch.tensor([0, *(shape.numel() for shape in shapes)]).cumsum(0).tolist()
        self._slices = [slice(a, b) for a, b in pairwise(stops)]
        self._uses: list[list[Use]] = [[] for _ in shapes]
        self.size: int = stops[-1]
        self.clients = 0
        self.low_rank: dict[int, Factors] = {}
        self._kept: dict[tuple[str, int], Tensor] = {}

    def open(self, start: Tensor, clients: int, ranks: Mapping[int, int]) -> None:
        """Start a stack of clients.

        Args:
            start: The global parameters, shape (size,).
            clients: How many.
            ranks: For parameters that are nothing but the weight of one dense layer: how many rows a client
                feeds it altogether.
        """
        self._start = start
        bases = [start[part].view(shape) for part, shape in zip(self._slices, self._shapes, strict=True)]
        ranks = {i: rank for i, rank in ranks.items() if self._fused and _pays(bases[i].shape, rank)}
        self.low_rank = {i: Factors(bases[i], *self._factors(i, clients, rank)) for i, rank in ranks.items()}
        # Each parameter of all clients lies by itself, as products like it; nobody reads those of low rank.
        self._all = [
            base.expand(clients, *base.shape)
            if index in ranks
            else self._memory(("weights", index), (clients, *base.shape), start).copy_(base)
            for index, base in enumerate(bases)
        ]
        self._sums = [] if self._fused else [torch.empty_like(weights) for weights in self._all]
        self.narrow(clients)

    def _factors(self, index: int, clients: int, rank: int) -> tuple[Tensor, Tensor]:
        out, width = self._shapes[index]
        inputs = self._memory(("inputs", index), (clients, rank, width), self._start)
        gradients = self._memory(("gradients", index), (clients, rank, out), self._start)
        return inputs.zero_(), gradients.zero_()

    def _memory(self, name: tuple[str, int], shape: Sequence[int], like: Tensor) -> Tensor:
        """Return memory that the last stack has used, too: fresh pages cost more than writing."""
        size = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < size:
            self._kept[name] = like.new_empty(size)
        return self._kept[name][:size].view(*shape)

    def narrow(self, clients: int) -> None:
        """Go on with the first so many clients."""
        self.clients = clients
        self.weights = [weights[:clients] for weights in self._all]
        self.gradients = [gradients[:clients] for gradients in self._sums]

    def begin_step(self) -> None:
        """Forget the last step's uses and gradients; no sink is open until ``begin_backward``."""
        self._is_backward = False
        for uses in self._uses:
            uses.clear()
        self._deferred: dict[int, Tensor] = {}
        self._leaves: dict[int, Tensor] = {}
        for gradient in self.gradients:
            gradient.zero_()

    def begin_backward(self) -> None:
        """Let gradients in."""
        self._is_backward = True

    def weight(self, index: int) -> Tensor:
        """Return a parameter of all clients, shape (clients, *shape)."""
        return self.weights[index]

    def leaf(self, index: int) -> Tensor:
        """Return a parameter of the only client as a leaf that autograd finds a gradient for.

        Raises:
            NotStackable: There are several clients.
        """
        if self.clients > 1:
            raise NotStackable
        self.note(index, Use(reads=True))
        if index not in self._leaves:
            self._leaves[index] = self.weights[index][0].detach().requires_grad_()
        return self._leaves[index]

    def note(self, index: int, use: Use) -> int:
        """Note a use of a parameter; return its number.

        Raises:
            NotStackable: There are only factors of the parameter, which a dense layer can use, and that once.
        """
        if index in self.low_rank and (self._uses[index] or not use.rows):
            raise NotStackable
        self._uses[index].append(use)
        return len(self._uses[index]) - 1

    def dense_only(self) -> dict[int, int]:
        """Return the parameters that the last step used once, as a dense layer's weight; and its rows."""
        return {i: uses[0].rows for i, uses in enumerate(self._uses) if len(uses) == 1 and uses[0].rows}

    def sink(self, index: int, use: int) -> tuple[Tensor, float]:
        """Return where a use adds its gradient, and by what the gradient is multiplied."""
        self.check_backward()
        if self.gradients:
            return self.gradients[index], 1.0
        if not any(earlier.reads for earlier in self._uses[index][:use]):
            return self.weights[index], -self.lr
        if index not in self._deferred:
            self._deferred[index] = torch.zeros_like(self.weights[index])
        return self._deferred[index], 1.0

    def check_backward(self) -> None:
        """Refuse a gradient that is taken before the step's own backward pass: it would change the weights.

        Raises:
            UnsupportedError: The model takes a gradient itself.
        """
        if not self._is_backward:
            raise UnsupportedError("a gradient that the model takes itself")

    def end_step(self) -> None:
        """Apply what was deferred."""
        for index, leaf in self._leaves.items():
            if leaf.grad is not None:
                sink, factor = self.sink(index, 0)
                sink[0].add_(leaf.grad, alpha=factor)
        for index, gradient in self._deferred.items():
            self.weights[index].add_(gradient, alpha=-self.lr)

    def write(self, rows: Tensor) -> None:
        """Write every client's update, local minus global, shape (clients, size)."""
        for index, part in enumerate(self._slices):
            if index in self.low_rank:
                self.low_rank[index].write(rows[:, part], -self.lr)
            else:
                local = self._all[index].reshape(len(rows), -1)  # flatten knows no axes after a scalar's
                torch.sub(local, self._start[part], out=rows[:, part])


def _pays(shape: torch.Size, rank: int) -> bool:
    return shape.numel() >= LOW_RANK_SIZE and rank < min(shape)


class Factors:
    """A dense layer's weights as the shared base minus ``lr`` times a product of low rank.

    After ``s`` steps of plain SGD a client's weights are ``W0 - lr * G^T X``: all inputs and all output
    gradients so far, one below the other. While their number is below the layer's sides, keeping them
    is cheaper than keeping the weights; and all clients multiply by the one ``W0`` together.

    Args:
        base: The global weights, shape (out, in).
        inputs: Memory for inputs, zero, shape (clients, most rows, in).
        gradients: Memory for gradients, zero, shape (clients, most rows, out).
    """

    def __init__(self, base: Tensor, inputs: Tensor, gradients: Tensor) -> None:
        self.base, self._inputs, self._gradients = base, inputs, gradients
        self._rank = 0

    def forward(self, rows: Tensor, lr: float) -> Tensor:
        """Return ``x W^T``, shape (clients, rows, out), for x of shape (clients, rows, in)."""
        clients, out = len(rows), self.base.shape[0]
        y = product(rows.flatten(0, 1), self.base, None).resize_(clients, rows.shape[1], out)
        if self._rank:
            inputs, gradients = self._inputs[:clients, : self._rank], self._gradients[:clients, : self._rank]
            y.baddbmm_(torch.bmm(rows, inputs.mT), gradients, alpha=-lr)
        return y

    def backward(self, g: Tensor, lr: float) -> Tensor:
        """Return ``g W``, shape (clients, rows, in), for g of shape (clients, rows, out)."""
        clients, width = len(g), self.base.shape[1]
        dx = torch.mm(g.flatten(0, 1), self.base).view(clients, -1, width)
        if self._rank:
            inputs, gradients = self._inputs[:clients, : self._rank], self._gradients[:clients, : self._rank]
            dx.baddbmm_(torch.bmm(g, gradients.mT), inputs, alpha=-lr)
        return dx

    def add(self, inputs: Tensor, gradients: Tensor) -> None:
        """Add one step's inputs and output gradients, shapes (clients, rows, in) and (clients, rows, out)."""
        clients, rows, _ = inputs.shape
        rank = self._rank + rows
        if rank > self._inputs.shape[1]:
            raise NotStackable  # more rows than the model's code promised
        self._inputs[:clients, self._rank : rank] = inputs
        self._gradients[:clients, self._rank : rank] = gradients
        self._rank = rank

    def write(self, update: Tensor, factor: float) -> None:
        """Write ``factor * G^T X`` of every client, shape (clients, out * in)."""
        gradients = self._gradients[:, : self._rank].mul_(factor)
        for row, g, x in zip(update, gradients, self._inputs[:, : self._rank], strict=True):
            torch.mm(g.t(), x, out=row.view(self.base.shape))
