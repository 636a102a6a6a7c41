"""What is noted of a peer's rounds; runs in the peer's own environment, where there is no tacit."""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.memory import PeakMemory
from benchmarks.reference.difference import relative_error
from benchmarks.reference.models import make_model
from benchmarks.reference.plain_loop import PlainLoop
from benchmarks.reference.workloads import WORKLOADS

Vector = npt.NDArray[np.float32]


class Record:
    """Seconds of every round, the model after the first one, and the peak of memory.

    As for the plain loop, memory (the summed PSS of this process and all it started) is watched during the
    first round, which is not counted, and looked at after every other.
    """

    def __init__(self) -> None:
        self.round_seconds: list[float] = []
        self.startup_s = math.nan
        self.first: Vector | None = None
        self._created = time.perf_counter()
        self._watching = ExitStack()
        self._memory = self._watching.enter_context(PeakMemory())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._watching.close()

    def begin(self) -> None:
        """Note that the first round begins."""
        self._round_began = time.perf_counter()
        self.startup_s = self._round_began - self._created

    def round_over(self, vector: Callable[[], Vector]) -> None:
        """Note that a round has ended and the next one begins; ``vector`` returns the model."""
        self.round_seconds.append(time.perf_counter() - self._round_began)
        if self.first is None:
            self._watching.close()
            self.first = vector()
        self._memory.look()
        self._round_began = time.perf_counter()

    def facts(self, package: str, name: str, processes: int) -> dict[str, Any]:
        """Return what is printed, the first round's relative error against the plain loop included."""
        if self.first is None:
            raise RuntimeError("no round was played")
        counted = self.round_seconds[1:] or self.round_seconds
        peak = self._memory.peak_mb
        return {
            "version": version(package),
            "workload": name,
            "processes": processes,
            "seconds_per_round": round(statistics.median(counted), 5),
            "round_seconds": [round(s, 5) for s in self.round_seconds],
            "startup_s": round(self.startup_s, 2),
            "peak_mb": None if math.isnan(peak) else round(peak, 1),
            "relative_error": first_error(name, self.first),
            "torch": torch.__version__,
        }


def first_error(name: str, vector: Vector) -> float:
    """Compare the update of a first round, played without noise, with the plain loop's."""
    before = flat(make_model(name))
    with PlainLoop(name) as loop:
        loop.play(0, noise=False)
        return relative_error(vector - before, loop.vector() - before)


def flat(model: nn.Module) -> Vector:
    """Copy a model's parameters into one vector, in the order of ``named_parameters``."""
    return np.concatenate([p.detach().numpy().reshape(-1) for p in model.parameters()])


def options_of(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line that all peers understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="with the first, which is not counted")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, as is done anyway")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or WORKLOADS[options.workload].rounds
    return options


def show(facts: dict[str, Any]) -> None:
    """Print the facts as the last line."""
    print(json.dumps(facts), flush=True)
