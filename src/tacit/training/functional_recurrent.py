"""Recurrent layers as products and sums of torch's: their fused kernels know of one client only."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_States = tuple[Tensor, ...]
_Cell = Callable[[Tensor, _States, Tensor, Tensor | None], _States]
"""From what the inputs add, the states, and the states' weight and bias to new states, the output first."""


def gru(*args: Any) -> tuple[Tensor, Tensor]:
    """Do what ``torch.gru`` does for sequences of one length."""
    output, (hidden,) = _layers((args[1],), _gru_cell, args)
    return output, hidden


def lstm(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Do what ``torch.lstm`` does for sequences of one length."""
    output, (hidden, cell) = _layers(tuple(args[1]), _lstm_cell, args)
    return output, hidden, cell


def rnn_tanh(*args: Any) -> tuple[Tensor, Tensor]:
    """Do what ``torch.rnn_tanh`` does for sequences of one length."""
    output, (hidden,) = _layers((args[1],), _plain_cell(torch.tanh), args)
    return output, hidden


def rnn_relu(*args: Any) -> tuple[Tensor, Tensor]:
    """Do what ``torch.rnn_relu`` does for sequences of one length."""
    output, (hidden,) = _layers((args[1],), _plain_cell(torch.relu), args)
    return output, hidden


def is_known(args: Sequence[Any]) -> bool:
    """Tell whether the arguments of a recurrent function are such as are done here.

    Packed sequences have others, and projected states a fifth weight in each layer.
    """
    if len(args) != 9 or not isinstance(args[2], list | tuple):
        return False
    _, _, weights, has_biases, layers, _, _, bidirectional, _ = args
    return bool(len(weights) == (4 if has_biases else 2) * layers * (2 if bidirectional else 1))


def _layers(first: _States, cell: _Cell, args: Sequence[Any]) -> tuple[Tensor, _States]:
    """Run all layers; ``first`` holds each kind of state of all of them, shape (layers, batch, width)."""
    x, _, weights, has_biases, layers, dropout, training, bidirectional, batch_first = args
    x = x.transpose(0, 1) if batch_first else x
    per_pass, ways = (4, 2)[not has_biases], (1, 2)[bidirectional]
    last: list[_States] = []
    for layer in range(layers):
        passes = []
        for way in range(ways):
            place = layer * ways + way
            part = [*weights[place * per_pass : (place + 1) * per_pass], None, None]
            states = tuple(kind[place] for kind in first)
            output, states = _pass(x, states, part, cell, backwards=way == 1)
            passes.append(output)
            last.append(states)
        x = torch.cat(passes, 2) if bidirectional else passes[0]
        if dropout and training and layer < layers - 1:
            x = functional.dropout(x, dropout)
    ends = tuple(torch.stack(kind) for kind in zip(*last, strict=True))
    return (x.transpose(0, 1) if batch_first else x), ends


def _pass(
    x: Tensor, states: _States, weights: Sequence[Any], cell: _Cell, *, backwards: bool
) -> tuple[Tensor, _States]:
    """Go through all times once, each of shape (batch, width)."""
    of_input, of_state, input_bias, state_bias = weights[:4]
    added = functional.linear(x, of_input, input_bias).unbind(0)
    outputs = []
    for each in reversed(added) if backwards else added:
        states = cell(each, states, of_state, state_bias)
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if backwards else outputs), states


def _gru_cell(added: Tensor, states: _States, weight: Tensor, bias: Tensor | None) -> _States:
    (hidden,) = states
    reset, update, new = added.chunk(3, -1)
    own_reset, own_update, own_new = functional.linear(hidden, weight, bias).chunk(3, -1)
    candidate = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
    return (candidate + torch.sigmoid(update + own_update) * (hidden - candidate),)


def _lstm_cell(added: Tensor, states: _States, weight: Tensor, bias: Tensor | None) -> _States:
    hidden, cell = states
    take, keep, new, show = (added + functional.linear(hidden, weight, bias)).chunk(4, -1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(take) * torch.tanh(new)
    return torch.sigmoid(show) * torch.tanh(cell), cell


def _plain_cell(activation: Callable[[Tensor], Tensor]) -> _Cell:
    def cell(added: Tensor, states: _States, weight: Tensor, bias: Tensor | None) -> _States:
        return (activation(added + functional.linear(states[0], weight, bias)),)

    return cell
