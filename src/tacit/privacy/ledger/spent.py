"""What was spent, and how often one more event still fits a budget."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from tacit.core.events import (
    ComposedEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    RepeatedEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.part import Record
from tacit.core.privacy import Adjacency
from tacit.privacy.ledger.facts import Budget, Charge

Accountant = Callable[[Mapping[PrivacyEvent, int], float, Adjacency], float]
"""From events with their counts, a delta and a relation to the epsilon of all of them together."""


class Total(Record, frozen=True):
    """Events with their counts, and the relations they were planned under.

    Attributes:
        events: Every event and how often it happened.
        relations: The relations they were planned under.
    """

    events: Mapping[PrivacyEvent, int]
    relations: frozenset[Adjacency]

    @property
    def adjacency(self) -> Adjacency:
        """The one relation in which the epsilon of all of it is stated.

        An event says how much noise a sum has against what one unit can add to it; so it can be read under
        a relation that is at least as strong as its own. Taking a contribution as zero and leaving it out
        are the same where nothing was sampled. Where something was, no gain from sampling is known under
        ``zero_out``, and a cohort of fixed size says nothing under ``add_remove``, as whoever leaves it makes
        room for another: so the mix is read under ``replace_one``, which is stronger than both.
        """
        if len(self.relations) == 1:
            return next(iter(self.relations))
        needs_strongest = "replace_one" in self.relations or any(map(is_sampled, self.events))
        return "replace_one" if self.relations and needs_strongest else "zero_out"

    def plus(self, event: PrivacyEvent, count: int, adjacency: Adjacency) -> "Total":
        """Return what is spent when an event happens ``count`` more times."""
        events = {**self.events, event: self.events.get(event, 0) + count}
        return Total(events=events, relations=self.relations | {adjacency})

    def epsilon(self, accountant: Accountant, delta: float) -> float:
        """Return the epsilon of all of it; 0 if nothing was spent."""
        return accountant(self.events, delta, self.adjacency) if self.events else 0.0


def spent(charges: Iterable[Charge]) -> Total:
    """Group charges by event, whoever made them.

    >>> from tacit.core.events import GaussianEvent
    >>> z = GaussianEvent(noise_multiplier=1.0)
    >>> a = Charge(job="j", run="a", unit="user", adjacency="add_remove", event=z, count=2)
    >>> b = Charge(job="j", run="b", unit="user", adjacency="zero_out", event=z, count=3)
    >>> found = spent([a, b])
    >>> found.events[z], found.adjacency
    (5, 'zero_out')
    """
    counts: Counter[PrivacyEvent] = Counter()
    relations = set[Adjacency]()
    for charge in charges:
        counts[charge.event] += charge.count
        relations.add(charge.adjacency)
    return Total(events=dict(counts), relations=frozenset(relations))


def is_sampled(event: PrivacyEvent) -> bool:
    """Tell whether an event counts on nobody knowing who took part."""
    return any(isinstance(one, PoissonSampledEvent | TruncatedPoissonSampledEvent) for one in within(event))


def within(event: PrivacyEvent) -> Iterator[PrivacyEvent]:
    """Yield an event and all events that it consists of."""
    yield event
    match event:
        case PoissonSampledEvent(event=inner) | TruncatedPoissonSampledEvent(event=inner):
            yield from within(inner)
        case RepeatedEvent(event=inner):
            yield from within(inner)
        case ComposedEvent(events=events):
            for inner in events:
                yield from within(inner)


def affordable(
    before: Total,
    event: PrivacyEvent,
    adjacency: Adjacency,
    wanted: int,
    budget: Budget,
    accountant: Accountant,
) -> int:
    """Return how many more times an event fits a budget, at most ``wanted``.

    A run whose noise was calibrated to its rounds costs one look; only one that does not fit is searched.
    """

    def fits(count: int) -> bool:
        # Written this way round, an epsilon that is not a number fits nothing.
        return before.plus(event, count, adjacency).epsilon(accountant, budget.delta) <= budget.epsilon

    if fits(wanted):
        return wanted
    enough, most = 0, wanted  # `most` does not fit; whether 0 does is of no use to anybody
    while most - enough > 1:
        middle = (enough + most) // 2
        enough, most = (middle, most) if fits(middle) else (enough, middle)
    return enough
