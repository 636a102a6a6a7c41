"""Find the trunk of a traced model: the convolutions it begins with, and what lies between them."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tacit.training.rules.trunk import Conv, Flatten, Layer, MaxPool, Relu, Trunk

_RELU = frozenset({functional.relu, torch.relu, "relu"})
_MAX_POOL = frozenset({functional.max_pool2d, torch.max_pool2d})
_FLATTEN = frozenset({torch.flatten, "flatten"})
_NAME = "_trunk"


def with_trunk(traced: fx.GraphModule) -> None:
    """Let the first layers of a model be one module: two or more, a convolution first."""
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    layers: list[Layer] = []
    parameters: list[Tensor] = []
    chain: list[fx.Node] = []
    node = _only_user(inputs[0]) if len(inputs) == 1 else None
    while node is not None and (layer := _layer(traced, node, parameters)) is not None:
        layers.append(layer)
        chain.append(node)
        node = None if isinstance(layer, Flatten) else _only_user(node)
    if len(layers) < 2 or not isinstance(layers[0], Conv):
        return
    if len({id(parameter) for parameter in parameters}) < len(parameters):
        return
    traced.add_submodule(_NAME, Trunk(layers, parameters))
    with traced.graph.inserting_after(chain[-1]):
        trunk = traced.graph.call_module(_NAME, (inputs[0],))
    chain[-1].replace_all_uses_with(trunk)
    for node in reversed(chain):
        traced.graph.erase_node(node)


def _only_user(node: fx.Node) -> fx.Node | None:
    (user,) = node.users if len(node.users) == 1 else (None,)
    return user


def _layer(traced: fx.GraphModule, node: fx.Node, parameters: list[Tensor]) -> Layer | None:
    """Return what a node does if a trunk can hold it; note its parameters."""
    if node.op == "call_module":
        if node.kwargs or len(node.args) != 1:
            return None
        return _of_module(traced.get_submodule(str(node.target)), parameters)
    if node.op not in ("call_function", "call_method") or len(node.all_input_nodes) != 1:
        return None
    if node.target in _RELU and len(node.args) == 1 and not node.kwargs.get("inplace"):
        return Relu()
    if node.target in _FLATTEN and node.args[1:] == (1,) and not node.kwargs:
        return Flatten()
    if node.target in _MAX_POOL:
        return _pool(*node.args[1:], **node.kwargs)
    return None


def _of_module(module: nn.Module, parameters: list[Tensor]) -> Layer | None:
    if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        weight, bias = len(parameters), None
        parameters.append(module.weight)
        if module.bias is not None:
            bias = len(parameters)
            parameters.append(module.bias)
        stride, padding, dilation = list(module.stride), list(module.padding), list(module.dilation)
        return Conv(weight, bias, (stride, padding, dilation, False, [0, 0], module.groups))
    if type(module) is nn.ReLU:
        return Relu()
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return Flatten()
    if type(module) is nn.MaxPool2d:
        return _pool(
            module.kernel_size,
            module.stride,
            module.padding,
            module.dilation,
            module.ceil_mode,
            module.return_indices,
        )
    return None


def _pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    return_indices: Any = False,
) -> MaxPool | None:
    values = [kernel_size, stride if stride not in (None, ()) else kernel_size, padding, dilation]
    pairs: list[Any] = [(value, value) if isinstance(value, int) else tuple(value) for value in values]
    if return_indices is not False or not isinstance(ceil_mode, bool):
        return None
    if not all(len(pair) == 2 and all(isinstance(size, int) for size in pair) for pair in pairs):
        return None
    kernel, step, around, apart = pairs
    return MaxPool(kernel, step, around, apart, ceil_mode)
