"""Clients' examples on a device: the same ones stay there, others take their place, and there is a limit."""

import weakref

import numpy as np
import torch

from tacit.core.examples import Examples
from tacit.training import ClientWork
from tacit.training.functional_data import DeviceData

BYTES = 5 * (3 * 4 + 8)  # of a client's examples


def client(name: str, value: float = 0.0) -> ClientWork:
    return ClientWork(name, Examples.of(np.full((5, 3), float(value)), np.arange(5)), round=1)


def inputs(data: DeviceData, *works: ClientWork) -> torch.Tensor:
    (found,), target = data.joined(works)
    assert found.shape == (5 * len(works), 3)
    assert target.tolist() == [*range(5)] * len(works)
    return found


def is_kept(data: DeviceData, work: ClientWork) -> bool:
    first, second = inputs(data, work), inputs(data, work)
    return first is second


def test_the_same_examples_stay_on_the_device() -> None:
    ann = client("ann", 1)
    assert is_kept(DeviceData("cpu", BYTES), ann)
    assert not is_kept(DeviceData("cpu"), ann)


def test_other_examples_of_a_client_take_the_place_of_those_it_had() -> None:
    data = DeviceData("cpu", BYTES)
    for value in (1.0, 2.0, 3.0):
        assert inputs(data, client("ann", value)).unique().tolist() == [value]


def test_clients_lie_one_after_the_other() -> None:
    data = DeviceData("cpu", 10 * BYTES)
    ann, bob = client("ann", 1), client("bob", 2)
    for works, values in (([ann, bob], [1, 2]), ([bob, ann], [2, 1])):
        assert inputs(data, *works)[::5, 0].tolist() == values


def test_the_least_recently_used_leave_first() -> None:
    data = DeviceData("cpu", 2 * BYTES)
    ann, bob, eve = (client(name) for name in ("ann", "bob", "eve"))
    for work in (ann, bob, ann, eve):
        inputs(data, work)
    assert set(data._kept) == {"ann", "eve"}  # noqa: SLF001
    assert is_kept(data, ann)
    assert is_kept(data, eve)
    assert is_kept(data, bob)
    assert set(data._kept) == {"eve", "bob"}  # noqa: SLF001


def test_examples_larger_than_all_that_may_stay_are_brought_every_time() -> None:
    data = DeviceData("cpu", BYTES - 1)
    assert not is_kept(data, client("ann"))
    assert not data._kept  # noqa: SLF001


def test_a_clients_examples_are_not_held_in_this_machines_memory() -> None:
    data, ann = DeviceData("cpu", BYTES), client("ann", 1)
    inputs(data, ann)
    held = weakref.ref(ann.examples)
    del ann
    assert held() is None
    assert inputs(data, client("ann", 2)).unique().tolist() == [2]
