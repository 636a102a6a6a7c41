"""Rules of layers with parameters: each multiplies a whole stack of clients by the weights of each.

Values keep the shape that the model's code expects: the batches of all clients follow one another along the
first axis. A rule looks at it as (clients, rows of a client, ...).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from tacit.training.rules.products import product
from tacit.training.rules.stack import Stack, Use


def by_client(x: Tensor, clients: int, width: int) -> Tensor:
    """Return rows of length ``width`` by client, shape (clients, rows, width)."""
    return x.reshape(clients, -1, width)


class Linear(Function):
    """``y = x W^T + b``; the gradient ``g^T x`` goes straight into the sink.

    Whoever knows that it alone has read ``y`` may leave its gradient unscaled and set ``shares``, shape
    (rows of all clients,), on this node: each row is then scaled where that is cheap, in ``x`` and ``dx``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, stack: Stack, weight: int, bias: int | None) -> Tensor:
        ctx.stack, ctx.weight, ctx.bias, ctx.shape = stack, weight, bias, x.shape
        w, rows = stack.weight(weight), by_client(x, stack.clients, x.shape[-1])
        ctx.rows, ctx.shares = rows, None
        ctx.weight_use = stack.note(weight, Use(reads=ctx.needs_input_grad[0], rows=rows.shape[1]))
        b = None if bias is None else stack.weight(bias)
        factors = stack.low_rank.get(weight)
        if factors is not None:
            y = factors.forward(rows, stack.lr)
            if b is not None:
                y += b[:, None]
        elif stack.clients == 1:
            y = product(rows[0], w[0], None if b is None else b[0])
        else:
            y = torch.bmm(rows, w.mT) if b is None else torch.baddbmm(b[:, None], rows, w.mT)
        if bias is not None:
            ctx.bias_use = stack.note(bias, Use(reads=False))
        return _shaped(y, (*x.shape[:-1], w.shape[1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        stack, rows, wants = ctx.stack, ctx.rows, ctx.needs_input_grad[0]
        w = stack.weight(ctx.weight)
        g = by_client(g, stack.clients, w.shape[1])
        shares = None if ctx.shares is None else ctx.shares.view(stack.clients, -1, 1)
        rows = rows if shares is None else rows * shares
        factors = stack.low_rank.get(ctx.weight)
        dx = None
        if factors is not None:
            assert shares is None, "a layer that wide is read by nobody who sets shares"
            dx = factors.backward(g, stack.lr) if wants else None
            stack.check_backward()
            factors.add(rows, g)
        else:
            if wants:
                dx = torch.mm(g[0], w[0])[None] if stack.clients == 1 else torch.bmm(g, w)
                dx = dx if shares is None else dx.mul_(shares)
            add_product(stack, ctx.weight, ctx.weight_use, g, rows)
        if ctx.bias is not None:
            add_sums(stack, ctx.bias, ctx.bias_use, g, shares)
        ctx.rows = None
        return None if dx is None else dx.view(ctx.shape), None, None, None, None


class Affine(Function):
    """``y = x * w + b``, with w and b along given axes of x: what a normalisation ends with."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, token: Tensor, stack: Stack, weight: int, bias: int | None, axes: Sequence[int]
    ) -> Tensor:
        ctx.stack, ctx.weight, ctx.bias, ctx.x, ctx.axes = stack, weight, bias, x, axes
        ctx.weight_use = stack.note(weight, Use(reads=True))
        y = split(x, stack.clients) * _placed(stack.weight(weight), x.ndim, axes)
        if bias is not None:
            ctx.bias_use = stack.note(bias, Use(reads=False))
            y += _placed(stack.weight(bias), x.ndim, axes)
        return _shaped(y, x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        stack = ctx.stack
        parts = split(g, stack.clients)
        dx = parts * _placed(stack.weight(ctx.weight), g.ndim, ctx.axes)
        sink, factor = stack.sink(ctx.weight, ctx.weight_use)
        sink.add_(_summed(parts * split(ctx.x, stack.clients), ctx.axes), alpha=factor)
        if ctx.bias is not None:
            sink, factor = stack.sink(ctx.bias, ctx.bias_use)
            sink.add_(_summed(parts, ctx.axes), alpha=factor)
        return dx.reshape(g.shape), None, None, None, None, None


class Embedding(Function):
    """Rows of a table; the gradient is added to just these rows, and no table of zeros is made."""

    @staticmethod
    def forward(ctx: Any, index: Tensor, token: Tensor, stack: Stack, weight: int) -> Tensor:
        ctx.stack, ctx.weight = stack, weight
        ctx.use = stack.note(weight, Use(reads=False))
        w = stack.weight(weight)
        ctx.index = index.reshape(stack.clients, -1)
        if stack.clients == 1:
            found = w[0].index_select(0, ctx.index[0])
        else:
            if bool((ctx.index < 0).any()):
                raise IndexError("index out of range")  # which torch's indexing would count from the end
            ctx.client = torch.arange(stack.clients)[:, None]
            found = w[ctx.client, ctx.index]
        return _shaped(found, (*index.shape, w.shape[-1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[None, None, None, None]:
        stack = ctx.stack
        sink, factor = stack.sink(ctx.weight, ctx.use)
        g = by_client(g, stack.clients, sink.shape[-1])
        if stack.clients == 1:
            sink[0].index_add_(0, ctx.index[0], g[0], alpha=factor)
        else:
            sink.index_put_((ctx.client, ctx.index), g * factor, accumulate=True)
        return None, None, None, None


class Convolution(Function):
    """A convolution of any dimension, client by client: each has weights of its own."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, token: Tensor, stack: Stack, weight: int, bias: int | None, options: "Options"
    ) -> Tensor:
        ctx.stack, ctx.weight, ctx.bias, ctx.options, ctx.x = stack, weight, bias, options, x
        ctx.weight_use = stack.note(weight, Use(reads=ctx.needs_input_grad[0]))
        if bias is not None:
            ctx.bias_use = stack.note(bias, Use(reads=False))
        biases = [None] * stack.clients if bias is None else stack.weight(bias)
        clients = zip(x.chunk(stack.clients), stack.weight(weight), biases, strict=True)
        return _joined([torch.ops.aten.convolution(part, w, b, *options) for part, w, b in clients])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        stack, wants = ctx.stack, ctx.needs_input_grad[0]
        g = like_format(g, ctx.x)
        sink, factor = stack.sink(ctx.weight, ctx.weight_use)
        clients = zip(
            g.chunk(stack.clients), ctx.x.chunk(stack.clients), stack.weight(ctx.weight), sink, strict=True
        )
        found, sums = [], []
        for part, x, w, target in clients:
            size, mask = [w.shape[0]], [wants, True, ctx.bias is not None]
            dx, dw, db = torch.ops.aten.convolution_backward(part, x, w, size, *ctx.options, mask)
            target.add_(dw, alpha=factor)
            found.append(dx)
            sums.append(db)
        if ctx.bias is not None:
            sink, factor = stack.sink(ctx.bias, ctx.bias_use)
            sink.add_(torch.stack(sums), alpha=factor)
        ctx.x = None
        return _joined(found) if wants else None, None, None, None, None, None


Options = tuple[list[int], list[int], list[int], bool, list[int], int]
"""Stride, padding, dilation, transposed, output padding, groups, as ``aten::convolution`` takes them."""


def like_format(g: Tensor, x: Tensor) -> Tensor:
    """Return a gradient in the memory format of the images ``x``."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return g.contiguous(memory_format=torch.channels_last)
    return g


def _shaped(y: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a new value in another shape: autograd lets nobody write into what it takes for a view."""
    if y.is_contiguous():
        return y.resize_(shape)
    return torch.ops.aten._unsafe_view(y, shape)  # type: ignore[no-any-return]  # noqa: SLF001


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def split(x: Tensor, clients: int) -> Tensor:
    """Return (clients * rows, ...) values as a view of shape (clients, rows, ...)."""
    parts: Tensor = x.unflatten(0, (clients, -1))  # type: ignore[no-untyped-call]
    return parts


def add_product(stack: Stack, index: int, use: int, g: Tensor, rows: Tensor) -> None:
    """Add a dense layer's gradient ``g^T x``; shapes (clients, rows, out) and (clients, rows, in)."""
    sink, factor = stack.sink(index, use)
    if stack.clients == 1:
        sink[0].addmm_(g[0].t(), rows[0], alpha=factor)
    else:
        sink.baddbmm_(g.mT, rows, alpha=factor)


def add_sums(stack: Stack, index: int, use: int, g: Tensor, shares: Tensor | None = None) -> None:
    """Add a bias's gradient: the sum of ``g``, shape (clients, rows, out), over rows, each by its share."""
    sink, factor = stack.sink(index, use)
    if shares is None:
        sink.add_(g.sum(1), alpha=factor)
    else:
        sink.unsqueeze(2).baddbmm_(g.mT, shares, alpha=factor)


def _placed(values: Tensor, ndim: int, axes: Sequence[int]) -> Tensor:
    """Shape (clients, *shape) values so that they meet ``axes`` of (clients, rows, ...)."""
    shape = [len(values)] + [1] * ndim
    for axis, size in zip(axes, values.shape[1:], strict=True):
        shape[axis + 1] = size
    return values.reshape(shape)


def _summed(parts: Tensor, axes: Sequence[int]) -> Tensor:
    return parts.sum([a + 1 for a in range(parts.ndim - 1) if a not in axes])
