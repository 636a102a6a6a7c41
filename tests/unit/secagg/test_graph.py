"""The graph of a group: regular, the same everywhere, and in nobody's hand."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from tacit.core.errors import PlanError
from tacit.secagg.graph import neighbours, neighbours_of


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, int, bytes]:
    clients = draw(st.integers(2, 60))
    even = st.integers(1, max(1, (clients - 1) // 2)).map(lambda half: 2 * half)
    degree = draw(st.just(clients - 1) if clients < 3 else st.one_of(even, st.just(clients - 1)))
    return clients, degree, draw(st.binary(max_size=40))


@given(graph=graphs())
def test_every_member_has_as_many_neighbours_and_is_theirs(graph: tuple[int, int, bytes]) -> None:
    clients, degree, _ = graph
    found = neighbours(*graph)
    assert len(found) == clients
    for member, others in enumerate(found):
        assert len(others) == degree
        assert list(others) == sorted(set(others) - {member})
        assert all(member in found[other] for other in others)


@given(graph=graphs())
def test_a_client_finds_the_neighbours_that_the_server_found(graph: tuple[int, int, bytes]) -> None:
    clients, _, _ = graph
    assert neighbours(*graph) == tuple(neighbours_of(member, *graph) for member in range(clients))


def test_a_graph_is_the_same_on_every_machine() -> None:
    assert neighbours(10, 4, bytes(32)) == (
        (3, 6, 7, 8),
        (3, 5, 8, 9),
        (4, 5, 6, 7),
        (0, 1, 8, 9),
        (2, 5, 7, 9),
        (1, 2, 4, 9),
        (0, 2, 7, 8),
        (0, 2, 4, 6),
        (0, 1, 3, 6),
        (1, 3, 4, 5),
    )


def test_neighbours_are_near_in_the_order_of_hashes() -> None:
    clients, degree, seed = 31, 8, b"\x01seed"
    keyed = b"tacit secure aggregation graph\x00" + b"\x00\x00\x00\x05" + seed
    order = sorted(range(clients), key=lambda i: hashlib.sha256(keyed + i.to_bytes(4, "big")).hexdigest())
    place = {member: order.index(member) for member in range(clients)}
    for member, found in enumerate(neighbours(clients, degree, seed)):
        distance = {other: abs(place[member] - place[other]) for other in range(clients) if other != member}
        near = [other for other, d in distance.items() if min(d, clients - d) <= degree // 2]
        assert list(found) == near


@pytest.mark.parametrize(("clients", "degree"), [(12, 4), (13, 6), (50, 12)])
def test_it_takes_two_gaps_of_half_the_neighbours_to_cut_a_graph(clients: int, degree: int) -> None:
    """Harary: the graph is degree-connected, and the cuts are the two gaps that ``connectivity`` counts."""
    found = neighbours(clients, degree, b"cut")
    circle = _circle(found, degree)
    for begin in range(degree):  # one of the two gaps is shorter: there is a way past it
        gone = {*circle[:begin], *circle[begin + 1 : degree]}
        assert _parts(found, gone) == 1
    assert _parts(found, {*circle[: degree // 2], *circle[degree // 2 + 1 : degree + 1]}) == 2


def test_every_other_member_is_as_likely_a_neighbour() -> None:
    clients, degree, seeds = 12, 4, 3000
    counts = np.zeros((clients, clients))
    for seed in range(seeds):
        for member, others in enumerate(neighbours(clients, degree, seed.to_bytes(32, "big"))):
            counts[member, list(others)] += 1
    share = degree / (clients - 1)
    off = counts[~np.eye(clients, dtype=bool)].reshape(clients, clients - 1) - seeds * share
    # Drawn without replacement, a member's counts have covariance p (1 - p) (n-1)/(n-2) (I - 1/(n-1)).
    scale = seeds * share * (1 - share) * (clients - 1) / (clients - 2)
    chances = chi2.sf((off**2).sum(axis=1) / scale, clients - 2)
    assert chances.min() > 1e-4
    assert chances.max() < 1 - 1e-4


def test_who_are_joint_neighbours_follows_from_the_seed() -> None:
    """Which two stand beside a member is uniform too: the graph is a random order, not only its pairs."""
    clients, seeds = 7, 7000
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(seeds):
        pair = neighbours_of(0, clients, 2, seed.to_bytes(4, "big"))
        counts[pair] = counts.get(pair, 0) + 1
    expected = seeds / 15
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert len(counts) == 15
    assert 0.0005 < chi2.cdf(statistic, 14) < 0.999


@pytest.mark.parametrize("seed", [b"", b"\x00", b"seed", bytes(32)])
def test_another_seed_gives_another_graph(seed: bytes) -> None:
    assert neighbours(40, 6, seed) != neighbours(40, 6, seed + b"\x00")


@pytest.mark.parametrize(("clients", "degree"), [(5, 0), (5, 3), (5, 5), (5, 6), (6, -2), (1, 0), (0, 2)])
def test_a_graph_that_cannot_be_is_refused(clients: int, degree: int) -> None:
    for ask in (lambda: neighbours(clients, degree, b""), lambda: neighbours_of(0, clients, degree, b"")):
        with pytest.raises(PlanError) as caught:
            ask()
        assert caught.value.code == "T187"


@pytest.mark.parametrize("position", [-1, 5])
def test_who_is_no_member_has_no_neighbours(position: int) -> None:
    with pytest.raises(PlanError, match="no member"):
        neighbours_of(position, 5, 4, b"")


def _circle(found: tuple[tuple[int, ...], ...], degree: int) -> list[int]:
    """Rebuild the order from the graph alone: who stands side by side share the most neighbours."""
    circle = [0]
    while len(circle) < len(found):
        here = circle[-1]
        left = [other for other in found[here] if other not in circle]
        circle.append(max(left, key=lambda other: len({*found[here]} & {*found[other]})))
    return circle


def _parts(found: tuple[tuple[int, ...], ...], gone: set[int]) -> int:
    left, parts = set(range(len(found))) - gone, 0
    while left:
        parts += 1
        reached = [left.pop()]
        while reached:
            for other in found[reached.pop()]:
                if other in left:
                    left.remove(other)
                    reached.append(other)
    return parts
