"""What a run gave: read from its folder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tacit.core.errors import RunError
from tacit.core.part import encode
from tacit.job import Job, model_seed
from tacit.job.load import job_of, load_job
from tacit.privacy import Guarantee
from tacit.round import EvaluationRecord, RoundRecord
from tacit.store import FinalMetrics, RunFolder, RunInfo

if TYPE_CHECKING:
    from tacit.training.flat import Module


class Result:
    """A run, finished or not, as its folder tells it.

    Args:
        folder: The run folder.
        job: The job, where it is at hand; otherwise it is read from the folder.
    """

    def __init__(self, folder: Path | str, job: Job | None = None) -> None:
        self._folder = RunFolder.existing(folder)
        self._job = job

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def info(self) -> RunInfo:
        """What ``run.json`` says."""
        return self._folder.info()

    @property
    def outcome(self) -> str:
        """``"completed"``, ``"exhausted"``, ``"failed"``, ``"interrupted"`` or ``"running"``.

        ``"exhausted"``: one more round would have exceeded the privacy budget. The model of the last round
        that fitted is there, and its guarantee holds.
        """
        return self.info.outcome

    @property
    def metrics(self) -> FinalMetrics:
        """The last evaluation, on the central test set and over clients."""
        return self.info.metrics

    @property
    def history(self) -> list[EvaluationRecord]:
        """All evaluations, in order."""
        return self._folder.evaluations()

    @property
    def rounds(self) -> list[RoundRecord]:
        """All rounds, in order."""
        return self._folder.rounds()

    @property
    def privacy(self) -> str:
        """Which guarantee holds, in a few words; ``guarantee`` has all of it."""
        return self.info.privacy

    @property
    def guarantee(self) -> Guarantee | None:
        """What is promised about what was released; None for nothing, or while the run is going on."""
        return self.info.guarantee

    @property
    def job(self) -> Job:
        """The job that ran.

        Raises:
            ConfigError: The folder's settings name functions that cannot be imported here.
        """
        if self._job is None:
            self._job = self._job_of_source() or job_of(self._folder.job(), self.folder)
        return self._job

    def _job_of_source(self) -> Job | None:
        """Return the job from the file it came from, if that is as it was: it also has what has no name."""
        info = self.info
        if info.source is None or not Path(info.source).is_file():
            return None
        if hashlib.sha256(Path(info.source).read_bytes()).hexdigest() != info.source_sha256:
            return None
        return load_job(info.source, info.overrides).job

    def model(self) -> "Module":
        """Return the task's module with the final weights.

        Raises:
            RunError: The run has no model, because it failed or has not ended.
        """
        from tacit.training.flat import build, load_tensors

        if not self._folder.model.is_file():
            what = f"the run has no model: its outcome is {self.outcome!r}"
            raise RunError("T303", what, where=str(self.folder), fix="Resume the run, or choose another.")
        task = msgspec.structs.replace(self.job.task, initial=None)  # its final weights replace a warm start
        model = build(task, model_seed(self.job))
        load_tensors(model, self._folder.model)
        model.module.eval()
        return model.module

    def report(self) -> Path:
        """Write the report anew and return its path."""
        from tacit.report import write_report  # late: it draws, and drawing takes a second to import

        return write_report(self._folder)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``tacit run --json`` prints."""
        info = self.info
        return {
            "outcome": info.outcome,
            "reason": info.reason,
            "rounds": info.rounds,
            "attempts": info.attempts,
            "metrics": metrics_dict(info.metrics),
            "seconds": info.seconds,
            "seconds_per_round": info.seconds_per_round,
            "executor": info.executor,
            "bytes_up_per_client": info.bytes_up_per_client,
            "bytes_down_per_client": info.bytes_down_per_client,
            "model_sha256": info.model_sha256,
            "privacy": info.privacy,
            "epsilon": info.epsilon,
            "guarantee": None if info.guarantee is None else encode(info.guarantee),
            "run": str(self.folder),
        }

    def __repr__(self) -> str:
        return f"Result({str(self.folder)!r}, outcome={self.outcome!r}, rounds={self.info.rounds})"


def metrics_dict(metrics: FinalMetrics) -> dict[str, Mapping[str, Any]]:
    """Return final metrics as plain data."""
    return {
        "central": dict(metrics.central),
        "clients": {name: msgspec.structs.asdict(summary) for name, summary in metrics.clients.items()},
    }
