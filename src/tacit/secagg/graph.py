"""Who is whose neighbour: a Harary graph on an order nobody chose (Bell et al. 2020, eprint 2020/704)."""

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from functools import lru_cache

from tacit.core.errors import PlanError

_LABEL = b"tacit secure aggregation graph\x00"


def neighbours_of(position: int, clients: int, degree: int, seed: bytes) -> tuple[int, ...]:
    """Return the positions of one member's neighbours, in rising order.

    The members stand on a circle in an order that follows from ``seed`` and looks random to whoever could
    not choose it; each is joined to the ``degree / 2`` next to it on either side. With a degree of
    ``clients - 1`` all are neighbours.

    Raises:
        PlanError: There is no such graph, or no such member in it (T187).

    >>> neighbours_of(0, clients=5, degree=4, seed=b"any")
    (1, 2, 3, 4)
    """
    _check(clients, degree)
    if not 0 <= position < clients:
        raise PlanError("T187", f"there is no member {position} in a group of {clients}")
    if degree == clients - 1:
        return _others(position, clients)
    circle, places = _circle(clients, seed)
    place, half = places[position], degree // 2
    around = range(place - half, place + half + 1)
    return tuple(sorted(circle[other % clients] for other in around if other != place))


@lru_cache(maxsize=16)
def neighbours(clients: int, degree: int, seed: bytes) -> tuple[tuple[int, ...], ...]:
    """Return the neighbours of every member, by position.

    Raises:
        PlanError: There is no such graph (T187).

    >>> graph = neighbours(clients=10, degree=4, seed=b"any")
    >>> all(a in graph[b] for a in range(10) for b in graph[a])
    True
    """
    _check(clients, degree)
    if degree == clients - 1:
        return tuple(_others(position, clients) for position in range(clients))
    found = dict(_along(_circle(clients, seed)[0], degree // 2))
    return tuple(found[position] for position in range(clients))


def _check(clients: int, degree: int) -> None:
    if not 1 <= degree < clients or (degree % 2 and degree != clients - 1):
        raise PlanError(
            "T187",
            f"no graph of {clients} members gives each {degree} neighbours",
            fix=f"Take an even number below {clients}, or {clients - 1}.",
        )


def _others(position: int, clients: int) -> tuple[int, ...]:
    return (*range(position), *range(position + 1, clients))


@lru_cache(maxsize=16)
def _circle(clients: int, seed: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return who stands at each place of the circle, and the place of each member.

    Sorting by SHA-256 gives every order alike, and each machine the same one.
    """
    keyed = _LABEL + len(seed).to_bytes(4, "big") + seed
    circle = sorted(range(clients), key=lambda i: hashlib.sha256(keyed + i.to_bytes(4, "big")).digest())
    places = [0] * clients
    for place, position in enumerate(circle):
        places[position] = place
    return tuple(circle), tuple(places)


def _along(circle: tuple[int, ...], half: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Walk round the circle: yield each member and those beside it, from a window that is kept sorted."""
    clients = len(circle)
    window = sorted(circle[other] for other in range(-half, half + 1))
    for place, position in enumerate(circle):
        middle = bisect_left(window, position)
        yield position, (*window[:middle], *window[middle + 1 :])
        del window[bisect_left(window, circle[place - half])]
        insort(window, circle[(place + half + 1) % clients])
