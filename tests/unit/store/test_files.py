"""Files that are whole or not there."""

import os
from pathlib import Path

import pytest

from tacit.core.errors import StoreError
from tacit.store.files import remove_halves, storing, write_whole


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for content in (b"first", b"", b"x" * 100_000):
        write_whole(path, content)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(StoreError) as caught:
        write_whole(path, b"new")
    assert caught.value.code == "T401"
    assert caught.value.where == str(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_numbered_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        write_whole(tmp_path / "nowhere" / "record", b"new")
    assert caught.value.code == "T401"
    assert list(tmp_path.iterdir()) == []


def test_whatever_goes_wrong_while_writing_leaves_no_half(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_whole(tmp_path / "record", None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".run.json.17.tmp", ".run.json.18.tmp", ".other.17.tmp", "run.json"):
        (tmp_path / name).write_text("")
    remove_halves(tmp_path, ["run.json", "job.toml"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.17.tmp", "run.json"]


@pytest.mark.parametrize(
    ("number", "word"),
    [(28, "space"), (122, "quota"), (27, "limit"), (13, "write to"), (30, "disk"), (5, "disk")],
)
def test_what_the_system_says_becomes_advice(number: int, word: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught, storing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert word in caught.value.fix
    assert os.strerror(number) in caught.value.what
