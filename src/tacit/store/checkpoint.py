"""Checkpoints: a run's snapshot as one file, written beside training."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tacit.core.errors import ConfigError, StoreError
from tacit.core.layout import Vector
from tacit.core.part import Settings, decode, encode
from tacit.round import EvaluationRecord, Snapshot
from tacit.store.files import write_whole

_INTERVAL_S = 0.5
_VECTOR, _OPTIMIZER, _BUFFERS = "vector", "optimizer/", "buffers/"


class _Facts(Settings, frozen=True):
    """The part of a snapshot that is not a vector."""

    round: int
    committed: int
    abandoned_in_a_row: int
    now_s: float
    history: tuple[EvaluationRecord, ...]


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot, atomically and durably.

    Raises:
        StoreError: The disk is full, or the folder cannot be written to.
    """
    facts = _Facts(
        round=snapshot.round,
        committed=snapshot.committed,
        abandoned_in_a_row=snapshot.abandoned_in_a_row,
        now_s=snapshot.now_s,
        history=snapshot.history,
    )
    vectors = {_VECTOR: snapshot.vector}
    vectors |= {_OPTIMIZER + name: vector for name, vector in snapshot.optimizer.items()}
    vectors |= {_BUFFERS + client: vector for client, vector in snapshot.buffers.items()}
    arrays = {name: np.ascontiguousarray(vector) for name, vector in vectors.items()}
    text = msgspec.json.encode(encode(facts)).decode()
    write_whole(path, save(arrays, metadata={"facts": text}))


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        StoreError: There is none, or it is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {})["facts"]
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        facts = decode(_Facts, msgspec.json.decode(text))
        vector = arrays.pop(_VECTOR)
    except (OSError, SafetensorError, KeyError, msgspec.DecodeError, ConfigError) as error:
        raise StoreError(
            "T402", f"cannot read the checkpoint: {error}", where=str(path), fix="Start the run anew."
        ) from None
    return Snapshot(
        round=facts.round,
        committed=facts.committed,
        abandoned_in_a_row=facts.abandoned_in_a_row,
        now_s=facts.now_s,
        vector=vector,
        optimizer=_below(_OPTIMIZER, arrays),
        buffers=_below(_BUFFERS, arrays),
        history=facts.history,
    )


def _below(prefix: str, arrays: Mapping[str, Vector]) -> dict[str, Vector]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


class CheckpointWriter:
    """Writes the newest snapshot in a thread of its own, at most twice a second.

    Snapshots are values, so training goes on while one is written; of those offered meanwhile only the
    newest is kept. A full disk surfaces at the next ``offer`` or at ``close``.

    Args:
        path: The checkpoint file.
        ahead: Called before each write, in that thread: makes durable what a snapshot builds on, so that
            a checkpoint never knows of a round that the records lost with the power.
    """

    def __init__(self, path: Path, ahead: Callable[[], None] | None = None) -> None:
        self._path, self._ahead = path, ahead
        self._wake = threading.Condition()
        self._closed = threading.Event()  # apart from the condition: an offer must not wake a resting thread
        self._pending: Snapshot | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="tacit-checkpoint", daemon=True)
        self._thread.start()

    def offer(self, snapshot: Snapshot) -> None:
        """Hand over the newest snapshot; returns at once.

        Raises:
            StoreError: An earlier one could not be written.
        """
        with self._wake:
            self._raise_error()
            self._pending = snapshot
            self._wake.notify()

    def close(self) -> None:
        """Write what is pending, then end the thread.

        Raises:
            StoreError: It could not be written.
        """
        with self._wake:
            self._closed.set()
            self._wake.notify()
        self._thread.join()
        self._raise_error()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:  # the error under way is the one to report
            self.close()
        except Exception:  # noqa: BLE001 - whatever it is, it comes second
            return

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while True:
            with self._wake:
                while self._pending is None and not self._closed.is_set():
                    self._wake.wait()
                snapshot, self._pending = self._pending, None
            if snapshot is None:
                return
            began = time.monotonic()
            try:
                if self._ahead is not None:
                    self._ahead()
                save_snapshot(self._path, snapshot)
            except Exception as error:  # noqa: BLE001 - whatever it is, the run must hear of it
                with self._wake:
                    self._error = error
            self._closed.wait(max(0.0, _INTERVAL_S - (time.monotonic() - began)))
