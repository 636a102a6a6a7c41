"""Fetching data files that are missing: over HTTPS only, checked before they get their name."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from tacit.core.errors import DataError
from tacit.data.files import RemoteFile, data_folder, find, locate, missing, unpack, verify
from tacit.store.files import storing, write_whole

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that have arrived, and about how many there will be."""
Opener = Callable[[str, float], AbstractContextManager[IO[bytes]]]
"""From a URL and a timeout in seconds to the body of the answer."""

TIMEOUT_S = 30.0
"""Seconds without any byte after which a server counts as gone."""
LONGEST_S = 1800.0
"""Seconds after which one file is given up, however it trickles."""
_CHUNK = 1 << 16
_PACKING = 1 << 16  # bytes that packing may add to what cannot be made smaller


class NeedsFiles(Protocol):
    """A source, or a split of one."""

    @property
    def files(self) -> tuple[RemoteFile, ...]: ...


def obtain(
    source: NeedsFiles,
    folder: Path | str | None = None,
    progress: Progress | None = None,
    *,
    opener: Opener | None = None,
) -> None:
    """Fetch every file that a source needs and that is not there yet.

    A file appears under its name only when it is complete and its checksum is right; a download that was cut
    off starts anew.

    Args:
        source: A source or a split.
        folder: Where the data files lie. None: ``TACIT_DATA``, or ``tacit/data`` in the user's cache.
        progress: Called while bytes arrive.
        opener: Opens URLs; by default over HTTPS and nothing else, redirections included.

    Raises:
        DataError: A file that is there is another one; or one could not be fetched: the message says what to
            put where by hand.
        StoreError: The folder cannot be written to.
    """
    place = data_folder(folder)
    absent = [file for file in source.files if find(file, place) is None]
    for file in source.files:
        if file not in absent:
            locate(file, place)
    for position, file in enumerate(absent):
        _fetch(file, absent[position:], place, progress or _silent, opener or https)


def https(url: str, timeout_s: float) -> AbstractContextManager[IO[bytes]]:
    """Open a URL over HTTPS, and follow redirections to such alone.

    Raises:
        OSError: The URL is of another kind, or nobody answers.
    """
    if not url.lower().startswith("https://"):
        raise OSError("the address is not https")
    answer: AbstractContextManager[IO[bytes]] = _director().open(url, timeout=timeout_s)
    return answer


def _director() -> urllib.request.OpenerDirector:
    """Return an opener that knows no protocol but HTTPS: a redirection elsewhere has nobody to follow it."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        director.add_handler(handler)
    director.addheaders = [("User-Agent", "tacit")]
    return director


def _fetch(
    file: RemoteFile, absent: Sequence[RemoteFile], place: Path, progress: Progress, opener: Opener
) -> None:
    """Try one address after the other; ``absent`` are this file and those that would come next."""
    if not file.urls:
        raise missing([file], place)
    reasons = []
    for url in file.urls:
        try:
            return _download(file, url, place / file.folder, progress, opener)
        except DataError as error:
            reasons.append(f"{url}: {error.what}")
        except urllib.error.HTTPError as error:
            error.close()
            reasons.append(f"{url}: the server answers {error.code}")
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url}: {getattr(error, 'reason', error)}")
    what = f"{file.name} could not be fetched ({'; '.join(reasons)})"
    by_hand = missing(absent, place)
    raise DataError("T219", what, where=by_hand.where, fix=by_hand.fix)


def _download(file: RemoteFile, url: str, folder: Path, progress: Progress, opener: Opener) -> None:
    """Fetch one file into ``folder``, where it appears when it is whole and right."""
    packed = _receive(file, url, progress, opener)
    verify(unpack(packed, file, url), file, url)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / file.name, packed)


def _receive(file: RemoteFile, url: str, progress: Progress, opener: Opener) -> bytes:
    most = file.bytes * (2 if file.text else 1) + _PACKING
    until = time.monotonic() + LONGEST_S
    received = bytearray()
    with opener(url, TIMEOUT_S) as body:
        while chunk := body.read(_CHUNK):
            received += chunk
            if len(received) > most:
                raise OSError(f"the file is longer than {most} bytes")
            if time.monotonic() > until:
                raise OSError(f"it took longer than {LONGEST_S:.0f} seconds")
            progress(file.name, len(received), file.bytes)
    return bytes(received)


def _silent(name: str, received: int, expected: int) -> None:
    """Report nothing."""
