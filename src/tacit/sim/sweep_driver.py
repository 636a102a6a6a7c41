"""Performs the runs of a sweep."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tacit.core.errors import ConfigError, StoreError, TacitError
from tacit.job import Plan
from tacit.report.sweep_summary import ended, summarised
from tacit.sim.beginning import Source
from tacit.sim.simulate import run as simulate
from tacit.sim.sweep_observer import SweepObserver
from tacit.sim.sweep_planning import refuse_other_code
from tacit.sim.sweep_points import Point
from tacit.sim.sweep_signals import sweep_interruption
from tacit.store import RunFolder, RunInfo
from tacit.store.run_folder import INFO
from tacit.store.sweep_folder import SweepFolder, SweepPoint, SweepRecord, SweepRun

# Of an unfinished run: the job has changed since, or another executor was asked for.
_NOT_RESUMED = ("T132", "T142")


@dataclass
class SweepDriver:
    """Performs the runs one after the other; whatever happens, the folder says it.

    Attributes:
        folder: The sweep folder.
        points: The points of the grid.
        record: What is known of their runs.
        refused: What points that cannot begin were refused with, by name.
        options: What every run is given besides.
        observer: Is told how the sweep is going.
        source: Where the job came from.
    """

    folder: SweepFolder
    points: Sequence[Point]
    record: SweepRecord
    refused: Mapping[str, Exception]
    options: Mapping[str, Any]
    observer: SweepObserver
    source: Source | None

    def look_around(self, plans: Mapping[str, Plan]) -> None:
        """Take note of what is complete already, and of what cannot begin.

        Args:
            plans: The plans of the points, by name.

        Raises:
            ConfigError: What is complete is of other code or data than this job's.
        """
        for known in self.record.points:
            for one in known.runs:
                self._note(known.name, self._looked_up(known, one))
        for point in self.points:
            complete = [one for one in self._point(point.name).runs if one.outcome == "completed"]
            if complete and point.name in plans:  # one is enough: all had the same code
                source = self._source(point, complete[0].seed)
                refuse_other_code(self.folder, plans[point.name], point, complete[0], source)
                return

    def go(self) -> None:
        """Perform what is left: every point with the first seed, then every point with the next."""
        self._write()
        self.observer.began(self.record, str(self.folder.path))
        for name, error in self.refused.items():
            self.observer.refused(self._point(name), error)
        with sweep_interruption() as stop:
            for point, seed in [(point, seed) for seed in self.record.seeds for point in self.points]:
                if stop.asked or not self._perform(point, seed):
                    break
            self.record = msgspec.structs.replace(self.record, outcome=ended(self.record))
            self._write()
            self._draw()

    def _perform(self, point: Point, seed: int) -> bool:
        """Perform a run that is still to be done, and tell whether the sweep goes on."""
        before = self._run(point.name, seed)
        if before.outcome != "waiting":
            return True
        done, error = self._tried(point, before)
        self._note(point.name, done)
        self._write()
        self.observer.run_ended(self._point(point.name), self._run(point.name, seed), error)
        return done.outcome != "interrupted"

    def _tried(self, point: Point, before: SweepRun) -> tuple[SweepRun, Exception | None]:
        place = self.folder.path / before.folder
        try:
            result = simulate(
                point.job(before.seed),
                point.population,
                folder=place,
                resume=place.is_dir(),
                observer=self.observer.run_begins(self._point(point.name), before.seed),
                source=self._source(point, before.seed),
                **self.options,
            )
        except KeyboardInterrupt:  # asked twice, or before there was anything to lose
            return msgspec.structs.replace(before, outcome="interrupted"), None
        except StoreError:  # a full disk will not take the next run either
            raise
        except Exception as error:
            if isinstance(error, ConfigError) and error.code in _NOT_RESUMED:
                raise
            return _failed(self._so_far(before), error), error
        return _of_info(before, result.info), None

    def _looked_up(self, point: SweepPoint, one: SweepRun) -> SweepRun:
        place = RunFolder(self.folder.path / one.folder)
        if (place.path / INFO).is_file() and place.is_finished:
            return _of_info(one, place.info())
        return _failed(one, self.refused[point.name]) if point.name in self.refused else one

    def _so_far(self, one: SweepRun) -> SweepRun:
        """Return what a run that failed had done by then, and spent."""
        place = RunFolder(self.folder.path / one.folder)
        return _of_info(one, place.info()) if (place.path / INFO).is_file() else one

    def _source(self, point: Point, seed: int) -> Source | None:
        if self.source is None:
            return None
        own = () if seed == point.variant.job.seed else (f"seed={seed}",)
        return Source(self.source.path, self.source.sha256, (*self.source.overrides, *point.overrides, *own))

    def _point(self, name: str) -> SweepPoint:
        return next(point for point in self.record.points if point.name == name)

    def _run(self, name: str, seed: int) -> SweepRun:
        return next(one for one in self._point(name).runs if one.seed == seed)

    def _note(self, name: str, done: SweepRun) -> None:
        points = tuple(
            point
            if point.name != name
            else msgspec.structs.replace(
                point, runs=tuple(done if one.seed == done.seed else one for one in point.runs)
            )
            for point in self.record.points
        )
        self.record = summarised(msgspec.structs.replace(self.record, points=points))

    def _write(self) -> None:
        self.folder.write_record(self.record)

    def _draw(self) -> None:
        from tacit.report.sweep import write_sweep_report  # late: drawing takes a second to import

        try:
            write_sweep_report(self.folder)
        except TacitError:
            raise
        except Exception as error:  # noqa: BLE001 - a picture that cannot be drawn does not undo the runs
            warnings.warn(f"the report could not be drawn: {error!r}", RuntimeWarning, stacklevel=2)


def _of_info(before: SweepRun, info: RunInfo) -> SweepRun:
    """Return what the record of a run says of it; one that ended otherwise than complete counts as failed."""
    known = {"completed": "completed", "interrupted": "interrupted"}
    spent = getattr(info, "epsilon", None)
    return SweepRun(
        seed=before.seed,
        folder=before.folder,
        outcome=known.get(info.outcome, "failed"),  # type: ignore[arg-type]
        reason="" if info.outcome == "completed" else info.reason,
        epsilon=float(spent) if isinstance(spent, int | float) else None,
        rounds=info.rounds,
        seconds=info.seconds,
        metrics=info.metrics,
    )


def _failed(before: SweepRun, error: Exception) -> SweepRun:
    # An error of the user's own code may quote data: its words go to the screen, not into a file.
    code, reason = "", f"raised {type(error).__name__}"
    if isinstance(error, TacitError):
        code, reason = error.code, error.what
    return msgspec.structs.replace(before, outcome="failed", code=code, reason=reason)
