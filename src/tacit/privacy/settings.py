"""The privacy of a job: what is promised to whom, and how what one client adds is bounded."""

import math
from typing import Annotated, ClassVar, Protocol, runtime_checkable

from msgspec import Meta

from tacit.core.bounds import Count, Positive
from tacit.core.errors import ConfigError
from tacit.core.part import Part, Settings
from tacit.core.privacy import Adjacency, Randomness, Trust, Unit
from tacit.privacy.mechanisms import Gaussian, Mechanism

Delta = Annotated[float, Meta(gt=0, lt=1)]
"""A probability that is neither 0 nor 1."""


@runtime_checkable
class Clipping(Protocol):
    """How the norm of what one client sends is bounded."""

    is_adaptive: ClassVar[bool]

    @property
    def first_bound(self) -> float:
        """The L2 bound of the whole update at the first step, before it is weighed."""
        ...


class FixedClipping(Part, frozen=True, tag="fixed_clipping"):
    """Scale everything that is released down to one bound.

    Attributes:
        bound: Largest L2 norm of what one client sends (L1 with Laplace noise).
    """

    is_adaptive: ClassVar[bool] = False

    bound: Positive

    @property
    def first_bound(self) -> float:
        return self.bound


class AdaptiveClipping(Part, frozen=True, tag="adaptive_clipping"):
    """Let the bound follow a quantile of the clients' norms (Andrew et al. 2021, algorithm 1).

    Each client adds a bit, "my norm is within the bound", centred to plus or minus a half. The noisy share
    of set bits moves the bound: ``bound *= exp(-learning_rate * (share - quantile))``. The bit has noise of
    its own, and what it costs is taken out of the noise multiplier (theorem 1 there).

    Attributes:
        quantile: The share of clients whose updates are to pass unclipped.
        initial: The bound to begin with.
        learning_rate: How fast the bound follows. The paper takes 0.2 for thousands of rounds; in a few dozen
            a bound that begins ten times too large or too small has to get there sooner.
        bit_noise: Standard deviation of the noise on the sum of the centred bits. None takes a twentieth of
            the expected cohort, as the paper does, or twice the noise multiplier if that is more.
    """

    is_adaptive: ClassVar[bool] = True

    quantile: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    initial: Positive = 1.0
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.5
    bit_noise: Positive | None = None

    @property
    def first_bound(self) -> float:
        return self.initial


class SegmentClipping(Part, frozen=True, tag="segment_clipping"):
    """Scale each segment of an update down to a bound of its own.

    The norm of the whole is at most the root of the sum of their squares, and noise is measured against
    that: bounds for segments protect nobody by themselves.

    Attributes:
        bounds: Largest L2 norm of each segment, by the segment's name.

    >>> SegmentClipping(bounds={"parameters": 3.0, "control": 4.0}).first_bound
    5.0
    """

    is_adaptive: ClassVar[bool] = False

    bounds: Annotated[dict[str, Positive], Meta(min_length=1)]

    @property
    def first_bound(self) -> float:
        return math.hypot(*self.bounds.values())


class Privacy(Settings, frozen=True):
    """What is promised: whose data, to whom it is kept private, and how much of it shows at most.

    Together with the job's cohort it becomes a ``PrivacyPlan``, the only source of clip, noise, denominator
    and accounting. Exactly one of ``epsilon`` and ``noise_multiplier`` is given; the other follows.

    Attributes:
        unit: Whose data are hidden: a whole user's, or a single record inside a site.
        delta: The probability with which more may show; at most a tenth of one over the population.
        trust: Who adds the noise: the server (or, for records, the site), or every client for itself.
        epsilon: How much may show at most, over the whole job.
        noise_multiplier: Standard deviation of the noise on the sum divided by its sensitivity; with
            correlated noise, by the sensitivity of the whole run.
        adjacency: Which two worlds must look alike. None takes ``add_remove`` where a secret Poisson sample
            is enforced, else ``zero_out``.
        clipping: How the norm of what one client sends is bounded.
        mechanism: Which noise, and how it is correlated over the steps.
        min_separation: Least distance of two released steps at which one client takes part; 1 allows every
            step. Server and device enforce it. Correlated noise needs one.
        randomness: Where noise comes from. ``"seeded"`` makes a simulation reproducible and protects nobody.
        allow_large_delta: Insist on a delta of more than a tenth of one over the population.

    Raises:
        ConfigError: Both or neither of ``epsilon`` and ``noise_multiplier`` are given.

    >>> Privacy(unit="user", epsilon=2.0, delta=1e-5).trust
    'central'
    """

    unit: Unit
    delta: Delta
    trust: Trust = "central"
    epsilon: Positive | None = None
    noise_multiplier: Positive | None = None
    adjacency: Adjacency | None = None
    clipping: Clipping = AdaptiveClipping()
    mechanism: Mechanism = Gaussian()
    min_separation: Count | None = None
    randomness: Randomness = "system"
    allow_large_delta: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epsilon is None) == (self.noise_multiplier is None):
            given = (
                "both epsilon and noise_multiplier"
                if self.epsilon
                else "neither epsilon nor noise_multiplier"
            )
            raise ConfigError(
                "T160",
                f"privacy names {given}",
                where="Privacy",
                fix="Give one of them; the other follows from it.",
            )
