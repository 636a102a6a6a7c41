"""The first driver: simulation in worker processes.

Names are resolved when they are first used (PEP 562): a worker process is a module of this package, and must
not import what only its parent needs, torch above all.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.sim.beginning import Source, default_folder
    from tacit.sim.exporting import export
    from tacit.sim.observer import Observer
    from tacit.sim.planning import download, plan
    from tacit.sim.result import Result
    from tacit.sim.simulate import run

_WHERE = {
    "Observer": "observer",
    "Result": "result",
    "Source": "beginning",
    "default_folder": "beginning",
    "download": "planning",
    "export": "exporting",
    "plan": "planning",
    "run": "simulate",
}

__all__ = ["Observer", "Result", "Source", "default_folder", "download", "export", "plan", "run"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tacit.sim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tacit.sim.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
