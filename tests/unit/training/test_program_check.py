"""An owner's check lets programs pass and nothing else, whatever a file is made of."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training.export import export_program
from tacit.training.export.elementwise import HANDLERS
from tacit.training.export.stacking import RULES
from tacit.training.flat import build
from tacit.training.program import Program, ProgramError, ProgramFacts
from tacit.training.program_check import OPERATORS, Allowance, check_program, count_operators
from tests.unit.training.programs import Case

CASE = Case(lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)))
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def program() -> Program:
    return export_program(CASE.task, build(CASE.task, 0), LocalSGD(lr=0.1), LocalTerms(), CASE.examples())


def refused(program: Program, change: Change, allowance: Allowance = Allowance()) -> str:
    """Return the number of the error that a changed program is refused with."""
    model = onnx.load_from_string(program.data)
    change(model)
    data = model.SerializeToString(deterministic=True)
    with pytest.raises(ProgramError) as caught:
        check_program(Program(data, program.facts), allowance)
    return caught.value.code


# --- what passes ---------------------------------------------------------------------------------


def test_what_tacit_exports_passes_and_gives_its_facts(program: Program) -> None:
    assert check_program(program) == program.facts


def test_only_the_bytes_count(program: Program) -> None:
    said = ProgramFacts(kind="stacked", parameters=(), inputs=(), target=program.facts.target)
    assert check_program(Program(program.data, said)) == program.facts


def test_an_owner_may_allow_less(program: Program) -> None:
    used = tuple(count_operators(onnx.load_from_string(program.data)))
    assert check_program(program, Allowance(operators=used, programs=(program.sha256,)))
    fewer = tuple(name for name in used if name != "Relu")
    for allowance, code in (
        (Allowance(operators=fewer), "T234"),
        (Allowance(largest_bytes=len(program.data) - 1), "T233"),
        (Allowance(most_nodes=3), "T233"),
        (Allowance(largest_tensor=14), "T233"),
        (Allowance(programs=("0" * 64,)), "T238"),
    ):
        assert refused(program, lambda model: None, allowance) == code
    with pytest.raises(ProgramError, match="Relu"):
        check_program(program, Allowance(operators=fewer))


def test_every_operator_that_an_export_knows_may_be_stacked_and_passes() -> None:
    assert set(RULES) == set(OPERATORS)
    assert len(HANDLERS) > 100
    assert not {"If", "Loop", "Scan", "SequenceMap"} & set(OPERATORS)


# --- what hides an operator ----------------------------------------------------------------------


def _subgraph() -> onnx.GraphProto:
    inner = helper.make_node("Multinomial", ["lr"], ["drawn"], sample_size=1)
    return helper.make_graph(
        [inner], "hidden", [], [helper.make_tensor_value_info("drawn", TensorProto.INT32, [1, 1])]
    )


def _with_if(model: onnx.ModelProto) -> None:
    yes = model.graph.initializer.add()
    yes.CopyFrom(numpy_helper.from_array(np.array(True), "yes"))
    node = helper.make_node("If", ["yes"], ["drawn"], then_branch=_subgraph(), else_branch=_subgraph())
    model.graph.node.append(node)


def _with_loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["lr", "", "lr"], ["looped"], body=_subgraph()))


def _with_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Multinomial", ["x"], ["y"])]
    model.functions.append(
        helper.make_function("tacit", "Relu", ["x"], ["y"], body, [helper.make_opsetid("", 18)])
    )


def _with_local_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    model.graph.node.append(helper.make_node("Scaler", ["lr"], ["scaled"], domain="ai.onnx.ml"))


def _with_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


@pytest.mark.parametrize("change", [_with_if, _with_loop, _with_function, _with_local_operator, _with_domain])
def test_no_operator_hides_in_a_subgraph_a_function_or_a_domain(program: Program, change: Change) -> None:
    assert refused(program, change) in ("T234", "T237")
    # Nor where the owner's list names what holds it.
    generous = Allowance(operators=(*OPERATORS, "If", "Loop", "Scan"))
    assert refused(program, change, generous) in ("T234", "T237")


@pytest.mark.parametrize("name", ["Multinomial", "RandomNormal", "StringNormalizer", "Scan", "Nothing"])
def test_an_operator_that_is_not_listed_is_named(program: Program, name: str) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[2].op_type = name

    assert refused(program, change) == "T234"


# --- what is outside the file --------------------------------------------------------------------


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin", ""])
def test_no_tensor_lies_outside_the_file(program: Program, location: str) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    assert refused(program, change) == "T235"


def test_no_attribute_lies_outside_the_file(program: Program) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = TensorProto(data_type=1, dims=[1])
        tensor.external_data.add(key="location", value="x")
        model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))

    assert refused(program, change) == "T235"


# --- what no program has -------------------------------------------------------------------------


def _with_sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64), "i"), [9])
    )


def _with_strings(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [1], [b"hello"]))


def _with_floats(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="f", dims=[1], data_type=1, float_data=[1.0]))


def _with_odd_numbers(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="f", dims=[1], data_type=10, raw_data=b"\0\0"))


def _with_training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.CopyFrom(_subgraph())


def _with_note(model: onnx.ModelProto) -> None:
    model.graph.doc_string = "read me"


def _with_metadata(model: onnx.ModelProto) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = "more", "words"


def _with_sequence(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


def _with_graph_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", _subgraph()))


@pytest.mark.parametrize(
    "change",
    [_with_sparse, _with_strings, _with_floats, _with_odd_numbers, _with_training, _with_note, _with_metadata,
     _with_sequence, _with_graph_attribute],
)  # fmt: skip
def test_what_no_program_has_is_refused(program: Program, change: Change) -> None:
    assert refused(program, change) == "T237"


@pytest.mark.parametrize("more", [b"\xfa\xff\x07\x03abc", b"\x2a\x00", b"\x08\x09", b"\0"])
def test_bytes_behind_the_graph_are_refused(program: Program, more: bytes) -> None:
    # An unknown field, an empty opset, the version once more, and no field at all.
    with pytest.raises(ProgramError) as caught:
        check_program(Program(program.data + more, program.facts))
    assert caught.value.code in ("T231", "T234", "T237")


# --- what is too large ---------------------------------------------------------------------------


def _with_attribute(model: onnx.ModelProto, **settings: object) -> None:
    model.graph.node.append(helper.make_node("MaxPool", ["lr"], ["pooled"], **settings))


def test_a_size_that_no_memory_holds_is_refused(program: Program) -> None:
    def stated(operator: str, *sizes: int) -> Change:
        def change(model: onnx.ModelProto) -> None:
            model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), "huge"))
            inputs = ["huge"] if operator == "ConstantOfShape" else ["lr", "huge"]
            model.graph.node.append(helper.make_node(operator, inputs, ["much"]))

        return change

    for operator in ("ConstantOfShape", "Expand", "Tile", "Reshape"):
        assert refused(program, stated(operator, 2**20, 2**20, 2**20)) == "T233"
    assert refused(program, stated("ConstantOfShape", 2**62)) == "T233"
    assert refused(program, lambda model: _with_attribute(model, kernel_shape=[2, 2**40])) == "T233"
    assert refused(program, lambda model: _with_attribute(model, axis=-(2**60))) == "T233"


def test_a_tensor_is_as_large_as_its_shape_says(program: Program) -> None:
    for dims, code in (
        ([2**40], "T233"),
        ([2**31, 2**31], "T233"),
        ([3], "T239"),
        ([-1], "T239"),
        ([0], "T239"),
    ):

        def change(model: onnx.ModelProto, dims: list[int] = dims) -> None:
            model.graph.initializer[0].dims[:] = dims

        assert refused(program, change) == code


def test_a_file_is_not_parsed_if_it_is_too_large() -> None:
    facts = object.__new__(Program)
    with pytest.raises(ProgramError, match="T233"):
        check_program(Program(b"x" * 100, facts), Allowance(largest_bytes=99))  # type: ignore[arg-type]


# --- what does not fit together ------------------------------------------------------------------


def _other_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "parameters.other"


def _other_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7


def _free_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"


def _other_numbers(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 11


def _one_input_less(model: onnx.ModelProto) -> None:
    del model.graph.input[-1]


def _one_output_more(model: onnx.ModelProto) -> None:
    model.graph.output.add().CopyFrom(model.graph.input[0])


@pytest.mark.parametrize(
    "change", [_other_input, _other_shape, _free_shape, _other_numbers, _one_input_less, _one_output_more]
)
def test_a_graph_is_what_its_facts_say(program: Program, change: Change) -> None:
    assert refused(program, change) == "T236"


def _unknown_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nobody"


def _used_too_early(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, model.graph.node.pop())


def _defined_twice(model: onnx.ModelProto) -> None:
    model.graph.node.add().CopyFrom(model.graph.node[0])


def _shadowed(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(5), "lr"))


def _nothing_made(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "elsewhere"


@pytest.mark.parametrize("change", [_unknown_name, _used_too_early, _defined_twice, _shadowed, _nothing_made])
def test_every_value_is_defined_once_and_before_it_is_used(program: Program, change: Change) -> None:
    assert refused(program, change) == "T239"


def _other_version(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


def _no_version(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


@pytest.mark.parametrize("change", [_other_version, _no_version])
def test_operators_are_of_one_version(program: Program, change: Change) -> None:
    assert refused(program, change) == "T234"


@given(st.data())
def test_a_damaged_file_is_refused_or_still_a_program_by_every_rule(
    program: Program, data: st.DataObject
) -> None:
    damaged = bytearray(program.data)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 40))
    try:
        check_program(Program(bytes(damaged[: len(damaged) - cut]), program.facts))
    except ProgramError as error:
        assert error.code in {f"T23{digit}" for digit in range(1, 10)}  # noqa: PT017 - either is right
