"""Clients' data in a process: kept where it stays the same, within bounds, and never to be changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.core.examples import Examples
from tacit.data import IID, Population, digits
from tacit.sim.client_data import ClientData, guarded
from tacit.sim.shared import Parcel

SIZE = 1000  # float32: 4 kB a client


class Asked:
    """A client whose data is made anew whenever somebody asks."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Examples:
        self.times += 1
        return Examples.of(np.full((4, 2), self.times, np.float32), np.zeros(4, np.int64))


def arrays(clients: int = 5) -> Population:
    return Population.of(
        {f"c{i}": (np.full((SIZE, 1), i, np.float32), np.zeros(SIZE, np.int8)) for i in range(clients)}
    )


def is_kept(data: ClientData, position: int) -> bool:
    return data.client(position) is data.client(position)


def test_who_is_steady() -> None:
    assert arrays().is_steady
    assert digits().split(IID(), clients=10).open().is_steady
    assert not Population.of({"a": Asked()}).is_steady
    assert not Population.of({"a": (np.zeros((2, 1)), np.zeros(2)), "b": Asked()}).is_steady
    assert not Population.of({"a": [(np.zeros(1), 0)]}).is_steady  # a Dataset may augment its items


def test_holdings_that_do_not_know_the_word_are_not_kept() -> None:
    class Foreign:
        ids = ("a",)
        sizes = np.array([1])
        has_holdout = False

        def train(self, index: int) -> Examples:
            return Examples.of(np.zeros((1, 1)), np.zeros(1))

    data = ClientData(Population(Foreign()), 10**9)  # type: ignore[arg-type]
    assert not is_kept(data, 0)


def test_a_client_is_kept_with_its_id_and_what_it_holds() -> None:
    population = digits().split(IID(), clients=100).open()
    data = ClientData(population, 10**9)
    assert data.client(7).id == population.ids[7]
    assert np.array_equal(data.client(7).examples.inputs[0], population.train(7).inputs[0])
    assert is_kept(data, 7)


def test_the_least_recently_used_go_first_and_memory_is_bounded() -> None:
    data = ClientData(arrays(), most=3 * 7000)  # a client holds 5 kB and costs 1 kB
    first = [data.client(position) for position in (0, 1, 2)]
    assert data.client(0) is first[0]
    data.client(3)  # now 1 is the oldest
    assert data.client(0) is first[0]
    assert data.client(2) is first[2]
    assert data.client(1) is not first[1]


def test_a_client_larger_than_the_bound_is_not_kept() -> None:
    data = ClientData(arrays(), most=4000)
    assert not is_kept(data, 0)


def test_a_part_counts_as_all_that_it_keeps_in_memory() -> None:
    whole = np.zeros((100 * SIZE, 1), np.float32)
    population = Population.of({"part": (whole[:5], np.zeros(5)), "own": (whole[:5].copy(), np.zeros(5))})
    data = ClientData(population, most=100_000)
    assert not is_kept(data, 0)
    assert is_kept(data, 1)


def test_parts_of_mapped_files_and_of_shared_memory_cost_next_to_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100 * SIZE, 1), np.float32))
    whole = np.load(tmp_path / "x.npy", mmap_mode="r")
    parts = {f"c{i}": (whole[i * SIZE : (i + 1) * SIZE], np.zeros(SIZE, np.int8)) for i in range(8)}
    data = ClientData(Population.of(parts), most=20_000)
    assert all(is_kept(data, position) for position in range(8))
    shared = ClientData(Parcel(arrays(8)).open(), most=10_000)
    clients = [shared.client(position) for position in range(8)]
    assert [shared.client(position) for position in range(8)] == clients


def test_functions_and_datasets_are_asked_every_time() -> None:
    asked = Asked()
    data = ClientData(Population.of({"a": asked}, sizes={"a": 4}), 10**9)
    assert [data.client(0).examples.inputs[0][0, 0] for _ in range(3)] == [1, 2, 3]


def test_nobody_can_change_what_is_kept() -> None:
    own = np.zeros((3, 2), np.float32)
    data = ClientData(Population.of({"a": (own, np.zeros(3, np.int64))}), 10**9)
    for array in (*data.client(0).examples.inputs, data.client(0).examples.target):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    own[0] = 1  # to its owner it is what it was
    assert not guarded(Examples.of(own, np.zeros(3))).inputs[0].flags.writeable


def test_a_client_that_failed_is_asked_again() -> None:
    tries: list[int] = []

    def flaky() -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return np.zeros((2, 1)), np.zeros(2)

    data = ClientData(Population.of({"a": flaky}, sizes={"a": 2}), 10**9)
    for _ in range(2):
        with pytest.raises(OSError, match="not yet"):
            data.client(0)
    assert len(data.client(0).examples) == 2


# --- ahead of a round --------------------------------------------------------------------------


def test_what_was_fetched_is_used_once() -> None:
    asked = Asked()
    data = ClientData(Population.of({"a": asked}, sizes={"a": 4}), 10**9)
    assert data.fetch(0)
    assert data.fetch(0)
    assert asked.times == 1
    assert data.client(0).examples.inputs[0][0, 0] == 1
    assert data.client(0).examples.inputs[0][0, 0] == 2


def test_what_was_fetched_and_not_used_is_dropped() -> None:
    asked = Asked()
    data = ClientData(Population.of({"a": asked}, sizes={"a": 4}), 10**9)
    data.fetch(0)
    data.forget_fetched()
    assert data.client(0).examples.inputs[0][0, 0] == 2


def test_fetching_stops_when_memory_is_full() -> None:
    asked = [Asked() for _ in range(9)]
    population = Population.of(
        {f"c{i}": a for i, a in enumerate(asked)}, sizes={f"c{i}": 4 for i in range(9)}
    )
    data = ClientData(population, most=4000)  # a client costs a little more than 1 kB
    fetched = 0
    while data.fetch(fetched):
        fetched += 1
    assert fetched == 3
    data.client(0)
    assert not data.fetch(5)


def test_a_client_that_fails_ahead_fails_when_it_is_wanted() -> None:
    def broken() -> Any:
        raise OSError("the disk of this client is broken")

    def full() -> Any:
        raise MemoryError

    data = ClientData(Population.of({"a": broken, "b": full}, sizes={"a": 2, "b": 2}), 10**9)
    assert data.fetch(0)
    assert not data.fetch(1)  # there is no room for anybody else, either
    with pytest.raises(OSError, match="broken"):
        data.client(0)


def test_steady_clients_are_not_fetched_ahead() -> None:
    data = ClientData(arrays(), 10**9)
    assert data.fetch(0)
    data.forget_fetched()
    assert is_kept(data, 0)
