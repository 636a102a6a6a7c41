"""Callables by name: their address, and the way back."""

import os.path
from pathlib import Path

import pytest

from tacit.core.errors import ConfigError
from tacit.core.part import address, resolve
from tacit.job.modules import load_module, member


def some_function() -> str:
    return "here"


class Holder:
    @staticmethod
    def inner() -> str:
        return "inside"


def test_a_function_is_addressed_by_module_and_name() -> None:
    assert address(some_function) == f"{__name__}:some_function"
    assert address(Holder.inner) == f"{__name__}:Holder.inner"


@pytest.mark.parametrize("function", [os.path.join, Path.home, Path])
def test_an_address_of_an_installed_module_leads_back(function: object) -> None:
    assert resolve(address(function)) == function  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x", "x:", ":x", "", ":", ".near:f", "math:pi", "sys:path"])
def test_a_name_of_no_callable_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="names no callable") as caught:
        resolve(name)
    assert caught.value.code == "T107"


@pytest.mark.parametrize("name", ["no_such_module_x:f", "math:no_such_function", "os.path:join.nothing"])
def test_what_cannot_be_imported_is_said(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot import") as caught:
        resolve(name)
    assert caught.value.code == "T107"


def test_a_function_of_a_job_file_is_addressed_by_the_file_and_found_again(tmp_path: Path) -> None:
    file = tmp_path / "my job.py"
    file.write_text("def model():\n    return 'mine'\n")
    model = load_module(file).model
    assert address(model) == f"{file}:model"
    assert member(file, "model") is model


def test_a_file_that_lacks_the_name_says_so(tmp_path: Path) -> None:
    file = tmp_path / "job.py"
    file.write_text("width = 3\n")
    for name in ("model", "width"):
        with pytest.raises(ConfigError, match=f"no callable `{name}`") as caught:
            member(file, name)
        assert (caught.value.code, caught.value.where) == ("T111", str(file))
