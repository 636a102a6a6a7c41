"""Whether clients can be stacked: each must come out as if it were alone, whatever the others hold.

A statistic of the batch, an attention over it, a look at its number of rows: whatever a model does to its
batch as a whole would make one client's update depend on its group. The model is run on two clients that are
made up, and every function it calls is repeated with the numbers of one of them replaced. The answer follows
from the model's code and the shapes of the examples alone, so that all processes find the same one.
"""

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tacit.training.losses import Loss
from tacit.training.packing import Signature
from tacit.training.rules.interception import RECURRENT, LayerRules, is_metadata, mapped, tensors_in
from tacit.training.rules.losses import client_losses
from tacit.training.rules.stack import NotStackable, Stack

_EXAMPLES = 3  # of each client; an odd number shows who pairs up neighbours
_TOLERANCE = 1e-3  # of the largest output: far above rounding, far below what another batch size does
_FILLS = 4
# What a function of these names returns has the shape of its argument, and none of its numbers.
_SHAPE_ONLY = frozenset(
    {"zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones", "new_empty", "new_full"}
)
# Functions of single elements whose result may well be the same for all numbers that are tried.
_COMPARISONS = frozenset(
    {"eq", "ne", "lt", "le", "gt", "ge", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__",
     "isnan", "isinf", "isfinite", "logical_not", "logical_and", "logical_or"}
)  # fmt: skip


@dataclass(frozen=True)
class Nature:
    """What a model does with examples of one shape.

    Attributes:
        is_stackable: Whether each client comes out as if it were alone.
        rows: For each parameter that is nothing but the weight of one dense layer: rows of one example.
    """

    is_stackable: bool = False
    rows: Mapping[int, int] = field(default_factory=dict)


def examine(
    module: nn.Module,
    parameters: Sequence[nn.Parameter],
    signature: Signature,
    loss: Loss,
    dtype: torch.dtype,
    *,
    channels_last: bool,
) -> Nature:
    """Find out what a model does with examples of one shape.

    Args:
        module: The model; a copy of it is run.
        parameters: Its trainable parameters, in the order of the flat vector.
        signature: Shapes and dtypes of an example's inputs and target.
        loss: The task's loss.
        dtype: In what is computed.
        channels_last: Whether images are laid out so.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            model, own = copy.deepcopy((module, list(parameters)))  # a model may keep what it has seen
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - there are models that cannot be copied
            return Nature()
        return _Examination(model, own, signature, loss, dtype, channels_last).result()


class _Examination:
    """A model among examples that are made up."""

    def __init__(
        self,
        module: nn.Module,
        parameters: list[nn.Parameter],
        signature: Signature,
        loss: Loss,
        dtype: torch.dtype,
        channels_last: bool,
    ) -> None:
        self._module, self._parameters, self._loss, self._dtype = module, parameters, loss, dtype
        self._signature, self._channels_last = signature, channels_last
        numbers = torch.Generator().manual_seed(0)
        self._start = torch.cat([_made_up_weights(p.shape, numbers) for p in parameters]).to(dtype)
        self._stack = Stack([p.shape for p in parameters], lr=0.1, fused=True)

    def result(self) -> Nature:
        try:
            alone, rows = self._alone(0, _EXAMPLES)
        except MemoryError:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - a model may refuse what is made up
            return Nature()
        try:
            is_stackable = self._is_stackable(alone, rows)
        except MemoryError:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - whatever is in the way, one at a time is right
            is_stackable = False
        return Nature(is_stackable, {i: n // _EXAMPLES for i, n in rows.items() if n % _EXAMPLES == 0})

    def _is_stackable(self, alone: Tensor, rows: Mapping[int, int]) -> bool:
        state = torch.default_generator.get_state()
        outputs, found = self._together()
        if found != rows or not torch.equal(state, torch.default_generator.get_state()):
            return False
        by_example = outputs.reshape(2 * _EXAMPLES, -1)
        # The second client's; and fewer of the first's, for a model may look at their number.
        for begin, end in ((_EXAMPLES, 2 * _EXAMPLES), (0, 1), (0, 2)):
            other, _ = self._alone(begin, end)
            if not _is_close(by_example[begin:end], other):
                return False
        return _is_close(by_example[:_EXAMPLES], alone)

    def _alone(self, begin: int, end: int) -> tuple[Tensor, dict[int, int]]:
        """Return the outputs for some examples as one client's, and the rows of its dense layers."""
        outputs = self._outputs(LayerRules(self._parameters), 1, begin, end)
        return outputs.detach().clone(), self._stack.dense_only()

    def _together(self) -> tuple[Tensor, dict[int, int]]:
        """Return the outputs for two clients, and the rows of the dense layers of each.

        Raises:
            NotStackable: They are not independent.
        """
        rules = _Watch(self._parameters)
        outputs = self._outputs(rules, 2, 0, 2 * _EXAMPLES)
        if (
            rules.has_refused
            or rules.axis(outputs) != 0
            or len(outputs) % (2 * _EXAMPLES)
            or _has_foreign_backward(outputs)
        ):
            raise NotStackable
        found, values = self._stack.dense_only(), outputs.detach().clone()
        (target,) = self._made_up(self._signature[-1:], label=0)
        weight = torch.ones((2, _EXAMPLES), dtype=self._dtype)
        self._stack.begin_backward()
        torch.autograd.backward(client_losses(self._loss, outputs, target, weight).sum())
        return values, found

    def _outputs(self, rules: LayerRules, clients: int, begin: int, end: int) -> Tensor:
        self._stack.open(self._start, clients, {})
        self._stack.begin_step()
        rules.stack = self._stack
        inputs = [x[begin:end].clone() for x in self._made_up(self._signature[:-1], label=1)]
        if self._channels_last:
            inputs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]
        if isinstance(rules, _Watch):
            for x in inputs:
                rules.follow(x, 0)
        with rules:
            outputs: Tensor = self._module(*inputs)
        return outputs

    def _made_up(self, signature: Signature, label: int) -> list[Tensor]:
        """Return arrays for two clients: floats between 0 and 1, and one integer that most models know."""
        numbers = torch.Generator().manual_seed(1)
        shapes = [((2 * _EXAMPLES, *shape), kind) for shape, kind in signature]
        return [
            torch.rand(shape, generator=numbers).to(self._dtype)
            if kind == "float32"
            else torch.full(shape, label)
            for shape, kind in shapes
        ]


def _made_up_weights(shape: torch.Size, numbers: torch.Generator) -> Tensor:
    """Return flat weights that keep values about as large as they are; scales and the like are positive."""
    if len(shape) < 2:
        return torch.rand(shape.numel(), generator=numbers) + 0.5
    return torch.randn(shape.numel(), generator=numbers) / math.sqrt(max(1, shape[1:].numel()))


def _is_close(together: Tensor, alone: Tensor) -> bool:
    """Tell whether two outputs differ by rounding; a single example may have lost its axis."""
    if together.numel() != alone.numel() or not alone.numel():
        return False
    largest = float(alone.abs().nan_to_num().max())
    slack = _TOLERANCE * largest
    return bool(torch.allclose(together.flatten(), alone.flatten(), 0.0, slack, equal_nan=True))


def _has_foreign_backward(outputs: Tensor) -> bool:
    """Tell whether a backward pass runs Python code other than the rules': nobody knows what it does."""
    nodes, seen = [outputs.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        owner = getattr(node, "_forward_cls", None)
        if owner is not None and not owner.__module__.startswith(f"{__package__}."):
            return True
        nodes += [before for before, _ in node.next_functions]
    return False


class _Watch(LayerRules):
    """Layer rules for two clients that make sure that neither depends on the other.

    Each tensor that follows from the examples has one axis whose first half is the first client's. A
    function is called again with the numbers of one client replaced, and again with others: a half of its
    result that then changes belongs to that client. Rules take and return the clients along known axes.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(parameters)
        self._followed: dict[int, tuple[Tensor, int]] = {}  # the tensor keeps its id from being used again
        self._memory: set[int] = set()
        self.has_refused = False
        self._numbers = torch.Generator().manual_seed(2)

    def axis(self, tensor: object) -> int | None:
        """Return the axis along which the clients of a tensor lie; None for one that is the same for both."""
        found = self._followed.get(id(tensor))
        return None if found is None else found[1]

    def follow(self, tensor: Tensor, axis: int) -> None:
        """Note that a tensor follows from the examples, and along which axis the clients lie."""
        self._followed[id(tensor)] = tensor, axis
        self._memory.add(_address(tensor))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            return self._called(func, types, args, kwargs or {})
        except Exception:
            self.has_refused = True  # the model's code may catch it, and go another way than it will later
            raise

    def _called(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        tensors = list(tensors_in((args, kwargs)))
        uses = any(self.number(t) is not None for t in tensors)
        follows = any(self.axis(t) is not None for t in tensors)
        if any(self._has_escaped(t) for t in tensors):
            raise NotStackable
        if is_metadata(func) or not (uses or follows) or getattr(func, "__name__", "") in _SHAPE_ONLY:
            return super().__torch_function__(func, types, args, kwargs)
        if uses:
            self._check_rule(func, args, kwargs)
            result = super().__torch_function__(func, types, args, kwargs)
            for place, tensor in enumerate(tensors_in([result])):
                self.follow(tensor, int(place > 0))  # states of recurrent layers have their layers first
            return result
        axes = self._axes(func, args, kwargs, tensors)
        result = super().__torch_function__(func, types, args, kwargs)
        for tensor, axis in zip([*tensors_in([result]), *tensors], axes, strict=True):
            if axis is not None:
                self.follow(tensor, axis)
        return result

    def _has_escaped(self, tensor: Tensor) -> bool:
        """Tell whether a tensor follows from the examples by a way that was not watched."""
        if self.axis(tensor) is not None or self.number(tensor) is not None:
            return False
        return tensor.requires_grad or (tensor.numel() > 0 and _address(tensor) in self._memory)

    def _check_rule(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuse a layer whose clients do not lie along its first axis: its rule would mistake them."""
        x = args[0] if args else kwargs.get("input")
        states = args[1] if func in RECURRENT and len(args) > 1 else ()
        if self.axis(x) != 0 or any(self.axis(state) not in (None, 1) for state in tensors_in([states])):
            raise NotStackable

    def _axes(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        tensors: Sequence[Tensor],
    ) -> list[int | None]:
        """Return the axis of each tensor of the result, and of each argument that the function changes."""
        runs = [[self._run(func, args, kwargs, half, fill) for fill in range(_FILLS)] for half in (0, 1)]
        hint = next(t for t in tensors if self.axis(t) is not None)
        like = hint.shape if getattr(func, "__name__", "") in _COMPARISONS else None
        first, second = (list(zip(*each, strict=True)) for each in runs)
        return [
            None if a[0] is None else self._axis_of(a, b, self._followed[id(hint)][1], like)
            for a, b in zip(first, second, strict=True)
        ]

    def _run(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], half: int, fill: int
    ) -> list[Tensor | None]:
        """Call a function with one client's numbers replaced.

        Returns:
            Its results, then its tensor arguments, None for those that it left alone.
        """
        copies: list[tuple[Tensor, int]] = []

        def replaced(tensor: Tensor) -> Tensor:
            changed, axis = tensor.detach().clone(), self.axis(tensor)
            if axis is not None:
                size = changed.shape[axis] // 2
                part = changed.narrow(axis, half * size, size)
                part.copy_(_other_numbers(changed, part.shape, fill, self._numbers))
            copies.append((changed, changed._version))  # noqa: SLF001
            return changed

        with torch.no_grad():
            result = func(*mapped(replaced, args), **mapped(replaced, kwargs))
        found = list(tensors_in([result]))
        if result is not None and not found:
            raise NotStackable  # a number of Python's that may depend on both
        after = [t if t._version != version else None for t, version in copies]  # noqa: SLF001
        return [*found, *after]

    @staticmethod
    def _axis_of(
        first: Sequence[Tensor], second: Sequence[Tensor], hint: int, like: torch.Size | None
    ) -> int:
        """Return the axis whose halves belong to one client each.

        Args:
            first: What came of replacing the first client's numbers.
            second: What came of replacing the second's.
            hint: The axis of an argument.
            like: If the function is known to look at single elements: the shape of that argument.

        Raises:
            NotStackable: There is none.
        """
        shape = first[0].shape
        if any(t.shape != shape for t in (*first, *second)):
            raise NotStackable
        if all(_are_same(t, ts[0]) for ts in (first, second) for t in ts):
            if shape == like:
                return hint
            raise NotStackable  # what depends on nothing that is tried may depend on what is not
        for axis in sorted(range(len(shape)), key=lambda axis: axis != hint):
            size, rest = divmod(shape[axis], 2)
            kept = (
                (t.narrow(axis, begin, size), ts[0].narrow(axis, begin, size))
                for ts, begin in ((first, size), (second, 0))
                for t in ts
            )
            if size and not rest and all(_are_same(a, b) for a, b in kept):
                return axis
        raise NotStackable


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _other_numbers(values: Tensor, shape: torch.Size, fill: int, numbers: torch.Generator) -> Tensor:
    """Return numbers for one client: of all sizes, and not a number; such integers as there are, or none."""
    if fill == 0:
        return values.new_zeros(shape)
    if values.dtype == torch.bool:
        return torch.rand(shape, generator=numbers) < (0.5, 0.5, 2.0)[fill - 1]
    if not values.is_floating_point():
        own = values.flatten()
        return own[torch.randint(len(own), shape, generator=numbers)] if fill < 3 else own.max().expand(shape)
    if fill == 3:
        return values.new_full(shape, torch.nan)
    return torch.randn(shape, generator=numbers) * 1000.0 ** (fill - 1)


def _are_same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())
