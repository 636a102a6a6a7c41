"""tacit: federated learning, many parties train one PyTorch model and everybody keeps their data.

Names are resolved when
they are first used (PEP 562), so that ``import tacit`` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit import data
    from tacit.algorithms import FedAvg, ServerAdagrad, ServerAdam, ServerSGD, ServerYogi
    from tacit.codec import Weigh
    from tacit.core.cohort import All, FixedSize, Poisson, TruncatedPoisson
    from tacit.core.errors import ConfigError, DataError, PlanError, RunError, StoreError, TacitError
    from tacit.core.examples import Examples
    from tacit.core.local import LocalSGD
    from tacit.data import IID, Dirichlet, Natural, Population, QuantitySkew, Shards, Split
    from tacit.job import Job, load_job
    from tacit.privacy import AdaptiveClipping, FixedClipping, Privacy, SegmentClipping
    from tacit.privacy.mechanisms import BandedInverse, BandedSquareRoot, Gaussian, Laplace
    from tacit.round import (
        Evaluation,
        LogNormalDuration,
        Patience,
        RandomDropout,
        TargetMetric,
        UnreliableClients,
        World,
    )
    from tacit.secagg.settings import SecureAggregation
    from tacit.sim import Result, SweepResult, download, export, plan, run, sweep
    from tacit.training import Task

_HOMES = {
    "tacit.algorithms": ("FedAvg", "ServerAdagrad", "ServerAdam", "ServerSGD", "ServerYogi"),
    "tacit.codec": ("Weigh",),
    "tacit.core.cohort": ("All", "FixedSize", "Poisson", "TruncatedPoisson"),
    "tacit.core.errors": ("ConfigError", "DataError", "PlanError", "RunError", "StoreError", "TacitError"),
    "tacit.core.examples": ("Examples",),
    "tacit.core.local": ("LocalSGD",),
    "tacit.data": ("Dirichlet", "IID", "Natural", "Population", "QuantitySkew", "Shards", "Split"),
    "tacit.job": ("Job", "load_job"),
    "tacit.privacy": ("AdaptiveClipping", "FixedClipping", "Privacy", "SegmentClipping"),
    "tacit.privacy.mechanisms": ("BandedInverse", "BandedSquareRoot", "Gaussian", "Laplace"),
    "tacit.round": (
        "Evaluation",
        "LogNormalDuration",
        "Patience",
        "RandomDropout",
        "TargetMetric",
        "UnreliableClients",
        "World",
    ),
    "tacit.secagg.settings": ("SecureAggregation",),
    "tacit.sim": ("Result", "SweepResult", "download", "export", "plan", "run", "sweep"),
    "tacit.training": ("Task",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "IID",
    "AdaptiveClipping",
    "All",
    "BandedInverse",
    "BandedSquareRoot",
    "ConfigError",
    "DataError",
    "Dirichlet",
    "Evaluation",
    "Examples",
    "FedAvg",
    "FixedClipping",
    "FixedSize",
    "Gaussian",
    "Job",
    "Laplace",
    "LocalSGD",
    "LogNormalDuration",
    "Natural",
    "Patience",
    "PlanError",
    "Poisson",
    "Population",
    "Privacy",
    "QuantitySkew",
    "RandomDropout",
    "Result",
    "RunError",
    "SecureAggregation",
    "SegmentClipping",
    "ServerAdagrad",
    "ServerAdam",
    "ServerSGD",
    "ServerYogi",
    "Shards",
    "Split",
    "StoreError",
    "SweepResult",
    "TacitError",
    "TargetMetric",
    "Task",
    "TruncatedPoisson",
    "UnreliableClients",
    "Weigh",
    "World",
    "data",
    "download",
    "export",
    "load_job",
    "plan",
    "run",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name == "data":
        return importlib.import_module("tacit.data")
    if name not in _WHERE:
        raise AttributeError(f"module 'tacit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
