"""The protocol of a codec stage: what the client does to an update, and the server undoes on the sum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tacit.core.layout import Rows
from tacit.core.spec import UpdateSpec

Total = npt.NDArray[np.float64]
"""The cohort's sum, float64, shape (size,)."""
Memory = Mapping[str, Rows]
"""What stages keep on each client between rounds: one row per client, by name."""


@dataclass(frozen=True)
class StageContext:
    """Where and for whom a stage works.

    Attributes:
        spec: Declared facts about the rows that enter the stage.
        seed: The job's seed.
        round: The round's number.
        clients: Id of the client of each row.
        examples: Number of training examples behind each row, shape ``(len(clients),)``.
        is_bounded: Whether somebody has made sure that every coordinate is finite and within the bound that
            ``spec`` declares, so that a stage need not look again.
        room: Columns of memory behind the rows that a stage may take (see ``wider_rows``).
        clipping_bound: The clipping bound of this round, where it moves from round to round.
        staleness: Versions of the model committed since the one that these clients trained from.
    """

    spec: UpdateSpec
    seed: int
    round: int
    clients: tuple[str, ...]
    examples: npt.NDArray[np.int64]
    is_bounded: bool = False
    room: int = 0
    clipping_bound: float | None = None
    staleness: int = 0


@runtime_checkable
class Stage(Protocol):
    """One step of the chain; a frozen value with pure methods.

    ``plan`` declares its effect before any data exists and refuses what is unsound. ``encode`` runs on
    the client, on rows (one per client); a row that is not finite becomes zero. ``decode`` runs on the
    server, on the *sum*, back to front.

    The law: dropping one client moves the decoded sum by at most the bounds that ``plan`` declared.
    """

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        """Declare what leaves this stage when ``spec`` enters it; raise ``PlanError`` if that is unsound."""
        ...

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        """Encode rows of shape (clients, size); the rows passed in may be overwritten."""
        ...

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        """Undo the encoding on the cohort's sum, whose declared facts are ``sent``."""
        ...
