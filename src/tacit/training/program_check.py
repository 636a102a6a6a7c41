"""An owner's check of a program: what it is made of, how large it is, that it reads nothing but itself."""

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

from tacit.core.bounds import Count
from tacit.core.part import Settings
from tacit.training.program import (
    FACTS_KEY,
    OPSET,
    Port,
    Program,
    ProgramError,
    ProgramFacts,
    facts_of,
    parse,
)

OPERATORS = (
    "Abs", "Acos", "Add", "And", "ArgMax", "ArgMin", "Asin", "Atan", "Cast", "Ceil", "Concat",
    "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "Cosh", "CumSum", "Div", "Equal", "Erf", "Exp",
    "Expand", "Floor", "Gather", "GatherElements", "GatherND", "Gemm", "Greater", "GreaterOrEqual",
    "Identity", "IsNaN", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min",
    "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND",
    "Shape", "Sigmoid", "Sign", "Sin", "Sinh", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub",
    "Tan", "Tanh", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
)  # fmt: skip
"""Operators of a program that tacit exports: all of ONNX's own domain, none with a graph inside."""


class Allowance(Settings, frozen=True):
    """What an owner lets a program be.

    Attributes:
        operators: Operators that may occur, all of ONNX's own domain. None may hold a graph of its own.
        largest_bytes: Largest size of the file.
        most_nodes: Most operators in the graph.
        largest_tensor: Most numbers in any tensor whose size the file states.
        programs: SHA-256 of the only programs that are allowed; None allows all that obey the rest.
    """

    operators: tuple[str, ...] = OPERATORS
    largest_bytes: Count = 2**27
    most_nodes: Count = 100_000
    largest_tensor: Count = 2**30
    programs: tuple[str, ...] | None = None


def check_program(program: Program, allowance: Allowance = Allowance()) -> ProgramFacts:  # noqa: B008 - a frozen value
    """Refuse a program that its owner's device must not run; nothing in it is followed or run.

    What memory and time a run takes is not known from the file: limits for them belong to the process.

    Args:
        program: The program; only its bytes count, not what was read from them before.
        allowance: What is allowed.

    Returns:
        The facts that the bytes state, and that the graph agrees with.

    Raises:
        ProgramError: It is refused; the message names the rule.
    """
    if len(program.data) > allowance.largest_bytes:
        raise _too_large(f"it has {len(program.data)} bytes, and {allowance.largest_bytes} are allowed")
    if allowance.programs is not None and program.sha256 not in allowance.programs:
        what = f"the program {program.sha256[:12]} is not among those allowed"
        raise ProgramError("T238", what, fix="The owner adds its SHA-256 to the programs allowed.")
    model = parse(program.data)
    _check_fields(model, "model")
    _check_whole(model, program.data)
    _check_opset(model)
    facts = facts_of(model)
    graph = model.graph
    if len(graph.node) > allowance.most_nodes:
        raise _too_large(f"it has {len(graph.node)} operators, and {allowance.most_nodes} are allowed")
    for name, found in count_operators(model).items():
        if name not in allowance.operators:
            raise _not_allowed(f"operator {name} ({found} times)")
    _check_ports("input", graph.input, facts.graph_inputs(), allowance)
    _check_ports("output", graph.output, facts.graph_outputs(), allowance)
    for tensor in _tensors(model):
        _check_tensor(tensor, allowance)
    _check_names(graph)
    _check_stated_sizes(graph, allowance)
    return facts


def count_operators(model: Any) -> Counter[str]:
    """Count the operators of an ``onnx.ModelProto``; those of another domain are named with it."""
    return Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in model.graph.node
    )


# --- what may be there at all ---------------------------------------------------------------------

# Every field that a program has. What is not listed (functions, subgraphs, sparse or external tensors,
# training information, whatever a later ONNX adds) is refused, so that nothing can hide in it.
_FIELDS: Mapping[str, frozenset[str]] = {
    "ModelProto": frozenset({"ir_version", "opset_import", "producer_name", "graph", "metadata_props"}),
    "OperatorSetIdProto": frozenset({"domain", "version"}),
    "StringStringEntryProto": frozenset({"key", "value"}),
    "GraphProto": frozenset({"node", "name", "initializer", "input", "output"}),
    "NodeProto": frozenset({"input", "output", "op_type", "domain", "attribute"}),
    "AttributeProto": frozenset({"name", "type", "f", "i", "s", "t", "ints"}),
    "TensorProto": frozenset({"dims", "data_type", "name", "raw_data"}),
    "ValueInfoProto": frozenset({"name", "type"}),
    "TypeProto": frozenset({"tensor_type"}),
    "Tensor": frozenset({"elem_type", "shape"}),
    "TensorShapeProto": frozenset({"dim"}),
    "Dimension": frozenset({"dim_value", "dim_param"}),
}
_OUTSIDE = frozenset({"data_location", "external_data"})


def _check_fields(message: Any, where: str) -> None:
    """Refuse a field that no program has, however deep it lies."""
    known = _FIELDS[message.DESCRIPTOR.name]
    for field, value in message.ListFields():
        if field.name in _OUTSIDE:
            what = f"the tensor {message.name!r} is kept outside the file"
            raise ProgramError("T235", what, where=where, fix="A program holds all its numbers itself.")
        if field.name not in known:
            raise _strange(f"{message.DESCRIPTOR.name} has a field `{field.name}`, as no program has", where)
        if field.message_type is None:
            continue
        for index, part in enumerate(value if _is_repeated(value) else [value]):
            _check_fields(
                part, f"{where}.{field.name}[{index}]" if _is_repeated(value) else f"{where}.{field.name}"
            )


def _is_repeated(value: Any) -> bool:
    return not hasattr(value, "DESCRIPTOR")


def _check_whole(model: Any, data: bytes) -> None:
    """Refuse bytes that hold more than was parsed, or the same in another way."""
    model.DiscardUnknownFields()
    if model.SerializeToString(deterministic=True) != data:
        raise _strange("the file holds bytes that are no part of the graph", "model")


def _check_opset(model: Any) -> None:
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    if opsets != [("", OPSET)]:
        raise _not_allowed(f"operators of {opsets}, where a program has version {OPSET} of ONNX's own")
    if [entry.key for entry in model.metadata_props] != [FACTS_KEY]:
        raise _strange(f"the metadata is not `{FACTS_KEY}` alone", "model.metadata_props")


# --- whether it fits together ----------------------------------------------------------------------

_ITEM_SIZES = {1: 4, 6: 4, 7: 8, 9: 1, 11: 8}  # of float32, int32, int64, bool and float64
_ELEMENTS = {"float32": 1, "int64": 7}


def _check_ports(what: str, found: Iterable[Any], wanted: tuple[Port, ...], allowance: Allowance) -> None:
    ports = []
    for value in found:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
        ports.append((value.name, tensor.elem_type, shape))
    expected = [(port.name, _ELEMENTS[port.dtype], port.shape) for port in wanted]
    if ports != expected:
        odd = next((a or b for a, b in zip_longest(ports, expected) if a != b), None)
        text = f"the graph's {what} {odd[0]!r} is not what its facts say" if odd else f"{what}s"
        raise ProgramError("T236", text, where=FACTS_KEY, fix="Export the program again with `tacit export`.")
    for port in wanted:
        _check_size(
            [size for size in port.shape if isinstance(size, int)], f"{what} {port.name!r}", allowance
        )


def _tensors(model: Any) -> Iterable[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _check_tensor(tensor: Any, allowance: Allowance) -> None:
    where = f"tensor {tensor.name!r}"
    if tensor.data_type not in _ITEM_SIZES:
        raise _strange(f"numbers of ONNX's type {tensor.data_type}", where)
    if any(size < 0 for size in tensor.dims):
        raise _broken("a size below zero", where)
    _check_size(tensor.dims, where, allowance)
    if len(tensor.raw_data) != math.prod(tensor.dims) * _ITEM_SIZES[tensor.data_type]:
        raise _broken("its shape and its bytes do not fit", where)


def _check_names(graph: Any) -> None:
    """Refuse a value that is defined twice, or used before it is there."""
    known: set[str] = set()
    given = [*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)]
    for name in given:
        _define(name, known)
    for node in graph.node:
        for name in node.input:
            if name not in known:
                raise _broken(f"{node.op_type} uses {name!r}, which is not there yet", "model.graph")
        for name in node.output:
            _define(name, known)
    for value in graph.output:
        if value.name not in known:
            raise _broken(f"no operator makes the output {value.name!r}", "model.graph")


def _define(name: str, known: set[str]) -> None:
    if not name or name in known:
        raise _broken(f"the name {name!r} is empty or there twice", "model.graph")
    known.add(name)


# Which input of an operator states the size of what it makes.
_STATED = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Tile": 1, "Range": 1, "Pad": 1}


def _check_stated_sizes(graph: Any, allowance: Allowance) -> None:
    """Refuse sizes that are written into the file and that no memory holds."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            _check_size(
                [max(map(abs, (attribute.i, *attribute.ints)))], f"operator {node.op_type}", allowance
            )
        index = _STATED.get(node.op_type)
        if index is None or index >= len(node.input) or node.input[index] not in constants:
            continue
        tensor = constants[node.input[index]]
        if tensor.data_type == _ELEMENTS["int64"]:
            numbers = [abs(n[0]) for n in struct.iter_unpack("<q", tensor.raw_data)]
            sizes = [sum(numbers)] if node.op_type == "Pad" else [n for n in numbers if n]
            _check_size(sizes, f"operator {node.op_type}", allowance)


def _check_size(sizes: Iterable[int], where: str, allowance: Allowance) -> None:
    if math.prod(sizes) > allowance.largest_tensor:
        raise _too_large(f"{where} would have more than {allowance.largest_tensor} numbers")


def _too_large(what: str) -> ProgramError:
    fix = "Use a smaller model, or let the owner allow larger programs."
    return ProgramError("T233", f"the program is too large: {what}", fix=fix)


def _not_allowed(what: str) -> ProgramError:
    return ProgramError(
        "T234", f"not allowed in a program: {what}", fix="The owner decides which operators are."
    )


def _strange(what: str, where: str) -> ProgramError:
    fix = "Export the program with `tacit export`; graphs from elsewhere are none."
    return ProgramError("T237", what, where=where, fix=fix)


def _broken(what: str, where: str) -> ProgramError:
    return ProgramError("T239", f"the graph is damaged: {what}", where=where, fix="Export the program again.")
