"""Files that are too large or not ours to ship: where they lie, and whether they are what they claim."""

import gzip
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tacit.core.errors import DataError

FOLDER_VARIABLE = "TACIT_DATA"
"""The environment variable that names the folder of data files."""

_SHOWN = 4  # addresses in a message
_DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError)
_verified: set[tuple[Path, int, int, str]] = set()


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set, named by what it contains.

    Attributes:
        name: Its file name as published; packed (``.gz``, ``.zip``) where that is how it is published.
        urls: Where it can be had from, best first; empty where nobody publishes it in this form.
        sha256: Of its content: unpacked, and without carriage returns if ``text``.
        bytes: Length of that content.
        folder: The subfolder it belongs into.
        aliases: Other names under which it is accepted, for example unpacked.
        text: Whether line ends may differ.
        note: What to put there by hand, where there is no url.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    bytes: int
    folder: str
    aliases: tuple[str, ...] = ()
    text: bool = False
    note: str = ""


def data_folder(folder: Path | str | None = None) -> Path:
    """Return the folder of data files: the given one, that of ``TACIT_DATA``, or one in the user's cache."""
    chosen = folder or os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder() / "data"


def cache_folder() -> Path:
    """Return the folder for what can be had or made again."""
    import platformdirs

    return platformdirs.user_cache_path("tacit", appauthor=False)


def locate(file: RemoteFile, folder: Path) -> Path:
    """Find a file in ``folder`` or in its subfolder of that, and check its content once per process.

    Raises:
        DataError: It is not there, or it is another file.
    """
    path = find(file, folder)
    if path is None:
        raise missing([file], folder)
    if _fingerprint(path, file) not in _verified:
        read(path, file)
    return path


def load(file: RemoteFile, folder: Path) -> bytes:
    """Find a file and return its content, unpacked and checked.

    Raises:
        DataError: It is not there, or it is another file.
    """
    path = find(file, folder)
    if path is None:
        raise missing([file], folder)
    return read(path, file)


def find(file: RemoteFile, folder: Path) -> Path | None:
    """Return where the file lies, unchecked, or None."""
    names = (file.name, *file.aliases)
    places = (place / name for place in (folder / file.folder, folder) for name in names)
    return next((place for place in places if place.is_file()), None)


def read(path: Path, file: RemoteFile) -> bytes:
    """Return the content of ``path``, which must be that of ``file``.

    Raises:
        DataError: It is not, or it cannot be unpacked or read.
    """
    fingerprint = _fingerprint(path, file)
    content = unpack(path.read_bytes(), file, str(path))
    if fingerprint not in _verified:
        verify(content, file, str(path))
        _verified.add(fingerprint)
    return content


def unpack(packed: bytes, file: RemoteFile, where: str) -> bytes:
    """Return what a file contains: out of gzip or zip, and without carriage returns if it is text.

    Raises:
        DataError: It is damaged, or more than ``file.bytes`` long.
    """
    # A line end may be two characters; anything longer is refused before it fills memory.
    most = file.bytes * (2 if file.text else 1)
    try:
        content = _unpacked(packed, most + 1)
    except _DAMAGED:
        raise DataError("T207", "the packed file is damaged", where=where, fix=_again(file)) from None
    if len(content) > most:
        raise DataError("T207", f"the file holds more than {file.bytes} bytes", where=where, fix=_again(file))
    return content.replace(b"\r", b"") if file.text else content


def verify(content: bytes, file: RemoteFile, where: str) -> None:
    """Check unpacked content against the pinned checksum.

    Raises:
        DataError: It differs.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        what = f"the content is not that of {file.name}: SHA-256 {found[:16]}..., not {file.sha256[:16]}..."
        raise DataError("T207", what, where=where, fix=_again(file))


def check_present(files: tuple[RemoteFile, ...], folder: Path) -> None:
    """Check that all files are there, without reading them.

    Raises:
        DataError: Some are not; it names them all.
    """
    absent = [file for file in files if find(file, folder) is None]
    if absent:
        raise missing(absent, folder)


def missing(files: Sequence[RemoteFile], folder: Path) -> DataError:
    """Return the error that says exactly which files to put where."""
    names, file = ", ".join(file.name for file in files), files[0]
    place = folder / file.folder
    fix = f"Put it into {place}, or set {FOLDER_VARIABLE} to the folder that holds {file.folder}/."
    if file.urls:
        shown = " , ".join(file.urls[0] for file in files[:_SHOWN])
        fix = f"Fetch {shown} {'and the others beside it' if len(files) > _SHOWN else ''}. {fix}"
    if file.note:
        fix = f"{fix} {file.note}"
    where = f"looked in {place} and {folder}"
    return DataError(
        "T206",
        f"missing data file: {names}" if len(files) == 1 else f"{len(files)} data files are missing: {names}",
        where=where,
        fix=fix,
    )


def _unpacked(packed: bytes, most: int) -> bytes:
    if packed.startswith(b"\x1f\x8b"):
        with gzip.open(io.BytesIO(packed)) as stream:
            return stream.read(most)
    if packed.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            largest = max(archive.infolist(), key=lambda member: member.file_size)
            with archive.open(largest) as stream:
                return stream.read(most)
    return packed


def _fingerprint(path: Path, file: RemoteFile) -> tuple[Path, int, int, str]:
    status = path.stat()
    return path.absolute(), status.st_size, status.st_mtime_ns, file.sha256


def _again(file: RemoteFile) -> str:
    if file.urls:
        return f"Delete it and fetch it again from {file.urls[0]} ."
    return f"Replace it. {file.note}".strip()
