"""The job: one frozen value that says everything about a run."""

import hashlib
from typing import Annotated, Any

import msgspec

from tacit.algorithms import Algorithm
from tacit.codec import Weigh
from tacit.core.bounds import Count, Natural, Positive, Probability
from tacit.core.cohort import Cohort, Poisson, TruncatedPoisson
from tacit.core.part import Settings, encode
from tacit.privacy import Privacy
from tacit.round import Evaluation, RoundPolicy, StopRule, World
from tacit.secagg.settings import SecureAggregation
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
            None for no clipping. With ``privacy`` for users, its ``clipping`` says so instead.
        privacy: What is promised about the clients' data; None for nothing. Clients then
            send no metrics of their training, and with ``unit="user"`` every client has the weight 1 and the
            mean is taken over the expected cohort.
        secure_aggregation: That the server sees sums of many updates alone, and how many; None: it sees every
            update. It needs a ``clipping_bound`` or ``privacy``.
        quorum: Least share of the wanted updates with which a round commits; 0 commits every round. None
            takes a half, or what ``secure_aggregation`` needs if that is more, or 0 where the privacy of a
            Poisson cohort relies on nobody learning its size.
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
    privacy: Privacy | None = None
    secure_aggregation: SecureAggregation | None = None
    quorum: Probability | None = None
    deadline_s: Positive | None = None
    partial_work: bool = True
    stop: tuple[StopRule, ...] = ()
    evaluation: Evaluation = Evaluation()
    world: World = World()

    @property
    def policy(self) -> RoundPolicy:
        """When a round closes, and whether it counts."""
        quorum = self.quorum
        if quorum is None:
            quorum = 0.0 if self._has_secret_cohort else RoundPolicy().quorum
        return RoundPolicy(quorum=quorum, deadline_s=self.deadline_s, partial_work=self.partial_work)

    @property
    def _has_secret_cohort(self) -> bool:
        """Whether privacy could gain from nobody knowing who is in a round, and how many are."""
        return (
            self.privacy is not None
            and self.privacy.unit == "user"
            and self.secure_aggregation is None  # fellow clients see who takes part
            and isinstance(self.cohort, Poisson | TruncatedPoisson)
        )


def digest(settings: Any) -> str:
    """Return the SHA-256 of resolved settings: equal settings have equal digests.

    A callable counts by its address, not by its code.
    """
    return hashlib.sha256(msgspec.json.encode(encode(settings), order="deterministic")).hexdigest()
