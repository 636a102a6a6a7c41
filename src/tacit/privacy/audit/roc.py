"""How well scores tell members from non-members."""

from dataclasses import dataclass

import numpy as np

from tacit.privacy.audit.guesses import Coins, Floats

RARE = (0.001, 0.01)
"""False positive rates at which an attack is judged: what counts is who can be named with confidence."""
_POINTS = 200


@dataclass(frozen=True)
class Roc:
    """The receiver operating characteristic of an attack.

    Attributes:
        auc: Probability that a member scores higher than a non-member; a half is a guess.
        advantage: Largest difference of true and false positive rate.
        found: True positive rate at each false positive rate of ``RARE`` (Carlini et al. 2022); with fewer
            than 1 / rate non-members no false alarm at all is allowed.
        points: The curve, as pairs of false and true positive rate.
        members: How many members were scored.
        others: How many non-members.
    """

    auc: float
    advantage: float
    found: tuple[float, ...]
    points: tuple[tuple[float, float], ...]
    members: int
    others: int


def roc(scores: Floats, included: Coins) -> Roc | None:
    """Return how well high scores tell who was included; None without members or without others.

    >>> found = roc(np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False]))
    >>> found.auc, found.advantage
    (0.75, 0.5)
    """
    members, others = int(included.sum()), int((~included).sum())
    if not members or not others:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal scores stand together
    true = np.concatenate([[0.0], np.cumsum(included[order])[ends] / members])
    false = np.concatenate([[0.0], np.cumsum(~included[order])[ends] / others])
    shown = np.unique(np.linspace(0, len(true) - 1, _POINTS).astype(np.int64))
    return Roc(
        auc=float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2)),
        advantage=float(np.max(true - false)),
        found=tuple(float(true[false <= rate].max()) for rate in RARE),
        points=tuple(zip(false[shown].tolist(), true[shown].tolist(), strict=True)),
        members=members,
        others=others,
    )
