"""What record-level privacy asks of sites: each has noise of its own, and an account of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec

from tacit.core.events import RepeatedEvent
from tacit.core.local import LocalSGD
from tacit.core.record_level import RecordLevel, events_of
from tacit.privacy import Guarantee, Privacy, PrivacyPlan, SamplingFacts, plan_privacy
from tacit.privacy.accounting import Curve

_CURVE_POINTS, _ALL_POINTS = 20, 40  # of one site's epsilon along the run, and of all curves together
_WHOLE = "every record in every step: nothing is sampled"
_COVERED = "every update that a site sends, and so the model"
_NOT_COVERED = (
    "several records of one person, in one site or in more",
    "what is measured on records that a site holds out",
    "which site took part and when, and how long it took",
    "what a simulation's run folder keeps of who holds what",
)


@dataclass(frozen=True)
class Sites:
    """The privacy plans of all sites of a job whose unit is the record; ``Sites.of`` makes it.

    A site's number of records is public and fixed (``RecordLevel``). Batch, rate and steps follow from it,
    and so does the plan: with ``epsilon`` given the noise, so that a site that takes part in every round
    ends within it; with ``noise_multiplier`` given the site's epsilon. Who takes part in a round is no
    secret: sites gain nothing by being left out of some.

    Attributes:
        privacy: The job's settings.
        local: How a site trains.
        rounds: How many rounds a site may take part in.
        plans: The plan of every site that has so many records.
        least_sum: Fewest sites in a sum that the server sees; 0: it sees every update.
    """

    privacy: Privacy
    local: LocalSGD
    rounds: int
    plans: Mapping[int, PrivacyPlan]
    least_sum: int = 0

    @classmethod
    def of(
        cls, privacy: Privacy, local: LocalSGD, sizes: Iterable[int], rounds: int, least_sum: int = 0
    ) -> "Sites":
        """Plan for sites of these numbers of records; those without any need no plan.

        Sites of equal size share a plan. At least one has records.

        Raises:
            PlanError: Settings do not go together, or delta is too large for the largest site.
        """
        distinct = sorted({size for size in sizes if size > 0}, reverse=True)
        plans = {size: _plan(privacy, local, size, rounds) for size in distinct}
        return cls(privacy, local, rounds, plans, least_sum)

    @cached_property
    def levels(self) -> dict[int, RecordLevel]:
        """How a site of so many records treats each of them."""
        bound = self.privacy.clipping.first_bound
        return {
            size: RecordLevel(noise_multiplier=plan.update_noise_multiplier, clipping_bound=bound)
            for size, plan in self.plans.items()
        }

    @cached_property
    def worst(self) -> PrivacyPlan:
        """The plan with the largest epsilon; its steps are local ones."""
        return max(self.plans.values(), key=lambda plan: plan.epsilon)

    def as_dict(self) -> list[dict[str, float]]:
        """Return the figures of sites of each size as plain data, the largest sites first."""
        return [
            {
                "records": size,
                "steps_per_round": self.steps(size),
                "rate": plan.sampling.rate,
                "noise_multiplier": self.levels[size].noise_multiplier,
                "epsilon": plan.epsilon,
            }
            for size, plan in self.plans.items()
        ]

    def steps(self, records: int) -> int:
        """Return how many steps a site of so many records takes in one round."""
        return self.local.total_steps(records)

    def charge(self, records: int) -> RepeatedEvent:
        """Return what one round costs each record of a site that has so many."""
        plan = self.plans[records]
        if plan.is_amplified:
            return events_of(self.levels[records], self.local, records)
        assert plan.event is not None, "noise inside a site is independent from step to step"
        return RepeatedEvent(event=plan.event, count=self.steps(records))

    def epsilon_along(self, taken: Mapping[int, int]) -> float:
        """Return the largest epsilon that any site has spent, rounded up to the next point of its curve.

        Args:
            taken: The most rounds that a site of so many records has taken part in.
        """
        return max(
            (self._read(size, rounds * self.steps(size)) for size, rounds in taken.items()), default=0.0
        )

    def statement(self, taken: Mapping[int, int] | None = None) -> Guarantee:
        """Return what is promised to the records of every site: the promise of the one that spends most.

        Args:
            taken: The most rounds that a site of so many records has taken part in; None: all of them.
        """
        done = dict.fromkeys(self.plans, self.rounds) if taken is None else taken
        steps = {size: done.get(size, 0) * self.steps(size) for size in self.plans}
        size = max(steps, key=lambda size: self._epsilon(size, steps[size]))
        return self._stated(self.plans[size], steps[size])

    def _epsilon(self, size: int, steps: int) -> float:
        plan = self.plans[size]
        return plan.epsilon if steps == plan.sampling.rounds else plan.epsilon_of(steps)

    def _stated(self, plan: PrivacyPlan, steps: int) -> Guarantee:
        said = plan.statement(steps)
        is_sampled = plan.sampling.rate < 1
        return msgspec.structs.replace(
            said,
            is_amplified=said.is_amplified and is_sampled,
            sampling=said.sampling if is_sampled else _WHOLE,
            covered=(_COVERED,),
            least_sum=self.least_sum,
            not_covered=(*said.not_covered, *_NOT_COVERED),
        )

    def _read(self, size: int, steps: int) -> float:
        if not steps:
            return 0.0
        return next((value for at, value in self._curves[size] if at >= steps), self._epsilon(size, steps))

    @cached_property
    def _curves(self) -> dict[int, Curve]:
        # Fewer points for each of many sites: epsilon is then shown higher than it is, never lower.
        points = min(_CURVE_POINTS, max(2, _ALL_POINTS // len(self.plans)))
        return {size: plan.curve(points) for size, plan in self.plans.items()}


def _plan(privacy: Privacy, local: LocalSGD, records: int, rounds: int) -> PrivacyPlan:
    return plan_privacy(privacy, SamplingFacts.of_batches(local, records, rounds))
