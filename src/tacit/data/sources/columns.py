"""From named columns to a table: the roles that columns of a user's own file can have."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from tacit.core.errors import DataError
from tacit.core.examples import Array
from tacit.data.table import Table

Role = Literal["classification", "regression", "binary"]
"""What the target column says: a class, a number, or one of two things."""


class Column(Protocol):
    """One column of a file; its errors name the row and the column, never the value."""

    def numbers(self) -> npt.NDArray[np.float64]:
        """Return the column as finite numbers, or raise ``DataError``."""
        ...

    def texts(self) -> npt.NDArray[np.str_]:
        """Return the column as text, or raise ``DataError`` where a cell is empty."""
        ...


@dataclass(frozen=True)
class TextColumn:
    """A column read as text.

    Attributes:
        name: The column's name.
        cells: Its text, row by row.
        row_of: From a position to the row's number in the file.
        where: The file.
    """

    name: str
    cells: list[str]
    row_of: Callable[[int], int]
    where: str

    def numbers(self) -> npt.NDArray[np.float64]:
        try:
            values = np.array([float(cell) for cell in self.cells], dtype=np.float64)
        except ValueError:
            values = np.array([_number(cell) for cell in self.cells], dtype=np.float64)
        wrong = np.flatnonzero(not_finite(values))
        if len(wrong):
            raise bad_cell(self.name, self.row_of(int(wrong[0])), len(wrong), self.where, "no finite number")
        return values

    def texts(self) -> npt.NDArray[np.str_]:
        values = np.char.strip(np.array(self.cells, dtype=np.str_))
        wrong = np.flatnonzero(values == "")
        if len(wrong):
            raise bad_cell(self.name, self.row_of(int(wrong[0])), len(wrong), self.where, "empty")
        return values


@dataclass(frozen=True)
class Roles:
    """Which column is what; see ``CSV`` for their meaning."""

    target: str
    features: tuple[str, ...] | None
    client: str | None
    categorical: tuple[str, ...]
    drop: tuple[str, ...]
    task: Role

    def table(self, columns: Mapping[str, Column], where: str) -> Table:
        """Build the table.

        Raises:
            DataError: A column is unknown or used twice, or a cell is missing or not of the right kind.
        """
        features = self._features(columns, where)
        pieces = [piece for name in features for piece in self._feature(columns[name], name)]
        groups = {self.client: columns[self.client].texts()} if self.client else {}
        target = _target(columns[self.target], self.task, where, self.target)
        return Table((np.column_stack(pieces).astype(np.float32),), target, groups)

    def _features(self, columns: Iterable[str], where: str) -> tuple[str, ...]:
        known = list(columns)
        named = [self.target, *(self.features or ()), *self.categorical, *self.drop]
        for name in (*named, *([self.client] if self.client else [])):
            _check_known(name, known, where)
        aside = {self.target, *([self.client] if self.client else []), *self.drop}
        chosen = self.features if self.features is not None else tuple(n for n in known if n not in aside)
        twice = sorted(aside.intersection(chosen)) or sorted(set(self.categorical) - set(chosen))
        if twice:
            what = f"column {twice[0]!r} cannot be both: a feature, and the target, the client or dropped"
            raise DataError("T216", what, where=where, fix="Give each column one role.")
        if not chosen:
            what = "no column is left as a feature"
            raise DataError("T216", what, where=where, fix="Name one in features.")
        return chosen

    def _feature(self, column: Column, name: str) -> list[Array]:
        if name not in self.categorical:
            return [column.numbers()]
        values = column.texts()
        return [values == known for known in np.unique(values)]


def not_finite(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which values float32 cannot hold: NaN, infinite ones and those that would become so."""
    return ~(np.abs(values) <= np.finfo(np.float32).max)


def bad_cell(column: str, row: int, how_many: int, where: str, why: str) -> DataError:
    """Return the error about cells of a column, which names the first and no value."""
    rest = f" (and {how_many - 1} more)" if how_many > 1 else ""
    what = f"column {column!r} is {why} in row {row}{rest}"
    fix = "Fill the cell in or remove the row; text columns go into categorical, useless ones into drop."
    return DataError("T215", what, where=where, fix=fix)


def _check_known(name: str, known: list[str], where: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise DataError("T214", f"there is no column {name!r}{hint}", where=where, fix=f"Columns: {shown}.")


def _target(column: Column, task: Role, where: str, name: str) -> Array:
    if task == "regression":
        return column.numbers().astype(np.float32)
    texts = column.texts()
    codes = _codes(texts)
    if task == "binary" and codes.max(initial=0) > 1:
        what = f"column {name!r} has {codes.max() + 1} different values, but task is binary"
        raise DataError("T217", what, where=where, fix='Write task = "classification".')
    return codes


def _codes(texts: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Return the classes' numbers, in ascending order of their names; 0 to K-1 keep theirs."""
    values, positions = np.unique(texts, return_inverse=True)
    try:
        numbers = values.astype(np.float64)
    except ValueError:
        return positions.astype(np.int64)
    distinct, class_of = np.unique(numbers, return_inverse=True)  # "1" and "1.0" are one class
    if len(distinct) == 1 and distinct[0] == 1:
        class_of = class_of + 1  # a file in which everybody is a 1
    return class_of[positions].astype(np.int64)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
