"""What ``tacit doctor`` looks at."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from tacit.core.errors import DataError
from tacit.core.part import parts
from tacit.data import Source
from tacit.data.files import FOLDER_VARIABLE, RemoteFile, data_folder, find, locate
from tacit.report.words import clean, size
from tacit.store.choices import FOLDER_VARIABLE as EXECUTORS_VARIABLE
from tacit.store.choices import choices_folder

_OLDEST_PYTHON = (3, 11)
_LEAST_MEMORY, _LEAST_DISK = 1e9, 5e8  # PyTorch, a model and its data; run folders
_LEAST_BOUND = re.compile(r"^([A-Za-z0-9._-]+)>=([0-9.]+)$")


@dataclass(frozen=True)
class Check:
    """What one look has found.

    Attributes:
        name: What was looked at.
        state: ``"problem"`` if something does not work, ``"note"`` if something is worth knowing.
        says: What was found.
        fix: What to do about it.
    """

    name: str
    state: Literal["good", "note", "problem"]
    says: str
    fix: str = ""


def examine(data: Path | None = None) -> Iterator[Check]:
    """Look at everything, one after the other.

    Args:
        data: Where data files lie, if not where they do by default.
    """
    yield _python()
    yield from _libraries()
    yield _torch()
    yield _processors()
    yield _memory()
    yield _disk()
    yield _writing()
    yield _choices()
    folder = data_folder(data)
    yield _data_folder(folder, named=data is not None or FOLDER_VARIABLE in os.environ)
    yield from _data_sets(folder)


def _python() -> Check:
    says = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= _OLDEST_PYTHON:
        return Check("Python", "good", says)
    return Check("Python", "problem", says, "Install Python 3.11 or newer.")


def _libraries() -> Iterator[Check]:
    """Compare what is installed with the bounds that the package itself states."""
    wrong = False
    required = importlib.metadata.requires("tacit") or []
    for name, least in (found.groups() for text in required if (found := _LEAST_BOUND.match(text))):
        have = _installed(name)
        if have is None or _numbers(have) < _numbers(least):
            wrong = True
            fix = f"pip install --upgrade '{name}>={least}'"
            yield Check(name, "problem", f"{have or 'not installed'}, but {least} or newer is needed", fix)
    if not wrong:
        yield Check("libraries", "good", f"tacit {_installed('tacit')}, and all it needs")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _torch() -> Check:
    """Try the library that breaks most often: a wheel for another processor imports, then fails."""
    try:
        import tacit.training  # noqa: F401 - the one place that imports torch
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        fix = "Install it again: pip install --force-reinstall torch"
        return Check("PyTorch", "problem", f"cannot be imported: {error}", fix)
    return Check("PyTorch", "good", f"{_installed('torch')} works")


def _processors() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    says = f"{cores} that this process may use"
    return Check(
        "processors", "good", f"{says}; a run uses one, or N with --workers N" if cores > 1 else says
    )


def _memory() -> Check:
    free = _free_memory()
    if free is None:
        return Check("memory", "note", "cannot be told on this system")
    if free >= _LEAST_MEMORY:
        return Check("memory", "good", f"{size(free)} free")
    return Check(
        "memory", "problem", f"{size(free)} free, 1 GB is needed", "End other programs; use one worker."
    )


def _free_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _disk() -> Check:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    if free >= _LEAST_DISK:
        return Check("disk", "good", f"{size(free)} free in {here}")
    return Check(
        "disk", "problem", f"{size(free)} free in {here}", "Free some space, or give --out elsewhere."
    )


def _writing() -> Check:
    here = Path.cwd()
    try:
        with tempfile.NamedTemporaryFile(dir=here, prefix=".tacit-"):
            pass
    except OSError as error:
        fix = "Work in a folder of your own, or give --out elsewhere."
        return Check("run folders", "problem", f"cannot write to {here}: {error.strerror}", fix)
    return Check("run folders", "good", f"can be written below {here / 'runs'}")


def _choices() -> Check:
    """Look where the choices of executors are kept; without them every long run measures anew."""
    folder = choices_folder()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        fix = f"Set {EXECUTORS_VARIABLE} to a folder that you may write to."
        return Check("executors", "note", f"what is chosen cannot be kept in {folder}", fix)
    return Check("executors", "good", f"what is chosen is kept in {folder}")


def _data_folder(folder: Path, *, named: bool) -> Check:
    if folder.is_dir():
        return Check("data folder", "good", str(folder))
    if named:
        fix = f"Correct {FOLDER_VARIABLE} or --data, or make the folder."
        return Check("data folder", "problem", f"{folder} does not exist", fix)
    says = f"{folder} does not exist yet; it is made when something is fetched"
    return Check(
        "data folder", "note", says, f"Set {FOLDER_VARIABLE} to a folder that has the files already."
    )


def _data_sets(folder: Path) -> Iterator[Check]:
    """Look for the files of every known data set."""
    for tag, kind in parts(Source).items():  # type: ignore[type-abstract]  # a protocol is meant
        if any(field.required for field in msgspec.structs.fields(kind)):  # type: ignore[arg-type]
            continue  # somebody's own file
        files = kind().files
        yield (
            _data_set(tag, files, folder) if files else Check(f"data: {tag}", "good", "comes with a library")
        )


def _data_set(tag: str, files: tuple[RemoteFile, ...], folder: Path) -> Check:
    name = f"data: {tag}"
    absent = [file for file in files if find(file, folder) is None]
    if not absent:
        return _intact(name, files, folder)
    says = f"{len(absent)} of {len(files)} files are not there: {', '.join(file.name for file in absent[:4])}"
    if all(file.urls for file in absent):
        return Check(name, "note", says, "Nothing to do: they are fetched when they are first needed.")
    place = folder / absent[0].folder
    fix = f"If you need it, put the files into {place}. {clean(absent[0].note, 160)}".rstrip()
    return Check(name, "note", says, fix)


def _intact(name: str, files: tuple[RemoteFile, ...], folder: Path) -> Check:
    try:
        for file in files:
            locate(file, folder)
    except (DataError, OSError) as error:
        what, fix = (
            (error.what, error.fix) if isinstance(error, DataError) else (str(error), "Check the file.")
        )
        return Check(name, "problem", what, fix)
    return Check(name, "good", "there and unchanged")
