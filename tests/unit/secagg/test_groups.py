"""Groups of a cohort: nearly equal, in nobody's hand, and the same in whatever order clients come."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from tacit.core.errors import PlanError
from tacit.secagg.groups import divide, sizes

IDS = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=60)


@given(clients=IDS, largest=st.integers(1, 25), seed=st.binary(max_size=40))
def test_every_client_is_in_one_group_and_no_group_is_too_large(
    clients: list[str], largest: int, seed: bytes
) -> None:
    groups = divide(clients, largest, seed)
    assert sorted(client for group in groups for client in group) == sorted(clients)
    assert len(groups) == math.ceil(len(clients) / largest)
    assert all(list(group) == sorted(group) for group in groups)


@given(clients=st.integers(0, 10_000), largest=st.integers(1, 500))
def test_groups_are_as_equal_as_they_can_be(clients: int, largest: int) -> None:
    found = sizes(clients, largest)
    assert sum(found) == clients
    assert len(found) == math.ceil(clients / largest)
    if clients:
        assert max(found) <= largest
        assert max(found) - min(found) <= 1


@given(clients=st.integers(10, 5000), most=st.integers(0, 500))
def test_groups_of_twice_a_floor_never_fall_below_it(clients: int, most: int) -> None:
    floor = 10
    assert min(sizes(clients, 2 * floor - 1 + most)) >= floor


@given(clients=IDS, largest=st.integers(1, 25), seed=st.binary(max_size=40), data=st.data())
def test_the_order_in_which_clients_come_does_not_matter(
    clients: list[str], largest: int, seed: bytes, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(clients))
    assert divide(shuffled, largest, seed) == divide(clients, largest, seed)


def test_membership_follows_from_hashes_of_seed_and_id() -> None:
    clients = [f"hôpital-{i}" for i in range(7)]
    keyed = b"tacit secure aggregation groups\x00" + b"\x00\x00\x00\x04" + b"seed"
    order = sorted(clients, key=lambda client: hashlib.sha256(keyed + client.encode()).hexdigest())
    assert divide(clients, 4, b"seed") == (tuple(sorted(order[:4])), tuple(sorted(order[4:])))


def test_any_two_clients_meet_as_often_as_any_other_two() -> None:
    clients, rounds = [f"c{i}" for i in range(9)], 4000
    met = np.zeros(8)
    for number in range(rounds):
        groups = divide(clients, 3, number.to_bytes(8, "big"))
        mine = next(group for group in groups if "c0" in group)
        met[[int(client[1:]) - 1 for client in mine if client != "c0"]] += 1
    share = 2 / 8
    statistic = ((met - rounds * share) ** 2).sum() / (rounds * share * (1 - share) * 8 / 7)
    assert 1e-4 < chi2.sf(statistic, 7) < 1 - 1e-4


def test_a_cohort_that_fits_is_one_group_and_nobody_is_none() -> None:
    assert divide(["b", "a"], 2, b"any") == (("a", "b"),)
    assert divide([], 2, b"any") == ()


def test_a_client_named_twice_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        divide(["a", "b", "a"], 2, b"any")
    assert caught.value.code == "T187"


@pytest.mark.parametrize("largest", [0, -3])
def test_a_group_that_holds_nobody_is_refused(largest: int) -> None:
    with pytest.raises(PlanError) as caught:
        divide(["a", "b"], largest, b"any")
    assert caught.value.code == "T187"
