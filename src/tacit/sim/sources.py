"""The Python files of a job, for machines that do not have them."""

import importlib
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

_OWN = "__tacit_file__"  # marks a job file, see tacit.job.modules


class SourceFile(NamedTuple):
    """One module as text.

    Attributes:
        name: The module's name.
        file: Where it lies on the machine it comes from.
        text: Its source.
        is_package: Whether other modules lie in it.
        is_job: Whether it is a job file.
    """

    name: str
    file: str
    text: str
    is_package: bool = False
    is_job: bool = False


def loaded_sources() -> list[SourceFile]:
    """Return every module of this process that is neither installed nor part of Python or tacit.

    That is the job file, what it has imported from beside it, and what ``PYTHONPATH`` leads to.
    """
    installed = tuple(_installed())
    found = {}
    for name, module in list(sys.modules.items()):
        file = _file(module)
        if file is None or name.partition(".")[0] in ("__main__", "__mp_main__", "tacit"):
            continue
        if not os.path.realpath(file).startswith(installed) and Path(file).is_file():
            text = importlib.util.decode_source(Path(file).read_bytes())
            found[name] = SourceFile(name, file, text, "__path__" in vars(module), _OWN in vars(module))
    return [*found.values(), *_folders(found)]


def install(sources: Sequence[SourceFile]) -> None:
    """Make shipped modules importable; what this machine finds by itself under the same name goes first."""
    finder = next((f for f in sys.meta_path if isinstance(f, _Finder)), None)
    if finder is None:
        finder = _Finder()
        sys.meta_path.append(finder)
    finder.sources.update({source.name: source for source in sources})
    importlib.invalidate_caches()
    for source in sources:
        if source.is_job:
            vars(importlib.import_module(source.name))[_OWN] = source.file


class _Finder(MetaPathFinder, InspectLoader):
    """Imports modules from the text that was shipped."""

    def __init__(self) -> None:
        self.sources: dict[str, SourceFile] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self.sources.get(fullname)
        if source is None:
            return None
        spec = ModuleSpec(fullname, self, origin=source.file, is_package=source.is_package)
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(Path(source.file).parent))
        return spec

    def get_source(self, fullname: str) -> str:
        return self.sources[fullname].text

    def get_code(self, fullname: str) -> CodeType:
        source = self.sources[fullname]
        return compile(source.text, source.file, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self.sources[fullname].is_package


def _file(module: ModuleType) -> str | None:
    # Not getattr: some modules invent any attribute they are asked for.
    file = vars(module).get("__file__") if hasattr(module, "__dict__") else None
    return file if isinstance(file, str) and file.endswith(".py") else None


def _folders(found: Iterable[str]) -> Iterator[SourceFile]:
    """Yield the packages without a file of their own that shipped modules lie in."""
    known = set(found)
    parents = {name[:end] for name in known for end, sign in enumerate(name) if sign == "."}
    for name in sorted(parents - known):
        yield SourceFile(name, f"<{name}>", "", is_package=True)


def _installed() -> Iterator[str]:
    """Yield the folders that hold what is installed on every machine."""
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    for folder in (*folders, *site.getsitepackages(), site.getusersitepackages()):
        yield os.path.realpath(folder) + os.sep
