"""Job files as modules: importable by path, under a name that worker processes find again."""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tacit.core.errors import ConfigError, TacitError


def load_module(path: Path) -> ModuleType:
    """Import a Python file under a name made from its path; once per process.

    Raises:
        ConfigError: There is no such file, it has a syntax error, or it raises while it is imported.
    """
    path = path.resolve()
    name = module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise ConfigError(
            "T110", "there is no such job file", where=str(path), fix="`tacit new NAME` writes one."
        )
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__tacit_file__"] = str(path)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # a job file may import what lies beside it
    sys.modules[name] = module  # before it runs, so that what it defines can be pickled
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, TacitError) or not isinstance(error, Exception):
            raise
        raise _worded(error, path) from error
    return module


def loaded_files() -> list[Path]:
    """Return the job files that this process has imported."""
    # Not getattr: some modules invent any attribute they are asked for.
    found = [
        vars(module).get("__tacit_file__")
        for module in list(sys.modules.values())
        if hasattr(module, "__dict__")
    ]
    return [Path(path) for path in found if isinstance(path, str)]


def module_name(path: Path) -> str:
    """Return the name under which a file is imported."""
    return f"tacit_job_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}".replace("-", "_")


def member(path: Path, name: str) -> Callable[..., Any]:
    """Return a callable that a Python file defines.

    Raises:
        ConfigError: The file does not define it.
    """
    found = getattr(load_module(path), name, None)
    if not callable(found):
        raise ConfigError(
            "T111",
            f"the file defines no callable `{name}`",
            where=str(path),
            fix="Define it, or correct the name.",
        )
    return found  # type: ignore[no-any-return]


def _worded(error: Exception, path: Path) -> ConfigError:
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}"
        return ConfigError("T112", f"syntax error: {error.msg}", where=place, fix="Correct the line.")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    place = f"{path}, line {frames[-1].lineno}" if frames else str(path)
    what = f"the job file raised {type(error).__name__}: {error}"
    return ConfigError("T113", what, where=place, fix="Correct the job file.")
