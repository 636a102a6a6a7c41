"""A cohort in groups: each has its own masks and its own sum, and fails alone."""

import hashlib
from collections.abc import Sequence

from tacit.core.errors import PlanError

_LABEL = b"tacit secure aggregation groups\x00"


def sizes(clients: int, largest: int) -> tuple[int, ...]:
    """Return how many members each group has: as few groups as may be, as equal as may be.

    >>> sizes(clients=11, largest=4)
    (4, 4, 3)

    Raises:
        PlanError: No group may have a member (T187).
    """
    if largest < 1:
        raise PlanError("T187", f"a group of at most {largest} has no members", fix="Allow larger groups.")
    groups = -(-clients // largest)
    return tuple(-(-(clients - group) // groups) for group in range(groups))


def divide(clients: Sequence[str], largest: int, seed: bytes) -> tuple[tuple[str, ...], ...]:
    """Divide a cohort into groups whose members follow from ``seed``; each is sorted by id.

    The groups are the same in whatever order the cohort is named.

    Raises:
        PlanError: A client is named twice, or no group may have a member (T187).

    >>> [len(group) for group in divide([f"site-{i}" for i in range(11)], largest=4, seed=b"any")]
    [4, 4, 3]
    """
    if len(set(clients)) != len(clients):
        raise PlanError("T187", "a client is named twice in one cohort", fix="Give each an id of its own.")
    keyed = _LABEL + len(seed).to_bytes(4, "big") + seed
    order = sorted(clients, key=lambda client: hashlib.sha256(keyed + client.encode()).digest())
    groups, begin = [], 0
    for size in sizes(len(clients), largest):
        groups.append(tuple(sorted(order[begin : begin + size])))
        begin += size
    return tuple(groups)
