"""What happens in the secure sums of a round's groups, as the round's machine hears and says it.

Apart from the machines themselves: who takes part in no secure sum need not load any cryptography.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tacit.secagg.events import ServerEffect, ServerEvent

VANISHED = "vanished"
"""Why a client has left of whom nothing more was heard."""
LATE = "late"
"""Why a client has left whose update nobody waits for any more."""


@dataclass(frozen=True)
class GroupEvent:
    """Something happened in the secure sum of one group."""

    group: int
    event: "ServerEvent"


@dataclass(frozen=True, eq=False)
class VectorsReceived:
    """Masked vectors of these clients of a group arrived, added up by a process that plays them all.

    ``partial_work`` names those that did only part of their steps.
    """

    group: int
    clients: tuple[str, ...]
    words: npt.NDArray[np.uint64]
    partial_work: tuple[str, ...] = ()


@dataclass(frozen=True)
class GroupEffect:
    """Something is to be done for the secure sum of one group."""

    group: int
    effect: "ServerEffect"
