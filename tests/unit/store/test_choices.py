"""What is kept between runs is whole or not there, and who was first is right."""

import hashlib
import json
import multiprocessing
import os
from pathlib import Path

import msgspec
import pytest

from tacit.store.choices import FOLDER_VARIABLE, ChoiceCache, KeptChoice, choices_folder
from tacit.training.executor import Choice

KEY, OTHER = "a" * 64, "b" * 64
PROGRAM = b"a program" * 100
SHA256 = hashlib.sha256(PROGRAM).hexdigest()


def kept(executor: str = "rules", group: int = 4, program: str | None = None) -> KeptChoice:
    return KeptChoice(choice=Choice(executor=executor, group=group, reason="why"), program_sha256=program)


def test_a_choice_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert ChoiceCache(folder).find(KEY) is None
    assert ChoiceCache(folder).keep(KEY, kept(program=SHA256)) == kept(program=SHA256)
    assert ChoiceCache(folder).find(KEY) == kept(program=SHA256)
    assert ChoiceCache(folder).find(OTHER) is None
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.json"]


def test_who_was_first_is_right_until_it_is_forgotten(tmp_path: Path) -> None:
    cache = ChoiceCache(tmp_path)
    cache.keep(KEY, kept("rules"))
    assert cache.keep(KEY, kept("torch")) == kept("rules")
    cache.forget(KEY)
    assert cache.keep(KEY, kept("torch")) == kept("torch")
    cache.forget(OTHER)


@pytest.mark.parametrize("length", range(0, 400, 23))
def test_a_torn_file_is_no_choice_and_is_replaced(tmp_path: Path, length: int) -> None:
    cache, path = ChoiceCache(tmp_path), tmp_path / f"{KEY}.json"
    cache.keep(KEY, kept())
    whole = path.read_bytes()
    path.write_bytes(whole[: min(length, len(whole) - 2)])
    assert cache.find(KEY) is None
    assert cache.keep(KEY, kept("torch")) == kept("torch")
    assert cache.find(KEY) == kept("torch")
    assert len(list(tmp_path.iterdir())) == 1


def edited(path: Path, **changes: object) -> None:
    found = json.loads(path.read_text())
    found["kept"]["choice"] |= changes
    path.write_text(json.dumps(found))


def test_an_edited_file_is_no_choice(tmp_path: Path) -> None:
    cache, path = ChoiceCache(tmp_path), tmp_path / f"{KEY}.json"
    cache.keep(KEY, kept())
    edited(path, group=5)
    assert cache.find(KEY) is None
    edited(path, group=4)
    assert cache.find(KEY) == kept()
    path.rename(tmp_path / f"{OTHER}.json")
    assert cache.find(OTHER) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b"7", b'"text"', b"\xff\xfe", b'{"key": 1, "sha256": 2, "kept": 3}'],
)
def test_a_file_of_something_else_is_no_choice(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{KEY}.json").write_bytes(content)
    assert ChoiceCache(tmp_path).find(KEY) is None


@pytest.mark.parametrize(
    "plain", [{}, {"choice": {"group": 0}}, {"choice": {}, "more": 1}, {"choice": {"group": "x"}}]
)
def test_a_choice_that_breaks_its_bounds_is_none(tmp_path: Path, plain: object) -> None:
    digest = hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()
    content = {"key": KEY, "sha256": digest, "kept": plain}
    (tmp_path / f"{KEY}.json").write_bytes(msgspec.json.encode(content))
    assert ChoiceCache(tmp_path).find(KEY) is None


def test_a_program_is_found_by_its_key_and_by_its_digest(tmp_path: Path) -> None:
    cache = ChoiceCache(tmp_path)
    assert cache.find_program(KEY) is None
    assert cache.program(SHA256) is None
    cache.keep_program(KEY, PROGRAM)
    cache.keep_program(KEY, PROGRAM)
    assert cache.find_program(KEY) == PROGRAM
    assert cache.program(SHA256) == PROGRAM
    assert cache.find_program(OTHER) is None
    assert cache.program(OTHER) is None
    assert cache.program("*") is None


def test_a_changed_program_is_none_and_is_replaced(tmp_path: Path) -> None:
    cache = ChoiceCache(tmp_path)
    cache.keep_program(KEY, PROGRAM)
    (path,) = tmp_path.iterdir()
    path.write_bytes(PROGRAM[:-1])
    assert cache.find_program(KEY) is None
    assert cache.program(SHA256) is None
    cache.keep_program(KEY, PROGRAM)
    assert cache.program(SHA256) == PROGRAM


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    cache = ChoiceCache(file / "below a file")
    assert cache.keep(KEY, kept()) == kept()
    cache.keep_program(KEY, PROGRAM)
    cache.forget(KEY)
    assert cache.find(KEY) is None
    assert cache.find_program(KEY) is None


def test_a_disk_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*names: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    cache = ChoiceCache(tmp_path)
    assert cache.keep(KEY, kept("rules")) == kept("rules")
    assert cache.keep(KEY, kept("torch")) == kept("rules")


def _race(folder: str, number: int, start: "multiprocessing.synchronize.Event", found: object) -> None:
    cache = ChoiceCache(Path(folder))
    start.wait()
    for key in range(50):
        cache.keep_program(KEY, PROGRAM)
        found.put((key, cache.keep(f"{key:064}", kept(group=number)).choice.group))  # type: ignore[attr-defined]


def test_of_processes_that_choose_at_once_all_take_the_choice_of_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, found = context.Event(), context.SimpleQueue()
    processes = [context.Process(target=_race, args=(str(tmp_path), n, start, found)) for n in (1, 2, 3)]
    for process in processes:
        process.start()
    start.set()
    told = [found.get() for _ in range(150)]
    for process in processes:
        process.join()
    assert len(set(told)) == 50
    assert ChoiceCache(tmp_path).find_program(KEY) == PROGRAM
    assert not list(tmp_path.glob(".new-*"))


def test_the_folder_is_that_of_the_variable_or_of_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "~/chosen")
    assert choices_folder() == Path("~/chosen").expanduser()
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert choices_folder().parts[-2:] == ("tacit", "executors")
