import hashlib
from pathlib import Path

import onnx

from tacit.training import Program, check_program


def test_export_writes_a_program_and_describes_it(tacit, job: Path, folder: Path) -> None:
    ended = tacit("export", str(job))
    assert ended.code == 0
    (path,) = folder.glob("*.onnx")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"tiny-{sha256[:12]}.onnx"
    for words in (
        sha256,
        "one client",
        "parameters.weight  ",
        "float32 [10, 64]",
        "int64 [B]",
        "new.parameters.bias",
    ):
        assert words in ended.out
    assert check_program(Program.read(path.read_bytes())).kind == "step"


def test_the_same_job_gives_the_same_file_again(tacit, job: Path, folder: Path) -> None:
    first = tacit("export", str(job), "--json").json
    again = tacit("export", str(job), "--set", "algorithm.local.lr=0.5", "--json").json
    assert first == again
    assert len([*folder.glob("*.onnx")]) == 1
    other = tacit("export", str(job), "--set", "algorithm.local.momentum=0.5", "--json").json
    assert other["sha256"] != first["sha256"]
    assert {"momentum", "velocity.weight"} <= {port["name"] for port in other["inputs"]}


def test_a_stacked_program_goes_where_it_is_told(tacit, job: Path, folder: Path) -> None:
    ended = tacit("export", str(job), "--stacked", "--out", "many.onnx", "--json")
    assert ended.json["kind"] == "stacked"
    assert ended.json["inputs"][0] == {
        "name": "parameters.weight",
        "dtype": "float32",
        "shape": ["C", 10, 64],
    }
    nodes = onnx.load(folder / "many.onnx").graph.node
    assert sum(ended.json["operators"].values()) == len(nodes)
    assert ended.json["bytes"] == (folder / "many.onnx").stat().st_size


def test_another_file_is_never_overwritten(tacit, job: Path, folder: Path) -> None:
    (folder / "mine.onnx").write_text("precious")
    ended = tacit("export", str(job), "--out", "mine.onnx")
    assert ended.code == 5
    assert "T408" in ended.err
    assert (folder / "mine.onnx").read_text() == "precious"


def test_what_cannot_be_exported_is_refused_with_the_reason(tacit, job: Path, folder: Path) -> None:
    normalised = "nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10))"
    job.write_text(job.read_text().replace("nn.Linear(64, 10)", normalised))
    ended = tacit("export", str(job))
    assert ended.code == 2
    assert "T159: the local step cannot be exported: buffer `1.running_mean` of BatchNorm1d" in ended.err
    assert not [*folder.glob("*.onnx")]
