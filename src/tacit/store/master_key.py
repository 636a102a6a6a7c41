"""The server's master key: what secrets at rest are sealed with."""

import os
import secrets
from pathlib import Path

import platformdirs

from tacit.core.errors import StoreError
from tacit.store.files import storing, sync_folder

PATH_VARIABLE = "TACIT_MASTER_KEY"
"""The environment variable that names the file of the master key."""
_BYTES = 32


def master_key_path() -> Path:
    """Return where the master key lies: ``TACIT_MASTER_KEY``, or the user's data folder."""
    named = os.environ.get(PATH_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_data_dir("tacit")) / "master.key"


def master_key(path: Path | None = None, *, make: bool = True) -> bytes:
    """Return the master key, 32 bytes.

    Keep it apart from backups of run folders: whoever has both can draw again the noise of the last steps.

    Args:
        path: Where it lies; None: ``master_key_path()``.
        make: Whether to make one where there is none, for its owner's eyes only. Who opens what was sealed
            does not: a new key would not open it.

    Raises:
        StoreError: It cannot be made or read, or is no key.
    """
    path = path or master_key_path()
    if make and not path.exists():
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make(path)
    try:
        key = path.read_bytes()
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    if len(key) != _BYTES:
        raise _unusable(path, f"has {len(key)} bytes, not {_BYTES}")
    return key


def _unusable(path: Path, why: str) -> StoreError:
    fix = f"Restore it, or name the file that has it: {PATH_VARIABLE}."
    return StoreError("T430", f"the master key {why}", where=str(path), fix=fix)


def _make(path: Path) -> None:
    # Beside it first, whole and durable, then linked: of two processes at once the first one wins.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    sync_folder(path.parent)
