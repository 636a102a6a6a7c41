"""Where torch's functions meet the parameters: a layer that has a rule gets it, the rest is autograd's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tacit.training.memory_format import keep_channels_last
from tacit.training.rules.layers import Affine, Convolution, Embedding, Linear, Options, split
from tacit.training.rules.recurrent import Cell, Gru, Lstm
from tacit.training.rules.stack import NotStackable, Stack
from tacit.training.rules.trunk import Layer, TrunkRule, plainly, trunk

# These may draw from a generator of the model's own. Whoever draws from torch's is found by its state.
_RANDOM = frozenset(
    {torch.bernoulli, torch.rand, torch.randn, torch.randint, torch.rand_like, torch.randn_like,
     torch.randint_like, torch.randperm, torch.normal, torch.multinomial, torch.poisson, Tensor.bernoulli_,
     Tensor.uniform_, Tensor.normal_, Tensor.exponential_, Tensor.random_, Tensor.multinomial}
)  # fmt: skip
_CONTROL = frozenset({Tensor.__bool__, Tensor.item, Tensor.tolist, Tensor.__int__, Tensor.__float__})
# Batch statistics and attention over (time, batch, width) mix or misplace the clients of a stack.
_MIXING = frozenset({functional.batch_norm, torch.batch_norm, functional.multi_head_attention_forward})


class LayerRules(TorchFunctionMode):
    """Sends each use of a trainable parameter to the rule of its layer.

    Args:
        parameters: The trainable parameters, in the order of the flat vector.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self._index = {id(p): index for index, p in enumerate(parameters)}
        self._token = torch.zeros(
            (), requires_grad=True
        )  # lets autograd see functions of intercepted weights
        self.stack: Stack | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        assert self.stack is not None
        if self.stack.clients > 1 and (func in _RANDOM or func in _CONTROL or func in _MIXING):
            raise NotStackable
        if not any(id(a) in self._index for a in tensors_in((*args, *kwargs.values()))):
            return keep_channels_last(func, func(*args, **kwargs))
        if is_metadata(func):
            return func(*args, **kwargs)
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        rule = _RULES.get(func)
        if rule is not None:
            found = rule(self, *self._with_leaves(func, args), **kwargs)
            if found is not NotImplemented:
                return found
        return func(*mapped(self.leaf, args), **mapped(self.leaf, kwargs))

    def _with_leaves(self, func: Callable[..., Any], args: Sequence[Any]) -> list[Any]:
        """Return a layer's arguments with a leaf for each parameter that serves as input or initial state."""
        values = 2 if func in RECURRENT else 1
        return [*mapped(self.leaf, args[:values]), *args[values:]]

    def leaf(self, tensor: Tensor) -> Tensor:
        """Return what autograd is to see in a parameter's place; any other tensor itself."""
        assert self.stack is not None
        number = self.number(tensor)
        return tensor if number is None else self.stack.leaf(number)

    def number(self, parameter: Any) -> int | None:
        """Return a parameter's index, None if it is none or is not trained."""
        return self._index.get(id(parameter))

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
        w, b = self.number(weight), self.number(bias)
        if w is None or (b is None and bias is not None) or input.ndim < 2:
            return NotImplemented
        return Linear.apply(input, self._token, self.stack, w, b)  # type: ignore[no-untyped-call]

    def embedding(
        self,
        input: Tensor,
        weight: Tensor,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Any:
        w = self.number(weight)
        if w is None or padding_idx is not None or max_norm is not None or scale_grad_by_freq or sparse:
            return NotImplemented
        return Embedding.apply(input, self._token, self.stack, w)  # type: ignore[no-untyped-call]

    def convolution(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        w, b = self.number(weight), self.number(bias)
        if w is None or (b is None and bias is not None):
            return NotImplemented
        if isinstance(padding, str) or input.ndim != weight.ndim:
            return NotImplemented
        dims = weight.ndim - 2
        options: Options = (
            _each(stride, dims), _each(padding, dims), _each(dilation, dims), False, [0] * dims, groups
        )  # fmt: skip
        return Convolution.apply(input, self._token, self.stack, w, b, options)  # type: ignore[no-untyped-call]

    def trunk(self, x: Tensor, *parameters: Tensor, layers: tuple[Layer, ...]) -> Any:
        """Apply the first layers of a convolutional model."""
        indexes = [self.number(parameter) for parameter in parameters]
        if None in indexes:
            with self:
                return plainly(x, parameters, layers)
        return TrunkRule.apply(x, self._token, self.stack, indexes, layers)  # type: ignore[no-untyped-call]

    def layer_norm(
        self,
        input: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Any:
        if weight is None or input.ndim <= len(normalized_shape):
            return NotImplemented
        axes = list(range(input.ndim - len(normalized_shape), input.ndim))
        return self._affine(functional.layer_norm(input, list(normalized_shape), eps=eps), weight, bias, axes)

    def group_norm(
        self,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Any:
        return self._affine(functional.group_norm(input, num_groups, eps=eps), weight, bias, [1])

    def _affine(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, axes: list[int]) -> Any:
        w, b = self.number(weight), self.number(bias)
        if w is None or (b is None and bias is not None):
            return NotImplemented
        return Affine.apply(x, self._token, self.stack, w, b, axes)  # type: ignore[no-untyped-call]

    def gru(self, *args: Any) -> Any:
        cells = self._cells(args, states=1)
        if cells is None:
            return NotImplemented
        x, first = self._by_client(args[0]), args[1]
        last = []
        for layer, cell in enumerate(cells):
            h = self._by_client_state(first[layer])
            x = Gru.apply(x, h, self._token, self.stack, cell)  # type: ignore[no-untyped-call]
            last.append(x[:, -1].flatten(0, 1))
        return self._by_batch(x), torch.stack(last)

    def lstm(self, *args: Any) -> Any:
        cells = self._cells(args, states=2)
        if cells is None:
            return NotImplemented
        x, (first, first_cell) = self._by_client(args[0]), args[1]
        last, last_cells = [], []
        for layer, cell in enumerate(cells):
            h, c = (self._by_client_state(state[layer]) for state in (first, first_cell))
            x, c = Lstm.apply(x, h, c, self._token, self.stack, cell)  # type: ignore[no-untyped-call]
            last.append(x[:, -1].flatten(0, 1))
            last_cells.append(c.flatten(0, 1))
        return self._by_batch(x), torch.stack(last), torch.stack(last_cells)

    def _cells(self, args: Sequence[Any], states: int) -> list[Cell] | None:
        """Return the layers of ``torch.gru`` or ``torch.lstm``'s arguments, None where there is no rule."""
        if len(args) != 9 or not isinstance(args[2], list | tuple):
            return None  # a packed sequence
        x, hidden, weights, has_biases, layers, dropout, training, bidirectional, batch_first = args
        per_layer = 4 if has_biases else 2
        numbers = [self.number(weight) for weight in weights]
        if x.ndim != 3 or not batch_first or bidirectional or (dropout and training and layers > 1):
            return None
        if len(weights) != per_layer * layers or None in numbers or not x.shape[1]:
            return None
        if any(state.requires_grad for state in (hidden if states == 2 else [hidden])) and layers > 1:
            return None
        some: list[Any] = [numbers[i : i + per_layer] for i in range(0, len(numbers), per_layer)]
        return [Cell(*part, *([None] * (4 - per_layer))) for part in some]

    def _by_client(self, x: Tensor) -> Tensor:
        """Shape (clients * batch, times, width) values as (clients, times, batch, width)."""
        assert self.stack is not None
        return split(x, self.stack.clients).transpose(1, 2).contiguous()

    def _by_client_state(self, state: Tensor) -> Tensor:
        assert self.stack is not None
        return split(state, self.stack.clients)

    @staticmethod
    def _by_batch(x: Tensor) -> Tensor:
        y = x.transpose(1, 2).flatten(0, 1)
        return y.clone() if y.data_ptr() == x.data_ptr() else y  # x is read again, and y may be overwritten


_RULES: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.linear: LayerRules.linear,
    functional.embedding: LayerRules.embedding,
    functional.conv1d: LayerRules.convolution,
    functional.conv2d: LayerRules.convolution,
    functional.conv3d: LayerRules.convolution,
    functional.layer_norm: LayerRules.layer_norm,
    trunk: LayerRules.trunk,
    functional.group_norm: LayerRules.group_norm,
    torch.gru: LayerRules.gru,
    torch.lstm: LayerRules.lstm,
}
RECURRENT = frozenset({torch.gru, torch.lstm})
_METADATA = frozenset(
    {"shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf", "is_cpu", "is_cuda", "is_meta",
     "is_mkldnn", "is_nested", "is_quantized", "is_sparse", "itemsize", "nbytes", "names",
     "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size",
     "get_device", "is_floating_point", "is_complex", "is_signed", "is_contiguous", "has_names", "__len__"}
)  # fmt: skip


def is_metadata(func: Callable[..., Any]) -> bool:
    """Tell whether a function tells of a tensor what no training changes: its shape, dtype, device."""
    name = getattr(func, "__name__", "")
    return (getattr(func.__self__, "__name__", "") if name == "__get__" else name) in _METADATA  # type: ignore[attr-defined]


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested lists, tuples and dictionaries."""
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple | dict):
            yield from tensors_in(value)


def mapped(change: Callable[[Tensor], Tensor], values: Any) -> Any:
    """Return nested lists, tuples and dictionaries with every tensor changed."""
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, dict):
        return {key: mapped(change, value) for key, value in values.items()}
    if isinstance(values, list | tuple) and not isinstance(values, torch.Size):
        changed = [mapped(change, value) for value in values]
        return type(values)(*changed) if hasattr(values, "_fields") else type(values)(changed)
    return values


def _each(value: Any, dims: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * dims if len(values) == 1 else values
