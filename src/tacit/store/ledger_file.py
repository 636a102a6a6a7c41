"""The ledger's file: an SQLite database that is whole from its first moment and can only grow."""

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.pool import StaticPool

from tacit.core.errors import StoreError
from tacit.store.files import sync_folder

PATH_VARIABLE = "TACIT_LEDGER"
"""The environment variable that names the ledger's file."""
LEDGER = "ledger.db"
"""The ledger's name in a run folder."""
VERSION = 1
PATIENCE_S = 60.0
"""Seconds to wait for another process that is writing."""
_APPLICATION = int.from_bytes(b"tldg")  # tells our databases from others, see `PRAGMA application_id`

entries = sql.Table(
    "entries",
    sql.MetaData(),
    sql.Column("population", sql.Text, primary_key=True),
    sql.Column("sequence", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("sha256", sql.Text, nullable=False),
    sqlite_with_rowid=False,
)
"""One row for each entry; the text is what was hashed."""

_RULES = """
CREATE TRIGGER no_change BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are final'); END;
CREATE TRIGGER no_removal BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are final'); END;
CREATE TRIGGER no_hole BEFORE INSERT ON entries
WHEN NEW.sequence IS NOT
  (SELECT coalesce(max(sequence), 0) + 1 FROM entries WHERE population = NEW.population)
BEGIN SELECT RAISE(ABORT, 'entries follow one another'); END;
"""
"""The last also stops INSERT OR REPLACE, which removes a row without asking the one before."""


def ledger_path() -> Path:
    """Return the ledger's file: that of ``TACIT_LEDGER``, or one among the user's data (never the cache)."""
    import platformdirs

    chosen = os.environ.get(PATH_VARIABLE)
    folder = platformdirs.user_data_path("tacit", appauthor=False)
    return Path(chosen).expanduser() if chosen else folder / LEDGER


class LedgerFile:
    """An open ledger file.

    Args:
        path: The file. It is made, unless it is there or only to be read.
        read_only: Whether nothing is to be written.

    Raises:
        StoreError: It cannot be made or opened, is no ledger, or is of another version.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        with speaking(path):
            if not read_only:
                _make(path)
            elif not path.is_file():
                fix = "Name the ledger's file with --ledger or TACIT_LEDGER; the first private run makes it."
                raise StoreError("T426", "there is no ledger here", where=str(path), fix=fix)
            self._connection = _connect(path, read_only=read_only)
            self._identity = _identity(path)
            self._engine = _engine(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """Look at one state of the file."""
        with speaking(self.path), self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """Be the only writer, from the first look at the file until what is written is on the disk."""
        with speaking(self.path), self._transaction("BEGIN IMMEDIATE") as connection:
            if _identity(self.path) != self._identity:
                fix = "Nothing may move or replace a ledger in use: start again on the one that is there now."
                raise StoreError(
                    "T420", "the ledger was moved or replaced while open", where=str(self.path), fix=fix
                )
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sql.Connection]:
        with self._engine.connect().execution_options(tacit_begin=begin) as connection, connection.begin():
            yield connection


@contextmanager
def speaking(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system say about a ledger into a ``StoreError``."""
    try:
        yield
    except sql.exc.DBAPIError as error:
        raise _worded(error.orig, path) from error
    except (sqlite3.Error, OSError) as error:
        raise _worded(error, path) from error


# --- below: making and opening ------------------------------------------------------------------


def _make(path: Path) -> None:
    """Make an empty ledger; it gets its name when it is whole, and takes nobody else's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            _lay_out(connection)
        os.fsync(handle)
        with suppress(FileExistsError):  # another process was quicker
            os.link(temporary, path)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _lay_out(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = OFF")  # the whole file is synced once, before it gets its name
    with _engine(connection).begin() as opened:
        entries.metadata.create_all(opened)
    connection.executescript(_RULES)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("PRAGMA journal_mode = WAL")


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{_mode(path, read_only=read_only)}",
        uri=True,
        timeout=PATIENCE_S,
        isolation_level=None,  # transactions begin where we say so
        check_same_thread=False,
    )
    try:
        # Bytes that are no text are a torn entry, and to be reported as one.
        connection.text_factory = lambda found: found.decode(errors="replace")
        connection.execute("PRAGMA synchronous = FULL")
        _recognise(connection, path)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            # What a killed process had written but not yet synced is on the disk before anybody relies on it.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except BaseException:
        connection.close()
        raise
    return connection


def _mode(path: Path, *, read_only: bool) -> str:
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "mode=rw"  # also for reading: only who may write can tidy up what SQLite puts beside the file
    if not read_only:
        raise PermissionError(errno.EACCES, "Permission denied")
    # A ledger that was closed, where SQLite cannot put its index beside it, does not change.
    return "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        fix = "Name another file with --ledger or TACIT_LEDGER."
        raise StoreError("T422", "this is a database, but no ledger", where=str(path), fix=fix)
    if version != VERSION:
        what = f"the ledger is of version {version}; this tacit knows version {VERSION}"
        raise StoreError("T423", what, where=str(path), fix="Use the tacit that wrote it, or a newer one.")


def _engine(connection: sqlite3.Connection) -> sql.Engine:
    engine = sql.create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)

    @sql.event.listens_for(engine, "begin")
    def _begin(opened: sql.Connection) -> None:
        opened.exec_driver_sql(opened.get_execution_options().get("tacit_begin", "BEGIN"))

    return engine


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _worded(error: BaseException | None, path: Path) -> StoreError:
    name = str(getattr(error, "sqlite_errorname", ""))
    for start, code, what, fix in _WORDS:
        if name.startswith(start):
            return StoreError(code, f"{what} ({error})", where=str(path), fix=fix)
    said = getattr(error, "strerror", None) or error
    fix = "Choose a file in a folder that you may write to."
    return StoreError("T420", f"the ledger cannot be used: {said}", where=str(path), fix=fix)


_WORDS = (
    ("SQLITE_NOTADB", "T422", "this is no ledger", "Name another file with --ledger or TACIT_LEDGER."),
    ("SQLITE_CORRUPT", "T421", "the ledger is damaged", "Put back its newest whole copy, its -wal included."),
    (
        "SQLITE_BUSY",
        "T424",
        f"another process has been writing for {PATIENCE_S:.0f} seconds",
        "Look for one that hangs, then resume the run.",
    ),
    ("SQLITE_FULL", "T425", "the ledger could not be written", "Free some space, then resume the run."),
    ("SQLITE_IOERR", "T425", "the ledger could not be written", "Look at the disk, then resume the run."),
)
