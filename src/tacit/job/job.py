"""The job: one frozen value that says everything about a run."""

import hashlib
from typing import Annotated, Any

import msgspec

from tacit.algorithms import Algorithm
from tacit.codec import Weigh
from tacit.core.bounds import Count, Natural, Positive, Share
from tacit.core.cohort import Cohort
from tacit.core.part import Settings, encode
from tacit.round import Evaluation, RoundPolicy, StopRule, World
from tacit.training import Task

SCHEMA_VERSION = 1
"""Version of the job's schema, written into every ``job.toml``."""


class Job(Settings, frozen=True):
    """Everything that may change the result of a run; what only changes its speed is kept apart.

    Attributes:
        name: Letters, digits, ``-``, ``_`` and ``.``; names the run folder.
        task: What is learned: model, loss, metrics.
        algorithm: What is computed locally, and how the server moves.
        cohort: Who is asked to take part in a round.
        rounds: How many rounds are to commit.
        seed: Seed of every draw.
        weighting: The weight of a client in the mean, capped in public.
        clipping_bound: Largest L2 norm of the parameters' part of one client's update, before it is weighed;
            None for no clipping.
        quorum: Least share of the wanted updates with which a round commits.
        deadline_s: Seconds after which a round closes, or None to wait for everybody.
        partial_work: Whether stragglers hand in what they have done when the deadline comes.
        stop: When to end before the last round.
        evaluation: When and on whom the model is measured.
        world: What a simulation assumes about durations and dropouts.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    task: Task
    algorithm: Algorithm
    cohort: Cohort
    rounds: Count
    seed: Natural = 0
    weighting: Weigh = Weigh()
    clipping_bound: Positive | None = None
    quorum: Share = 0.5
    deadline_s: Positive | None = None
    partial_work: bool = True
    stop: tuple[StopRule, ...] = ()
    evaluation: Evaluation = Evaluation()
    world: World = World()

    @property
    def policy(self) -> RoundPolicy:
        """When a round closes, and whether it counts."""
        return RoundPolicy(quorum=self.quorum, deadline_s=self.deadline_s, partial_work=self.partial_work)


def digest(settings: Any) -> str:
    """Return the SHA-256 of resolved settings: equal settings have equal digests.

    A callable counts by its address, not by its code.
    """
    return hashlib.sha256(msgspec.json.encode(encode(settings), order="deterministic")).hexdigest()
