"""The run folder: fixed names, one writer, readable at any moment."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import tomli_w
from safetensors.numpy import save

from tacit.core.errors import ConfigError, StoreError
from tacit.core.part import Settings, decode, encode
from tacit.round import EvaluationRecord, PrivacyRecord, RoundRecord
from tacit.store.files import remove_halves, storing, sync_folder, write_whole
from tacit.store.run_info import RunInfo

if TYPE_CHECKING:
    from tacit.secagg.certificate import RoundCertificate

R = TypeVar("R", bound=Settings)

JOB, INFO, MODEL, REPORT = "job.toml", "run.json", "model.safetensors", "report.html"
ROUNDS, METRICS, PRIVACY = "rounds.jsonl", "metrics.jsonl", "privacy.jsonl"
CERTIFICATES = "certificates.jsonl"
_BY_ROUND = (ROUNDS, METRICS, PRIVACY, CERTIFICATES)
CHECKPOINT, SNAPSHOT, PROGRAM = "checkpoint", "snapshot.safetensors", "program.onnx"
_LOCK = ".lock"


class RunFolder:
    """Reads a run folder; writes to it between ``create`` or ``reopen`` and ``close``.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock: BinaryIO | None = None
        self._lines: dict[str, BinaryIO] = {}

    # --- opening and closing --------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path | str) -> "RunFolder":
        """Make the folder and take its lock.

        Raises:
            StoreError: It holds a run already, is in use, or cannot be written to.
        """
        folder = cls(path)
        with storing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        folder._take_lock()
        try:
            folder._claim()
        except StoreError:
            folder.close()
            raise
        return folder

    @classmethod
    def reopen(cls, path: Path | str) -> "RunFolder":
        """Take the lock of an unfinished run.

        Raises:
            StoreError: There is no run, or it is in use.
        """
        folder = cls.existing(path)
        folder._take_lock()  # noqa: SLF001 - our own
        folder._sweep()  # noqa: SLF001 - our own
        return folder

    @classmethod
    def is_unborn(cls, path: Path | str) -> bool:
        """Tell whether a run was killed here before it had begun, so that nothing would be lost."""
        place = Path(path)
        if not place.is_dir():
            return False
        found = {entry.name for entry in place.iterdir()}
        return found <= {_LOCK} or (CHECKPOINT in found and not found & {INFO, METRICS, ROUNDS})

    @classmethod
    def existing(cls, path: Path | str) -> "RunFolder":
        """Return the folder of a run that was started, for reading.

        Raises:
            StoreError: There is no run in it.
        """
        folder = cls(path)
        if not folder.path.joinpath(INFO).is_file():
            fix = "Name a run folder; a run that has not begun starts without --resume."
            raise StoreError("T404", "there is no run in this folder", where=str(folder.path), fix=fix)
        return folder

    def close(self) -> None:
        """Close the files and let the lock go."""
        for file in self._lines.values():
            file.close()
        self._lines.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _claim(self) -> None:
        """Refuse a folder that holds something already, and make what a run needs."""
        holds_files = any(self.path.joinpath(name).exists() for name in (JOB, INFO, METRICS, ROUNDS))
        if holds_files and not self.is_unborn(self.path):
            fix = "Choose another folder, or add --resume to go on with that run."
            raise StoreError("T403", "the folder holds a run already", where=str(self.path), fix=fix)
        with storing(self.path):
            self.path.joinpath(CHECKPOINT).mkdir(exist_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove half-written files of a killed process; the lock says that nobody writes them now."""
        remove_halves(self.path, (JOB, INFO, MODEL, REPORT, *_BY_ROUND))
        remove_halves(self.path / CHECKPOINT, (SNAPSHOT, PROGRAM))

    def _take_lock(self) -> None:
        path = self.path / _LOCK
        with storing(path):
            lock = path.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            fix = "Wait for it to end, or choose another folder."
            raise StoreError(
                "T405", "another run is writing to this folder", where=str(self.path), fix=fix
            ) from None
        self._lock = lock

    # --- writing --------------------------------------------------------------------------------

    def write_job(self, job: Mapping[str, Any]) -> None:
        """Write the resolved settings."""
        write_whole(self.path / JOB, tomli_w.dumps(job).encode())

    def write_program(self, data: bytes) -> None:
        """Write the program that the executor runs, so that a resumed run has the same one."""
        write_whole(self.path / CHECKPOINT / PROGRAM, data)

    def write_info(self, info: RunInfo) -> None:
        """Replace ``run.json``."""
        write_whole(
            self.path / INFO, msgspec.json.format(msgspec.json.encode(encode(info)), indent=2) + b"\n"
        )

    def forget_after(self, round_number: int) -> None:
        """Drop what was noted of later rounds, and the report that was made of it.

        Raises:
            StoreError: The disk is full, or the folder cannot be written to.
        """
        with storing(self.path / REPORT):
            self.path.joinpath(REPORT).unlink(missing_ok=True)
        for name in (name for name in _BY_ROUND if self.path.joinpath(name).exists()):
            kept = [line for line in self.lines(name) if line["round"] <= round_number]
            write_whole(self.path / name, b"".join(msgspec.json.encode(line) + b"\n" for line in kept))

    def note_round(self, record: RoundRecord, spend: PrivacyRecord) -> None:
        """Append a round's record, and what it spent."""
        self._append(ROUNDS, msgspec.json.encode(record))
        self._append(PRIVACY, msgspec.json.encode(spend))

    def note_certificate(self, certificate: "RoundCertificate") -> None:
        """Append what anybody can check about the secure sum of one group."""
        self._append(CERTIFICATES, certificate.to_line().encode())

    def note_evaluation(self, record: EvaluationRecord) -> None:
        """Append an evaluation."""
        self._append(METRICS, msgspec.json.encode(record))

    def sync(self) -> None:
        """Make what was appended durable; may be called from another thread than appends."""
        for name, file in list(self._lines.items()):
            with storing(self.path / name):
                os.fsync(file.fileno())
        with storing(self.path):
            sync_folder(self.path)

    def write_model(self, tensors: Mapping[str, npt.NDArray[Any]]) -> str:
        """Write the final model and return the SHA-256 of the file."""
        # Not ascontiguousarray: that makes a vector of a scalar, such as a batch norm's counter.
        arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        content = save(arrays, metadata={"format": "pt"})
        write_whole(self.path / MODEL, content)
        return hashlib.sha256(content).hexdigest()

    def write_report(self, html: str) -> Path:
        """Write the report and return its path."""
        write_whole(self.path / REPORT, html.encode())
        return self.path / REPORT

    def _append(self, name: str, line: bytes) -> None:
        with storing(self.path / name):
            if name not in self._lines:
                self._lines[name] = (self.path / name).open("ab", buffering=0)
            written = self._lines[name].write(line + b"\n")
            if written != len(line) + 1:  # a disk that fills up takes part of a line
                raise OSError(28, "No space left on device")

    # --- reading --------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        """The file of the newest snapshot."""
        return self.path / CHECKPOINT / SNAPSHOT

    @property
    def is_finished(self) -> bool:
        """Whether the run is complete, its report included."""
        return self.info().outcome == "completed" and self.path.joinpath(REPORT).exists()

    @property
    def model(self) -> Path:
        """The file of the final model."""
        return self.path / MODEL

    def info(self) -> RunInfo:
        """Read ``run.json``.

        Raises:
            StoreError: It is missing or damaged.
        """
        path = self.path / INFO
        try:
            return decode(RunInfo, msgspec.json.decode(path.read_bytes()))
        except (OSError, msgspec.DecodeError, ConfigError) as error:
            raise StoreError(
                "T406", f"cannot read the run: {error}", where=str(path), fix="Name a run folder."
            ) from None

    def program(self) -> bytes | None:
        """Read the program that the executor runs; None if there is none, or it cannot be read."""
        try:
            return self.path.joinpath(CHECKPOINT, PROGRAM).read_bytes()
        except OSError:
            return None

    def job(self) -> dict[str, Any]:
        """Read the resolved settings as plain data.

        Raises:
            StoreError: They are missing or damaged.
        """
        import tomllib

        path = self.path / JOB
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            what = f"cannot read the run's settings: {error}"
            raise StoreError("T406", what, where=str(path), fix="Start the run anew.") from None

    def rounds(self) -> list[RoundRecord]:
        """Read the records of all rounds so far."""
        return [decode(RoundRecord, line) for line in self.lines(ROUNDS)]

    def spends(self) -> list[PrivacyRecord]:
        """Read what all rounds so far have spent."""
        return [decode(PrivacyRecord, line) for line in self.lines(PRIVACY)]

    def certificates(self) -> "list[RoundCertificate]":
        """Read the certificates of all secure sums so far."""
        from tacit.secagg.certificate import RoundCertificate  # late: most runs have none

        lines = (msgspec.json.encode(line) for line in self.lines(CERTIFICATES))
        return [RoundCertificate.from_line(line) for line in lines]

    def evaluations(self) -> list[EvaluationRecord]:
        """Read all evaluations so far."""
        return [decode(EvaluationRecord, line) for line in self.lines(METRICS)]

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the lines of a ``.jsonl`` file as plain data; one that a crash has torn ends it."""
        path = self.path / name
        if not path.exists():
            return
        for line in path.read_bytes().split(b"\n"):
            if not line:
                continue
            try:
                value = msgspec.json.decode(line)
            except msgspec.DecodeError:
                return
            if not isinstance(value, dict) or not isinstance(value.get("round"), int):
                return
            yield value
