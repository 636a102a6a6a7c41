"""Keep images channels-last on their way back, too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_POOLS = frozenset({functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d})


class ChannelsLastGradients(TorchFunctionMode):
    """Hand pooling layers their gradients in the memory format of their outputs.

    Behind the last pooling layer a network flattens, and the gradient comes back channels-first; for such
    a gradient the backward pass of pooling takes a path eight times as slow. Values are not changed.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return keep_channels_last(func, func(*args, **(kwargs or {})))


def keep_channels_last(func: Callable[..., Any], result: Any) -> Any:
    """Let the gradient of a pooling function's result arrive in that result's memory format; return it."""
    if func in _POOLS and _is_channels_last(result):
        result.register_hook(_channels_last)
    return result


def _is_channels_last(result: Any) -> bool:
    return (
        isinstance(result, Tensor)
        and result.requires_grad
        and result.ndim == 4
        and result.is_contiguous(memory_format=torch.channels_last)
    )


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
