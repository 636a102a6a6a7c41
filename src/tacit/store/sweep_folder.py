"""The sweep folder: what a sweep is, what its runs gave, and below it a run folder for each of them."""

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import tomli_w

from tacit.core.bounds import Natural
from tacit.core.errors import ConfigError, StoreError
from tacit.core.part import Settings, decode, encode
from tacit.store.files import remove_halves, storing, write_whole
from tacit.store.run_folder import INFO
from tacit.store.run_info import FinalMetrics

GRID, RESULTS, SWEEP_REPORT = "sweep.toml", "sweep.json", "sweep.html"
_LOCK = ".lock"

SweepOutcome = Literal["running", "completed", "failed", "interrupted"]
"""``"failed"``: at least one run failed, and no other is left to do."""


class SweepGrid(Settings, frozen=True):
    """``sweep.toml``: what a sweep is.

    Attributes:
        name: The job's name.
        over: For each swept setting its values, written as ``--set`` takes them.
        seeds: The seeds with which each point is run.
        settings: The job's resolved settings, before the sweep changes any.
        source: The job file, where there was one.
        overrides: What ``--set`` changed in it.
        schema_version: Version of this file.
    """

    name: str
    over: Mapping[str, tuple[str, ...]]
    seeds: tuple[Natural, ...]
    settings: Mapping[str, Any]
    source: str | None = None
    overrides: tuple[str, ...] = ()
    schema_version: Literal[1] = 1


class SweepRun(Settings, frozen=True):
    """One run of a sweep.

    Attributes:
        seed: Its seed.
        folder: Its run folder, within the sweep's.
        outcome: ``"waiting"`` before it has begun.
        code: Number of the error that it failed with, if that has one.
        reason: Why it failed.
        value: The sweep's metric at the last evaluation; None if it is not complete or has none.
        epsilon: What the run spent, where its record says so.
        rounds: How many rounds committed.
        seconds: Real time it took.
        metrics: The last evaluation.
    """

    seed: int
    folder: str
    outcome: Literal["waiting", "completed", "failed", "interrupted"] = "waiting"
    code: str = ""
    reason: str = ""
    value: float | None = None
    epsilon: float | None = None
    rounds: int = 0
    seconds: float = 0.0
    metrics: FinalMetrics = FinalMetrics()


class SweepPoint(Settings, frozen=True):
    """One point of the grid, and what its runs gave.

    Attributes:
        name: Its settings in short; names its folder.
        settings: The swept settings and their values: None where a setting is removed, no entry where a block
            around it is.
        overrides: What ``tacit run --set`` has to be given for this point.
        privacy: Which guarantee its runs have, in words; empty if the plan refused it.
        runs: Its runs, one a seed.
        mean: Mean of the metric over complete runs; None if there is none.
        std: Sample standard deviation over them (divided by one less than their number); None below two.
        low: The lowest value.
        high: The highest value.
        epsilon: The largest that a run spent, where their records say so.
    """

    name: str
    settings: Mapping[str, Any]
    overrides: tuple[str, ...] = ()
    privacy: str = ""
    runs: tuple[SweepRun, ...] = ()
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    epsilon: float | None = None


class SweepRecord(Settings, frozen=True):
    """``sweep.json``: what the runs of a sweep gave.

    Attributes:
        name: The job's name.
        outcome: ``"running"`` until it ended.
        metric: The metric that points are compared by.
        measured: Where it was measured: on the central test set, or as the mean over clients; None before
            anything was.
        higher_is_better: Which way it is better.
        over: For each swept setting its values; None removes it.
        seeds: The seeds of each point.
        points: The points; two cells of the grid that come to the same settings are one.
        best: Name of the point with the best mean; of those with a guarantee, where any has one.
        private: Whether a run claims privacy, or privacy is what is swept.
        note: What no guarantee covers; empty if nothing was private.
    """

    name: str
    outcome: SweepOutcome
    metric: str
    higher_is_better: bool
    over: Mapping[str, tuple[Any, ...]]
    seeds: tuple[Natural, ...]
    points: tuple[SweepPoint, ...] = ()
    measured: Literal["central", "clients"] | None = None
    best: str | None = None
    private: bool = False
    note: str = ""


class SweepFolder:
    """Reads a sweep folder; writes to it between ``create`` or ``reopen`` and ``close``.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock: BinaryIO | None = None

    @classmethod
    def create(cls, path: Path | str) -> "SweepFolder":
        """Make the folder and take its lock.

        Raises:
            StoreError: It holds a sweep or a run already, is in use, or cannot be written to.
        """
        folder = cls(path)
        with storing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        folder._take_lock()
        try:
            folder._refuse_a_used_one()
        except StoreError:
            folder.close()
            raise
        return folder

    @classmethod
    def reopen(cls, path: Path | str) -> "SweepFolder":
        """Take the lock of a sweep that was begun.

        Raises:
            StoreError: There is no sweep, or it is in use.
        """
        folder = cls.existing(path)
        folder._take_lock()  # noqa: SLF001 - our own
        remove_halves(folder.path, (GRID, RESULTS, SWEEP_REPORT))
        return folder

    @classmethod
    def existing(cls, path: Path | str) -> "SweepFolder":
        """Return the folder of a sweep that was begun, for reading.

        Raises:
            StoreError: There is no sweep in it.
        """
        folder = cls(path)
        if not folder.path.joinpath(GRID).is_file():
            fix = "Name a sweep folder; a sweep that has not begun starts without --resume."
            raise StoreError("T404", "there is no sweep in this folder", where=str(folder.path), fix=fix)
        return folder

    def close(self) -> None:
        """Let the lock go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _refuse_a_used_one(self) -> None:
        for name, held in ((GRID, "sweep"), (INFO, "run")):
            if self.path.joinpath(name).exists():
                fix = "Choose another folder" + (", or add --resume to go on." if held == "sweep" else ".")
                raise StoreError("T403", f"the folder holds a {held} already", where=str(self.path), fix=fix)

    def _take_lock(self) -> None:
        path = self.path / _LOCK
        with storing(path):
            lock = path.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            fix = "Wait for it to end, or choose another folder."
            what = "another sweep is writing to this folder"
            raise StoreError("T405", what, where=str(self.path), fix=fix) from None
        self._lock = lock

    def write_grid(self, grid: SweepGrid) -> None:
        """Write what the sweep is."""
        write_whole(self.path / GRID, tomli_w.dumps(encode(grid)).encode())

    def write_record(self, record: SweepRecord) -> None:
        """Replace ``sweep.json``."""
        # Not `encode`: it leaves out None, which says here that a setting is removed.
        content = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
        write_whole(self.path / RESULTS, content)

    def write_report(self, html: str) -> Path:
        """Write the report and return its path."""
        write_whole(self.path / SWEEP_REPORT, html.encode())
        return self.path / SWEEP_REPORT

    @property
    def has_record(self) -> bool:
        """Whether ``sweep.json`` is there: it is written when the first run begins."""
        return self.path.joinpath(RESULTS).is_file()

    def grid(self) -> SweepGrid:
        """Read ``sweep.toml``.

        Raises:
            StoreError: It is missing or damaged.
        """
        import tomllib

        path = self.path / GRID
        try:
            return decode(SweepGrid, tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ConfigError) as error:
            raise _unreadable(error, path) from None

    def record(self) -> SweepRecord:
        """Read ``sweep.json``.

        Raises:
            StoreError: It is missing or damaged.
        """
        path = self.path / RESULTS
        try:
            return decode(SweepRecord, msgspec.json.decode(path.read_bytes()))
        except (OSError, msgspec.DecodeError, ConfigError) as error:
            raise _unreadable(error, path) from None


def _unreadable(error: Exception, path: Path) -> StoreError:
    what = f"cannot read the sweep: {error}"
    return StoreError("T406", what, where=str(path), fix="Name a sweep folder, or start the sweep anew.")
