"""What is handed to worker processes: shared where it is large, and gone when nobody looks."""

import gc
import itertools
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.data import Population
from tacit.sim.shared import Parcel, SharedBlock

CLIENTS = 6
SLACK = 4096


def descriptors() -> int:
    if sys.platform != "linux":
        pytest.skip("looks for descriptors in /proc")
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def opened(value: Any) -> Any:
    return Parcel(value).open()


def test_large_arrays_lie_in_shared_memory_once() -> None:
    array = np.arange(1_000_000, dtype=np.float32)
    parcel = Parcel({"a": array, "again": array})
    assert len(parcel.pickled) < SLACK
    assert parcel.block.size < array.nbytes + SLACK
    a, again = parcel.open().values()
    assert a is again
    assert np.array_equal(a, array)
    parcel.block.close()


def test_a_parcel_leaves_no_descriptor_behind() -> None:
    before = descriptors()
    for _ in range(5):
        parcel = Parcel(np.arange(1000))
        found = parcel.open()
        parcel.block.close()
        assert found.sum() == 499_500  # the memory lives while somebody looks at it
        del found, parcel
    assert descriptors() == before


def test_a_block_without_bytes_is_a_block() -> None:
    block = SharedBlock(0)
    assert block.array(np.float32, 0).shape == (0,)
    block.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.arange(600_000, dtype=np.float64).reshape(-1, 6))
    return tmp_path / "x.npy"


@pytest.mark.parametrize(
    "part",
    [
        lambda x: x,
        lambda x: x[10:2000],
        lambda x: x[10:2000][5:50],
        lambda x: np.asarray(x)[7:],
        lambda x: x.reshape(-1)[13:],
        lambda x: x[3],
        lambda x: x[5:500].T,
        lambda x: x.view(np.int64)[2:],
    ],
)
def test_a_part_of_a_memory_map_travels_as_a_place_in_its_file(file: Path, part: Any) -> None:
    sent = part(np.load(file, mmap_mode="r"))
    parcel = Parcel(sent)
    assert parcel.block.size < SLACK
    assert len(parcel.pickled) < SLACK
    found = parcel.open()
    assert found.dtype == sent.dtype
    assert np.array_equal(found, sent)
    parcel.block.close()


@pytest.mark.parametrize(
    "part", [lambda x: x[::2], lambda x: x[:, 1:3], lambda x: x[::-1], lambda x: x[:0], lambda x: x + 1]
)
def test_what_is_no_plain_part_of_a_memory_map_is_copied_as_it_is(file: Path, part: Any) -> None:
    sent = part(np.load(file, mmap_mode="r"))
    assert np.array_equal(opened(sent), sent)


def test_what_was_changed_in_a_private_map_arrives_changed(file: Path) -> None:
    private = np.load(file, mmap_mode="c")
    private[:3] = -1
    assert np.array_equal(opened(private), private)
    assert np.array_equal(opened(private[1:7]), private[1:7])


def test_a_population_of_memory_mapped_clients_is_not_copied(file: Path) -> None:
    whole = np.load(file, mmap_mode="r")
    bounds = np.linspace(0, len(whole), CLIENTS + 1).astype(int)
    clients = {
        f"c{i}": (whole[a:b], np.zeros(b - a, np.int8)) for i, (a, b) in enumerate(itertools.pairwise(bounds))
    }
    parcel = Parcel(Population.of(clients))
    assert parcel.block.size < len(whole) + CLIENTS * SLACK  # the targets
    found = parcel.open()
    for i in range(CLIENTS):
        assert np.array_equal(found.train(i).inputs[0], whole[bounds[i] : bounds[i + 1]].astype(np.float32))
    parcel.block.close()


def test_functions_that_nobody_can_import_travel_by_value() -> None:
    offset = 41
    assert opened({"f": lambda x: x + offset})["f"](1) == 42
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pickle.dumps(lambda x: x)


def test_a_hundred_thousand_numbered_clients_travel_in_a_few_bytes() -> None:
    from tacit.data import IID, digits

    population = digits().split(IID(), clients=1400).open()
    parcel = Parcel(population)
    assert len(parcel.pickled) < 20_000
    assert os.fstat(parcel.block.handle).st_size < 2_000_000
    parcel.block.close()
