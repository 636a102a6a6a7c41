"""A job's own modules, shipped as text, can be imported where their files are not."""

import importlib
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tacit.job.modules import load_module
from tacit.sim.sources import install, loaded_sources

FILES = {
    "shipped_beside.py": "value = 'ä'\ndef fail():\n    raise KeyError('a line of its own')\n",
    "shipped_package/__init__.py": "from .inner import answer\n",
    "shipped_package/inner.py": "answer = 42\n",
    "shipped_folder/deep.py": "import numpy\nhere = __file__\n",
    "job.py": (
        "import shipped_beside\nfrom shipped_package import answer\nimport shipped_folder.deep\n"
        "count = globals().get('count', 0) + 1\n"
    ),
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a job file that was loaded, shipped and installed, and whose files are gone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = {*sys.modules}
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    job = load_module(tmp_path / "job.py").__name__
    sources = loaded_sources()
    forget(before)
    for name in FILES:
        (tmp_path / name).unlink()
    shutil.rmtree(tmp_path / "shipped_package")
    shutil.rmtree(tmp_path / "shipped_folder")
    assert {s.name for s in sources if s.name.startswith("shipped")} == {
        *(
            "shipped_beside",
            "shipped_package",
            "shipped_package.inner",
            "shipped_folder",
            "shipped_folder.deep",
        )
    }
    install(sources)
    yield job
    forget(before)


def forget(before: set[str]) -> None:
    for name in {*sys.modules} - before:
        if name.startswith(("shipped", "tacit_job")):
            del sys.modules[name]


def test_a_job_file_and_all_it_imports_are_there(elsewhere: str, tmp_path: Path) -> None:
    job = sys.modules[elsewhere]  # imported by itself, as its file would be
    assert job.shipped_beside.value == "ä"
    assert job.answer == 42
    assert job.shipped_folder.deep.here == str(tmp_path / "shipped_folder" / "deep.py")
    assert vars(job)["__tacit_file__"] == str(tmp_path / "job.py")
    assert load_module(tmp_path / "job.py") is job
    assert job.count == 1


def test_a_traceback_shows_lines_that_are_in_no_file(elsewhere: str) -> None:
    try:
        sys.modules[elsewhere].shipped_beside.fail()
    except KeyError:
        assert "raise KeyError('a line of its own')" in traceback.format_exc()


def test_what_is_installed_is_not_shipped() -> None:
    names = {source.name.partition(".")[0] for source in loaded_sources()}
    assert "tests" in names or any(name.startswith("test_") for name in names)
    assert not names & {"tacit", "numpy", "pytest", "json", "__main__"}


def test_what_a_machine_has_itself_goes_first(elsewhere: str, tmp_path: Path) -> None:
    (tmp_path / "shipped_beside.py").write_text("value = 'its own'")
    del sys.modules["shipped_beside"]
    importlib.invalidate_caches()
    assert importlib.import_module("shipped_beside").value == "its own"
