"""Tables of the user's own: CSV and Parquet files."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.core.errors import DataError
from tacit.core.part import Part
from tacit.data.files import RemoteFile
from tacit.data.source import Splittable
from tacit.data.sources.columns import Column, Role, Roles, TextColumn, bad_cell, not_finite
from tacit.data.table import Table


class CSV(Splittable, Part, frozen=True, kw_only=False, tag="csv"):
    """A CSV file with a header line (UTF-8), by the roles of its columns.

    Inputs are float32 of shape (rows, features). Errors name row and column, never a value.

    Attributes:
        path: The file: absolute, or relative to the working or the data folder.
        target: The column to predict.
        features: The columns to predict it from; None: all that have no other role.
        client: The column that says whose row it is; it becomes the natural column of that name.
        categorical: Features that are no numbers: each becomes one column of 0 and 1 for each of its values,
            in sorted order.
        drop: Columns to leave out.
        task: ``"classification"`` numbers the target's values in ascending order (0 to K-1 keep theirs),
            ``"binary"`` does and refuses more than two, both int64; ``"regression"`` takes numbers, float32.
        delimiter: What separates cells.
    """

    path: Path
    target: str
    features: tuple[str, ...] | None = None
    client: str | None = None
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    task: Role = "classification"
    delimiter: str = ","

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return ()

    def load(self, folder: Path) -> Table:
        path = _existing(self.path, folder)
        return _roles(self).table(_read_csv(path, self.delimiter), str(path))


class Parquet(Splittable, Part, frozen=True, kw_only=False, tag="parquet"):
    """A Parquet file, by the roles of its columns; needs the extra ``tacit[parquet]``.

    Attributes:
        path: The file: absolute, or relative to the working or the data folder.
        target: The column to predict.
        features: As for ``CSV``, like all that follow.
        client: The column that says whose row it is.
        categorical: Features that are no numbers.
        drop: Columns to leave out.
        task: What the target says.
    """

    path: Path
    target: str
    features: tuple[str, ...] | None = None
    client: str | None = None
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    task: Role = "classification"

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return ()

    def load(self, folder: Path) -> Table:
        path = _existing(self.path, folder)
        return _roles(self).table(_read_parquet(path), str(path))


def _roles(source: CSV | Parquet) -> Roles:
    return Roles(source.target, source.features, source.client, source.categorical, source.drop, source.task)


def _existing(path: Path, folder: Path) -> Path:
    places = (path.expanduser(), folder / path)
    for place in places:
        if place.is_file():
            return place
    where = " and ".join(str(place.absolute()) for place in dict.fromkeys(places))
    fix = "Write its path relative to the working folder, or an absolute one."
    raise DataError("T206", f"there is no file {path.name}", where=f"looked at {where}", fix=fix)


def _read_csv(path: Path, delimiter: str) -> dict[str, Column]:
    where = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return _parse_csv(csv.reader(lines, delimiter=delimiter, strict=True), where)
    except (UnicodeDecodeError, csv.Error):
        # Their own messages may quote the data.
        fix = "Save it as CSV in UTF-8."
        raise DataError("T208", "the file is no CSV in UTF-8", where=where, fix=fix) from None


def _parse_csv(reader: Any, where: str) -> dict[str, Column]:
    header = [name.strip() for name in next(reader, [])]
    _check_header(header, where)
    rows: list[list[str]] = []
    numbers: list[int] = []
    for row in reader:
        if row:  # an empty line is no row
            if len(row) != len(header):
                what = f"row {reader.line_num} has {len(row)} cells, but the header has {len(header)}"
                raise DataError("T216", what, where=where, fix="Write one cell for each column.")
            rows.append(row)
            numbers.append(reader.line_num)
    _check_rows(len(rows), where)
    columns = ([row[i] for row in rows] for i in range(len(header)))
    return {
        name: TextColumn(name, cells, numbers.__getitem__, where)
        for name, cells in zip(header, columns, strict=True)
    }


def _check_header(header: list[str], where: str) -> None:
    if not header:
        fix = "Write a header line and one line a row."
        raise DataError("T202", "the file is empty", where=where, fix=fix)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError("T216", f"two columns are named {twice[0]!r}", where=where, fix="Rename one.")


def _check_rows(rows: int, where: str) -> None:
    if not rows:
        fix = "Write one line a row below the header."
        raise DataError("T202", "the file has no rows", where=where, fix=fix)


def _read_parquet(path: Path) -> dict[str, Column]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        fix = "pip install 'tacit[parquet]'"
        raise DataError("T218", "reading Parquet needs pyarrow", where=str(path), fix=fix) from None
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        raise DataError("T208", "the file is no Parquet", where=str(path), fix="Write it again.") from None
    _check_header(list(table.column_names), str(path))
    _check_rows(table.num_rows, str(path))
    return {name: _ArrowColumn(name, table.column(name), str(path)) for name in table.column_names}


class _ArrowColumn:
    """A column of a Parquet file; rows are numbered from 1."""

    def __init__(self, name: str, column: Any, where: str) -> None:
        self._name, self._column, self._where = name, column, where

    def numbers(self) -> npt.NDArray[np.float64]:
        import pyarrow as pa

        try:
            values = np.asarray(self._column.cast(pa.float64()).to_numpy(), np.float64)
        except (pa.ArrowException, NotImplementedError):
            what = f"column {self._name!r} holds {self._column.type}, not numbers"
            fix = "Text columns go into categorical, useless ones into drop."
            raise DataError("T215", what, where=self._where, fix=fix) from None
        self._check(not_finite(values), "no finite number")
        return values

    def texts(self) -> npt.NDArray[np.str_]:
        missing = np.asarray(self._column.is_null().to_numpy(), bool)
        values = np.array([str(value) for value in self._column.to_pylist()], dtype=np.str_)
        self._check(missing | (np.char.strip(values) == ""), "empty")
        return values

    def _check(self, wrong: npt.NDArray[np.bool_], why: str) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows):
            raise bad_cell(self._name, int(rows[0]) + 1, len(rows), self._where, why)
