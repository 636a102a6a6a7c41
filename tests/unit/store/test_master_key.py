"""The master key: made once, for its owner's eyes, and never replaced by another."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tacit.core.errors import StoreError
from tacit.store import master_key as module
from tacit.store.master_key import PATH_VARIABLE, master_key, master_key_path


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_it_is_made_where_there_is_none_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "key"
    first = master_key(path)
    assert len(first) == 32
    assert master_key(path) == path.read_bytes() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(path.parent) == ["key"]


def test_two_keys_differ(tmp_path: Path) -> None:
    assert master_key(tmp_path / "one") != master_key(tmp_path / "two")


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: master_key(tmp_path / "key"), range(64)))
    assert len(keys) == 1
    assert names(tmp_path) == ["key"]


def test_who_opens_something_makes_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read") as caught:
        master_key(tmp_path / "key", make=False)
    assert (caught.value.code, caught.value.where) == ("T430", str(tmp_path / "key"))
    assert PATH_VARIABLE in caught.value.fix
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"short", bytes(31), bytes(33)])
def test_what_is_no_key_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        master_key(path)
    assert caught.value.code == "T430"
    assert path.read_bytes() == content


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        master_key(tmp_path)
    assert caught.value.code == "T430"


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_text("mine")
    with pytest.raises(StoreError) as caught:
        master_key(tmp_path / "file" / "key")
    assert caught.value.code == "T401"


def test_a_key_that_cannot_be_made_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "link", full)
    with pytest.raises(StoreError, match="No space left"):
        master_key(tmp_path / "key")
    assert names(tmp_path) == []


def test_the_environment_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATH_VARIABLE, "~/my.key")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert master_key_path() == tmp_path / "my.key"
    assert master_key() == (tmp_path / "my.key").read_bytes()
    monkeypatch.delenv(PATH_VARIABLE)
    assert master_key_path().name == "master.key"
