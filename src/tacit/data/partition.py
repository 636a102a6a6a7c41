"""Who holds which row: the protocol of a partitioner, and those that do not look at labels."""

import difflib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tacit.core import bounds
from tacit.core.errors import ConfigError, DataError
from tacit.core.examples import Array
from tacit.core.part import Part
from tacit.core.randomness import generator
from tacit.data.ids import Named, Numbered
from tacit.data.table import Rows, Table


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which rows of a table each client holds; no row belongs to two.

    Attributes:
        ids: The clients.
        order: The clients' rows one after another, shape (rows held,).
        offsets: Client ``i`` holds ``order[offsets[i]:offsets[i + 1]]``; shape (clients + 1,).
    """

    ids: Sequence[str]
    order: Rows
    offsets: Rows

    @classmethod
    def of_owners(cls, owners: Rows, ids: Sequence[str]) -> "Assignment":
        """Build from each row's client; rows of client -1 belong to nobody.

        >>> Assignment.of_owners(np.array([1, 0, -1, 1]), Numbered(2)).rows(1)
        array([0, 3])
        """
        order = np.argsort(owners, kind="stable")
        held = owners[owners >= 0]
        counts = np.bincount(held, minlength=len(ids))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(ids, order[len(owners) - len(held) :], offsets)

    @property
    def sizes(self) -> Rows:
        """How many rows each client holds, shape (clients,)."""
        return np.diff(self.offsets)

    def rows(self, client: int) -> Rows:
        """Return the rows of one client."""
        return self.order[self.offsets[client] : self.offsets[client + 1]]


@runtime_checkable
class Partitioner(Protocol):
    """How a table's rows are dealt to clients.

    The law: a row goes to at most one client, and the same table, number of clients and seed give the same
    assignment.
    """

    stratified: ClassVar[bool]
    """Whether clients are groups of the data itself, so that a central test set is taken within each."""

    def assign(self, table: Table, clients: int | None, seed: int) -> Assignment:
        """Deal the rows to that many clients; None leaves the number to the partitioner.

        Raises:
            DataError: The table does not allow it.
            ConfigError: The partitioner needs to know how many clients there are.
        """
        ...


class IID(Part, frozen=True, tag="iid"):
    """Deal the rows at random; the clients' sizes differ by at most one.

    >>> table = Table((np.zeros((10, 1)),), np.arange(10))
    >>> IID().assign(table, clients=3, seed=0).sizes
    array([4, 3, 3])
    """

    stratified: ClassVar[bool] = False

    def assign(self, table: Table, clients: int | None, seed: int) -> Assignment:
        count = required(clients, "IID")
        enough(len(table), count, 1)
        owners = np.empty(len(table), np.int64)
        shuffled = generator(seed, "data", "iid").permutation(len(table))
        owners[shuffled] = np.arange(len(table)) % count
        return Assignment.of_owners(owners, Numbered(count))


class QuantitySkew(Part, frozen=True, tag="quantity_skew"):
    """Deal the rows at random, but unequally many: the clients' shares are drawn from a Dirichlet law.

    Attributes:
        alpha: Concentration: 100 is nearly equal, 0.1 leaves most rows with a few clients.
        min_examples: What every client holds at least; 0 allows clients without data.
    """

    alpha: bounds.Positive
    min_examples: bounds.Natural = 1
    stratified: ClassVar[bool] = False

    def assign(self, table: Table, clients: int | None, seed: int) -> Assignment:
        count = required(clients, "QuantitySkew")
        enough(len(table), count, self.min_examples)
        rng = generator(seed, "data", "quantity_skew")
        sizes = cut(dirichlet(self.alpha, count, rng), len(table))
        owners = np.empty(len(table), np.int64)
        owners[rng.permutation(len(table))] = np.repeat(np.arange(count), sizes)
        return Assignment.of_owners(at_least(owners, count, self.min_examples), Numbered(count))


class Natural(Part, frozen=True, tag="natural"):
    """Make one client of each group that the data itself knows: a hospital, a sender, a role.

    Attributes:
        column: The column that names the group; None: the source's first.
        min_examples: Groups with fewer rows are left out.

    With a number of clients, the largest groups are taken (ties by name). Clients come in the order of names.

    >>> table = Table((np.zeros((4, 1)),), np.zeros(4), {"site": np.array(["b", "a", "b", "c"])})
    >>> list(Natural().assign(table, clients=None, seed=0).ids)
    ['a', 'b', 'c']
    """

    column: str | None = None
    min_examples: bounds.Count = 1
    stratified: ClassVar[bool] = True

    def assign(self, table: Table, clients: int | None, seed: int) -> Assignment:
        names, groups = np.unique(self._column(table), return_inverse=True)
        kept = self._kept(np.bincount(groups, minlength=len(names)), clients)
        client_of = np.full(len(names), -1, np.int64)
        client_of[kept] = np.arange(len(kept))
        return Assignment.of_owners(client_of[groups], Named(names[kept].astype(str)))

    def _column(self, table: Table) -> Array:
        if not table.groups:
            fix = "Split it by IID(), Dirichlet(alpha=...) or Shards()."
            raise DataError("T211", "the source has no natural groups", where="$.population.by", fix=fix)
        column = next(iter(table.groups)) if self.column is None else self.column
        if column not in table.groups:
            near = difflib.get_close_matches(column, list(table.groups), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            fix = f"One of: {', '.join(table.groups)}."
            what = f"there is no natural column {column!r}{hint}"
            raise DataError("T211", what, where="$.population.by.column", fix=fix)
        return table.groups[column]

    def _kept(self, sizes: Rows, clients: int | None) -> Rows:
        large = np.flatnonzero(sizes >= self.min_examples)
        if len(large) < (clients or 1):
            found = f"only {len(large)} groups have {self.min_examples} examples or more"
            what = f"{clients or 1} clients are wanted, but {found}"
            raise DataError("T209", what, where="$.population.clients", fix="Lower clients or min_examples.")
        by_size = large[np.argsort(-sizes[large], kind="stable")]
        return np.sort(by_size[:clients]).astype(np.int64)


# --- below: what partitioners share -------------------------------------------------------------


def required(clients: int | None, kind: str) -> int:
    """Return the number of clients, which this kind of partitioner cannot know by itself.

    Raises:
        ConfigError: It was not given.
    """
    if clients is None:
        fix = "Write for example clients=100."
        what = f"{kind} needs to know how many clients there are"
        raise ConfigError("T212", what, where="$.population.clients", fix=fix)
    return clients


def enough(rows: int, clients: int, each: int) -> None:
    """Check that there are ``each`` rows for every client.

    Raises:
        DataError: There are not.
    """
    if rows < clients * each:
        what = f"{rows} examples cannot give {clients} clients {each} each"
        fix = f"Choose at most {rows // each} clients."
        raise DataError("T209", what, where="$.population.clients", fix=fix)


def dirichlet(alpha: float, size: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw shares that sum to one from a symmetric Dirichlet law, also where ``alpha`` is tiny or huge."""
    # Beyond these the law says "all to one" and "equal shares", and NumPy may say NaN.
    return rng.dirichlet(np.full(size, min(max(alpha, 1e-4), 1e9)))


def cut(shares: npt.NDArray[np.float64], total: int) -> Rows:
    """Turn shares that sum to one into whole numbers that sum to ``total``.

    >>> cut(np.array([0.5, 0.25, 0.25]), 10)
    array([5, 2, 3])
    """
    ends = np.minimum((np.cumsum(shares) * total).astype(np.int64), total)
    ends[-1] = total
    return np.diff(ends, prepend=0)


def at_least(owners: Rows, clients: int, least: int) -> Rows:
    """Return owners under which every client holds ``least`` rows: the largest give, one row at a time.

    The caller has checked that there are enough rows; whoever gives still has more than ``least`` before.
    """
    sizes = np.bincount(owners, minlength=clients)
    needy = np.repeat(np.arange(clients), np.maximum(least - sizes, 0))
    if not len(needy):
        return owners
    given = _largest_give(sizes, len(needy))
    order = np.argsort(owners, kind="stable")
    last = np.cumsum(sizes)
    result = owners.copy()
    start = 0
    for giver in np.flatnonzero(given):
        rows = order[last[giver] - given[giver] : last[giver]]
        result[rows] = needy[start : start + len(rows)]
        start += len(rows)
    return result


def _largest_give(sizes: Rows, wanted: int) -> Rows:
    """Return how many rows each client gives when always the largest gives next (ties: the first)."""
    given = np.zeros_like(sizes)
    heap = [(-int(size), client) for client, size in enumerate(sizes)]
    heapq.heapify(heap)
    for _ in range(wanted):
        size, client = heap[0]
        given[client] += 1
        heapq.heapreplace(heap, (size + 1, client))
    return given
