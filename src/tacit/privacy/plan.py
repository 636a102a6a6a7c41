"""The one plan: the only source of clip, noise, denominator and accounting of a private job."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tacit.core.errors import PlanError
from tacit.core.events import CorrelatedEvent, GaussianEvent, LaplaceEvent, PrivacyEvent
from tacit.core.privacy import Adjacency
from tacit.privacy.accounting import Curve, Spent, calibrate, epsilon, epsilon_curve, mu_gdp, zcdp
from tacit.privacy.checks import check_settings, relation_of
from tacit.privacy.guarantee import Guarantee
from tacit.privacy.sampling import SamplingFacts
from tacit.privacy.settings import AdaptiveClipping, Privacy

_COHORT_PER_BIT_NOISE = 20
"""The bit's noise is a twentieth of the cohort (Andrew et al. 2021, section 3.1) ..."""
_BIT_NOISE_PER_NOISE = 2.0
"""... or twice the noise multiplier if that is more: the update's noise then grows by 3.3 % at most."""
_LARGEST_EPSILON = 1e9


@dataclass(frozen=True)
class PrivacyPlan:
    """What follows from a job's privacy and cohort, before anything runs; ``plan_privacy`` makes it.

    Steps are released steps and count from 1.

    Attributes:
        privacy: The settings it was made from.
        sampling: The facts about the cohort it was made from.
        adjacency: Which two worlds look alike.
        unamplified_because: Why nothing is gained by sampling; empty where the account relies on it.
        noise_multiplier: Noise over the sensitivity of all that is released in a step, the adaptive clip's
            bit included; with correlated noise, of the whole run.
        update_noise_multiplier: Standard deviation (scale) of a fresh draw of noise over the bound that is
            declared for the update as it is sent. ``noise_std`` multiplies them.
        bit_noise: Standard deviation of the noise on the sum of the adaptive clip's centred bits.
        event: What one release costs, or None where the whole run is one event.
        whole_run_event: What the whole run costs, with correlated noise.
        epsilon: Epsilon of the whole run at the job's delta.
    """

    privacy: Privacy
    sampling: SamplingFacts
    adjacency: Adjacency
    unamplified_because: str
    noise_multiplier: float
    update_noise_multiplier: float
    bit_noise: float | None
    event: PrivacyEvent | None
    whole_run_event: CorrelatedEvent | None
    epsilon: float

    @property
    def is_amplified(self) -> bool:
        """Whether the account relies on a secret Poisson sample."""
        return not self.unamplified_because

    @property
    def denominator(self) -> float:
        """What a step's noisy sum is divided by: a public constant, never the number of survivors."""
        return max(1.0, self.sampling.expected_cohort)

    @property
    def min_separation(self) -> int:
        """Least distance of two steps at which one client takes part; 1 promises nothing."""
        return self.privacy.min_separation or 1

    def noise_std(self, bound: float) -> float:
        """Return the standard deviation of a fresh draw of noise (with Laplace noise, its scale).

        Central noise is drawn once for the sum, local noise by every client for itself.

        Args:
            bound: The norm that is declared for what one client sends, after weighing, without the bit.
        """
        return self.update_noise_multiplier * bound

    def charge(self, step: int) -> PrivacyEvent | None:
        """Return what releasing a step adds to the account, or None where earlier charges cover it.

        Correlated noise is charged as a whole at its first step. Without amplification a client is charged
        once in ``min_separation`` steps, as it takes part no more often. A step that is released a second
        time, with new noise, costs ``event`` (``whole_run_event``) anew, whatever is said here.
        """
        if self.whole_run_event is not None:
            return self.whole_run_event if step == 1 else None
        return self.event if (step - 1) % self.min_separation == 0 else None

    def charges(self, steps: int) -> int:
        """Return how many charges so many steps make."""
        return min(steps, 1) if self.whole_run_event is not None else math.ceil(steps / self.min_separation)

    def steps_for(self, charges: int) -> int:
        """Return how many steps so many charges pay for, at most the job's rounds."""
        spacing = self.sampling.rounds if self.whole_run_event is not None else self.min_separation
        return min(charges * spacing, self.sampling.rounds)

    def spent(self, steps: int) -> Spent:
        """Return the events of so many steps and how often each is charged."""
        event = self.whole_run_event or self.event
        return {event: self.charges(steps)} if event is not None and steps else {}

    def epsilon_of(self, steps: int) -> float:
        """Return epsilon after so many steps, at the job's delta."""
        return epsilon(self.spent(steps), self.privacy.delta, self.adjacency)

    def curve(self, points: int = 20) -> Curve:
        """Return epsilon along the run as pairs of a step and its epsilon, to be read upward."""
        rounds = self.sampling.rounds
        if self.event is None:
            return ((rounds, self.epsilon),)
        curve = epsilon_curve(self.event, self.charges(rounds), self.privacy.delta, self.adjacency, points)
        return tuple((self.steps_for(count), value) for count, value in curve)

    def statement(self, steps: int | None = None) -> Guarantee:
        """Return what is promised after so many steps; None means the whole run."""
        steps = self.sampling.rounds if steps is None else steps
        whole, spent = steps == self.sampling.rounds, self.spent(steps)
        return Guarantee(
            unit=self.privacy.unit,
            trust=self.privacy.trust,
            adjacency=self.adjacency,
            epsilon=self.epsilon if whole else self.epsilon_of(steps),
            delta=self.privacy.delta,
            steps=steps,
            noise_multiplier=self.noise_multiplier,
            mechanism=self.privacy.mechanism.name,
            is_amplified=self.is_amplified,
            sampling=self._sampling(),
            zcdp=zcdp(spent, self.adjacency),
            mu_gdp=mu_gdp(spent, self.adjacency),
            covered=self._covered(),
            not_covered=self._not_covered(),
            randomness=self.privacy.randomness,
            least_sum=self.sampling.least_sum,
        )

    def _sampling(self) -> str:
        words = self.sampling.words(self.privacy.unit)
        if self.is_amplified:
            return f"{words}, kept secret; the account relies on it"
        return f"{words}; nothing is gained by it: {self.unamplified_because}"

    def _covered(self) -> tuple[str, ...]:
        if self.privacy.trust == "local":
            return ("everything that a client sends for the model",)
        covered = ["the model after every step"]
        if self.bit_noise is not None:
            covered.append("the clipping bound's path")
        if self.sampling.weight_cap != 1:
            covered.append(f"weights: at most {self.sampling.weight_cap:g}, a public constant")
        return tuple(covered)

    def _not_covered(self) -> tuple[str, ...]:
        unit, missing = self.privacy.unit, ["choosing settings, or among runs, by results on the same data"]
        if self.is_amplified:
            missing.append(f"how many {unit}s there are: the noise and the denominator show it")
        else:
            missing.append(f"which {unit}s took part, and when")
        if self.is_amplified and unit == "user":
            missing.append("what the operator sees: who took part is not to be published")
        if unit == "user":
            missing.append(
                "what is measured on users' own held-out data: the operator's, not to be published"
            )
        if self.privacy.trust == "central" and unit == "user":
            least, sums = self.sampling.least_sum, "clients, without noise, which the server is trusted with"
            alone = "updates on their way to the server, which is trusted with them"
            missing.append(f"sums of at least {least} {sums}" if least else alone)
        return tuple(missing)


def plan_privacy(privacy: Privacy, sampling: SamplingFacts) -> PrivacyPlan:
    """Make the plan: check what goes together, and find the noise or the epsilon that follows.

    Amplification is claimed only where a secret Poisson sample is enforced; everything else is accounted
    without it, under zero-out (or replace-one where asked for).

    Raises:
        PlanError: The settings do not go together, or promise what nobody can keep; the message says which.

    >>> facts = SamplingFacts("poisson", 1000, expected_cohort=50, largest_cohort=150, rounds=60, rate=0.05)
    >>> plan = plan_privacy(Privacy(unit="user", epsilon=2.0, delta=1e-4), facts)
    >>> plan.adjacency, round(plan.noise_multiplier, 2), plan.denominator
    ('add_remove', 1.07, 50)
    """
    check_settings(privacy, sampling)
    adjacency, unamplified_because = relation_of(privacy, sampling)
    event_of = _event_of(privacy, sampling, is_amplified=not unamplified_because)
    is_whole = privacy.mechanism.is_correlated
    # A secret sample has no separation: each is drawn anew, and a client may be in every one.
    count = 1 if is_whole else math.ceil(sampling.rounds / (privacy.min_separation or 1))
    noise = privacy.noise_multiplier
    if noise is None:
        assert privacy.epsilon is not None, "one of them is given"
        noise = calibrate(event_of, count, privacy.epsilon, privacy.delta, adjacency)
    event = event_of(noise)
    try:
        value = epsilon({event: count}, privacy.delta, adjacency)
    except OverflowError:  # losses so large that the accountant cannot write them down
        value = math.inf
    if not value <= _LARGEST_EPSILON:
        what = f"noise of multiplier {noise:g} gives no epsilon worth the name at delta {privacy.delta:g}"
        raise PlanError(
            "T175", what, where="$.privacy.noise_multiplier", fix="Add more noise, or allow a larger delta."
        )
    update_noise, bit_noise = _split(privacy, sampling, noise)
    return PrivacyPlan(
        privacy=privacy,
        sampling=sampling,
        adjacency=adjacency,
        unamplified_because=unamplified_because,
        noise_multiplier=noise,
        update_noise_multiplier=update_noise,
        bit_noise=bit_noise,
        event=None if is_whole else event,
        whole_run_event=event if isinstance(event, CorrelatedEvent) else None,
        epsilon=value,
    )


def _event_of(
    privacy: Privacy, sampling: SamplingFacts, *, is_amplified: bool
) -> Callable[[float], PrivacyEvent]:
    """Return the event of one charge as a function of the noise multiplier."""
    mechanism = privacy.mechanism

    def event_of(noise: float) -> PrivacyEvent:
        if mechanism.is_correlated:
            return CorrelatedEvent(
                noise_multiplier=noise,
                steps=sampling.rounds,
                min_separation=privacy.min_separation or 1,
                mechanism=mechanism.name,
            )
        kind = LaplaceEvent if mechanism.distribution == "laplace" else GaussianEvent
        event = kind(noise_multiplier=noise)
        return sampling.sampled(event) if is_amplified else event

    return event_of


def _split(privacy: Privacy, sampling: SamplingFacts, noise: float) -> tuple[float, float | None]:
    """Return the update's noise multiplier and the noise of the adaptive clip's bit.

    Both released together cost as much as one release with the noise multiplier z if
    ``z^-2 = z_update^-2 + (2 bit_noise)^-2`` (Andrew et al. 2021, theorem 1): a bit of plus or minus a half
    moves its sum by a half.
    """
    clipping = privacy.clipping
    if not isinstance(clipping, AdaptiveClipping):
        sensitivity = privacy.mechanism.sensitivity(sampling.rounds, privacy.min_separation or 1)
        return noise * sensitivity, None
    least = sampling.expected_cohort / _COHORT_PER_BIT_NOISE
    bit_noise = clipping.bit_noise or max(least, _BIT_NOISE_PER_NOISE * noise)
    left = noise**-2 - (2 * bit_noise) ** -2
    if left <= 0:
        raise PlanError(
            "T168",
            f"bit_noise {bit_noise:g} alone costs more than the noise multiplier {noise:.4g} allows",
            where="$.privacy.clipping.bit_noise",
            fix=f"Give the bit more noise than {noise / 2:.3g}; twice the noise multiplier is a good choice.",
        )
    return left**-0.5, bit_noise
