"""Record-level privacy inside a site: how one round of training treats a record, and what it costs."""

from tacit.core.bounds import Positive
from tacit.core.errors import PlanError
from tacit.core.events import GaussianEvent, PoissonSampledEvent, RepeatedEvent
from tacit.core.local import LocalSGD
from tacit.core.part import Settings


class RecordLevel(Settings, frozen=True):
    """DP-SGD (Abadi et al. 2016, algorithm 1) inside a site: what protects one record of its data.

    In every step each record takes part independently with probability q = min(1, batch size / n); the
    gradient of each is scaled down to ``clipping_bound``, their sum gets Gaussian noise, and the noisy sum
    is divided by q n, never by the number that was drawn.

    What is assumed: n, the site's number of records, is public and fixed, for it sets the rate, the number
    of steps and the divisor. Neighbours differ in one of these n places, which holds somebody's record
    or nothing at all (a gradient of zero): add-or-remove with a public n. Which records were drawn stays
    inside the site, and so do all training metrics. What the updates of all rounds tell about a record is
    covered; how long a step takes, and what the site does with its data besides, is not.

    Attributes:
        noise_multiplier: Standard deviation of the noise on the sum of a step, divided by ``clipping_bound``.
        clipping_bound: Largest L2 norm of one record's gradient, over all trainable parameters together.

    >>> RecordLevel(noise_multiplier=1.5, clipping_bound=0.5).noise_std
    0.75
    """

    noise_multiplier: Positive
    clipping_bound: Positive

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on a step's sum of gradients."""
        return self.noise_multiplier * self.clipping_bound


def sampling_rate(local: LocalSGD, records: int) -> float:
    """Return the probability with which each of a site's records takes part in a step.

    Raises:
        PlanError: The site has no record.
    """
    return expected_batch(local, records) / records


def expected_batch(local: LocalSGD, records: int) -> int:
    """Return the expected number of records in a step, the public divisor of its noisy sum.

    Raises:
        PlanError: The site has no record.
    """
    if records < 1:
        what = "a site without records has nothing to train on, and no rate to draw them at"
        raise PlanError("T190", what, where="$.population", fix="Leave the site out, or give it data.")
    return min(local.batch(records), records)


def events_of(record: RecordLevel, local: LocalSGD, records: int) -> RepeatedEvent:
    """Return what one round of local training costs each record of a site that has ``records`` of them.

    Every step is one Gaussian release on a Poisson sample. A step that sees all records is no sample: it
    costs a plain Gaussian release.

    Raises:
        PlanError: The site has no record.

    >>> local = LocalSGD(lr=0.1, epochs=2, batch_size=10)
    >>> event = events_of(RecordLevel(noise_multiplier=1.0, clipping_bound=1.0), local, records=100)
    >>> event.count, event.event.rate
    (20, 0.1)
    """
    rate, release = sampling_rate(local, records), GaussianEvent(noise_multiplier=record.noise_multiplier)
    step = PoissonSampledEvent(rate=rate, event=release) if rate < 1 else release
    return RepeatedEvent(event=step, count=local.total_steps(records))
