"""Files of the user's own: roles of columns, and errors that name no value."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tacit.core.errors import DataError
from tacit.core.part import decode, encode
from tacit.data import CSV, Source, csv, parquet

TEXT = "age,sex,site,sick\n50,f,b,yes\n40,m,a,no\n30.5,f,b,no\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "patients.csv"
    path.write_text(TEXT)
    return path


def write(path: Path, text: str) -> CSV:
    path.write_text(text)
    return csv(path, "y")


def test_columns_become_inputs_target_and_groups(path: Path) -> None:
    table = csv(path, "sick", client="site", categorical=("sex",)).load(Path())
    assert table.inputs[0].tolist() == [[50, 1, 0], [40, 0, 1], [30.5, 1, 0]]
    assert table.inputs[0].dtype == np.float32
    assert table.target.tolist() == [1, 0, 0]
    assert table.target.dtype == np.int64
    assert table.groups["site"].tolist() == ["b", "a", "b"]


def test_columns_are_named_or_dropped(path: Path) -> None:
    assert csv(path, "sick", features=("age",)).load(Path()).inputs[0].shape == (3, 1)
    assert csv(path, "sick", drop=("sex", "site")).load(Path()).inputs[0].shape == (3, 1)
    assert (
        csv(path, "age", features=("sex",), categorical=("sex",), task="regression").load(Path()).target.dtype
        == np.float32
    )


def test_a_table_is_found_in_the_data_folder_and_survives_its_file(path: Path) -> None:
    source = csv(Path("patients.csv"), "sick", drop=("sex",), client="site")
    assert source.split(test=0, holdout=0).open(path.parent).sizes.tolist() == [1, 2]
    assert decode(Source, encode(source)) == source
    assert (
        decode(
            Source,
            {"type": "csv", "path": "patients.csv", "target": "sick", "drop": ["sex"], "client": "site"},
        )
        == source
    )


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("0 1 1", [0, 1, 1]),
        ("1 1 1", [1, 1, 1]),
        ("1 2 1", [0, 1, 0]),
        ("10 9 10.0", [1, 0, 1]),
        ("b a b", [1, 0, 1]),
        ("0 1 2", [0, 1, 2]),
    ],
)
def test_classes_are_numbered_in_ascending_order(tmp_path: Path, cells: str, expected: list[int]) -> None:
    rows = "".join(f"1,{cell}\n" for cell in cells.split())
    assert write(tmp_path / "t.csv", f"x,y\n{rows}").load(Path()).target.tolist() == expected


def test_binary_means_two(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,a\n1,b\n1,c\n")
    with pytest.raises(DataError, match=r"T217.*3 different values"):
        csv(tmp_path / "t.csv", "y", task="binary").load(Path())


@pytest.mark.parametrize("cell", ["", "hunter2", "nan", "inf", "1e300", "?"])
def test_a_bad_cell_is_named_by_row_and_column_and_not_quoted(tmp_path: Path, cell: str) -> None:
    with pytest.raises(
        DataError, match=r"T215: column 'x' is no finite number in row 3 \(and 1 more\)"
    ) as caught:
        write(tmp_path / "t.csv", f"x,y\n1,0\n{cell},1\n\n{cell},1\n").load(Path())
    assert not cell or cell == "?" or cell not in str(caught.value).replace("finite", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "T202: the file is empty"),
        ("x,y\n", "T202: the file has no rows"),
        ("x,x,y\n1,2,3\n", "T216: two columns are named 'x'"),
        ("x,y\n1,2,3\n", "T216: row 2 has 3 cells, but the header has 2"),
        ("x,y\n1,2\n1\n", "T216: row 3 has 1 cells"),
        ('x,y\n"1"2,3\n', "T208"),
        ("x,z\n1,2\n", "T214: there is no column 'y'"),
        ("y\n1\n", "T216: no column is left"),
        ("x,y\n1,\n", "T215: column 'y' is empty in row 2"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write(tmp_path / "t.csv", text).load(Path())


def test_wrong_roles_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match=r"T214.*'sik'; did you mean 'sick'"):
        csv(path, "sik").load(Path())
    for source in (
        csv(path, "sick", features=("age", "sick")),
        csv(path, "sick", features=("age",), drop=("age",)),
        csv(path, "sick", features=("age",), categorical=("sex",)),
        csv(path, "sick", features=("site",), client="site"),
    ):
        with pytest.raises(DataError, match=r"T216.*cannot be both"):
            source.load(Path())


def test_files_that_are_not_there_or_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"T206: there is no file no.csv"):
        csv(Path("no.csv"), "y").load(tmp_path)
    (tmp_path / "t.csv").write_bytes(b"x,y\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"T208"):
        csv(tmp_path / "t.csv", "y").load(Path())


def test_a_byte_order_mark_and_another_delimiter_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("﻿x;y\n1;0\n2;1\n", encoding="utf-8")
    assert csv(tmp_path / "t.csv", "y", delimiter=";").load(Path()).inputs[0].tolist() == [[1], [2]]


def test_parquet_reads_the_same_roles(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = {"age": [50, 40, 30.5], "sex": ["f", "m", "f"], "site": [2, 1, 2], "sick": [True, False, False]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = parquet(Path("t.parquet"), "sick", client="site", categorical=("sex",)).load(tmp_path)
    assert table.inputs[0].tolist() == [[50, 1, 0], [40, 0, 1], [30.5, 1, 0]]
    assert table.target.tolist() == [1, 0, 0]
    assert table.groups["site"].tolist() == ["2", "1", "2"]
    with pytest.raises(DataError, match=r"T215.*'sex' holds string"):
        parquet(tmp_path / "t.parquet", "sick").load(Path())


def test_missing_cells_and_damage_in_parquet_are_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"x": [1.0, None], "s": [None, "a"], "y": [0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"T215: column 'x' is no finite number in row 2"):
        parquet(tmp_path / "t.parquet", "y", features=("x",)).load(Path())
    with pytest.raises(DataError, match=r"T215: column 's' is empty in row 1"):
        parquet(tmp_path / "t.parquet", "y", features=("s",), categorical=("s",)).load(Path())
    (tmp_path / "t.parquet").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"T208"):
        parquet(tmp_path / "t.parquet", "y").load(Path())
    pq.write_table(pa.table({"y": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"T202"):
        parquet(tmp_path / "t.parquet", "y").load(Path())


def test_parquet_without_pyarrow_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"T218") as caught:
        parquet(path, "y").load(Path())
    assert "tacit[parquet]" in caught.value.fix
