"""What an algorithm adds to the plain local step."""

from dataclasses import dataclass

from tacit.core.layout import Vector


@dataclass(frozen=True)
class LocalTerms:
    """The terms of the one generalised local step, ``w - lr * (grad + mu * (w - anchor) + correction)``.

    The anchor is the global model the client was given. ``proximal`` is FedProx's mu (Li et al. 2020);
    the correction is SCAFFOLD's and FedDyn's linear term. Without them the step is plain SGD.

    Attributes:
        proximal: The factor mu, at least 0.
        correction: A vector over the trainable parameters, shape (size,), or None.
    """

    proximal: float = 0.0
    correction: Vector | None = None
