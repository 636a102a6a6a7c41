"""Rules of recurrent layers: the products over all times at once, one small product a time step.

Inside, values have the shape (clients, times, batch, width), so that one time step of every client is a view
with contiguous rows.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from tacit.training.rules.layers import add_product, add_sums
from tacit.training.rules.stack import Stack, Use


class Cell(NamedTuple):
    """Indexes of one layer's parameters; without biases, the last two are None."""

    input_weight: int
    hidden_weight: int
    input_bias: int | None
    hidden_bias: int | None


class Gru(Function):
    """A gated recurrent unit of torch: ``n = tanh(W x + b + r (U h + c))``, ``h' = n + z (h - n)``.

    Takes x of shape (clients, times, batch, in) and h of shape (clients, batch, width); returns all hidden
    states, shape (clients, times, batch, width).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, token: Tensor, stack: Stack, cell: Cell) -> Tensor:
        ctx.stack, ctx.cell, ctx.x, ctx.first = stack, cell, x, h
        ctx.uses = _note(stack, cell, reads=ctx.needs_input_grad[0])
        u, c = stack.weight(cell.hidden_weight), _bias(stack, cell.hidden_bias)
        width = u.shape[2]
        gates = _products(stack, x, cell)
        hidden = torch.empty_like(gates)  # U h + c
        out = gates.new_empty((*gates.shape[:3], width))
        parts = zip(
            gates[..., : 2 * width].unbind(1),
            gates[..., 2 * width :].unbind(1),
            hidden.unbind(1),
            hidden[..., : 2 * width].unbind(1),
            hidden[..., 2 * width :].unbind(1),
            gates[..., :width].unbind(1),
            gates[..., width : 2 * width].unbind(1),
            out.unbind(1),
            strict=True,
        )
        for rz, n, all_h, rz_h, n_h, r, z, state in parts:
            _step(h, u, c, out=all_h)
            rz.add_(rz_h).sigmoid_()
            n.addcmul_(r, n_h).tanh_()
            h = torch.lerp(n, h, z, out=state)
        ctx.gates, ctx.fresh, ctx.out = gates, hidden[..., 2 * width :], out.detach()
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        stack, cell, gates = ctx.stack, ctx.cell, ctx.gates
        u = stack.weight(cell.hidden_weight)
        width = u.shape[2]
        r, z, n = torch.split(gates, width, -1)
        before = torch.cat((ctx.first[:, None], ctx.out[:, :-1]), 1)
        by_n = (1 - z) * (1 - n * n)
        # What a gradient of h' becomes before each gate's nonlinearity, where it enters U h.
        by = torch.stack((by_n * ctx.fresh * r * (1 - r), (before - n) * z * (1 - z), by_n * r), -2)
        into_h, all_dh = torch.empty_like(by), torch.empty_like(ctx.out)
        dh = torch.zeros_like(ctx.first)
        parts = zip(g.unbind(1), by.unbind(1), into_h.unbind(1), all_dh.unbind(1), z.unbind(1), strict=True)
        for g_now, by_now, into, dh_now, z_now in reversed(list(parts)):
            torch.add(dh, g_now, out=dh_now)
            torch.mul(dh_now.unsqueeze(-2), by_now, out=into)
            dh = _back(dh_now * z_now, into.flatten(-2), u)
        into_h = into_h.flatten(-2)
        into_x = into_h.clone()
        torch.mul(all_dh, by_n, out=into_x[..., 2 * width :])
        dx = _finish(ctx, into_x, into_h, before)
        return dx, dh, None, None, None


class Lstm(Function):
    """A long short-term memory as torch defines it; returns all hidden states, then the last cell state."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, c: Tensor, token: Tensor, stack: Stack, cell: Cell
    ) -> tuple[Tensor, Tensor]:
        ctx.stack, ctx.cell, ctx.x = stack, cell, x
        ctx.uses = _note(stack, cell, reads=ctx.needs_input_grad[0])
        u, b = stack.weight(cell.hidden_weight), _bias(stack, cell.hidden_bias)
        width = u.shape[2]
        gates = _products(stack, x, cell)
        out = gates.new_empty((*gates.shape[:3], width))
        cells = gates.new_empty((gates.shape[0], gates.shape[1] + 1, gates.shape[2], width))
        cells[:, 0] = c
        ctx.first = h
        squashed = torch.empty_like(out)
        for t in range(x.shape[1]):
            now = gates[:, t].add_(_step(h, u, b))
            now[..., : 2 * width].sigmoid_()
            now[..., 2 * width : 3 * width].tanh_()
            now[..., 3 * width :].sigmoid_()
            i, f, n, o = torch.split(now, width, -1)
            state = torch.mul(f, cells[:, t], out=cells[:, t + 1]).addcmul_(i, n)
            h = torch.mul(o, torch.tanh(state, out=squashed[:, t]), out=out[:, t])
        ctx.gates, ctx.cells, ctx.squashed, ctx.out = gates, cells, squashed, out.detach()
        return out, cells[:, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g: Tensor, g_cell: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        stack, gates, cells, squashed = ctx.stack, ctx.gates, ctx.cells, ctx.squashed
        u = stack.weight(ctx.cell.hidden_weight)
        i, f, n, o = torch.split(gates, u.shape[2], -1)
        before = torch.cat((ctx.first[:, None], ctx.out[:, :-1]), 1)
        # What gradients of the cell's state, and of the output gate's product, become before nonlinearities.
        by = torch.stack((n * i * (1 - i), cells[:, :-1] * f * (1 - f), i * (1 - n * n)), -2)
        by_o, by_c = squashed * o * (1 - o), o * (1 - squashed * squashed)
        into = gates.new_empty((*gates.shape[:3], 4, u.shape[2]))
        dh, dc = torch.zeros_like(ctx.first), g_cell
        for t in range(g.shape[1] - 1, -1, -1):
            dh = dh + g[:, t]
            dc = torch.addcmul(dc, dh, by_c[:, t])
            torch.mul(dc.unsqueeze(-2), by[:, t], out=into[:, t, :, :3])
            torch.mul(dh, by_o[:, t], out=into[:, t, :, 3])
            dc = dc * f[:, t]
            dh = _back(None, into[:, t].flatten(-2), u)
        into = into.flatten(-2)
        dx = _finish(ctx, into, into, before)
        return dx, dh, dc, None, None, None


def _note(stack: Stack, cell: Cell, *, reads: bool) -> list[int]:
    weights = [
        stack.note(cell.input_weight, Use(reads=reads)),
        stack.note(cell.hidden_weight, Use(reads=True)),
    ]
    return weights + [stack.note(bias, Use(reads=False)) for bias in cell[2:] if bias is not None]


def _bias(stack: Stack, index: int | None) -> Tensor | None:
    return None if index is None else stack.weight(index)


def _products(stack: Stack, x: Tensor, cell: Cell) -> Tensor:
    """Return ``W x + b`` for all times, shape (clients, times, batch, gates)."""
    w, b = stack.weight(cell.input_weight), _bias(stack, cell.input_bias)
    return _step(x.flatten(1, 2), w, b).view(*x.shape[:3], w.shape[1])


def _step(h: Tensor, u: Tensor, c: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Return ``U h + c``, shape (clients, batch, gates)."""
    if len(h) == 1:
        target = None if out is None else out[0]
        y = (
            torch.mm(h[0], u[0].t(), out=target)
            if c is None
            else torch.addmm(c[0], h[0], u[0].t(), out=target)
        )
        return y[None]
    if c is None:
        return torch.bmm(h, u.mT, out=out)
    return torch.baddbmm(c[:, None], h, u.mT, out=out)


def _back(rest: Tensor | None, g: Tensor, u: Tensor) -> Tensor:
    """Return ``rest + g U``, shape (clients, batch, width)."""
    if len(g) == 1:
        return (torch.mm(g[0], u[0]) if rest is None else torch.addmm(rest[0], g[0], u[0]))[None]
    return torch.bmm(g, u) if rest is None else torch.baddbmm(rest, g, u)


def _finish(ctx: Any, into_x: Tensor, into_h: Tensor, before: Tensor) -> Tensor | None:
    """Add all gradients of the parameters, and return that of the input."""
    stack, cell, x = ctx.stack, ctx.cell, ctx.x
    into_x, into_h = into_x.flatten(1, 2), into_h.flatten(1, 2)
    dx = (
        _back(None, into_x, stack.weight(cell.input_weight)).view(x.shape)
        if ctx.needs_input_grad[0]
        else None
    )
    add_product(stack, cell.input_weight, ctx.uses[0], into_x, x.flatten(1, 2))
    add_product(stack, cell.hidden_weight, ctx.uses[1], into_h, before.flatten(1, 2))
    biases = [(cell.input_bias, into_x), (cell.hidden_bias, into_h)]
    kept = [(index, g) for index, g in biases if index is not None]
    for (index, g), use in zip(kept, ctx.uses[2:], strict=True):
        add_sums(stack, index, use, g)
    ctx.gates = ctx.x = None
    return dx
