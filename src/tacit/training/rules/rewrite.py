"""Small rewrites of a model's own code that save passes over memory, where a trace shows that they are safe.

Results stay the same to the last bit: a maximum over rectified values is the rectified maximum, and
rectifying in place changes nothing where nobody reads the value again.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional

from tacit.training.rules.layers import like_format
from tacit.training.rules.trace_trunk import with_trunk

_RELU = frozenset({functional.relu, torch.relu, Tensor.relu, "relu"})
_MAX_POOL = frozenset({functional.max_pool2d, functional.max_pool1d, functional.max_pool3d, torch.max_pool2d})
# Layers with a rule, and pooling: none of them keeps its result, and their gradients are new tensors.
_OWN = frozenset(
    {
        functional.linear,
        functional.conv1d,
        functional.conv2d,
        functional.conv3d,
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        *_MAX_POOL,
    }
)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_OWN_MODULES = (nn.Linear, *_CONVOLUTIONS, *_MAX_POOLS)
_TORCHS_OWN = frozenset(vars(nn.Module()))  # what torch keeps in every module
_VIEWS = frozenset({torch.flatten, torch.reshape, "flatten", "view", "reshape"})


def rewritten(module: nn.Module) -> nn.Module:
    """Return the module with fewer passes over memory, or itself where its code cannot be traced for certain.

    A trace fixes what Python does around the tensors. Code that draws numbers, keeps count or makes constants
    while it runs is left alone; so are models without convolutions, whose values are small.
    """
    parts = list(module.modules())
    if not any(isinstance(part, _CONVOLUTIONS) for part in parts) or any(map(_has_hooks, parts)):
        return module
    before = _state(parts)
    try:
        traced = fx.symbolic_trace(module)
    except Exception:  # noqa: BLE001 - whatever the model's code does, it goes on doing it
        return module
    if _state(parts) != before:
        return module
    for node in list(traced.graph.nodes):
        if _is_relu(traced, node):
            _move_behind_pool(traced, node)
    with_trunk(traced)
    for node in list(traced.graph.nodes):
        if _is_relu(traced, node):
            _rectify_in_place(traced, node)
    traced.recompile()
    return traced


def _state(parts: list[nn.Module]) -> tuple[Any, ...]:
    """Return what a model's code may change besides its tensors; a trace adds the constants it meets."""
    own = [{k: v for k, v in vars(part).items() if k not in _TORCHS_OWN} for part in parts]
    kept = [{name: (id(value), repr(value)) for name, value in each.items()} for each in own]
    return kept, bytes(torch.get_rng_state().numpy()), random.getstate(), repr(np.random.get_state())  # noqa: NPY002


def _move_behind_pool(traced: fx.GraphModule, relu: fx.Node) -> None:
    (pool,) = relu.users if len(relu.users) == 1 else (None,)
    if pool is None or not _is_plain_max_pool(traced, pool) or pool.args[:1] != (relu,):
        return
    source = relu.all_input_nodes[0]
    pool.replace_input_with(relu, source)
    with traced.graph.inserting_after(pool):
        moved = traced.graph.call_function(functional.relu, (pool,))
    pool.replace_all_uses_with(moved, delete_user_cb=lambda user: user is not moved)
    traced.graph.erase_node(relu)


def _rectify_in_place(traced: fx.GraphModule, relu: fx.Node) -> None:
    source = relu.all_input_nodes[0]
    if len(source.users) > 1 or not _is_own(traced, source):
        return
    with traced.graph.inserting_after(relu):
        node = traced.graph.call_function(rectify, (source, _owns_gradient(traced, relu)))
    relu.replace_all_uses_with(node)
    traced.graph.erase_node(relu)


def _owns_gradient(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether the gradient that comes back to a value is a new tensor that nobody else will read."""
    if len(node.users) != 1:
        return False
    (user,) = node.users
    return _is_own(traced, user) or (user.target in _VIEWS and _owns_gradient(traced, user))


def rectify(x: Tensor, owns_gradient: bool) -> Tensor:
    """Return ``max(x, 0)`` in x's own memory; its backward pass works in place, too, where it may."""
    result: Tensor = _Rectify.apply(x, owns_gradient)  # type: ignore[no-untyped-call]
    return result


class _Rectify(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, owns_gradient: bool) -> Tensor:
        y: Tensor = x.detach().relu_()
        ctx.y, ctx.owns_gradient = y, owns_gradient
        return y.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        g = like_format(g, ctx.y)
        if ctx.owns_gradient:
            return torch.ops.aten.threshold_backward.grad_input(g, ctx.y, 0, grad_input=g), None
        return torch.where(ctx.y > 0, g, 0.0), None


def _is_relu(traced: fx.GraphModule, node: fx.Node) -> bool:
    if len(node.all_input_nodes) != 1 or node.kwargs.get("inplace"):
        return False
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return type(module) is nn.ReLU and not module.inplace
    return node.op in ("call_function", "call_method") and node.target in _RELU and len(node.args) == 1


def _is_plain_max_pool(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return type(module) in _MAX_POOLS and not module.return_indices
    return node.op == "call_function" and node.target in _MAX_POOL and not node.kwargs.get("return_indices")


def _is_own(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target))) in _OWN_MODULES
    target: str | Callable[..., Any] = node.target
    return node.op == "call_function" and target in _OWN


def _has_hooks(module: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks)
