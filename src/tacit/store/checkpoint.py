"""Checkpoints: a run's snapshot as one file, written beside training."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tacit.core.errors import ConfigError, StoreError
from tacit.core.layout import Vector
from tacit.core.part import Settings, decode, encode
from tacit.privacy.ledger import Head
from tacit.round import EvaluationRecord, Snapshot
from tacit.store.files import write_whole
from tacit.store.privacy_state import Sealed, opened, sealed

_INTERVAL_S = 0.5
_VECTOR, _OPTIMIZER, _BUFFERS, _PRIVACY = "vector", "optimizer/", "buffers/", "privacy/"


class _Facts(Settings, frozen=True):
    """The part of a snapshot that is not a vector."""

    round: int
    committed: int
    abandoned_in_a_row: int
    now_s: float
    history: tuple[EvaluationRecord, ...]
    step: int | None = None
    ledger: Head | None = None


def save_snapshot(path: Path, snapshot: Snapshot, owner: str = "") -> None:
    """Write a snapshot, atomically and durably.

    Args:
        path: The file.
        snapshot: The snapshot.
        owner: The job's name, to which the secrets of a private run are bound.

    Raises:
        StoreError: The disk is full, or the folder cannot be written to.
    """
    facts = _Facts(
        round=snapshot.round,
        committed=snapshot.committed,
        abandoned_in_a_row=snapshot.abandoned_in_a_row,
        now_s=snapshot.now_s,
        history=snapshot.history,
        step=None if snapshot.privacy is None else snapshot.privacy.step,
        ledger=snapshot.ledger,
    )
    vectors: dict[str, Vector | Sealed] = {_VECTOR: snapshot.vector}
    vectors |= {_OPTIMIZER + name: vector for name, vector in snapshot.optimizer.items()}
    vectors |= {_BUFFERS + client: vector for client, vector in snapshot.buffers.items()}
    if snapshot.privacy is not None:
        vectors |= {_PRIVACY + name: text for name, text in sealed(snapshot.privacy, owner).items()}
    arrays = {name: np.ascontiguousarray(vector) for name, vector in vectors.items()}
    text = msgspec.json.encode(encode(facts)).decode()
    write_whole(path, save(arrays, metadata={"facts": text}))


def load_snapshot(path: Path, owner: str = "") -> Snapshot:
    """Read a snapshot.

    Raises:
        StoreError: There is none, it is damaged, or there is no master key.
        ConfigError: Its secrets do not open.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {})["facts"]
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        facts = decode(_Facts, msgspec.json.decode(text))
        vector = arrays.pop(_VECTOR)
    except (OSError, SafetensorError, KeyError, msgspec.DecodeError, ConfigError) as error:
        raise _unreadable(error, path) from None
    try:
        secrets = _below(_PRIVACY, arrays)
        privacy = None if facts.step is None else opened(secrets, facts.step, owner)
    except KeyError as error:
        raise _unreadable(error, path) from None
    return Snapshot(
        round=facts.round,
        committed=facts.committed,
        abandoned_in_a_row=facts.abandoned_in_a_row,
        now_s=facts.now_s,
        vector=vector,
        optimizer=_below(_OPTIMIZER, arrays),
        buffers=_below(_BUFFERS, arrays),
        history=facts.history,
        privacy=privacy,
        ledger=facts.ledger,
    )


def _unreadable(error: Exception, path: Path) -> StoreError:
    return StoreError(
        "T402", f"cannot read the checkpoint: {error}", where=str(path), fix="Start the run anew."
    )


def _below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


class CheckpointWriter:
    """Writes the newest snapshot in a thread of its own, at most twice a second.

    Snapshots are values, so training goes on while one is written; of those offered meanwhile only the
    newest is kept. A full disk surfaces at the next ``offer`` or at ``close``.

    Args:
        path: The checkpoint file.
        owner: The job's name, to which a private run's secrets are bound.
        ahead: Called before each write, in that thread: makes durable what a snapshot builds on, so that
            a checkpoint never knows of a round that the records lost with the power.
    """

    def __init__(self, path: Path, ahead: Callable[[], None] | None = None, owner: str = "") -> None:
        self._path, self._ahead, self._owner = path, ahead, owner
        self._is_writing = False
        self._wake = threading.Condition()
        self._closed = threading.Event()
        self._hurry = threading.Event()  # apart from the condition: an offer must not wake a resting thread
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
            self._wake.notify_all()

    def flush(self) -> None:
        """Wait until what was offered is on the disk, without the usual pause between two writes.

        Raises:
            StoreError: It could not be written.
        """
        with self._wake:
            self._hurry.set()
            while (self._pending is not None or self._is_writing) and self._error is None:
                self._wake.wait()
            self._hurry.clear()
            self._raise_error()

    def close(self) -> None:
        """Write what is pending, then end the thread.

        Raises:
            StoreError: It could not be written.
        """
        with self._wake:
            self._closed.set()
            self._hurry.set()
            self._wake.notify_all()
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
                self._is_writing = snapshot is not None
            if snapshot is None:
                return
            began = time.monotonic()
            try:
                if self._ahead is not None:
                    self._ahead()
                save_snapshot(self._path, snapshot, self._owner)
            except Exception as error:  # noqa: BLE001 - whatever it is, the run must hear of it
                with self._wake:
                    self._error = error
            with self._wake:
                self._is_writing = False
                self._wake.notify_all()
            self._hurry.wait(max(0.0, _INTERVAL_S - (time.monotonic() - began)))
