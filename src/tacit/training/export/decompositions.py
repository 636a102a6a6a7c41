"""Operators spelled out in simpler ones, where torch's own table leaves them whole.

Each function has the signature of the ATen operator that it replaces.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

from tacit.training.executor import UnsupportedError
from tacit.training.export.constants import constant

_aten = torch.ops.aten
_Sizes = Sequence[int]
_MOST_WINDOWS = 64
# In torch's own table, but not in the core of it.
_ALSO_TORCHS = [
    _aten.elu.default,
    _aten.gelu.default,
    _aten.hardtanh.default,
    _aten.leaky_relu.default,
    _aten._native_batch_norm_legit.no_stats,  # noqa: SLF001 - its name
]


@cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return torch's core table with what it lacks: backward passes of convolution and pooling."""
    ours: dict[Any, Callable[..., Any]] = {
        _aten.convolution_backward.default: _convolution_backward,
        _aten.native_layer_norm.default: _layer_norm,
        _aten.threshold_backward.default: _threshold_backward,
        _aten.native_group_norm.default: _group_norm,
        _aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
        _aten.max_pool3d_with_indices_backward.default: _max_pool_backward,
        _aten.adaptive_max_pool2d.default: _adaptive_max_pool2d,
        _aten.adaptive_max_pool2d_backward.default: _adaptive_max_pool2d_backward,
        _aten.avg_pool2d.default: _average_pool,
        _aten.avg_pool2d_backward.default: _average_pool_backward,
        _aten.avg_pool3d.default: _average_pool,
        _aten.avg_pool3d_backward.default: _average_pool_backward,
        _aten._adaptive_avg_pool2d.default: _adaptive_average_pool,  # noqa: SLF001 - its name
        _aten._adaptive_avg_pool3d.default: _adaptive_average_pool,  # noqa: SLF001 - its name
        _aten._adaptive_avg_pool2d_backward.default: partial(_adaptive_average_pool_backward, spatial=2),  # noqa: SLF001 - its name
        _aten._adaptive_avg_pool3d_backward.default: partial(_adaptive_average_pool_backward, spatial=3),  # noqa: SLF001 - its name
    }
    more = get_decompositions(_ALSO_TORCHS)
    return {**core_aten_decompositions(), **more, **ours}


def _threshold_backward(gradient: Tensor, value: Tensor, threshold: float) -> Tensor:
    # As a product: onnxruntime selects three times as slowly.
    return gradient * (value > threshold)


# --- convolution ---------------------------------------------------------------------------------


def _convolution_backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias_sizes: _Sizes | None,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    transposed: bool,
    output_padding: _Sizes,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Both gradients of a convolution are convolutions themselves."""
    if not isinstance(groups, int):
        raise UnsupportedError("convolution: it would need one group per client, and their number may change")
    axes = range(2, inputs.ndim)
    to_input = to_weight = to_bias = None
    if output_mask[0]:
        if transposed:
            to_input = _aten.convolution.default(
                gradient, weight, None, stride, padding, dilation, False, [0] * len(axes), groups
            )
        else:
            reached = [
                (gradient.shape[a] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[a] - 1) + 1
                for i, a in enumerate(axes)
            ]
            missing = [inputs.shape[a] - reached[i] for i, a in enumerate(axes)]
            to_input = _aten.convolution.default(
                gradient, weight, None, stride, padding, dilation, True, missing, groups
            )
    if output_mask[1]:
        long, short = (gradient, inputs) if transposed else (inputs, gradient)
        to_weight = _kernel_gradient(long, short, weight.shape, stride, padding, dilation, groups)
    if output_mask[2]:
        to_bias = gradient.sum([0, *axes])
    return to_input, to_weight, to_bias


def _kernel_gradient(
    long: Tensor,
    short: Tensor,
    shape: torch.Size,
    stride: _Sizes,
    padding: _Sizes,
    dilation: _Sizes,
    groups: int,
) -> Tensor:
    """Slide ``short`` (N, out, ...) over ``long`` (N, in, ...): the examples become the channels."""
    examples, kernel = long.shape[0], shape[2:]
    spatial = range(3, long.ndim + 1)
    of_group = long.reshape(examples, groups, -1, *long.shape[2:]).permute(2, 1, 0, *spatial)
    image = of_group.reshape(-1, groups * examples, *long.shape[2:])
    filters = short.transpose(0, 1)
    found: Tensor = _aten.convolution.default(
        image, filters, None, dilation, padding, stride, False, [0] * len(kernel), groups
    )
    for axis, size in enumerate(kernel, start=2):  # what a stride left over at the far edge
        found = found.narrow(axis, 0, size)
    return found.transpose(0, 1)


# --- norms ---------------------------------------------------------------------------------------


def _layer_norm(
    inputs: Tensor, shape: _Sizes, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, scale = _normed(inputs, [*range(-len(shape), 0)], eps)
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias, mean, scale


def _group_norm(
    inputs: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    examples: int,
    channels: int,
    plane: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, scale = _normed(inputs.reshape(examples, groups, channels // groups * plane), [2], eps)
    out = out.reshape(inputs.shape)
    each = (channels, *[1] * (inputs.ndim - 2))
    if weight is not None:
        out = out * weight.view(each)
    out = out if bias is None else out + bias.view(each)
    return out, mean.view(examples, groups), scale.view(examples, groups)


def _normed(inputs: Tensor, axes: list[int], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean = inputs.mean(axes, keepdim=True)
    away = inputs - mean
    scale = (away.square().mean(axes, keepdim=True) + eps).rsqrt()
    return away * scale, mean, scale


# --- maxima --------------------------------------------------------------------------------------


def _max_pool_backward(gradient: Tensor, inputs: Tensor, *settings: Any) -> Tensor:
    """Add every gradient to the element that was the largest of its window; the last setting names it."""
    indices, spatial = settings[-1], len(settings[0])
    planes = torch.zeros_like(inputs).flatten(-spatial)
    return planes.scatter_add(-1, indices.flatten(-spatial), gradient.flatten(-spatial)).view(inputs.shape)


def _adaptive_max_pool2d_backward(gradient: Tensor, inputs: Tensor, indices: Tensor) -> Tensor:
    return _max_pool_backward(gradient, inputs, (1, 1), indices)


def _adaptive_max_pool2d(inputs: Tensor, output_size: _Sizes) -> tuple[Tensor, Tensor]:
    height, width = inputs.shape[-2:]
    rows, columns = _adaptive_windows(height, output_size[0]), _adaptive_windows(width, output_size[1])
    if height % output_size[0] == width % output_size[1] == 0:
        kernel = [height // output_size[0], width // output_size[1]]
        found: tuple[Tensor, Tensor] = _aten.max_pool2d_with_indices.default(inputs, kernel, kernel)
        return found
    if len(rows) * len(columns) > _MOST_WINDOWS:
        sizes = f"from {height} x {width} to {len(rows)} x {len(columns)}"
        raise UnsupportedError(f"adaptive max pooling {sizes}: {_MOST_WINDOWS} uneven windows at most")
    largest, where = [], []
    for top, bottom in rows:
        for left, right in columns:
            values, place = inputs[..., top:bottom, left:right].flatten(-2).max(dim=-1)
            largest.append(values)
            inside = right - left
            where.append((top + place // inside) * width + left + place % inside)
    shape = [*inputs.shape[:-2], len(rows), len(columns)]
    return torch.stack(largest, dim=-1).view(shape), torch.stack(where, dim=-1).view(shape)


# --- means ---------------------------------------------------------------------------------------
# A mean over windows is linear and falls apart by axis: a matrix for each, and its transpose to go back.

_Windows = Sequence[tuple[int, int]]
_Matrix = npt.NDArray[np.float32]


def _adaptive_average_pool(inputs: Tensor, output_size: _Sizes) -> Tensor:
    return _applied(inputs, _adaptive_matrices(inputs, output_size))


def _adaptive_average_pool_backward(gradient: Tensor, inputs: Tensor, spatial: int) -> Tensor:
    matrices = _adaptive_matrices(inputs, gradient.shape[-spatial:])
    return _applied(gradient, matrices, back=True)


def _average_pool(inputs: Tensor, kernel: _Sizes, *settings: Any) -> Tensor:
    return _applied(inputs, _average_matrices(inputs, kernel, *settings))


def _average_pool_backward(gradient: Tensor, inputs: Tensor, kernel: _Sizes, *settings: Any) -> Tensor:
    return _applied(gradient, _average_matrices(inputs, kernel, *settings), back=True)


def _adaptive_windows(size: int, wanted: int) -> list[tuple[int, int]]:
    return [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]


def _adaptive_matrices(inputs: Tensor, output_size: _Sizes) -> list[_Matrix]:
    every = zip(inputs.shape[-len(output_size) :], output_size, strict=True)
    return [_matrix(_adaptive_windows(size, wanted), size) for size, wanted in every]


def _average_matrices(
    inputs: Tensor,
    kernel: _Sizes,
    stride: _Sizes = (),
    padding: _Sizes = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> list[_Matrix]:
    spatial = max(len(kernel), 2)
    sizes = ([*each] * (spatial if len(each) == 1 else 1) for each in (kernel, stride or kernel, padding))
    matrices = []
    for size, k, s, p in zip(inputs.shape[-spatial:], *sizes, strict=True):
        begins = window_begins(size, k, s, p, ceil_mode=ceil_mode)
        spans = [(begin, min(begin + k, size + p)) for begin in begins]
        windows = [(max(begin, 0), min(end, size)) for begin, end in spans]
        counted = spans if count_include_pad else windows
        matrices.append(_matrix(windows, size, [end - begin for begin, end in counted]))
        if divisor_override:
            matrices[-1] = (matrices[-1] > 0).astype(np.float32)
    if divisor_override:
        matrices[0] /= divisor_override
    return matrices


def window_begins(size: int, kernel: int, stride: int, padding: int, *, ceil_mode: bool) -> list[int]:
    """Return where each window of a pooling layer begins along one axis; below zero is padding."""
    count = (size + 2 * padding - kernel + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1  # it would lie wholly in the padding
    return [i * stride - padding for i in range(count)]


def _matrix(windows: _Windows, size: int, counted: Sequence[int] | None = None) -> _Matrix:
    """Return the matrix that takes means over windows, shape (windows, size)."""
    matrix = np.zeros((len(windows), size), dtype=np.float32)
    for row, (begin, end), count in zip(matrix, windows, counted or [e - b for b, e in windows], strict=True):
        row[begin:end] = 1 / count
    return matrix


def _applied(tensor: Tensor, matrices: Sequence[_Matrix], *, back: bool = False) -> Tensor:
    """Multiply the last axes by a matrix each; ``back`` by its transpose."""
    for axis, matrix in enumerate(matrices, start=-len(matrices)):
        factor = constant(matrix if back else np.ascontiguousarray(matrix.T))
        tensor = (tensor.movedim(axis, -1) @ factor).movedim(-1, axis)
    return tensor
