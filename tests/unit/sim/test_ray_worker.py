"""What an actor does, without a cluster around it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tacit.core.errors import DataError
from tacit.job import Job, make_plan, model_seed
from tacit.round.messages import Assignment
from tacit.sim.complaint import Complaint
from tacit.sim.engine import Call, Engine
from tacit.sim.groups import Cut
from tacit.sim.machine import versions
from tacit.sim.pool import InProcess
from tacit.sim.ray_worker import About, Errand, Measured, RayWorker, Shipment, Trained
from tacit.sim.shared import Parcel
from tacit.training.executor import Choice
from tacit.training.flat import build
from tacit.training.threads import borrowed_torch
from tests.rounds import worlds

ROUND = Assignment("small", 1, None, False)
GROUPS = [[Call(3), Call(1)], [Call(2)], [Call(0)]]


@pytest.fixture(autouse=True)
def borrowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker changes its process: give this one back."""
    monkeypatch.setattr(sys, "path", [*sys.path, "/nowhere/else"])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    with borrowed_torch():
        yield


class Set:
    """A plan, its population, and what a driver sends of them."""

    def __init__(self, job: Job) -> None:
        self.population = worlds.population(8)
        self.model = build(job.task, model_seed(job))
        self.plan = make_plan(job, self.model.layout, self.population.sizes)
        self.choice = Choice(group=2)
        parcel = Parcel((self.plan, self.population, self.choice, {}))
        block = parcel.block.array(np.uint8, parcel.block.size)
        initial = None if job.task.initial is None else np.fromfile(job.task.initial, dtype=np.uint8)
        self.shipment = Shipment([], [], parcel.pickled, parcel.spans, block, initial, 2**20)

    def here(self) -> InProcess:
        return InProcess(self.plan, Engine(self.plan, self.population, self.model, self.choice))

    def worker(self) -> RayWorker:
        worker = RayWorker(["/nowhere/else"])
        about = worker.set_up(self.shipment)
        assert isinstance(about, About), about.text
        assert about.versions == versions()
        return worker


def test_lots_hold_what_this_process_would_train() -> None:
    sent = Set(worlds.local_buffers())
    worker, vector = sent.worker(), sent.model.vector()
    vector.flags.writeable = False  # as in the object store
    assert "/nowhere/else" not in sys.path
    lots = []
    for number, groups in ((7, [GROUPS[:2], GROUPS[2:]]), (9, [])):
        for batch in groups:
            assert worker.work(number, Errand(vector, ROUND), Cut.of(batch)) is None
        lots.append(worker.hand_over(number))
    trained, nothing = lots
    assert isinstance(trained, Trained)
    trained.done.sort()
    done, partial = sent.here().train(ROUND, vector.copy(), GROUPS, lambda: None)
    assert trained.groups == 3
    assert (trained.done.clients, trained.done.failures.keys()) == (done.clients, done.failures.keys())
    assert np.array_equal(trained.total, partial.total)
    assert trained.done.buffers.keys() == done.buffers.keys()
    assert isinstance(nothing, Complaint)  # it knows of no such lot


def test_a_lot_begins_anew_and_holds_nothing_of_the_one_before() -> None:
    sent = Set(worlds.plain())
    worker, vector = sent.worker(), sent.model.vector()
    assert worker.work(1, Errand(vector, ROUND), Cut.of(GROUPS[:2])) is None
    assert worker.work(2, Errand(vector, ROUND), Cut.of(GROUPS[2:])) is None
    lot = worker.hand_over(2)
    assert isinstance(lot, Trained)
    done, partial = sent.here().train(ROUND, vector, GROUPS[2:], lambda: None)
    assert np.array_equal(lot.total, partial.total)
    assert lot.done.clients == done.clients


def test_lots_hold_what_this_process_would_measure() -> None:
    sent = Set(worlds.plain())
    worker, vector = sent.worker(), sent.model.vector()
    calls = [[Call(position)] for position in range(8)]
    assert worker.work(1, Errand(vector), Cut.of(calls)) is None
    lot = worker.hand_over(1)
    assert isinstance(lot, Measured)
    found, failures = sent.here().measure_clients(vector, [call for (call,) in calls], lambda: None)
    assert lot.found == found
    assert lot.failures.keys() == failures.keys() == {"c3"}


def test_what_fails_is_told_and_not_raised() -> None:
    worker = RayWorker([])
    broken = Set(worlds.plain()).shipment._replace(pickled=b"no pickle")
    complaint = worker.set_up(broken)
    assert isinstance(complaint, Complaint)
    assert "UnpicklingError" in complaint.text
    sent = Set(worlds.plain())
    worker = sent.worker()
    complaint = worker.work(1, Errand(sent.model.vector(), ROUND), Cut.of([[Call(99)]]))
    assert isinstance(complaint, Complaint)
    assert "IndexError" in complaint.text


def test_a_warm_start_is_shipped_with_its_file(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    warm = {"weight": np.full((3, 6), 0.5, np.float32), "bias": np.ones(3, np.float32)}
    save_file(warm, tmp_path / "warm.safetensors")
    job: Any = worlds.plain()
    task = msgspec.structs.replace(job.task, initial=tmp_path / "warm.safetensors")
    sent = Set(msgspec.structs.replace(job, task=task))
    (tmp_path / "warm.safetensors").unlink()
    worker = RayWorker([])
    assert isinstance(worker.set_up(sent.shipment), About)
    without = worker.set_up(sent.shipment._replace(initial=None))
    assert isinstance(without, Complaint)
    assert isinstance(without.error, DataError)
