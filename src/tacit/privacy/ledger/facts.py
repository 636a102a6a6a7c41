"""What the ledger writes down: spends, what became of them, budgets, and gaps that were found."""

from typing import Annotated

from msgspec import Meta

from tacit.core.bounds import Count, Natural, Positive
from tacit.core.events import PrivacyEvent
from tacit.core.part import Record, Settings
from tacit.core.privacy import Adjacency, Unit

Name = Annotated[str, Meta(min_length=1, max_length=256)]
"""A name that people choose: of a population, a job or a run."""
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
"""A digest in hexadecimal."""


class Budget(Settings, frozen=True, tag="budget", tag_field="kind"):
    """The most that may ever be spent: of a population by all its jobs, or by one run.

    Attributes:
        epsilon: The largest epsilon.
        delta: The delta it is stated at.
    """

    epsilon: Positive
    delta: Annotated[float, Meta(gt=0, lt=1)]

    def and_also(self, other: "Budget | None") -> "Budget":
        """Return a budget that keeps within both: the smaller of each number."""
        if other is None:
            return self
        return Budget(epsilon=min(self.epsilon, other.epsilon), delta=min(self.delta, other.delta))


class Reserved(Settings, frozen=True, tag="reserved", tag_field="kind"):
    """What one step of one run is about to release; charged from the moment it is written down.

    Two equal values are one release: asked for again, the first is reused and nothing is charged anew. So
    ``inputs_sha256`` covers all that the released numbers follow from, the identity of the noise
    included: a second noise over the same sum would be a second release.

    Attributes:
        job: The job's name.
        run: Which run of it; unique in the population.
        step: The step of the mechanism; a spend that covers a whole run (correlated noise) has step 0.
        inputs_sha256: Digest of what goes into the release.
        plan_sha256: Digest of the privacy plan.
        unit: What is protected: one user, or one record.
        adjacency: The neighbouring relation the event was planned under.
        event: What it costs.
    """

    job: Name
    run: Name
    step: Natural
    inputs_sha256: Sha256
    plan_sha256: Sha256
    unit: Unit
    adjacency: Adjacency
    event: PrivacyEvent


class Released(Record, frozen=True, tag="released", tag_field="kind"):
    """A reserved spend has been released, as far as this side knows.

    Attributes:
        reservation: The sequence number of the spend.
    """

    reservation: Count


class Abandoned(Record, frozen=True, tag="abandoned", tag_field="kind"):
    """Nothing of a reserved spend has left the trust boundary, and nothing will: it costs nothing.

    Attributes:
        reservation: The sequence number of the spend.
    """

    reservation: Count


class Mark(Record, frozen=True):
    """One place in a chain, small enough for every assignment.

    Attributes:
        sequence: The entry's number; 0 is before the first.
        sha256: The entry's digest, which covers all entries before it.
    """

    sequence: Natural
    sha256: Sha256


class Charge(Record, frozen=True):
    """Equal events of one run, counted.

    Attributes:
        job: The job's name.
        run: The run that spent them.
        unit: What they protect.
        adjacency: The relation they were planned under.
        event: The event.
        count: How often it was charged.
    """

    job: Name
    run: Name
    unit: Unit
    adjacency: Adjacency
    event: PrivacyEvent
    count: Count


class Head(Record, frozen=True):
    """How far a chain had come, kept outside the ledger, so that what is lost can be charged.

    Attributes:
        population: Whose chain.
        mark: The last entry.
        charged: All that was ever charged up to there, abandoned spends included.
        budget: The population's budget then.
        trail: Marks 1, 2, 4, 8, ... entries before the last. The newest of them that a restored ledger still
            has bounds from above what it lost.
    """

    population: Name
    mark: Mark
    charged: tuple[Charge, ...] = ()
    budget: Budget | None = None
    trail: tuple[Mark, ...] = ()


class Gap(Record, frozen=True, tag="gap", tag_field="kind"):
    """Entries were lost that are known to have existed; what they may have spent counts as spent.

    Attributes:
        lost: The head that the chain did not contain.
        charges: What is charged for the difference.
    """

    lost: Head
    charges: tuple[Charge, ...]


Fact = Reserved | Released | Abandoned | Gap | Budget
"""What one entry of the ledger states; its ``kind`` is reserved, released, abandoned, gap or budget."""
