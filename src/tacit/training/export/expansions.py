"""Operators spelled out before differentiation and stacking see them.

* Dropout, linear layers, pooling to one number: torch's own ask for the number of examples, which nobody
  knows while a step is traced.
* Recurrent layers: torch's own spelling forgets the dropout between layers.
* Embedding: a row that does not exist is NaN, where torch raises: a graph cannot raise for one of many.
* Convolution, where it is to be stacked over clients.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import decompositions as torch_decompositions
from torch.nn import functional

from tacit.training.executor import UnsupportedError
from tacit.training.export.constants import constant

_aten = torch.ops.aten
# Where an operator arrives before any transform (grad, vmap) has seen it.
_FRONT = torch._C.DispatchKey.FuncTorchDynamicLayerFrontMode  # noqa: SLF001 - has no public name


@contextmanager
def expansions(*, unfold: bool) -> Iterator[None]:
    """Spell them out; holds for traces through torch's Python dispatcher only, and until the end.

    Args:
        unfold: Whether convolutions are spelled out, too.
    """
    kernels = _KERNELS | (_UNFOLDED if unfold else {})
    for operator, kernel in kernels.items():
        operator.py_impl(_FRONT)(kernel)
    try:
        yield
    finally:
        for operator in kernels:
            del operator.py_kernels[_FRONT]
            operator._dispatch_cache.clear()  # noqa: SLF001 - as py_impl does


def _dropout(tensor: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0:
        return tensor
    if p == 1:
        return tensor * 0
    return _aten.native_dropout.default(tensor, p, train)[0]  # type: ignore[no-any-return]


def _feature_dropout(tensor: Tensor, p: float, train: bool) -> Tensor:
    return tensor * _noise(tensor, p) if train and p else tensor


def _alpha_dropout(tensor: Tensor, p: float, train: bool) -> Tensor:
    return _alpha(tensor, _kept(tensor, p), p) if train and p else tensor


def _feature_alpha_dropout(tensor: Tensor, p: float, train: bool) -> Tensor:
    return _alpha(tensor, _kept(_first_of_each(tensor), p), p) if train and p else tensor


def _noise(tensor: Tensor, p: float) -> Tensor:
    kept = _kept(_first_of_each(tensor), p)
    return kept * (0.0 if p == 1 else 1 / (1 - p))


def _alpha(tensor: Tensor, kept: Tensor, p: float) -> Tensor:
    # Klambauer et al. 2017; the constants are torch's.
    alpha = 1.7580993408473766
    scale = 0.0 if p == 1 else 1 / ((alpha * alpha * p + 1) * (1 - p)) ** 0.5
    return tensor * (kept * scale) + (kept - 1) * (alpha * scale) + alpha * scale * p


def _kept(like: Tensor, p: float) -> Tensor:
    """Return 1 where an element is kept and 0 where it is dropped."""
    return torch.empty_like(like).bernoulli_(1 - p)


def _first_of_each(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten(2)[:, :, 0].reshape(*tensor.shape[:2], *[1] * (tensor.ndim - 2))


def _in_place(kernel: Callable[[Tensor, float, bool], Tensor]) -> Callable[[Tensor, float, bool], Tensor]:
    def changing(tensor: Tensor, p: float, train: bool) -> Tensor:
        return tensor.copy_(kernel(tensor.clone(), p, train)) if train and p else tensor

    return changing


def _embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    if scale_grad_by_freq:
        raise UnsupportedError("embedding with scale_grad_by_freq")
    inside = (indices >= 0) & (indices < weight.shape[0])
    rows = weight[torch.where(inside, indices, 0)]
    if padding_idx >= 0:
        rows = torch.where((indices == padding_idx)[..., None], rows.detach(), rows)
    return torch.where(inside[..., None], rows, torch.nan)


def _adaptive_average_pool(inputs: Tensor, output_size: Sequence[int]) -> Tensor:
    if [*output_size] == [1, 1]:
        return inputs.mean([-2, -1], keepdim=True)
    return _aten._adaptive_avg_pool2d.default(inputs, output_size)  # type: ignore[no-any-return]  # noqa: SLF001 - its name


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rows = inputs.reshape(-1, inputs.shape[-1])
    out = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
    return out.reshape(*inputs.shape[:-1], weight.shape[0])


def _recurrent(layer: Callable[..., Any], states: int) -> Callable[..., Any]:
    """Return a recurrent operator that goes layer by layer; ``layer`` does one of them."""

    def kernel(
        inputs: Tensor,
        state: Tensor | Sequence[Tensor],
        parameters: Sequence[Tensor],
        has_biases: bool,
        layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        hidden = [state] if isinstance(state, Tensor) else [*state]
        ways, own = 2 if bidirectional else 1, len(parameters) // layers
        ends: list[list[Tensor]] = [[] for _ in hidden]
        out = inputs.transpose(0, 1) if batch_first else inputs
        for index in range(layers):
            first = [h[index * ways : (index + 1) * ways] for h in hidden]
            out, *last = layer(
                out, first if states > 1 else first[0], parameters[index * own : (index + 1) * own],
                has_biases, 1, 0.0, train, bidirectional, False,
            )  # fmt: skip
            for end, h in zip(ends, last, strict=True):
                end.append(h)
            if index < layers - 1:
                out = torch.dropout(out, dropout, train)
        out = out.transpose(0, 1) if batch_first else out
        return (out, *(torch.cat(end) for end in ends))

    return kernel


def _unfolded(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Tensor:
    """Convolve by a product of the kernel with all windows, which can be stacked over clients as it is."""
    examples, kernel = inputs.shape[0], [*weight.shape[2:]]
    stride, dilation = ([*sizes] * (len(kernel) if len(sizes) == 1 else 1) for sizes in (stride, dilation))
    if isinstance(padding, str):
        whole = [d * (k - 1) * (padding == "same") for d, k in zip(dilation, kernel, strict=True)]
        sides = [side for total in reversed(whole) for side in (total // 2, total - total // 2)]
        inputs, padding = functional.pad(inputs, sides), [0] * len(kernel)
    padding = [*padding] * (len(kernel) if len(padding) == 1 else 1)
    size = math.prod(kernel)
    # A kernel with a single 1 copies the element at its place: together they lay out every window.
    copying = constant(np.eye(size, dtype=np.float32).reshape(size, 1, *kernel))
    planes = inputs.reshape(-1, 1, *inputs.shape[2:])
    windows: Tensor = _aten.convolution.default(
        planes, copying, None, stride, padding, dilation, False, [0] * len(kernel), 1
    )
    places = windows.shape[2:]
    columns = windows.reshape(examples, groups, -1, math.prod(places)).permute(1, 0, 3, 2)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1).transpose(1, 2)
    products = columns.reshape(groups, -1, kernels.shape[1]) @ kernels
    out = (
        products.view(groups, examples, *places, -1)
        .movedim((1, 0, -1), (0, 1, 2))
        .reshape(examples, -1, *places)
    )
    return out if bias is None else out + bias.view(-1, *[1] * len(kernel))


_UNFOLDED: dict[Any, Callable[..., Tensor]] = {
    getattr(getattr(_aten, f"conv{axes}d"), overload): _unfolded
    for axes in (1, 2, 3)
    for overload in ("default", "padding")
}
_PLAIN: dict[str, Callable[[Tensor, float, bool], Tensor]] = {
    "dropout": _dropout,
    "feature_dropout": _feature_dropout,
    "alpha_dropout": _alpha_dropout,
    "feature_alpha_dropout": _feature_alpha_dropout,
}
_KERNELS: dict[Any, Callable[..., Tensor]] = {
    getattr(_aten, name).default: kernel for name, kernel in _PLAIN.items()
} | {getattr(_aten, f"{name}_").default: _in_place(kernel) for name, kernel in _PLAIN.items()}
_KERNELS[_aten.embedding.default] = _embedding
_KERNELS[_aten.adaptive_avg_pool2d.default] = _adaptive_average_pool
_KERNELS[_aten.linear.default] = _linear
_KERNELS[_aten.lstm.input] = _recurrent(torch_decompositions.lstm_impl, states=2)
_KERNELS[_aten.gru.input] = _recurrent(torch_decompositions.gru_impl, states=1)
_KERNELS[_aten.rnn_tanh.input] = _recurrent(torch_decompositions.rnn_tanh_input, states=1)
_KERNELS[_aten.rnn_relu.input] = _recurrent(torch_decompositions.rnn_relu_input, states=1)
