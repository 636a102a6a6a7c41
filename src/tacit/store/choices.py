"""Which executor was chosen for what on this machine, and exported programs: kept between runs.

Nothing here is needed: a file that is missing, torn or changed is as good as none and is written anew, and
the whole folder may be deleted at any time. Two processes may use it at once.
"""

import glob
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from tacit.core.errors import ConfigError
from tacit.core.part import Settings, decode, encode
from tacit.data.files import cache_folder
from tacit.training.executor import Choice

FOLDER_VARIABLE = "TACIT_EXECUTORS"
"""The environment variable that names the folder of choices and programs."""


class KeptChoice(Settings, frozen=True):
    """A choice that was made before.

    Attributes:
        choice: Who trains.
        program_sha256: The program it runs, if it runs one.
    """

    choice: Choice
    program_sha256: str | None = None


def choices_folder() -> Path:
    """Return the folder of choices and programs: that of ``TACIT_EXECUTORS``, or one in the user's cache."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder() / "executors"


class ChoiceCache:
    """Choices and programs by key; a key is the SHA-256 of everything that a choice depends on.

    Args:
        folder: Where they lie; by default ``choices_folder()``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or choices_folder()

    def find(self, key: str) -> KeptChoice | None:
        """Return what was chosen under this key, or None."""
        try:
            found = msgspec.json.decode((self.folder / f"{key}.json").read_bytes())
            if found["key"] != key or found["sha256"] != _digest(found["kept"]):
                return None
            return decode(KeptChoice, found["kept"])
        except (OSError, msgspec.DecodeError, ConfigError, KeyError, TypeError):
            return None

    def keep(self, key: str, kept: KeptChoice) -> KeptChoice:
        """Keep a choice, unless another process was quicker; return the one that is kept.

        Where nothing can be written, nothing is kept.
        """
        plain = encode(kept)
        content = msgspec.json.format(
            msgspec.json.encode({"key": key, "sha256": _digest(plain), "kept": plain}), indent=2
        )
        with suppress(OSError), self._written(content) as temporary:
            path = self.folder / f"{key}.json"
            try:
                os.link(temporary, path)
            except OSError:  # there is one, or this disk knows no links
                if self.find(key) is None:
                    temporary.replace(path)
        return self.find(key) or kept

    def forget(self, key: str) -> None:
        """Remove the choice under this key."""
        with suppress(OSError):
            (self.folder / f"{key}.json").unlink(missing_ok=True)

    def find_program(self, key: str) -> bytes | None:
        """Return the program that was kept under this key, or None."""
        return next(self._whole(f"{key}-*.onnx"), None)

    def program(self, sha256: str) -> bytes | None:
        """Return the program of that SHA-256, or None if it is not here."""
        return next(self._whole(f"*-{glob.escape(sha256)}.onnx"), None)

    def keep_program(self, key: str, data: bytes) -> None:
        """Keep a program, where that is possible."""
        with suppress(OSError), self._written(data) as temporary:
            temporary.replace(self.folder / f"{key}-{_sha256(data)}.onnx")

    def _whole(self, pattern: str) -> Iterator[bytes]:
        """Yield the content of every file whose name says what it holds."""
        for path in sorted(self.folder.glob(pattern)):
            with suppress(OSError):
                data = path.read_bytes()
                if path.stem.endswith(f"-{_sha256(data)}"):
                    yield data

    @contextmanager
    def _written(self, content: bytes) -> Iterator[Path]:
        """Write a temporary file in the folder, and remove it if it has not become another one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _digest(plain: Any) -> str:
    return _sha256(msgspec.json.encode(plain, order="sorted"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
