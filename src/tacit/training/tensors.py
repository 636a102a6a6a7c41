"""Examples as tensors."""

import numpy as np
import torch
from torch import Tensor

from tacit.core.examples import Array, Examples


def tensor_of(array: Array) -> Tensor:
    """Return a tensor of an array: floats as float32, integers as int64; shares memory where it can."""
    if array.dtype.kind == "f" and array.dtype != np.float32:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu" and array.dtype != np.int64:
        array = array.astype(np.int64)
    elif array.dtype.kind == "b":
        array = array.astype(np.float32)
    if not array.flags.writeable:
        array = array.copy()  # torch has no read-only tensors; a memory map must not be written through one
    return torch.from_numpy(np.ascontiguousarray(array))


def tensors_of(examples: Examples, *, channels_last: bool = False) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return inputs and target as tensors; images in the memory format convolutions like best."""
    inputs = tuple(tensor_of(array) for array in examples.inputs)
    if channels_last:
        inputs = tuple(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs)
    return inputs, tensor_of(examples.target)
