"""Privacy events: what a release cost, as data.

Events are stored rather than epsilons, so that an accountant can interpret, and a better one
reinterpret, everything that was ever released. Names and meaning follow dp-accounting's events.

A noise multiplier is measured against the sensitivity of a sum whose units each add a vector of
bounded norm: what one unit can add, or what is missing when its contribution is taken as zero. Under
"replace one" the same release moves by twice that; the accountant, not the event, doubles it.
"""

from tacit.core.bounds import Count, Positive, Share
from tacit.core.part import Part


class NonPrivateEvent(Part, frozen=True, tag="non_private"):
    """A release without any guarantee: what a job without ``privacy`` spends each round."""


class GaussianEvent(Part, frozen=True, tag="gaussian_event"):
    """One release of a sum plus Gaussian noise.

    Attributes:
        noise_multiplier: Standard deviation of the noise on the sum divided by its L2 sensitivity.
    """

    noise_multiplier: Positive


class LaplaceEvent(Part, frozen=True, tag="laplace_event"):
    """One release of a sum plus Laplace noise.

    Attributes:
        noise_multiplier: Scale of the noise on the sum divided by its L1 sensitivity.
    """

    noise_multiplier: Positive


class PoissonSampledEvent(Part, frozen=True, tag="poisson_sampled"):
    """A release computed on a Poisson sample whose membership stays secret.

    Attributes:
        rate: Probability with which each client (or record) takes part.
        event: What is released about the sample.
    """

    rate: Share
    event: "PrivacyEvent"


class TruncatedPoissonSampledEvent(Part, frozen=True, tag="truncated_poisson_sampled"):
    """A release computed on a secret Poisson sample, cut at random to a largest size.

    Beyond the cap one more client displaces another, so it costs a little more than a sample that is not
    cut; how much follows from the population's size (arXiv 2411.04205, 2508.15089).

    Attributes:
        rate: Probability with which each client (or record) is drawn before the cut.
        cap: Largest size of the sample.
        population: How many clients (or records) there are.
        event: What is released about the sample.
    """

    rate: Share
    cap: Count
    population: Count
    event: "PrivacyEvent"


class CorrelatedEvent(Part, frozen=True, tag="correlated"):
    """A whole run with correlated noise: one Gaussian release (Denisov et al. 2022, theorem 2.1).

    The strategy's sensitivity over all steps is already inside the noise multiplier, and holds as long
    as nobody takes part at two steps that are closer than the separation.

    Attributes:
        noise_multiplier: Standard deviation of the fresh noise divided by the strategy's L2 sensitivity.
        steps: How many steps the run releases at most.
        min_separation: Least distance of two steps at which one client takes part.
        mechanism: Name of the mechanism.
    """

    noise_multiplier: Positive
    steps: Count
    min_separation: Count
    mechanism: str


class RepeatedEvent(Part, frozen=True, tag="repeated"):
    """The same event several times over, adaptively composed.

    Attributes:
        event: What is repeated.
        count: How many times it happened.
    """

    event: "PrivacyEvent"
    count: Count


class ComposedEvent(Part, frozen=True, tag="composed"):
    """Several events, adaptively composed.

    Attributes:
        events: The events, in order.
    """

    events: tuple["PrivacyEvent", ...]


PrivacyEvent = (
    NonPrivateEvent
    | GaussianEvent
    | LaplaceEvent
    | PoissonSampledEvent
    | TruncatedPoissonSampledEvent
    | CorrelatedEvent
    | RepeatedEvent
    | ComposedEvent
)
"""What one release cost: one of the events of this module."""
