import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tacit.cli import checks


def _states(ended) -> dict[str, str]:
    return {check["name"]: check["state"] for check in ended.json["checks"]}


def test_a_sound_machine_has_no_problem(tacit) -> None:
    ended = tacit("doctor", "--json")
    assert ended.code == 0
    assert ended.json["problems"] == 0
    states = _states(ended)
    assert states["Python"] == states["PyTorch"] == states["data: digits"] == "good"
    assert states["data: mnist"] == "note"


def test_a_data_folder_that_is_not_there_is_a_problem(tacit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_DATA", "/no/such/folder")
    ended = tacit("doctor")
    assert ended.code == 1
    assert "/no/such/folder does not exist" in ended.out
    assert "Correct TACIT_DATA" in ended.out


def test_a_damaged_data_file_is_a_problem(tacit, folder: Path) -> None:
    (folder / "credit").mkdir()
    (folder / "credit" / "UCI_Credit_Card.csv").write_text("no such data")
    ended = tacit("doctor", "--data", str(folder), "--json")
    assert ended.code == 1
    assert _states(ended)["data: credit_default"] == "problem"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("_LEAST_MEMORY", 1e18, "memory"),
        ("_LEAST_DISK", 1e18, "disk"),
        ("_OLDEST_PYTHON", (4, 0), "Python"),
        ("_installed", lambda name: "0.1" if name == "rich" else "99", "rich"),
        ("_installed", lambda name: None if name == "rich" else "99", "rich"),
    ],
)
def test_each_shortage_is_a_problem_with_a_remedy(
    tacit, monkeypatch: pytest.MonkeyPatch, name: str, value: object, problem: str
) -> None:
    monkeypatch.setattr(checks, name, value)
    ended = tacit("doctor", "--json")
    assert ended.code == 1
    (found,) = (check for check in ended.json["checks"] if check["state"] == "problem")
    assert found["name"] == problem
    assert found["fix"]


def test_a_folder_that_cannot_be_written_is_a_problem(
    tacit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = folder / "gone"
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12))
    monkeypatch.setattr(Path, "cwd", lambda: gone)
    ended = tacit("doctor", "--json")
    assert ended.code == 1
    assert _states(ended)["run folders"] == "problem"
