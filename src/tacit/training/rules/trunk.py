"""A row of convolutions with what lies between them, client by client: one client's values stay in the cache.

Layer by layer, the values of a whole stack are larger than a core's cache, and each layer fetches them anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from tacit.training.rules.layers import Options, like_format
from tacit.training.rules.stack import Stack, Use


@dataclass(frozen=True)
class Conv:
    """A two-dimensional convolution.

    Attributes:
        weight: Place of its weight among the trunk's parameters.
        bias: Place of its bias, or None.
        options: Stride and the like.
    """

    weight: int
    bias: int | None
    options: Options


@dataclass(frozen=True)
class MaxPool:
    """A two-dimensional maximum; kernel, stride, padding, dilation, and whether sizes are rounded up."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil: bool


@dataclass(frozen=True)
class Relu:
    """``max(x, 0)``, in place: it never comes first, and what comes before it keeps no result."""


@dataclass(frozen=True)
class Flatten:
    """One row for each example; it comes last."""


Layer = Conv | MaxPool | Relu | Flatten


class Trunk(nn.Module):
    """The first layers of a model.

    Args:
        layers: What they do.
        parameters: Their parameters.
    """

    def __init__(self, layers: Sequence[Layer], parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.layers, self.places = tuple(layers), nn.ParameterList(parameters)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layers make of images, shape (examples, channels, height, width)."""
        return trunk(x, *self.places, layers=self.layers)


def trunk(x: Tensor, *parameters: Tensor, layers: tuple[Layer, ...]) -> Tensor:
    """Apply layers; layer rules see this as one function, plain torch as several."""
    if has_torch_function((x, *parameters)):
        return handle_torch_function(trunk, (x, *parameters), x, *parameters, layers=layers)
    return plainly(x, parameters, layers)


def plainly(x: Tensor, parameters: Sequence[Tensor], layers: tuple[Layer, ...]) -> Tensor:
    """Apply layers one by one, by torch's own functions."""
    for layer in layers:
        match layer:
            case Conv(weight, bias, (stride, padding, dilation, _, _, groups)):
                b = None if bias is None else parameters[bias]
                x = functional.conv2d(x, parameters[weight], b, stride, padding, dilation, groups)
            case MaxPool(kernel, stride, padding, dilation, ceil):
                x = functional.max_pool2d(x, kernel, stride, padding, dilation, ceil)
            case Relu():
                x = functional.relu(x)
            case Flatten():
                x = x.flatten(1)
    return x


class TrunkRule(Function):
    """Forward and backward pass of all layers, one client after the other."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, token: Tensor, stack: Stack, indexes: Sequence[int], layers: tuple[Layer, ...]
    ) -> Tensor:
        ctx.stack, ctx.indexes, ctx.layers = stack, indexes, layers
        ctx.uses = [stack.note(index, Use(reads=True)) for index in indexes]
        ctx.tapes, results = [], []
        for client, part in enumerate(x.chunk(stack.clients)):
            weights = [stack.weight(index)[client] for index in indexes]
            tape: list[Any] = []
            for layer in layers:
                part = _forward(layer, part, weights, tape)
            ctx.tapes.append(tape)
            results.append(part)
        # Always a copy: the model may write into what it gets, and the tape must not change with it.
        return torch.cat(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        stack, wants = ctx.stack, ctx.needs_input_grad[0]
        sinks = [stack.sink(index, use) for index, use in zip(ctx.indexes, ctx.uses, strict=True)]
        found = []
        for client, (part, tape) in enumerate(zip(g.chunk(stack.clients), ctx.tapes, strict=True)):
            weights = [stack.weight(index)[client] for index in ctx.indexes]
            targets = [(sink[client], factor) for sink, factor in sinks]
            owned = False  # the gradient that came in may be somebody else's, too
            for place in range(len(ctx.layers) - 1, -1, -1):
                layer, needed = ctx.layers[place], wants or place > 0
                part = _backward(layer, part, weights, targets, tape[place], wants=needed, owned=owned)
                owned |= isinstance(layer, Conv | MaxPool)
            found.append(part)
        ctx.tapes = None
        return torch.cat(found) if wants else None, None, None, None, None


def _forward(layer: Layer, x: Tensor, weights: Sequence[Tensor], tape: list[Any]) -> Tensor:
    """Apply a layer; note what its backward pass needs."""
    match layer:
        case Conv(weight, bias, options):
            tape.append(x)
            b = None if bias is None else weights[bias]
            x = torch.ops.aten.convolution(x, weights[weight], b, *options)
        case MaxPool(kernel, stride, padding, dilation, ceil):
            y, places = torch.ops.aten.max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil)
            tape.append((x, places))
            x = y
        case Relu():
            x = x.relu_()
            tape.append(x)
        case Flatten():
            tape.append(x)
            x = x.flatten(1)
    return x


def _backward(
    layer: Layer,
    g: Tensor,
    weights: Sequence[Tensor],
    targets: Sequence[tuple[Tensor, float]],
    noted: Any,
    *,
    wants: bool,
    owned: bool,
) -> Any:
    """Return the gradient of a layer's input, None if it is not wanted; add those of its parameters.

    Where ``owned``, nobody else will read ``g``.
    """
    match layer:
        case Conv(weight, bias, options):
            w, mask = weights[weight], [wants, True, bias is not None]
            dx, dw, db = torch.ops.aten.convolution_backward(
                like_format(g, noted), noted, w, [w.shape[0]], *options, mask
            )
            sink, factor = targets[weight]
            sink.add_(dw, alpha=factor)
            if bias is not None:
                sink, factor = targets[bias]
                sink.add_(db, alpha=factor)
            return dx
        case MaxPool(kernel, stride, padding, dilation, ceil):
            x, places = noted
            return torch.ops.aten.max_pool2d_with_indices_backward(
                like_format(g, x), x, kernel, stride, padding, dilation, ceil, places
            )
        case Relu():
            g = like_format(g, noted)
            if owned:
                return torch.ops.aten.threshold_backward.grad_input(g, noted, 0, grad_input=g)
            return torch.ops.aten.threshold_backward(g, noted, 0)
        case Flatten():
            return like_format(g.reshape(noted.shape), noted)
