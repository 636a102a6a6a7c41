"""Snapshots survive being written and read, and the writer never falls silent."""

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import StoreError
from tacit.core.metrics import ClientSummary
from tacit.round import EvaluationRecord, Snapshot
from tacit.store import CheckpointWriter, load_snapshot, save_snapshot


def snapshot(number: int = 1, size: int = 5) -> Snapshot:
    vector = np.arange(size, dtype=np.float32) + number
    return Snapshot(
        round=number,
        committed=number,
        abandoned_in_a_row=0,
        now_s=0.1 + 0.2,
        vector=vector,
        optimizer={"momentum": vector * 2},
        buffers={"ann/bob": vector[:2], "": vector[:1], "Zoë \u2028": vector[:0]},
        history=(
            EvaluationRecord(round=0, central={"loss": 1 / 3}),
            EvaluationRecord(
                round=number,
                clients={"loss": ClientSummary(mean=0.1, worst_10=1e-300, spread=2**-60, clients=3)},
            ),
        ),
    )


def assert_equal(a: Snapshot, b: Snapshot) -> None:
    assert (a.round, a.committed, a.abandoned_in_a_row, a.now_s) == (
        b.round,
        b.committed,
        b.abandoned_in_a_row,
        b.now_s,
    )
    assert a.history == b.history
    assert a.vector.dtype == b.vector.dtype == np.float32
    assert a.vector.tobytes() == b.vector.tobytes()
    for left, right in ((a.optimizer, b.optimizer), (a.buffers, b.buffers)):
        assert {k: v.tobytes() for k, v in left.items()} == {k: v.tobytes() for k, v in right.items()}


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path: Path) -> None:
    save_snapshot(tmp_path / "snapshot", snapshot())
    assert_equal(load_snapshot(tmp_path / "snapshot"), snapshot())


def test_a_strided_vector_is_saved_as_it_reads(tmp_path: Path) -> None:
    strided = Snapshot(1, 1, 0, 0.0, np.arange(10, dtype=np.float32)[::-2])
    save_snapshot(tmp_path / "snapshot", strided)
    assert load_snapshot(tmp_path / "snapshot").vector.tolist() == [9, 7, 5, 3, 1]


@given(data=st.data())
def test_a_damaged_checkpoint_is_a_numbered_error_or_a_snapshot(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    save_snapshot(path, snapshot())
    content = bytearray(path.read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content[: max(cut, place + 1)] if data.draw(st.booleans()) else content[:cut]))
    with suppress(StoreError):  # and nothing else
        load_snapshot(path)


def fail_after_an_offer(path: Path, number: int) -> None:
    with CheckpointWriter(path) as writer:
        writer.offer(snapshot(number))
        raise KeyError("the run's own")


def test_the_newest_snapshot_is_on_disk_when_the_writer_closes(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    with CheckpointWriter(path) as writer:
        for number in range(1, 50):
            writer.offer(snapshot(number))
    assert_equal(load_snapshot(path), snapshot(49))


def test_the_newest_snapshot_is_on_disk_when_the_run_ends_by_an_error(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    with pytest.raises(KeyError):
        fail_after_an_offer(path, 7)
    assert load_snapshot(path).round == 7


def test_nothing_is_written_where_nothing_was_offered(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path / "snapshot"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_records_are_durable_before_the_checkpoint_that_builds_on_them(tmp_path: Path) -> None:
    path, order = tmp_path / "snapshot", []
    with CheckpointWriter(path, lambda: order.append(path.exists())) as writer:
        writer.offer(snapshot())
    assert order == [False]


@pytest.mark.parametrize("error", [StoreError("T401", "full"), RuntimeError("a bug"), MemoryError()])
def test_the_run_hears_of_whatever_keeps_checkpoints_from_being_written(
    tmp_path: Path, error: Exception
) -> None:
    def fail() -> None:
        raise error

    writer = CheckpointWriter(tmp_path / "snapshot", fail)
    writer.offer(snapshot())
    with pytest.raises(type(error)):
        writer.close()


def test_an_error_surfaces_at_a_later_offer(tmp_path: Path) -> None:
    tried = threading.Event()
    writer = CheckpointWriter(tmp_path / "nowhere" / "snapshot", tried.set)
    writer.offer(snapshot())
    assert tried.wait(30)
    with pytest.raises(StoreError):  # noqa: PT012 - at an offer or, if it has not failed yet, at the end
        for number in range(3):
            writer.offer(snapshot(number))
        writer.close()
    writer.close()


def test_the_error_under_way_is_the_one_that_is_seen(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        fail_after_an_offer(tmp_path / "nowhere" / "snapshot", 1)


def test_a_closed_writer_leaves_no_thread(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path / "snapshot") as writer:
        writer.offer(snapshot())
    assert not any(thread.name == "tacit-checkpoint" for thread in threading.enumerate())
