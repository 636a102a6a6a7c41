"""Finding data files, and telling the right ones from others."""

import gzip
import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest

from tacit.core.errors import DataError
from tacit.data import credit_default, mnist
from tacit.data import files as data_files
from tacit.data.files import RemoteFile, check_present, data_folder, load, locate

CONTENT = b"one\ntwo\n"


def remote(name: str = "things.txt.gz", *, text: bool = False) -> RemoteFile:
    digest = hashlib.sha256(CONTENT).hexdigest()
    aliases = ("things.txt",)
    return RemoteFile(name, ("https://example.org/things",), digest, len(CONTENT), "things", aliases, text)


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small.txt", b"")
        archive.writestr("large.txt", content)
    return packed.getvalue()


@pytest.mark.parametrize("name", ["things.txt.gz", "things.txt", "things/things.txt.gz", "things/things.txt"])
@pytest.mark.parametrize(
    "content", [CONTENT, gzip.compress(CONTENT), zipped(CONTENT)], ids=["plain", "gz", "zip"]
)
def test_a_file_is_found_in_both_places_packed_or_not(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "things").mkdir()
    (tmp_path / name).write_bytes(content)
    assert locate(remote(), tmp_path) == tmp_path / name
    assert load(remote(), tmp_path) == CONTENT


def test_line_ends_of_a_text_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "things.txt").write_bytes(CONTENT.replace(b"\n", b"\r\n"))
    assert load(remote(text=True), tmp_path) == CONTENT
    with pytest.raises(DataError, match=r"T207"):
        load(remote(), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"one\ntwp\n",
        b"",
        CONTENT * 2,
        gzip.compress(CONTENT)[:-9],
        b"\x1f\x8bnonsense",
        zipped(CONTENT)[:40],
        gzip.compress(b"0" * 10_000_000),
    ],
    ids=["other", "empty", "longer", "cut off", "no gzip", "no zip", "bomb"],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "things.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"T207") as caught:
        locate(remote(), tmp_path)
    assert str(tmp_path / "things.txt") in caught.value.where
    assert "https://example.org/things" in caught.value.fix


def test_a_file_is_verified_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "things.txt"
    path.write_bytes(CONTENT)
    locate(remote(), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(data_files, "verify", None)  # a second check would fail on this
        locate(remote(), tmp_path)
        load(remote(), tmp_path)
    path.write_bytes(b"one\ntwp\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match=r"T207"):
        locate(remote(), tmp_path)


def test_a_missing_file_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"T206: missing data file: things.txt.gz") as caught:
        locate(remote(), tmp_path)
    assert caught.value.where == f"looked in {tmp_path / 'things'} and {tmp_path}"
    for word in ("https://example.org/things", str(tmp_path / "things"), "TACIT_DATA"):
        assert word in caught.value.fix


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"4 data files are missing: train-images-idx3-ubyte.gz, train-labels"
    ):
        mnist().split(clients=2).open(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").touch()
    with pytest.raises(DataError, match="3 data files"):
        check_present(mnist().files, tmp_path)


def test_a_file_nobody_publishes_is_described(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"UCI_Credit_Card\.csv") as caught:
        credit_default().split().open(tmp_path)
    assert "ID,LIMIT_BAL,SEX" in caught.value.fix
    assert "http" not in caught.value.fix


def test_the_folder_is_the_given_one_or_the_variables_or_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACIT_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder("elsewhere") == Path("elsewhere")
    monkeypatch.delenv("TACIT_DATA")
    assert data_folder().parts[-2:] == ("tacit", "data")


def test_every_address_is_https() -> None:
    from tacit.core.part import parts
    from tacit.data import Source

    for kind in parts(Source).values():
        if kind.__name__ not in ("CSV", "Parquet"):
            assert all(url.startswith("https://") for file in kind().files for url in file.urls)
