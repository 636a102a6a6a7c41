"""The ledger's file: durable, append-only, and refused with a number when something is wrong with it."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tacit.core.errors import StoreError
from tacit.privacy.ledger import Abandoned, Budget, BudgetExceeded, Gap, Released
from tacit.store import ledger_file
from tacit.store.ledger import Ledger, Reservation, ledger_path
from tests.unit.privacy.ledger.chains import NOISY, POPULATION, count, rho_accountant, spend


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "not" / "yet" / "ledger.db"


def reserve(ledger: Ledger, step: int, population: str = POPULATION, **changes: object) -> Reservation:
    return ledger.reserve(population, spend(step, **changes), accountant=rho_accountant)  # type: ignore[arg-type]


def never(*_: object) -> float:
    raise AssertionError("nobody was to be asked")


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        call()
    assert caught.value.where
    assert caught.value.fix
    return caught.value.code


def as_stranger(file: Path, *statements: str) -> None:
    """Change a ledger behind its back, with the triggers out of the way."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for trigger in ("no_change", "no_removal", "no_hole"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            connection.execute(statement)


# --- what is written stays written ----------------------------------------------------------------


def test_what_was_reserved_is_there_when_the_file_is_opened_again(file: Path) -> None:
    with Ledger(file, now=lambda: "2026-05-01T10:00:00+00:00") as ledger:
        first, second = reserve(ledger, 0), reserve(ledger, 1)
        ledger.release(first)
        assert ledger.abandon(second)
        before = ledger.head(POPULATION)
    with Ledger(file, read_only=True) as ledger:
        assert ledger.head(POPULATION) == before
        assert [entry.fact for entry in ledger.entries(POPULATION)] == [
            spend(0),
            spend(1),
            Released(reservation=1),
            Abandoned(reservation=2),
        ]
        assert {entry.date for entry in ledger.entries(POPULATION)} == {"2026-05-01T10:00:00+00:00"}
        assert ledger.spent(POPULATION).events == {NOISY: 1}
        assert ledger.verify(POPULATION, [before.mark]) == ()


def test_a_commit_waits_for_the_disk(file: Path) -> None:
    found: list[tuple[int, str]] = []

    def look(opened: sqlite3.Connection, *_: object) -> None:
        (synchronous,) = opened.execute("PRAGMA synchronous").fetchone()
        (journal,) = opened.execute("PRAGMA journal_mode").fetchone()
        found.append((synchronous, journal))

    Ledger(file).close()
    event.listen(Engine, "checkout", look)
    try:
        with Ledger(file) as ledger:
            reserve(ledger, 0)
    finally:
        event.remove(Engine, "checkout", look)
    assert set(found) == {(2, "wal")}  # 2 is FULL


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET text = 'x'",
        "DELETE FROM entries WHERE sequence = 2",
        "INSERT OR REPLACE INTO entries SELECT population, 1, text, sha256 FROM entries WHERE sequence = 2",
        "INSERT INTO entries SELECT population, 9, text, sha256 FROM entries WHERE sequence = 2",
    ],
)
def test_the_database_itself_lets_entries_only_be_added(file: Path, statement: str) -> None:
    with Ledger(file) as ledger:
        reserve(ledger, 0)
        reserve(ledger, 1)
    refused = pytest.raises(sqlite3.IntegrityError, match="entries")
    with closing(sqlite3.connect(file)) as connection, refused:
        connection.execute(statement)
    with Ledger(file) as ledger:
        assert ledger.verify(POPULATION) == ()
        assert count(ledger.book(POPULATION)) == 2


def test_populations_do_not_share_a_chain_nor_a_budget(file: Path) -> None:
    with Ledger(file) as ledger:
        ledger.set_budget("b", 2.0, 1e-6)
        reserve(ledger, 0, "a")
        reserve(ledger, 0, "b")
        assert ledger.populations() == ("a", "b")
        assert ledger.budget("a") is None
        assert ledger.budget("b") == Budget(epsilon=2.0, delta=1e-6)
        assert ledger.head("a").mark.sequence == 1
        assert ledger.head("c").mark.sequence == 0
        assert ledger.populations() == ("a", "b")


def test_the_path_is_among_the_users_data_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TACIT_LEDGER", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert ledger_path().name == "ledger.db"
    if sys.platform == "linux":
        assert ledger_path() == tmp_path / "tacit" / "ledger.db"
    monkeypatch.setenv("TACIT_LEDGER", str(tmp_path / "mine.db"))
    assert ledger_path() == tmp_path / "mine.db"


# --- charged once, and once only ------------------------------------------------------------------


def test_the_same_spend_is_charged_once_and_other_inputs_anew(file: Path) -> None:
    with Ledger(file) as ledger:
        first = reserve(ledger, 0)
    with Ledger(file) as ledger:
        again = reserve(ledger, 0)
        assert (again.mark, again.is_reused) == (first.mark, True)
        assert count(ledger.book(POPULATION)) == 1
        other = reserve(ledger, 0, inputs=1)
        assert not other.is_reused
        assert count(ledger.book(POPULATION)) == 2


def test_a_reservation_that_was_found_cannot_be_taken_back(file: Path) -> None:
    with Ledger(file) as ledger:
        reserve(ledger, 0)
        assert not ledger.abandon(reserve(ledger, 0))
        assert count(ledger.book(POPULATION)) == 1


def test_a_release_is_written_once(file: Path) -> None:
    with Ledger(file) as ledger:
        made = reserve(ledger, 0)
        ledger.release(made)
        ledger.release(made)
        assert ledger.head(POPULATION).mark.sequence == 2
        assert code_of(lambda: ledger.abandon(made)) == "T428"


def test_a_refused_spend_leaves_no_trace(file: Path) -> None:
    with Ledger(file) as ledger:
        ledger.set_budget(POPULATION, 1e-3, 1e-6)
        before = ledger.head(POPULATION)
        with pytest.raises(BudgetExceeded):
            reserve(ledger, 0)
        assert ledger.head(POPULATION) == before


def test_an_allowance_spares_the_accountant_until_another_process_spends(file: Path) -> None:
    with Ledger(file) as mine, Ledger(file) as theirs:
        mine.set_budget(POPULATION, 5.0, 1e-6)
        first = mine.reserve(POPULATION, spend(0), accountant=rho_accountant, wanted=10)
        mine.release(first)
        second = mine.reserve(POPULATION, spend(1), accountant=never, allowance=first.allowance)
        reserve(theirs, 0, run="run-2")
        with pytest.raises(AssertionError, match="nobody"):
            mine.reserve(POPULATION, spend(2), accountant=never, allowance=second.allowance)
        third = mine.reserve(POPULATION, spend(2), accountant=rho_accountant, allowance=second.allowance)
        assert not third.is_reused
        assert count(theirs.book(POPULATION)) == 4


# --- what was lost --------------------------------------------------------------------------------


def backup(file: Path) -> Path:
    copy = file.with_suffix(".backup")
    shutil.copy(file, copy)
    return copy


def test_a_restored_backup_is_found_and_what_it_lost_is_charged_once(file: Path) -> None:
    with Ledger(file) as ledger:
        reserve(ledger, 0)
    copy = backup(file)
    with Ledger(file) as ledger:
        reserve(ledger, 1)
        reserve(ledger, 2)
        known = ledger.head(POPULATION)
    copy.replace(file)
    with Ledger(file) as ledger:
        assert [one.kind for one in ledger.verify(POPULATION, [known.mark])] == ["truncated"]
        reserve(ledger, 3)
        (charged,) = ledger.reconcile(POPULATION, [known])
        assert isinstance(charged, Gap)
        assert count(ledger.book(POPULATION)) == 4
        assert ledger.verify(POPULATION, [known.mark]) == ()
        assert ledger.reconcile(POPULATION, [known, ledger.head(POPULATION)]) == ()
        assert count(ledger.book(POPULATION)) == 4


def test_a_head_that_is_there_costs_nothing(file: Path) -> None:
    with Ledger(file) as ledger:
        reserve(ledger, 0)
        head = ledger.head(POPULATION)
        reserve(ledger, 1)
        assert ledger.reconcile(POPULATION, [head]) == ()
        assert code_of(lambda: ledger.reconcile("ward-8", [head])) == "T429"


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE entries SET text = replace(text, '5.0', '500.0') WHERE sequence = 1", "edited"),
        ("UPDATE entries SET text = substr(text, 1, 40) WHERE sequence = 2", "torn"),
        ("UPDATE entries SET text = x'00ff00' WHERE sequence = 2", "torn"),
        ("UPDATE entries SET text = CAST(x'ff7b' AS TEXT), sha256 = 7 WHERE sequence = 2", "torn"),
        ("DELETE FROM entries WHERE sequence = 2", "missing"),
        ("DELETE FROM entries WHERE sequence = 3", "truncated"),
    ],
)
def test_a_ledger_that_a_stranger_has_changed_is_found_out(file: Path, statement: str, kind: str) -> None:
    with Ledger(file) as ledger:
        for step in range(3):
            reserve(ledger, step)
        known = ledger.head(POPULATION).mark
    as_stranger(file, statement)
    with Ledger(file, read_only=True) as ledger:
        assert [one.kind for one in ledger.verify(POPULATION, [known])] == [kind]
    with Ledger(file) as ledger:
        if kind != "truncated":  # which shows only against what is known from elsewhere
            assert code_of(lambda: reserve(ledger, 3)) == "T421"
            assert code_of(lambda: ledger.spent(POPULATION)) == "T421"


def test_a_tail_that_is_cut_off_while_the_ledger_is_open_is_found(file: Path) -> None:
    with Ledger(file) as ledger:
        reserve(ledger, 0)
        reserve(ledger, 1)
        as_stranger(file, "DELETE FROM entries WHERE sequence = 2")
        for _ in range(2):  # asking again does not help
            assert code_of(lambda: reserve(ledger, 2)) == "T421"
            assert code_of(lambda: ledger.head(POPULATION)) == "T421"


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_ledger_that_is_moved_away_while_open_is_not_written_to(file: Path, is_replaced: bool) -> None:
    with Ledger(file) as ledger:
        reserve(ledger, 0)
        file.rename(file.with_name("away.db"))
        if is_replaced:
            Ledger(file).close()
        assert code_of(lambda: reserve(ledger, 1)) == "T420"


# --- files that are none --------------------------------------------------------------------------


def other_database(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")


def newer(file: Path) -> None:
    Ledger(file).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")


def damaged(file: Path) -> None:
    with Ledger(file) as ledger:
        for step in range(40):
            reserve(ledger, step)
    content = bytearray(file.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 64] = b"\xff" * 64
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda file: file.write_text("a diary, and a long one at that " * 200), "T422"),
        (lambda file: file.touch(), "T422"),
        (other_database, "T422"),
        (newer, "T423"),
        (damaged, "T421"),
        (lambda file: file.mkdir(), "T420"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_whole_ledger_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], code: str, read_only: bool
) -> None:
    file = tmp_path / "ledger.db"
    make(file)
    before = file.read_bytes() if file.is_file() else b""

    def use() -> None:
        with Ledger(file, read_only=read_only) as ledger:
            ledger.head(POPULATION)

    assert code_of(use) == ("T426" if read_only and file.is_dir() else code)
    assert not file.is_file() or file.read_bytes() == before


def test_a_ledger_that_is_not_there_is_not_made_for_reading(file: Path) -> None:
    assert code_of(lambda: Ledger(file, read_only=True)) == "T426"
    assert not file.parent.exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert code_of(lambda: Ledger(tmp_path / "file" / "ledger.db")) == "T420"


def test_nothing_is_left_beside_a_ledger(file: Path) -> None:
    with Ledger(file) as ledger:
        reserve(ledger, 0)
    with Ledger(file, read_only=True) as ledger:
        ledger.head(POPULATION)
        assert code_of(lambda: reserve(ledger, 1)) == "T420"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_whoever_waits_too_long_for_another_writer_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "PATIENCE_S", 0.05)
    with Ledger(file) as ledger, closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert code_of(lambda: reserve(ledger, 0)) == "T424"
        other.execute("ROLLBACK")
        assert not reserve(ledger, 0).is_reused


_FULL = """
import resource, sys
from tacit.core.errors import StoreError
from tacit.store.ledger import Ledger
from tests.unit.privacy.ledger.chains import POPULATION, rho_accountant, spend

with Ledger(sys.argv[1]) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    done = 0
    try:
        while True:
            ledger.reserve(POPULATION, spend(done), accountant=rho_accountant)
            done += 1
    except StoreError as error:
        print(error.code, done, ledger.spent(POPULATION).events.popitem()[1])
"""


def test_a_full_disk_refuses_and_forgets_nothing(file: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FULL, str(file)], capture_output=True, text=True, check=True
    )
    code, done, told = ended.stdout.split()
    assert code == "T425"
    assert int(done) > 3
    assert told == done
    with Ledger(file) as ledger:
        assert ledger.verify(POPULATION) == ()
        assert count(ledger.book(POPULATION)) == int(done)
        reserve(ledger, int(done))


_ELSEWHERE = """
import os, sys
from tacit.core.errors import StoreError
from tacit.store.ledger import Ledger

os.setuid(65534)
with Ledger(sys.argv[1], read_only=True) as ledger:
    print(len(ledger.entries("ward-7")))
for path in sys.argv[1:]:
    try:
        Ledger(path)
    except StoreError as error:
        print(error.code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_write_can_still_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "ledger.db")
        with Ledger(file) as ledger:
            reserve(ledger, 0)
        file.chmod(0o644)
        file.parent.chmod(0o755)
        command = [sys.executable, "-c", _ELSEWHERE, str(file), str(file.with_name("new.db"))]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.split() == ["1", "T420", "T420"], ended.stderr
