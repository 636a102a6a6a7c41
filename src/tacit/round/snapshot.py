"""Everything a run must remember to go on: a value, written beside training."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tacit.core.layout import Vector
from tacit.privacy.ledger import Head
from tacit.round.record import EvaluationRecord
from tacit.round.release import PrivacyState


@dataclass(frozen=True)
class Snapshot:
    """The state of a run between two rounds.

    Attributes:
        round: Number of the last round that closed, abandoned ones included.
        committed: How many rounds have committed.
        abandoned_in_a_row: How many were abandoned since the last that committed.
        now_s: Virtual time, seconds.
        vector: The global model, shape (layout.size,).
        optimizer: What the server optimizer remembers, vectors by name.
        buffers: What each client keeps where buffers stay local, by client.
        history: Evaluations so far, without their per-client values.
        privacy: What a private run remembers; None where there is no privacy.
        ledger: How far the ledger had come, so that a loss of it is found.
    """

    round: int
    committed: int
    abandoned_in_a_row: int
    now_s: float
    vector: Vector
    optimizer: Mapping[str, Vector] = field(default_factory=dict)
    buffers: Mapping[str, Vector] = field(default_factory=dict)
    history: tuple[EvaluationRecord, ...] = ()
    privacy: PrivacyState | None = None
    ledger: Head | None = None
