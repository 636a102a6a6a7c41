"""What a sweep gave: read from its folder."""

from pathlib import Path
from typing import Any

import msgspec

from tacit.sim.result import Result
from tacit.store.sweep_folder import SWEEP_REPORT, SweepFolder, SweepPoint, SweepRecord


class SweepResult:
    """A sweep, finished or not, as its folder tells it.

    Args:
        folder: The sweep folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = SweepFolder.existing(folder)

    @property
    def folder(self) -> Path:
        """The sweep folder."""
        return self._folder.path

    @property
    def record(self) -> SweepRecord:
        """What ``sweep.json`` says."""
        return self._folder.record()

    @property
    def outcome(self) -> str:
        """``"completed"``, ``"failed"`` (at least one run), ``"interrupted"`` or ``"running"``."""
        return self.record.outcome

    @property
    def points(self) -> tuple[SweepPoint, ...]:
        """The points of the grid, each with its runs, their mean and their spread."""
        return self.record.points

    @property
    def best(self) -> SweepPoint | None:
        """The point with the best mean; None if nothing was measured."""
        record = self.record
        return next((point for point in record.points if point.name == record.best), None)

    def runs(self, point: SweepPoint | str) -> list[Result]:
        """Return the complete runs of a point.

        Args:
            point: The point, or its name.
        """
        name = point if isinstance(point, str) else point.name
        found = next((one for one in self.points if one.name == name), None)
        if found is None:
            raise KeyError(name)
        return [Result(self.folder / run.folder) for run in found.runs if run.outcome == "completed"]

    def report(self) -> Path:
        """Write the report anew and return its path."""
        from tacit.report.sweep import write_sweep_report  # late: it draws

        return write_sweep_report(self._folder)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``tacit sweep --json`` prints."""
        plain: dict[str, Any] = msgspec.to_builtins(self.record)
        return {**plain, "sweep": str(self.folder), "report": str(self.folder / SWEEP_REPORT)}

    def __repr__(self) -> str:
        return f"SweepResult({str(self.folder)!r}, outcome={self.outcome!r}, points={len(self.points)})"
