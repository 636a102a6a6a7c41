"""Where a population comes from, as settings: a source, who holds which row, and what is held back."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tacit.core.bounds import Count, OpenShare
from tacit.core.errors import DataError
from tacit.core.part import Settings
from tacit.data.files import RemoteFile, check_present, data_folder
from tacit.data.holdings import TableHoldings
from tacit.data.partition import IID, Assignment, Natural, Partitioner
from tacit.data.population import Population
from tacit.data.scaling import Scaling
from tacit.data.shares import choose
from tacit.data.table import Table

_TEST_SHARE = 0.2  # where the source has no official test set and nothing else was said


@runtime_checkable
class Source(Protocol):
    """A data set as a value: which files it needs, and how they become a table."""

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """The files it needs; empty for what libraries or the user's own disk hold."""
        ...

    def load(self, folder: Path) -> Table:
        """Read the files from ``folder``.

        Raises:
            DataError: A file is missing, damaged or not what it should be.
        """
        ...


class Split(Settings, frozen=True):
    """A population as settings: the block ``[population]`` of a job file.

    Attributes:
        source: The data set.
        by: Who holds which row. None: the source's natural groups, or ``IID()`` where it has none.
        clients: How many clients there are; natural groups: the largest so many, None for all.
        test: Share of the examples taken out as the central test set before the rest is dealt to clients;
            within each group where groups are natural. None: the official test set where the source has one,
            otherwise 0.2. 0: no central test set. A number given here leaves an official one aside.
        holdout: Share of each client's examples kept for evaluation on the client: the nearest whole number,
            halves up, but at least one example stays for training.
        scaling: Standardise features by mean and standard deviation of the training rows of all clients
            (``"global"``) or of each client (``"client"``); constant features become 0. A central test set
            that was taken within natural groups is scaled as its clients are, any other globally.
        seed: Seed of every draw made here.
    """

    source: Source
    by: Partitioner | None = None
    clients: Count | None = None
    test: OpenShare | None = None
    holdout: OpenShare = 0.2
    scaling: Scaling = "none"
    seed: int = 0

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """The files that the source needs."""
        return self.source.files

    def open(self, folder: Path | str | None = None) -> Population:
        """Load the source and deal its rows.

        Args:
            folder: Where the data files lie. None: ``TACIT_DATA``, or ``tacit/data`` in the user's cache.

        Raises:
            DataError: A file is missing or damaged, or the data does not allow this split.
            ConfigError: A setting is missing, such as the number of clients.
        """
        place = data_folder(folder)
        check_present(self.files, place)
        table = self.source.load(place)
        if not len(table):
            where = "$.population.source"
            raise DataError("T202", "the source has no examples", where=where, fix="Check its files.")
        by = self.by or (Natural() if table.groups else IID())
        deal = _deal_groups if by.stratified else _deal_rows
        return Population(deal(self, by, table).scaled(self.scaling))


class Splittable:
    """What every source can: become a ``Split``."""

    __slots__ = ()

    def split(
        self,
        by: Partitioner | None = None,
        *,
        clients: int | None = None,
        test: float | None = None,
        holdout: float = 0.2,
        scaling: Scaling = "none",
        seed: int = 0,
    ) -> Split:
        """Say who holds which row; the arguments are those of ``Split``."""
        settings: dict[str, Any] = {"test": test, "holdout": holdout, "scaling": scaling, "seed": seed}
        return Split(source=self, by=by, clients=clients, **settings)  # type: ignore[arg-type]


# --- below: how rows become test, training and held-out rows -------------------------------------


def _test_share(split: Split, table: Table) -> float:
    if split.test is not None:
        return split.test
    return 0.0 if table.test is not None else _TEST_SHARE


def _deal_rows(split: Split, by: Partitioner, table: Table) -> TableHoldings:
    """Take test rows out of the table, then deal the rest."""
    every, share = np.arange(len(table)), _test_share(split, table)
    tested = choose(every, np.array([0, len(table)]), share, split.seed, "test")
    rest = every[~tested]
    dealt = by.assign(table.take(rest) if tested.any() else table, split.clients, split.seed)
    dealt = Assignment(dealt.ids, rest[dealt.order], dealt.offsets)
    held = TableHoldings.of(_without_test(split, table), dealt, split.holdout, split.seed)
    return replace(held, test_rows=every[tested]) if tested.any() else held


def _deal_groups(split: Split, by: Partitioner, table: Table) -> TableHoldings:
    """Deal the rows to natural groups, then take test rows out of each."""
    dealt, share = by.assign(table, split.clients, split.seed), _test_share(split, table)
    tested = choose(dealt.order, dealt.offsets, share, split.seed, "test")
    kept, test = _only(dealt, ~tested), _only(dealt, tested)
    held = TableHoldings.of(_without_test(split, table), kept, split.holdout, split.seed)
    return replace(held, test_rows=test.order, test_offsets=test.offsets) if tested.any() else held


def _only(dealt: Assignment, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> Assignment:
    before = np.concatenate([[0], np.cumsum(chosen)])
    return Assignment(dealt.ids, dealt.order[chosen], before[dealt.offsets])


def _without_test(split: Split, table: Table) -> Table:
    return table if split.test is None else replace(table, test=None)
