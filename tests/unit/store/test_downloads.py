"""Downloads against a server on this machine: only what is right gets its name, and only over HTTPS."""

import gzip
import hashlib
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import IO

import pytest

from tacit.core.errors import DataError, StoreError
from tacit.data import digits
from tacit.data.files import RemoteFile
from tacit.store import downloads
from tacit.store.downloads import obtain

CONTENT = b"what was asked for" * 10_000


@dataclass
class Site:
    """A server that answers with ``pages``; its url and the paths it was asked for."""

    url: str = ""
    pages: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@dataclass
class Needs:
    files: tuple[RemoteFile, ...]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            content = site.pages.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("Content-Length", str(len(CONTENT) if self.path == "/cut" else len(content)))
            self.send_header("Location", content.decode() if self.path == "/moved" else "")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            """Be silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def plain_http(url: str, timeout_s: float) -> AbstractContextManager[IO[bytes]]:
    director = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answer: AbstractContextManager[IO[bytes]] = director.open(url, timeout=timeout_s)
    return answer


def remote(*urls: str, name: str = "things.bin") -> RemoteFile:
    return RemoteFile(name, urls, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), folder="things")


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_missing_file_is_fetched_checked_and_not_fetched_again(site: Site, tmp_path: Path) -> None:
    site.pages["/a"] = gzip.compress(CONTENT)
    seen: list[tuple[str, int, int]] = []
    needs = Needs((remote(f"{site.url}/a"),))
    obtain(needs, tmp_path, lambda *what: seen.append(what), opener=plain_http)
    assert everything_in(tmp_path) == ["things.bin"]
    assert seen[-1] == ("things.bin", len(site.pages["/a"]), len(CONTENT))
    obtain(needs, tmp_path, opener=plain_http)
    assert site.asked == ["/a"]


def test_the_next_address_is_tried_when_one_fails(site: Site, tmp_path: Path) -> None:
    site.pages |= {"/wrong": b"something else", "/cut": CONTENT[:1000], "/right": CONTENT}
    urls = [f"{site.url}/{page}" for page in ("absent", "wrong", "cut", "right")]
    obtain(Needs((remote(*urls),)), tmp_path, opener=plain_http)
    assert site.asked == ["/absent", "/wrong", "/cut", "/right"]
    assert (tmp_path / "things" / "things.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"something else", "SHA-256"),
        (CONTENT + bytes(100_000), "longer than"),
        (gzip.compress(bytes(10_000_000)), "more than"),
        (b"\x1f\x8bno gzip", "damaged"),
    ],
)
def test_what_is_not_the_file_leaves_nothing_behind(
    site: Site, tmp_path: Path, content: bytes, reason: str
) -> None:
    site.pages["/a"] = content
    with pytest.raises(DataError, match=f"T219: things.bin could not be fetched.*{reason}") as caught:
        obtain(Needs((remote(f"{site.url}/a"),)), tmp_path, opener=plain_http)
    assert everything_in(tmp_path) == []
    assert str(tmp_path / "things") in caught.value.fix


def test_without_a_network_the_error_says_what_to_put_where(tmp_path: Path) -> None:
    def offline(url: str, timeout_s: float) -> AbstractContextManager[IO[bytes]]:
        raise urllib.error.URLError("no route to host")

    files = (remote("https://example.org/a"), remote("https://example.org/b", name="more.bin"))
    with pytest.raises(DataError, match="no route to host") as caught:
        obtain(Needs(files), tmp_path, opener=offline)
    for word in ("https://example.org/a", "https://example.org/b", str(tmp_path / "things"), "TACIT_DATA"):
        assert word in caught.value.fix
    assert str(tmp_path) in caught.value.where


def test_only_https_is_spoken_by_default(site: Site, tmp_path: Path) -> None:
    site.pages["/a"] = CONTENT
    for url in (f"{site.url}/a", f"file://{tmp_path}/a", "ftp://127.0.0.1/a"):
        with pytest.raises(DataError, match="the address is not https"):
            obtain(Needs((remote(url),)), tmp_path)
    assert site.asked == []


def test_a_redirection_away_from_https_is_not_followed(site: Site) -> None:
    director = downloads._director()  # noqa: SLF001 - a server with a certificate would be needed otherwise
    with pytest.raises(OSError, match="unknown url type"):
        director.open(f"{site.url}/a")
    assert site.asked == []


def test_a_trickle_is_given_up(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LONGEST_S", -1.0)
    site.pages["/a"] = CONTENT
    with pytest.raises(DataError, match="took longer"):
        obtain(Needs((remote(f"{site.url}/a"),)), tmp_path, opener=plain_http)


def test_a_file_that_is_there_but_another_is_not_overwritten(site: Site, tmp_path: Path) -> None:
    (tmp_path / "things.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match="T207"):
        obtain(Needs((remote(f"{site.url}/a"),)), tmp_path, opener=plain_http)
    assert (tmp_path / "things.bin").read_bytes() == b"mine"
    assert site.asked == []


def test_a_file_nobody_publishes_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="T206"):
        obtain(Needs((remote(),)), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    site.pages["/a"] = CONTENT
    (tmp_path / "things").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="T401"):
        obtain(Needs((remote(f"{site.url}/a"),)), tmp_path, opener=plain_http)


def test_a_source_without_files_needs_nothing(tmp_path: Path) -> None:
    obtain(digits(), tmp_path)
    obtain(digits().split(clients=3), tmp_path)
    assert everything_in(tmp_path) == []
