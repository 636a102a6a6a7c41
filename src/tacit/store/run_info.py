"""``run.json``: what a run was and what became of it."""

from collections.abc import Mapping
from typing import Literal

from tacit.core.metrics import ClientSummary
from tacit.core.part import Settings
from tacit.privacy import Guarantee
from tacit.privacy.ledger import Head

Outcome = Literal["running", "completed", "exhausted", "failed", "interrupted"]
"""``"exhausted"``: the privacy budget was spent before all rounds were done; what was reached stands."""


class Holding(Settings, frozen=True):
    """Who holds what: label counts, or quantiles of the target, of some clients.

    Attributes:
        clients: Clients in the whole population.
        examples: Training examples in the whole population.
        ids: The clients described.
        sizes: Their training examples.
        kind: ``"labels"`` or ``"quantiles"``.
        labels: Names of the columns.
        counts: One row per described client.
    """

    clients: int
    examples: int
    ids: tuple[str, ...]
    sizes: tuple[int, ...]
    kind: Literal["labels", "quantiles"]
    labels: tuple[str, ...]
    counts: tuple[tuple[float | None, ...], ...]


class FinalMetrics(Settings, frozen=True):
    """The last evaluation: on the central test set, and how it is spread over clients.

    Attributes:
        central: Each metric's value on the central test set.
        clients: How each metric is spread over the clients' held-out data.
    """

    central: Mapping[str, float] = {}
    clients: Mapping[str, ClientSummary] = {}


class RunInfo(Settings, frozen=True):
    """What a run was and what became of it.

    Attributes:
        name: The job's name.
        outcome: ``"running"`` until it ended.
        reason: Why it ended.
        started: Date and time, ISO 8601, UTC.
        ended: Likewise, or None.
        seconds: Real time it took, pauses between resumes left out.
        rounds: How many rounds committed.
        attempts: How many rounds were started, abandoned ones included.
        seconds_per_round: Median real time of a committed round.
        metrics: The last evaluation.
        bytes_up_per_client: Bytes one client sends in a round.
        bytes_down_per_client: Bytes one client receives in a round.
        parameters: Number of trainable parameters.
        model_sha256: Digest of ``model.safetensors``, or None while there is none.
        privacy: Which guarantee holds, in words.
        guarantee: What is promised about what was released so far; None for nothing.
        epsilon: The epsilon of what was released so far; None where nothing is promised.
        ledger: How far the run's ledger had come.
        seed: The job's seed.
        executor: Which executor trained.
        group: How many clients it trained, encoded and added up at a time; None in old records.
        executor_reason: Why this executor, in words.
        program_sha256: Digest of the program it ran, if it ran one.
        workers: How many worker processes did.
        real_masks: Whether secure sums were taken with every message and mask of the protocol.
        population: Who holds what.
        versions: Versions of tacit, Python and the libraries that matter.
        machine: Processor and system.
        job_sha256: Digest of the resolved settings.
        code_sha256: Digest of the job file and of the files whose functions the settings name.
        sizes_sha256: Digest of the clients' numbers of examples: tells another population from this one.
        source_sha256: Digest of the job file's text, where there was one.
        source: The job file, where there was one.
        overrides: What ``--set`` changed.
        resumed: How often the run was resumed.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    started: str = ""
    ended: str | None = None
    seconds: float = 0.0
    rounds: int = 0
    attempts: int = 0
    seconds_per_round: float | None = None
    metrics: FinalMetrics = FinalMetrics()
    bytes_up_per_client: int = 0
    bytes_down_per_client: int = 0
    parameters: int = 0
    model_sha256: str | None = None
    privacy: str = ""
    guarantee: Guarantee | None = None
    epsilon: float | None = None
    ledger: Head | None = None
    seed: int = 0
    executor: str = "torch"
    group: int | None = None
    executor_reason: str = ""
    program_sha256: str | None = None
    workers: int = 1
    real_masks: bool = False
    population: Holding | None = None
    versions: Mapping[str, str] = {}
    machine: str = ""
    job_sha256: str = ""
    code_sha256: str = ""
    sizes_sha256: str = ""
    source_sha256: str | None = None
    source: str | None = None
    overrides: tuple[str, ...] = ()
    resumed: int = 0
