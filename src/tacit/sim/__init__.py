"""The first driver: simulation in worker processes.

Names are resolved when they are first used (PEP 562): a worker process is a module of this package, and must
not import what only its parent needs, torch above all.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.sim.audit_job import AuditResult, Effort, audit
    from tacit.sim.beginning import Source, default_folder
    from tacit.sim.exporting import export
    from tacit.sim.observer import Observer
    from tacit.sim.planning import download, plan
    from tacit.sim.result import Result
    from tacit.sim.simulate import run
    from tacit.sim.sweep_observer import SweepObserver
    from tacit.sim.sweep_result import SweepResult
    from tacit.sim.sweep_run import sweep

_WHERE = {
    "AuditResult": "audit_job",
    "Effort": "audit_job",
    "Observer": "observer",
    "Result": "result",
    "Source": "beginning",
    "SweepObserver": "sweep_observer",
    "SweepResult": "sweep_result",
    "audit": "audit_job",
    "default_folder": "beginning",
    "download": "planning",
    "export": "exporting",
    "plan": "planning",
    "run": "simulate",
    "sweep": "sweep_run",
}

__all__ = [
    "AuditResult",
    "Effort",
    "Observer",
    "Result",
    "Source",
    "SweepObserver",
    "SweepResult",
    "audit",
    "default_folder",
    "download",
    "export",
    "plan",
    "run",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tacit.sim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tacit.sim.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
