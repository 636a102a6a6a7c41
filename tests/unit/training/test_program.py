"""What a program says about itself, and that running or checking one takes no PyTorch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn

from tacit.core.errors import ConfigError
from tacit.core.layout import Tensor
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training.export import export_program
from tacit.training.flat import build
from tacit.training.program import FACTS_KEY, Port, Program, ProgramError, ProgramFacts, Values, facts_json
from tests.unit.training.programs import Case, Runner

LOCAL = LocalSGD(lr=0.1, momentum=0.9, weight_decay=0.01)
CASE = Case(lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.1), nn.Linear(5, 3)))


@pytest.fixture(scope="module")
def program() -> Program:
    return export_program(CASE.task, build(CASE.task, 0), LOCAL, LocalTerms(), CASE.examples())


def test_the_facts_say_what_goes_in_and_what_comes_out() -> None:
    facts = ProgramFacts(
        kind="stacked",
        parameters=(Tensor(name="w", shape=(2, 3)), Tensor(name="b", shape=())),
        inputs=(Values(shape=(4,)), Values(shape=(), dtype="int64")),
        target=Values(shape=(5,), dtype="int64"),
        draws=((7,),),
        momentum=True,
        proximal=True,
        correction=True,
        max_grad_norm=True,
    )
    assert [(port.name, port.shape) for port in facts.graph_inputs()] == [
        ("parameters.w", ("C", 2, 3)), ("parameters.b", ("C",)),
        ("velocity.w", ("C", 2, 3)), ("velocity.b", ("C",)),
        ("anchor.w", (2, 3)), ("anchor.b", ()), ("correction.w", (2, 3)), ("correction.b", ()),
        ("input.0", ("C", "B", 4)), ("input.1", ("C", "B")), ("target", ("C", "B", 5)),
        ("weight", ("C", "B")),
        ("draw.0", ("C", "B", 7)), ("lr", ()), ("momentum", ()), ("max_grad_norm", ()), ("proximal", ()),
    ]  # fmt: skip
    assert [port.dtype for port in facts.graph_inputs()][8:11] == ["float32", "int64", "int64"]
    assert facts.graph_outputs()[-1] == Port(name="loss", dtype="float32", shape=("C",))
    assert [port.name for port in facts.graph_outputs()][2:4] == ["new.velocity.w", "new.velocity.b"]


def test_a_program_is_read_back_from_its_bytes(program: Program) -> None:
    again = Program.read(program.data)
    assert again == program
    assert again.facts.versions.keys() == {"tacit", "torch", "onnx"}
    assert again.sha256 == program.sha256
    assert len(program.sha256) == 64


def test_a_program_is_an_onnx_graph_like_any_other(program: Program) -> None:
    onnx.checker.check_model(onnx.load_from_string(program.data), full_check=True)


def test_a_program_says_nothing_of_the_machine_it_was_made_on(program: Program) -> None:
    assert str(Path.home()).encode() not in program.data
    assert b"/site-packages/" not in program.data
    assert b".py" not in program.data


def test_bytes_that_are_no_graph_are_refused() -> None:
    for data in (b"not a graph", b"", b"\xff" * 100):
        with pytest.raises(ProgramError) as caught:
            Program.read(data)
        assert caught.value.code in ("T231", "T232")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"kind": "step"}', '{"kind": 3}', "[" * 10_000, '{"a": NaN}'],
)
def test_facts_that_cannot_be_read_are_refused(program: Program, text: str) -> None:
    model = onnx.load_from_string(program.data)
    model.metadata_props[0].value = text
    with pytest.raises(ProgramError, match="T232"):
        Program.read(model.SerializeToString())


def test_facts_that_are_no_text_are_refused(program: Program) -> None:
    damaged = program.data.replace(b'{"correction"', b'\x80"correction"')
    assert damaged != program.data
    with pytest.raises(ProgramError, match="T232"):
        Program.read(damaged)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2), ("kind", "other"), ("more", 1), ("draws", [[-1]]), ("draws", [[2**41]]),
        ("inputs", [{"shape": [4], "dtype": "string"}]), ("parameters", [{"name": "w", "shape": [-3]}]),
    ],
)  # fmt: skip
def test_facts_of_another_kind_are_refused(program: Program, field: str, value: object) -> None:
    model = onnx.load_from_string(program.data)
    facts = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**facts, field: value})
    with pytest.raises(ProgramError, match="T232"):
        Program.read(model.SerializeToString())


def test_facts_are_there_once(program: Program) -> None:
    model = onnx.load_from_string(program.data)
    entry = model.metadata_props.add()
    entry.key, entry.value = FACTS_KEY, facts_json(program.facts)
    with pytest.raises(ProgramError, match="2 entries"):
        Program.read(model.SerializeToString())


def test_facts_made_in_python_obey_the_same_bounds() -> None:
    with pytest.raises(ConfigError):
        Values(shape=(-1,))


_WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder

class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxscript", "sympy"):
            raise ImportError("this device has no " + name)

sys.meta_path.insert(0, NoTorch())
import numpy as np, onnxruntime
from tacit.training.program import Program
from tacit.training.program_check import check_program

program = Program.read(open(sys.argv[1], "rb").read())
check_program(program)
given = dict(np.load(sys.argv[2]))
session = onnxruntime.InferenceSession(program.data, providers=["CPUExecutionProvider"])
names = [port.name for port in program.facts.graph_outputs()]
np.savez(sys.argv[3], **dict(zip(names, session.run(names, given))))
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("kind", ["step", "stacked"])
def test_a_device_without_pytorch_checks_and_runs_the_same_file(kind: str, tmp_path: Path) -> None:
    model = build(CASE.task, 0)
    program = export_program(CASE.task, model, LOCAL, LocalTerms(), CASE.examples(), kind)  # type: ignore[arg-type]
    runner = Runner(program, model, LOCAL, LocalTerms())
    draws = [np.random.default_rng(0).random((3, *shape), dtype=np.float32) for shape in program.facts.draws]
    rows = runner.rows(CASE.examples(3), 4, draws)
    if kind == "stacked":
        rows = {name: np.stack([value, value]) for name, value in rows.items()}
    start = runner.begin(2 if kind == "stacked" else None)
    (tmp_path / "step.onnx").write_bytes(program.data)
    np.savez(tmp_path / "given.npz", **start, **rows, **runner.constants)
    subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, "step.onnx", "given.npz", "found.npz"],
        cwd=tmp_path, check=True, env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    after, loss = runner.step(start, rows)
    found = dict(np.load(tmp_path / "found.npz"))
    assert np.array_equal(found.pop("loss"), loss)
    assert found.keys() == {f"new.{name}" for name in after}
    for name, value in after.items():
        assert np.array_equal(found[f"new.{name}"], value)
