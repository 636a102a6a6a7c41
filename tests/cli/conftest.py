"""A small job, and the command line as a function."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tacit.cli import main

JOB = """
from torch import nn
import tacit

def model():
    return nn.Linear(64, 10)

def population():
    return tacit.data.digits().split(tacit.IID(), clients=10)

job = tacit.Job(
    name="tiny",
    task=tacit.Task(model=model, metrics=["accuracy"]),
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1)),
    cohort=tacit.FixedSize(4),
    rounds=3,
)
"""

TOML = """
name = "tiny"
rounds = 3

[task]
model = "tiny_model.py:model"
metrics = ["accuracy"]

[algorithm]
type = "fedavg"
local = { type = "local_sgd", lr = 0.1 }

[cohort]
type = "fixed_size"
count = 4

[population]
source = { type = "digits" }
by = { type = "iid" }
clients = 10
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of stdout."""
        found = json.loads(self.out.splitlines()[-1])
        assert isinstance(found, dict)
        return found


Tacit = Callable[..., Ended]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with wide lines and no data folder of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TACIT_DATA", raising=False)
    return tmp_path


@pytest.fixture
def tacit(folder: Path, capsys: pytest.CaptureFixture[str]) -> Tacit:
    """Run a command in this process."""

    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        code = main(arguments)
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def job(folder: Path) -> Path:
    """A job that trains in a blink."""
    path = folder / "tiny.py"
    path.write_text(JOB)
    return path


@pytest.fixture
def toml(folder: Path) -> Path:
    """The same job as TOML."""
    (folder / "tiny_model.py").write_text(
        "from torch import nn\n\ndef model():\n    return nn.Linear(64, 10)\n"
    )
    path = folder / "tiny.toml"
    path.write_text(TOML)
    return path
