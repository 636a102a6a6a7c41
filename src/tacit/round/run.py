"""A run of rounds: a machine without I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import numpy as np

from tacit.algorithms import ServerOptimizer
from tacit.codec import Codec
from tacit.core.bounds import Count, Natural
from tacit.core.cohort import Cohort
from tacit.core.errors import LocalProtocolError
from tacit.core.events import NonPrivateEvent
from tacit.core.layout import Layout, Vector
from tacit.core.part import Settings
from tacit.core.rule import Grid, Partial, Rule
from tacit.core.stage import StageContext
from tacit.privacy import PrivacyPlan
from tacit.privacy.floor import Offer
from tacit.privacy.mechanisms import Separation
from tacit.round.messages import RoundClosed
from tacit.round.policy import RoundPolicy
from tacit.round.record import EvaluationRecord, PrivacyRecord, RoundRecord
from tacit.round.release import Release, keys_of
from tacit.round.server import RoundServer
from tacit.round.snapshot import Snapshot
from tacit.round.stop import StopRule

MOST_ABANDONED = 3
"""A run fails after this many rounds in a row were abandoned."""


class Evaluation(Settings, frozen=True):
    """When and on whom the model is measured.

    Attributes:
        every: Measure after every so many committed rounds; the first and the last model always are.
        clients: Measure on the held-out data of at most this many clients (the same ones every time);
            0 measures on the central test set alone.
    """

    every: Count = 1
    clients: Natural = 100


@dataclass(frozen=True)
class RunSettings:
    """What a run of rounds is made of; compiled from a job.

    Attributes:
        job: The job's name.
        seed: Its seed.
        rounds: How many rounds are to commit.
        cohort: How cohorts are drawn.
        policy: When a round closes and commits.
        rule: How updates become one.
        codec: How they travel.
        grid: On which grid they are summed.
        layout: Names and shapes of the model's vector.
        optimizer: How the mean update moves the model.
        stop: When to end before the last round.
        evaluation: When and on whom the model is measured.
        privacy: What is promised; None for nothing.
    """

    job: str
    seed: int
    rounds: int
    cohort: Cohort
    policy: RoundPolicy
    rule: Rule
    codec: Codec
    grid: Grid
    layout: Layout
    optimizer: ServerOptimizer
    stop: tuple[StopRule, ...]
    evaluation: Evaluation
    privacy: PrivacyPlan | None = None


# --- events and effects ------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluated:
    """The model was measured."""

    record: EvaluationRecord


@dataclass(frozen=True)
class StartRound:
    """Drive this round to its end, from this vector, and come back with its ``RoundClosed``."""

    server: RoundServer
    vector: Vector


@dataclass(frozen=True)
class Evaluate:
    """Measure the model and come back with ``Evaluated``."""

    round: int
    vector: Vector


@dataclass(frozen=True)
class NoteRound:
    """A round has closed: write its record down, and what it spent."""

    record: RoundRecord
    privacy: PrivacyRecord


@dataclass(frozen=True)
class Finish:
    """The run is over.

    Attributes:
        outcome: ``"completed"`` or ``"failed"``.
        reason: Why it ended.
    """

    outcome: Literal["completed", "failed"]
    reason: str


RunEffect = StartRound | Evaluate | NoteRound | Finish


@dataclass
class Run:
    """Starts one round after the other, moves the model, and knows when to end.

    The driver performs the effects in order; after each of its own events it may keep ``snapshot()``.

    Args:
        settings: What the run is made of.
        state: Where to start: the initial model, or what a killed run left.
        finished: Whether the run is over.
    """

    settings: RunSettings
    state: Snapshot
    finished: bool = False
    _buffers: dict[str, Vector] = field(default_factory=dict)
    _release: Release | None = None

    def __post_init__(self) -> None:
        self._buffers = dict(self.state.buffers)
        if self.settings.privacy is not None:
            plan, settings = self.settings.privacy, self.settings
            self._release = Release(plan, settings.codec, settings.grid, keys_of(plan, settings.seed))
            if self.state.privacy is None:
                self.state = replace(self.state, privacy=self._release.first())

    def begin(self) -> tuple[RunEffect, ...]:
        """Return the first effects; a resumed run goes on where it was."""
        if self._is_measurement_due():
            return (Evaluate(self.state.round, self.state.vector),)
        return self._next()

    def receive(self, event: RoundClosed | Evaluated) -> tuple[RunEffect, ...]:
        """Take the result of an effect and return what is next.

        Raises:
            LocalProtocolError: The run is over.
        """
        if self.finished:
            raise LocalProtocolError("T512", f"{type(event).__name__} is not legal: the run is over")
        match event:
            case RoundClosed() if event.record.round == self.state.round + 1:
                return self._round_closed(event.record, event.partial)
            case Evaluated():
                history = (*self.state.history, msgspec.structs.replace(event.record, per_client={}))
                self.state = replace(self.state, history=history)
                return self._next()
        raise LocalProtocolError("T512", f"round {event.record.round} is not the one that was started")

    def keep_buffers(self, buffers: Mapping[str, Vector]) -> None:
        """Remember the buffers that clients keep for their next round (simulation only)."""
        self._buffers.update(buffers)

    def buffers_of(self, client: str) -> Vector | None:
        """Return the buffers a client kept from its last round, if it did."""
        return self._buffers.get(client)

    def renew_noise(self) -> None:
        """Draw another key for the next step's noise, as its inputs are not those of an earlier attempt."""
        if self._release is not None and self.state.privacy is not None:
            self.state = replace(self.state, privacy=self._release.renewed(self.state.privacy))

    @property
    def cohort_seed(self) -> int:
        """The seed of the draw of cohorts."""
        secret = None if self.state.privacy is None else self.state.privacy.cohort_seed
        return self.settings.seed if secret is None else secret

    def snapshot(self) -> Snapshot:
        """Return the state as a value that later rounds do not change."""
        return replace(self.state, buffers=dict(self._buffers)) if self._buffers else self.state

    def _round_closed(self, record: RoundRecord, partial: Partial | None) -> tuple[RunEffect, ...]:
        self.state = replace(self.state, round=record.round, now_s=record.closed_s)
        self._note_participation(record)
        if partial is None:
            return (NoteRound(record, self._spent_in_vain(record)), *self._abandoned(record))
        partial, spend = self._released(record, partial)
        moved, loss = self._move(record, partial)
        record = msgspec.structs.replace(record, train_loss=loss)
        if moved is None:
            reason = f"the model is no longer finite after round {record.round}; lower the learning rates"
            return (NoteRound(record, spend), self._finish("failed", reason))
        self.state = replace(moved, committed=self.state.committed + 1, abandoned_in_a_row=0)
        if self._is_measured():
            return (NoteRound(record, spend), Evaluate(self.state.round, self.state.vector))
        return (NoteRound(record, spend), *self._next())

    def _note_participation(self, record: RoundRecord) -> None:
        if self._release is not None and self.state.privacy is not None:
            # Of those who did not answer nobody knows; what one that failed has sent may have been refused.
            sent = (*record.answered, *record.late, *record.dropped, *record.failed)
            self.state = replace(self.state, privacy=self._release.note(sent, self.state.privacy))

    def _released(self, record: RoundRecord, partial: Partial) -> tuple[Partial, PrivacyRecord]:
        """Return the sum as it may be seen, and what that has spent."""
        before = self.state.privacy
        if self._release is None or before is None:
            return partial, PrivacyRecord(round=record.round, event=NonPrivateEvent())
        released = self._release.release(partial, before)
        self.state = replace(self.state, privacy=released.state)
        return released.partial, self._release.record(record.round, before)

    def _spent_in_vain(self, record: RoundRecord) -> PrivacyRecord:
        """Return what an abandoned round has spent: nothing, unless what clients send is a release itself."""
        before = self.state.privacy
        after = None if self._release is None or before is None else self._release.abandon(before)
        if self._release is None or before is None or after is before:
            return PrivacyRecord(round=record.round)
        self.state = replace(self.state, privacy=after)
        return self._release.record(record.round, before)

    def _abandoned(self, record: RoundRecord) -> tuple[RunEffect, ...]:
        privacy = self.settings.privacy
        if not record.invited and (privacy is None or privacy.min_separation == 1):
            return self._next()  # a Poisson cohort may well be empty: nobody failed
        in_a_row = self.state.abandoned_in_a_row + 1
        self.state = replace(self.state, abandoned_in_a_row=in_a_row)
        if in_a_row < MOST_ABANDONED:
            return self._next()
        causes = sorted(set(record.failed.values()))
        because = f" ({', '.join(causes)})" if causes else ""
        return (
            self._finish("failed", f"{in_a_row} rounds in a row were abandoned: {record.reason}{because}"),
        )

    def _move(self, record: RoundRecord, partial: Partial) -> tuple[Snapshot | None, float | None]:
        """Decode the cohort's sum and let the server optimizer move the model."""
        settings, state = self.settings, self.state
        codec, size = settings.codec, settings.layout.size
        ctx = StageContext(
            codec.spec, settings.seed, record.round, record.answered, np.zeros(0, dtype=np.int64)
        )
        total = codec.decode(settings.grid.to_float(partial.total), ctx)
        mean = settings.rule.finish(total, codec.sent)
        if mean is None:
            return state, None
        loss = float(mean[codec.spec.slice("metrics")][0]) if "metrics" in codec.sent.names else None
        trained = settings.layout.slice("parameters")
        vector, optimizer = settings.optimizer.step(state.vector[trained], mean[trained], state.optimizer)
        if trained.stop < size:  # buffers follow their plain mean
            vector = np.concatenate([vector, state.vector[trained.stop :] + mean[trained.stop : size]])
        return (replace(state, vector=vector, optimizer=optimizer) if _is_finite(vector) else None), loss

    def _is_measured(self) -> bool:
        last = self.state.committed >= self.settings.rounds
        return last or self.state.committed % self.settings.evaluation.every == 0

    def _is_measurement_due(self) -> bool:
        """Tell whether the snapshot was kept between a round and the measurement after it."""
        committed, rounds, every = self.state.committed, self.settings.rounds, self.settings.evaluation.every
        ragged_end = committed >= rounds and committed % every != 0
        return len(self.state.history) < 1 + committed // every + ragged_end

    def _next(self) -> tuple[RunEffect, ...]:
        state, settings = self.state, self.settings
        for rule in settings.stop:
            reason = rule.stop(state.history)
            if reason is not None and state.history[-1].round == state.round:
                return (self._finish("completed", reason),)
        if state.committed >= settings.rounds:
            return (self._finish("completed", f"all {settings.rounds} rounds are done"),)
        privacy = state.privacy
        server = RoundServer(
            job=settings.job,
            number=state.round + 1,
            seed=self.cohort_seed,
            cohort=settings.cohort,
            policy=settings.policy,
            rule=settings.rule,
            size=settings.grid.size,
            clipping_bound=None if privacy is None else privacy.clipping_bound,
            step=None if privacy is None else privacy.step,
            separation=Separation(
                min_separation=1 if settings.privacy is None else settings.privacy.min_separation
            ),
            took_part={} if privacy is None else privacy.took_part,
            offer=None if privacy is None else self._offer(privacy.step),
        )
        return (StartRound(server, state.vector),)

    def _offer(self, step: int) -> Offer | None:
        """Return what is promised to a device about a step."""
        plan, settings = self.settings.privacy, self.settings
        event = None if plan is None else plan.whole_run_event or plan.event
        if plan is None or event is None:
            return None
        wanted = settings.cohort.wanted(math.ceil(plan.sampling.expected_cohort))
        return Offer(
            population=settings.job,
            run=settings.job,
            step=step,
            steps=plan.sampling.rounds,
            event=event,
            delta=plan.privacy.delta,
            adjacency=plan.adjacency,
            unit=plan.privacy.unit,
            trust=plan.privacy.trust,
            smallest_cohort=settings.policy.least(wanted),
        )

    def _finish(self, outcome: Literal["completed", "failed"], reason: str) -> Finish:
        self.finished = True
        return Finish(outcome, reason)


def _is_finite(vector: Vector) -> bool:
    # The squared norm is one quick pass; only where it overflows does each coordinate have to be asked.
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(np.dot(vector, vector)) or bool(np.isfinite(vector).all())
