"""Privacy events: what a release cost, as data.

Events are stored rather than epsilons, so that an accountant can interpret, and a better one
reinterpret, everything that was ever released. Names and meaning follow dp-accounting's events.
"""

from tacit.core.bounds import Count, Positive, Share
from tacit.core.part import Part


class NonPrivateEvent(Part, frozen=True, tag="non_private"):
    """A release without any guarantee: what a job without ``privacy`` spends each round."""


class GaussianEvent(Part, frozen=True, tag="gaussian"):
    """One release of a sum plus Gaussian noise.

    Attributes:
        noise_multiplier: Standard deviation of the noise on the sum divided by its sensitivity.
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


PrivacyEvent = NonPrivateEvent | GaussianEvent | PoissonSampledEvent | RepeatedEvent | ComposedEvent
"""What one release cost: one of the events of this module."""
