"""Who holds what: the labels or the spread of the target, client by client."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tacit.core.examples import Array
from tacit.data.table import labels

_SHOWN = 10  # clients in the printed table
_MOST_LABELS = 128  # beyond that a whole number is a measurement, or a token, rather than a class
_COLUMNS = 20  # labels in the printed table
_QUANTILES = ("min", "25 %", "median", "75 %", "max")


@dataclass(frozen=True, eq=False)
class PopulationSummary:
    """Who holds what, of all clients or of a sample of them.

    Attributes:
        clients: Clients in the whole population.
        examples: Training examples in the whole population.
        ids: The clients described, shape (shown,).
        sizes: Their training examples, shape (shown,).
        kind: What the columns are: counts of labels, or quantiles of the target.
        labels: Names of the columns.
        counts: One row a client, one column a label, shape (shown, labels): int64 counts, or float64
            quantiles (NaN for a client without examples).
    """

    clients: int
    examples: int
    ids: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    kind: Literal["labels", "quantiles"]
    labels: tuple[str, ...]
    counts: npt.NDArray[Any]

    def __str__(self) -> str:
        shown, columns = min(_SHOWN, len(self.ids)), self.labels[:_COLUMNS]
        head = ["client", "examples", *columns]
        rows = [
            [self.ids[i], str(self.sizes[i]), *(_cell(value) for value in self.counts[i][: len(columns)])]
            for i in range(shown)
        ]
        if self.clients > shown:
            rows.append([f"... {self.clients - shown} more", "", *("" for _ in columns)])
        rows.append(["all", str(self.examples), *self._totals(len(columns))])
        note = [f"({len(self.labels) - _COLUMNS} more labels)"] if len(self.labels) > _COLUMNS else []
        return "\n".join([*_align([head, *rows]), *note])

    def _totals(self, columns: int) -> list[str]:
        if self.kind == "quantiles" or len(self.ids) < self.clients:
            return [""] * columns  # neither quantiles nor a sample's counts add up to anything
        return [_cell(value) for value in self.counts.sum(axis=0)[:columns]]


def summarise(
    ids: Sequence[str], targets: Sequence[Array], sizes: npt.NDArray[np.int64]
) -> PopulationSummary:
    """Describe the clients ``ids`` by their training targets; ``sizes`` are those of the whole population.

    >>> print(summarise(("ann", "bob"), [np.array([0, 1, 1]), np.array([0])], np.array([3, 1])))
    client  examples  0  1
    ann            3  1  2
    bob            1  1  0
    all            4  2  2
    """
    held = np.array([len(target) for target in targets], dtype=np.int64)
    filled = [target for target in targets if len(target)]
    plain = bool(filled) and all(target.ndim == 1 for target in filled)
    found = labels(np.concatenate(filled)) if plain else None
    if found is not None and len(found[0]) <= _MOST_LABELS:
        names, matrix = tuple(str(value) for value in found[0]), _counts(held, found[1], len(found[0]))
        return PopulationSummary(len(sizes), int(sizes.sum()), tuple(ids), held, "labels", names, matrix)
    spread = np.stack([_quantiles(target) for target in targets])
    return PopulationSummary(len(sizes), int(sizes.sum()), tuple(ids), held, "quantiles", _QUANTILES, spread)


def _counts(
    held: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], columns: int
) -> npt.NDArray[np.int64]:
    client = np.repeat(np.arange(len(held)), held)
    flat = np.bincount(client * columns + positions, minlength=len(held) * columns)
    return flat.reshape(len(held), columns).astype(np.int64)


def _quantiles(target: Array) -> npt.NDArray[np.float64]:
    # Negative whole numbers in sequences are padding (-100), which is not part of the target.
    values = target[target >= 0] if target.ndim > 1 and target.dtype.kind == "i" else target.ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        return np.full(len(_QUANTILES), np.nan)
    return np.quantile(values.astype(np.float64), (0, 0.25, 0.5, 0.75, 1))


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, np.integer) else f"{value:.4g}"


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
