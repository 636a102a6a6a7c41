"""Files that are whole or not there, and errors of the disk in words."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tacit.core.errors import StoreError

_FIXES = {
    errno.ENOSPC: "Free some space, then resume the run: its last checkpoint is whole.",
    errno.EDQUOT: "Free some of the quota, then resume the run: its last checkpoint is whole.",
    errno.EFBIG: "Raise the limit on file sizes, then resume the run: its last checkpoint is whole.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "Choose a folder on a disk that can be written to.",
    errno.ENOTDIR: "Choose a folder, not a file.",
    errno.EEXIST: "Choose a folder, not a file.",
}


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into a ``StoreError``."""
    try:
        yield
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "Check the path and the disk.")
        raise StoreError("T401", f"cannot write: {error.strerror}", where=str(path), fix=fix) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file durably and atomically: after a crash it is the old one or the new one, never half.

    Raises:
        StoreError: The disk is full, or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # two processes may write the same file
    with storing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:  # also a second Ctrl-C
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def remove_halves(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed processes have left of these files."""
    with storing(folder):
        for name in names:
            for temporary in folder.glob(f".{name}.*.tmp"):
                temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
