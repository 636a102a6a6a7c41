from pathlib import Path

import pytest


def test_what_new_writes_plans_and_runs(tacit, folder: Path) -> None:
    assert tacit("new", "first").code == 0
    assert tacit("plan", "first.py").code == 0
    ended = tacit("run", "first.py", "--json", "--set", "evaluation.every=30")
    assert ended.code == 0
    assert ended.json["metrics"]["central"]["accuracy"] >= 0.9


def test_what_new_writes_as_toml_is_the_same_job(tacit, folder: Path) -> None:
    written = tacit("new", "first", "--toml", "--json").json
    assert written["files"] == ["first.toml", "first_model.py"]
    tacit("new", "first")
    settings = ("--set", "rounds=2", "--json")
    toml, python = tacit("run", "first.toml", *settings), tacit("run", "first.py", *settings)
    assert toml.json["model_sha256"] == python.json["model_sha256"]


@pytest.mark.parametrize("existing", ["first.toml", "first_model.py"])
def test_new_never_overwrites_and_leaves_nothing_half_written(tacit, folder: Path, existing: str) -> None:
    (folder / existing).write_text("mine")
    ended = tacit("new", "first", "--toml")
    assert ended.code == 5
    assert "T408" in ended.err
    assert existing in ended.err
    assert [path.name for path in folder.iterdir()] == [existing]
    assert (folder / existing).read_text() == "mine"


def test_a_folder_and_an_ending_may_be_part_of_the_name(tacit, folder: Path) -> None:
    (folder / "jobs").mkdir()
    assert tacit("new", "jobs/first.py").code == 0
    assert 'name="first"' in (folder / "jobs" / "first.py").read_text()


@pytest.mark.parametrize("name", ["", "-x", "über", "a b", "x" * 65])
def test_a_name_that_no_job_can_have_is_refused(tacit, name: str) -> None:
    ended = tacit("new", "--", name)
    assert ended.code == 2
    assert "T133" in ended.err


def test_a_folder_that_is_not_there_is_named(tacit) -> None:
    ended = tacit("new", "nowhere/first")
    assert ended.code == 5
    assert "nowhere/first.py" in ended.err
