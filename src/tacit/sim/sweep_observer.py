"""Who wants to know how a sweep is going."""

from typing import Protocol

from tacit.sim.observer import Observer, Silent
from tacit.store.sweep_folder import SweepPoint, SweepRecord, SweepRun


class SweepObserver(Protocol):
    """Is told what happens in a sweep, as it happens."""

    def began(self, record: SweepRecord, folder: str) -> None:
        """Hear that the sweep begins or goes on; complete runs are in the record."""
        ...

    def refused(self, point: SweepPoint, error: Exception) -> None:
        """Hear that the runs of a point cannot begin, and why."""
        ...

    def run_begins(self, point: SweepPoint, seed: int) -> Observer:
        """Hear that a run begins; return who wants to know how it is going."""
        ...

    def run_ended(self, point: SweepPoint, run: SweepRun, error: Exception | None) -> None:
        """Hear how a run ended, and what it raised if it failed."""
        ...


class SilentSweep:
    """Tells nobody."""

    def began(self, record: SweepRecord, folder: str) -> None:
        return

    def refused(self, point: SweepPoint, error: Exception) -> None:
        return

    def run_begins(self, point: SweepPoint, seed: int) -> Observer:
        return Silent()

    def run_ended(self, point: SweepPoint, run: SweepRun, error: Exception | None) -> None:
        return
