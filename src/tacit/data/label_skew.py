"""Partitioners that make clients differ in their labels."""

from typing import ClassVar

import numpy as np

from tacit.core import bounds
from tacit.core.errors import DataError
from tacit.core.part import Part
from tacit.core.randomness import generator
from tacit.data.ids import Numbered
from tacit.data.partition import Assignment, at_least, cut, dirichlet, enough, required
from tacit.data.table import Rows, Table, labels

_DRAWS = 8  # how often too uneven shares are drawn anew before rows are moved instead


class Dirichlet(Part, frozen=True, tag="dirichlet"):
    """Deal each label's rows by shares drawn from a Dirichlet law (Yurochkin et al. 2019; Li et al. 2022).

    Attributes:
        alpha: Concentration: 100 is nearly IID, 0.1 leaves most clients with a label or two.
        min_examples: What every client holds at least; 0 allows clients without data. Shares that are too
            uneven for it are drawn anew a few times; then the largest clients give to the smallest.

    >>> table = Table((np.zeros((100, 1)),), np.arange(100) % 10)
    >>> int(Dirichlet(alpha=0.1).assign(table, clients=20, seed=0).sizes.min())
    1
    """

    alpha: bounds.Positive
    min_examples: bounds.Natural = 1
    stratified: ClassVar[bool] = False

    def assign(self, table: Table, clients: int | None, seed: int) -> Assignment:
        count = required(clients, "Dirichlet")
        label = _labels(table, "Dirichlet")
        enough(len(table), count, self.min_examples)
        per_label = self._draw(np.bincount(label), count, seed)
        owners = np.empty(len(table), np.int64)
        # A random order in which equal labels are neighbours: each client takes its run of it.
        shuffled = generator(seed, "data", "dirichlet", "rows").permutation(len(table))
        by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
        owners[by_label] = np.repeat(np.tile(np.arange(count), len(per_label)), per_label.ravel())
        return Assignment.of_owners(at_least(owners, count, self.min_examples), Numbered(count))

    def _draw(self, totals: Rows, clients: int, seed: int) -> Rows:
        """Return how many rows of each label each client gets, shape (labels, clients)."""
        best, missing = np.empty(0, np.int64), -1
        for draw in range(_DRAWS):
            rng = generator(seed, "data", "dirichlet", draw)
            counts = np.stack([cut(dirichlet(self.alpha, clients, rng), int(total)) for total in totals])
            short = int(np.maximum(self.min_examples - counts.sum(axis=0), 0).sum())
            if missing < 0 or short < missing:
                best, missing = counts, short
            if not missing:
                break
        return best


class Shards(Part, frozen=True, tag="shards"):
    """Sort by label, cut into equal shards and deal each client a few (McMahan et al. 2017).

    Attributes:
        classes_per_client: Shards a client gets, so that it holds about that many labels. Where a label ends
            inside a shard, that shard has two.

    >>> table = Table((np.zeros((100, 1)),), np.arange(100) % 10)
    >>> held = Shards(classes_per_client=2).assign(table, clients=5, seed=0)
    >>> [len(set(table.target[held.rows(client)])) for client in range(5)]
    [2, 2, 2, 2, 2]
    """

    classes_per_client: bounds.Count = 2
    stratified: ClassVar[bool] = False

    def assign(self, table: Table, clients: int | None, seed: int) -> Assignment:
        count = required(clients, "Shards")
        label = _labels(table, "Shards")
        enough(len(table), count, self.classes_per_client)
        rng = generator(seed, "data", "shards")
        shuffled = rng.permutation(len(table))
        by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
        shards = count * self.classes_per_client
        client_of_shard = rng.permutation(shards) % count
        owners = np.empty(len(table), np.int64)
        owners[by_label] = client_of_shard[np.arange(len(table)) * shards // len(table)]
        return Assignment.of_owners(owners, Numbered(count))


def _labels(table: Table, kind: str) -> Rows:
    found = labels(table.target)
    if found is None:
        what = f"{kind} deals rows by their label, but the target is no label (one whole number a row)"
        fix = "Split by IID(), QuantitySkew(alpha=...) or Natural()."
        raise DataError("T210", what, where="$.population.by", fix=fix)
    return found[1]
