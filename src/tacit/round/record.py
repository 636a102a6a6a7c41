"""What is written down about a round and an evaluation."""

from collections.abc import Mapping
from typing import Literal

from tacit.core.events import PrivacyEvent
from tacit.core.metrics import ClientSummary
from tacit.core.part import Record


class RoundRecord(Record, frozen=True):
    """Who took part in a round, what became of it, and why.

    Attributes:
        round: The round's number; every attempt has its own, abandoned ones too.
        outcome: ``"committed"``: it counts; ``"abandoned"``: it does not.
        reason: Why it was abandoned, else empty.
        invited: Clients that were sent the assignment.
        answered: Clients whose updates are in the sum.
        partial_work: Those of them that handed in part of their work.
        failed: Clients that could not answer, with the reason.
        dropped: Clients that vanished.
        late: Clients that answered, or would have, after the round had closed.
        opened_s: When it opened, seconds of virtual time.
        closed_s: When it closed.
        blamed: Clients of secure sums that sent what does not fit, and what; a finding, not a proof.
        train_loss: Mean training loss of the answered clients, by weight.
        seconds: Seconds of real time it took; filled in by the driver.
    """

    round: int
    outcome: Literal["committed", "abandoned"]
    reason: str
    invited: tuple[str, ...]
    answered: tuple[str, ...]
    partial_work: tuple[str, ...] = ()
    failed: Mapping[str, str] = {}
    dropped: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    opened_s: float = 0.0
    closed_s: float = 0.0
    blamed: Mapping[str, str] = {}
    train_loss: float | None = None
    seconds: float | None = None


class PrivacyRecord(Record, frozen=True):
    """What a round spent, and what protected it; a line of ``privacy.jsonl``.

    Where records are protected inside sites, ``step`` counts the rounds that were charged, and the other
    facts are the worst site's, for one of its local steps.

    Attributes:
        round: The round's number.
        step: The number of the released step, from 1; None if nothing was released.
        event: What was charged for it; None if an earlier charge covers it.
        epsilon: What all steps so far have spent, rounded up; None without privacy.
        noise_std: Standard deviation (scale) of a fresh draw of noise on one coordinate of the sum.
        clipping_bound: The clipping bound of the round.
    """

    round: int
    step: int | None = None
    event: PrivacyEvent | None = None
    epsilon: float | None = None
    noise_std: float | None = None
    clipping_bound: float | None = None


class EvaluationRecord(Record, frozen=True):
    """What a model was measured to be.

    Attributes:
        round: The round after which it was measured; 0 is the initial model.
        central: Metrics on the central test set, if there is one.
        clients: For each metric how it is spread over the clients' own held-out data.
        per_client: For each metric its value on each measured client.
    """

    round: int
    central: Mapping[str, float] = {}
    clients: Mapping[str, ClientSummary] = {}
    per_client: Mapping[str, Mapping[str, float]] = {}

    def value(self, metric: str, on: Literal["central", "clients"]) -> float | None:
        """Return a metric's value on the test set, or its mean over clients; None if it was not measured."""
        if on == "central":
            return self.central.get(metric)
        summary = self.clients.get(metric)
        return None if summary is None else summary.mean
