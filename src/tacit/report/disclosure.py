"""What of a run may be shown to others than its operator.

A run folder is the operator's; a report is made to be handed on. What a promise of privacy relies on nobody
knowing, and what no promise covers, is left out of it, at one place: ``RunData.published``.
"""

from dataclasses import dataclass

from tacit.store import RunInfo

_SEEDED = "seeded, not private"
_NOTHING = "not private"


@dataclass(frozen=True)
class Disclosure:
    """What may be shown.

    Attributes:
        names: What clients are called.
        participation: Who took part, and how many did: under a secret sample the promise relies on nobody
            but the operator knowing.
        client_data: What was computed from clients' data without any noise: metrics on their held-out
            data, their sizes and labels.
    """

    names: bool = True
    participation: bool = True
    client_data: bool = True

    @classmethod
    def of(cls, info: RunInfo) -> "Disclosure":
        """Return what may be shown of a run; if nobody knows yet what it relies on, as little as possible."""
        if not claims(info):
            return cls()
        protects = is_private(info)
        if info.guarantee is not None and info.guarantee.unit == "record":
            return cls(client_data=not protects)  # a site is known, and so is that it takes part
        is_secret = info.guarantee is None or info.guarantee.is_amplified
        return cls(names=not protects, participation=not is_secret, client_data=not protects)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.names and self.participation and self.client_data


def claims(info: RunInfo) -> bool:
    """Tell whether a run has an epsilon, be its noise secret or seeded."""
    claim = info.privacy.strip().lower()
    return bool(claim) and not claim.startswith(_NOTHING)


def is_seeded(info: RunInfo) -> bool:
    """Tell whether a run's noise can be drawn again by whoever knows the seed."""
    if info.guarantee is not None:
        return info.guarantee.randomness == "seeded"
    return info.privacy.strip().lower().startswith(_SEEDED)


def is_private(info: RunInfo) -> bool:
    """Tell whether a run protects anybody; what claims nothing, or has seeded noise, does not."""
    return claims(info) and not is_seeded(info)
