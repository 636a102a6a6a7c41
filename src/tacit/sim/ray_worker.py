"""What an actor on a Ray cluster does: it trains lots of groups and hands over one sum for each."""

import pickle
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from tacit.core.errors import TacitError
from tacit.core.layout import Vector
from tacit.core.rule import IntegerTotal
from tacit.data import Population
from tacit.job import Plan
from tacit.round.messages import Assignment
from tacit.sim.complaint import Complaint
from tacit.sim.engine import Call, Done, Engine
from tacit.sim.groups import Cut
from tacit.sim.machine import machine, versions
from tacit.sim.memory import keep_freed_memory
from tacit.sim.sources import SourceFile, install
from tacit.training.executor import Choice, Failure


class Shipment(NamedTuple):
    """What every worker needs: put into the object store once, and from there once on each node.

    Attributes:
        path: Where the driver finds modules.
        sources: The job's own modules.
        pickled: Plan, population, executor and programs.
        spans: Where their large arrays lie in ``block``: offset and size in bytes.
        block: These arrays, one after the other.
        initial: The file that the model starts from, if there is one.
        kept_bytes: How much of clients' data each worker may keep.
    """

    path: list[str]
    sources: list[SourceFile]
    pickled: bytes
    spans: list[tuple[int, int]]
    block: npt.NDArray[np.uint8]
    initial: npt.NDArray[np.uint8] | None
    kept_bytes: int

    def open(self) -> tuple[Plan, Population, Choice, dict[str, bytes]]:
        """Return what was pickled; its large arrays stay where the shipment lies."""
        buffers = [self.block.data[start : start + size] for start, size in self.spans]
        found: tuple[Plan, Population, Choice, dict[str, bytes]]
        found = pickle.loads(self.pickled, buffers=buffers)  # noqa: S301 - our own driver's
        return found


class Errand(NamedTuple):
    """What is to be done with groups of clients.

    Attributes:
        vector: The model, shape (size,).
        assignment: The round they train for; None: the model is measured on them.
    """

    vector: Vector
    assignment: Assignment | None = None


class Trained(NamedTuple):
    """A lot that was trained.

    Attributes:
        groups: How many groups it holds.
        done: What became of their clients.
        total: The sum of their updates.
    """

    groups: int
    done: Done
    total: IntegerTotal


class Measured(NamedTuple):
    """A lot that was measured.

    Attributes:
        groups: How many groups it holds.
        found: The metrics of each client.
        failures: The clients that raised, with the reason.
    """

    groups: int
    found: dict[str, dict[str, float]]
    failures: dict[str, Failure]


class About(NamedTuple):
    """Where a worker runs.

    Attributes:
        host: The machine's name.
        versions: Versions of Python and the libraries that matter.
        machine: Processor and system.
    """

    host: str
    versions: dict[str, str]
    machine: str


class RayWorker:
    """One worker of a cluster: an engine, and the lot it works on.

    A lot is all that it has done since it last handed over; its sum leaves as a whole or is lost as a
    whole, so that no update can count twice or half.

    Args:
        unwanted: Folders that Ray put on this process's path and that are not on the driver's.
    """

    def __init__(self, unwanted: Sequence[str]) -> None:
        from tacit.training.threads import use_one_thread

        sys.path[:] = [folder for folder in sys.path if folder not in unwanted]
        use_one_thread()
        keep_freed_memory()

    def set_up(self, shipment: Shipment) -> About | Complaint:
        """Build the engine."""
        try:
            sys.path += [folder for folder in shipment.path if folder not in sys.path]
            install(shipment.sources)
            self._plan, population, choice, programs = shipment.open()
            with _warm_start(self._plan, shipment.initial) as plan:
                kept = shipment.kept_bytes
                self._engine = Engine(plan, population, None, choice, programs, kept_bytes=kept)
                if shipment.initial is not None:
                    _ = self._engine.model  # built now: the file is gone afterwards
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver must hear of it
            return _complaint(error)
        self._number = 0
        return About(socket.gethostname(), versions(), machine())

    def work(self, number: int, errand: Errand, groups: Cut) -> Complaint | None:
        """Do some groups.

        Args:
            number: Which lot they belong to; a new one begins with its first groups.
            errand: What to do; the same for the whole lot.
            groups: The groups.
        """
        try:
            if number != self._number:
                self._number, self._lot = number, self._begin(errand)
            for group in range(len(groups.starts)):
                self._lot.add(groups.calls(group))
        except Exception as error:  # noqa: BLE001 - as above
            return _complaint(error)
        return None

    def hand_over(self, number: int) -> Trained | Measured | Complaint:
        """Return what became of a lot, and forget it."""
        if number != self._number:
            return Complaint(None, f"asked for lot {number} while at lot {self._number}")
        result, self._number = self._lot.result(), 0
        del self._lot
        return result

    def _begin(self, errand: Errand) -> "_Lot":
        vector = errand.vector.copy()  # torch warns of memory that it may not write to
        if errand.assignment is None:
            return _Measuring(self._engine, vector)
        return _Training(self._engine, vector, errand.assignment, self._plan.grid.size)


class _Lot(Protocol):
    def add(self, group: Sequence[Call]) -> None: ...
    def result(self) -> Trained | Measured: ...


class _Training:
    def __init__(self, engine: Engine, vector: Vector, assignment: Assignment, size: int) -> None:
        self._engine, self._vector, self._assignment = engine, vector, assignment
        self._total: IntegerTotal = np.zeros(size, dtype=np.int64)
        self._done, self._groups = Done(), 0

    def add(self, group: Sequence[Call]) -> None:
        self._done.add(self._engine.train(self._assignment, self._vector, group, self._total))
        self._groups += 1

    def result(self) -> Trained:
        return Trained(self._groups, self._done, self._total)


class _Measuring:
    def __init__(self, engine: Engine, vector: Vector) -> None:
        self._engine, self._vector = engine, vector
        self._found: dict[str, dict[str, float]] = {}
        self._failures: dict[str, Failure] = {}
        self._groups = 0

    def add(self, group: Sequence[Call]) -> None:
        found, failures = self._engine.measure_clients(self._vector, group)
        self._found |= found
        self._failures |= failures
        self._groups += 1

    def result(self) -> Measured:
        return Measured(self._groups, self._found, self._failures)


@contextmanager
def _warm_start(plan: Plan, initial: npt.NDArray[np.uint8] | None) -> Iterator[Plan]:
    """Let the model start from a file that was shipped; only while this lasts."""
    if initial is None:
        yield plan
        return
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(initial.data)
        file.flush()
        task = msgspec.structs.replace(plan.job.task, initial=Path(file.name))
        yield replace(plan, job=msgspec.structs.replace(plan.job, task=task))


def _complaint(error: Exception) -> Complaint:
    return Complaint(error if isinstance(error, TacitError) else None, traceback.format_exc())
