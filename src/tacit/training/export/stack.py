"""From the program of one client to that of many: every tensor of a client's own gets a first axis."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from tacit.training.executor import UnsupportedError
from tacit.training.export import stack_rules  # noqa: F401 - it fills the table
from tacit.training.export.stacking import RULES, Call, Stacker
from tacit.training.program import Port


def stack(
    model: onnx.ModelProto,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Rewrite the graph of a step for many clients.

    Args:
        model: The program of one client.
        inputs: The new graph's inputs, named as the old one's; a first size ``"C"`` is the clients.
        outputs: The new graph's outputs.
        metadata: What the new model says about itself.

    Raises:
        UnsupportedError: An operator cannot be stacked; the message names it.
    """
    stacker = Stacker(model.graph, inputs)
    for node in model.graph.node:
        given = [stacker.known[name] for name in node.input]
        settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        call = Call(stacker, node.op_type, given, settings, [*node.input], len(node.output))
        if node.op_type not in RULES:
            raise UnsupportedError(f"operator {node.op_type}: it cannot be stacked")
        stacker.known |= zip(node.output, RULES[node.op_type](call), strict=True)
    found = [(port, stacker.each(stacker.known[port.name])) for port in outputs]
    return stacker.graph.model(inputs, found, metadata)
