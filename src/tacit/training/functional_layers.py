"""What of torch has to be done otherwise so that many clients go through a model at once, on any device."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tacit.training import functional_recurrent as recurrent
from tacit.training.executor import UnsupportedError
from tacit.training.export.draws import Draws

_RECURRENT: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.gru: recurrent.gru,
    torch.lstm: recurrent.lstm,
    torch.rnn_tanh: recurrent.rnn_tanh,
    torch.rnn_relu: recurrent.rnn_relu,
}


class Replaced(TorchFunctionMode):
    """Replaces functions by such as ``torch.vmap`` and a GPU can do for clients with any data.

    A recurrent layer's fused kernel takes one set of weights. An embedding of a word that there is not would
    raise for all clients on a processor, and end the process's use of a GPU: here it is no number, so that
    the update of the client that has it is refused.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is functional.embedding:
            return _embedding(*args, **(kwargs or {}))
        if func in _RECURRENT and not kwargs and recurrent.is_known(args):
            return _RECURRENT[func](*args)
        return func(*args, **(kwargs or {}))


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Do what ``functional.embedding`` does; a gradient is never sparse."""
    if max_norm is not None or scale_grad_by_freq:
        raise UnsupportedError("embedding: max_norm or scale_grad_by_freq")
    is_known = (input >= 0) & (input < len(weight))
    found = functional.embedding(torch.where(is_known, input, 0), weight)
    if padding_idx is not None:  # vmap forgets that the gradient is zero there
        found = torch.where((input == padding_idx % len(weight)).unsqueeze(-1), found.detach(), found)
    return torch.where(is_known.unsqueeze(-1), found, torch.nan)


class StackedDraws(Draws):  # type: ignore[no-untyped-call]
    """Takes the numbers of every call of dropout from ``draws``, for many clients at once.

    Args:
        draws: Uniform numbers, one tensor per call, each of shape (clients, examples, ...).
        axes: Where the axis of the examples lies in the tensor that one client's call fills.
    """

    def _numbers(self, like: Tensor) -> Tensor:
        """Return the next draw in the shape of a call: under vmap that of all clients, these first."""
        if not self.left:
            raise UnsupportedError("dropout: more calls of it than there were before")
        draw, axis = self._draws[self._next], self._axes[self._next]
        self._next += 1
        clients, *shape = like.shape
        return draw.reshape(clients, shape[axis], *shape[:axis], *shape[axis + 1 :]).movedim(1, axis + 1)
