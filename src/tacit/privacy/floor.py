"""The floor: what a device's owner demands of every job, whatever the job says."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Annotated

from msgspec import Meta

from tacit.core.bounds import Count, Natural, Positive
from tacit.core.errors import PlanError, RemoteProtocolError
from tacit.core.events import CorrelatedEvent, PrivacyEvent
from tacit.core.part import Record, Settings, parts
from tacit.core.privacy import Adjacency, Trust, Unit
from tacit.privacy.ledger import Accountant, Charge, Total, is_sampled, spent, within
from tacit.privacy.mechanisms import Mechanism, Separation

Delta = Annotated[float, Meta(gt=0, lt=1)]


class Offer(Record, frozen=True):
    """What a server says of the privacy of a round it invites a device to.

    Attributes:
        population: Whose ledger the round is charged to.
        run: The run of the job.
        step: The step of the mechanism that this round is to release, from 0.
        steps: How many steps the run has at most.
        event: What one step costs; with correlated noise, what the whole run costs.
        delta: The delta of the job's guarantee.
        adjacency: Its neighbouring relation.
        unit: What it protects.
        trust: Who adds the noise.
        smallest_cohort: Of no fewer clients is the sum ever looked at.
    """

    population: str
    run: str
    step: Natural
    steps: Count
    event: PrivacyEvent
    delta: Delta
    adjacency: Adjacency
    unit: Unit
    trust: Trust
    smallest_cohort: Natural


class Participation(Record, frozen=True):
    """What a device writes down before its update leaves, whatever then becomes of the round.

    Attributes:
        offer: What it took.
        day: When, in days from any fixed one.
    """

    offer: Offer
    day: int


class DeviceRecord(Record, frozen=True):
    """What a device has taken part in; its own, and never sent.

    Attributes:
        participations: In the order they happened.
    """

    participations: tuple[Participation, ...] = ()

    def last_step(self, offer: Offer) -> int | None:
        """Return the last step of the offered run that the device took part in; None: of none."""
        taken = (one.offer for one in self.participations)
        same = (one.step for one in taken if (one.population, one.run) == (offer.population, offer.run))
        return max(same, default=None)


class Floor(Settings, frozen=True):
    """The least protection that an owner accepts, checked before training; a job cannot change it.

    What is left out is not demanded. As soon as a guarantee is demanded (of epsilon, delta, unit or trust),
    a job without one, or with one that this device cannot compute for itself, is refused.

    Attributes:
        max_epsilon: Largest epsilon of a job's whole run, computed anew from its events.
        max_delta: Largest delta of a job, and the delta at which ``period_epsilon`` is stated.
        period_epsilon: Largest epsilon of all that the device took part in within the period.
        period_days: Length of the period; it ends today.
        unit: What is to be protected. Who demands records accepts users, who hold them.
        trust: Who may add the noise; empty: anybody.
        min_cohort: Least number of clients of which a sum is looked at.
        min_separation: Least distance of two steps of one run; 1 lets no step be tried twice.

    >>> Floor(max_epsilon=2.0, max_delta=1e-5, trust=("distributed", "local")).unit is None
    True
    """

    max_epsilon: Positive | None = None
    max_delta: Delta | None = None
    period_epsilon: Positive | None = None
    period_days: Count = 365
    unit: Unit | None = None
    trust: tuple[Trust, ...] = ()
    min_cohort: Count = 1
    min_separation: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_delta is None and (self.max_epsilon is not None or self.period_epsilon is not None):
            raise ValueError("an epsilon says nothing without max_delta")

    def check(self, offer: Offer, record: DeviceRecord, day: int, accountant: Accountant) -> None:
        """Refuse an offer that falls below the floor.

        Args:
            offer: What the server says.
            record: What the device took part in so far.
            day: Today, counted as in the record.
            accountant: Interprets events.

        Raises:
            RemoteProtocolError: A demand is not met; the message names it, and nothing of the record.
        """
        if self.demands_guarantee:
            self._check_guarantee(offer, accountant)
        if offer.smallest_cohort < self.min_cohort:
            what = f"sums of {offer.smallest_cohort} clients may be looked at"
            raise _below("T528", "min_cohort", what, f"The owner demands at least {self.min_cohort}.")
        self._check_separation(offer, record)
        if self.period_epsilon is not None:
            self._check_period(offer, record, day, accountant)

    @property
    def demands_guarantee(self) -> bool:
        """Whether a job has to be differentially private."""
        demands = (self.max_epsilon, self.max_delta, self.period_epsilon, self.unit)
        return bool(self.trust) or any(demand is not None for demand in demands)

    def _check_guarantee(self, offer: Offer, accountant: Accountant) -> None:
        epsilon = _epsilon(spent_by([Participation(offer=offer, day=0)], whole=True), offer.delta, accountant)
        if not math.isfinite(epsilon) or not all(map(_is_known, _correlated(offer.event))):
            fix = "The owner demands differential privacy by a mechanism that the device knows."
            raise _below("T520", "guarantee", "the job gives no guarantee that the device can compute", fix)
        if self.unit == "user" != offer.unit:
            what = f"the job protects each {offer.unit}"
            raise _below("T525", "unit", what, "The owner demands that each user is protected.")
        if self.trust and offer.trust not in self.trust:
            what = f"the job's noise is of kind {offer.trust}"
            raise _below("T525", "trust", what, f"The owner accepts {' or '.join(self.trust)}.")
        if self.max_delta is not None and offer.delta > self.max_delta:
            what = f"the job's delta is {offer.delta:.3g}"
            raise _below("T526", "max_delta", what, f"The owner accepts at most {self.max_delta:.3g}.")
        if self.max_epsilon is not None and epsilon > self.max_epsilon:
            what = f"the run spends epsilon {epsilon:.4g} at delta {offer.delta:.3g}"
            raise _below("T526", "max_epsilon", what, f"The owner accepts at most {self.max_epsilon:.4g}.")

    def _check_separation(self, offer: Offer, record: DeviceRecord) -> None:
        """Check what the owner asks for, and what correlated noise relies on whether they ask or not."""
        promised = [event.min_separation for event in _correlated(offer.event)]
        least, last = max(self.min_separation, *promised, 0), record.last_step(offer)
        if least and not Separation(min_separation=least).allows(offer.step, last):
            what = f"step {offer.step} comes too soon after the device's last one of this run"
            raise _below("T529", "min_separation", what, f"Ask again after at least {least} steps.")
        most = min([offer.steps, *(event.steps for event in _correlated(offer.event))])
        if offer.step >= most:
            what = f"step {offer.step} is beyond the {most} steps that were accounted for"
            raise _below("T529", "steps", what, "Start another run.")

    def _check_period(self, offer: Offer, record: DeviceRecord, day: int, accountant: Accountant) -> None:
        assert self.max_delta is not None  # as __post_init__ says
        assert self.period_epsilon is not None
        first = day - self.period_days + 1
        recent = [one for one in record.participations if one.day >= first]
        total = spent_by([*recent, Participation(offer=offer, day=day)])
        if not _epsilon(total, self.max_delta, accountant) <= self.period_epsilon:
            what = f"this round would exceed what the device may spend in {self.period_days} days"
            raise _below("T527", "period_epsilon", what, "Do without this device, or ask it again later.")


def spent_by(participations: Iterable[Participation], *, whole: bool = False) -> Total:
    """Return what a device has spent by taking part.

    A step that is amplified by secret sampling costs everybody, drawn or not: such a run counts with all its
    steps as soon as the device took part in one. A run with correlated noise is one event. Everything else
    counts as often as the device took part.

    Args:
        participations: What it took part in.
        whole: Whether to count every step of every run.
    """
    taken = defaultdict[tuple[str, str, Unit, Adjacency, PrivacyEvent], list[Offer]](list)
    for offer in (one.offer for one in participations):
        taken[offer.population, offer.run, offer.unit, offer.adjacency, offer.event].append(offer)
    return spent(
        Charge(
            job=run,
            run=run,
            unit=unit,
            adjacency=adjacency,
            event=event,
            count=_count(event, offers, whole=whole),
        )
        for (_, run, unit, adjacency, event), offers in taken.items()
    )


def _count(event: PrivacyEvent, offers: list[Offer], *, whole: bool) -> int:
    if isinstance(event, CorrelatedEvent):
        return 1
    counts_all = whole or is_sampled(event)
    return max(len(offers), *(offer.steps for offer in offers)) if counts_all else len(offers)


def _epsilon(total: Total, delta: float, accountant: Accountant) -> float:
    """Return epsilon; infinity where nothing is known of an event under its relation."""
    try:
        return total.epsilon(accountant, delta)
    except PlanError:
        return math.inf


def _correlated(event: PrivacyEvent) -> Iterator[CorrelatedEvent]:
    return (one for one in within(event) if isinstance(one, CorrelatedEvent))


def _is_known(event: CorrelatedEvent) -> bool:
    """Tell whether a mechanism is one of those whose sensitivity this version has proven."""
    known = parts(Mechanism).values()  # type: ignore[type-abstract]  # a protocol names a kind
    return any(part.name == event.mechanism and part.is_correlated for part in known)


def _below(code: str, rule: str, what: str, fix: str) -> RemoteProtocolError:
    return RemoteProtocolError(code, what, where=f"floor.{rule}", fix=fix)
