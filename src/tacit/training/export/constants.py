"""Constants in a traced step: tensors with values, where all others have none."""

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


def constant(array: npt.NDArray[Any]) -> Tensor:
    """Return an array as a tensor that the trace keeps as it is."""
    with _disable_current_modes():  # otherwise it would be noted as operators that make it
        return torch.from_numpy(array)
