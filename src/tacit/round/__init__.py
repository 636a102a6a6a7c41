"""Machines without I/O: one round, a run of rounds, and the simulated world around them."""

from tacit.round.device import RoundDevice
from tacit.round.owner import Owner
from tacit.round.policy import RoundPolicy
from tacit.round.record import EvaluationRecord, PrivacyRecord, RoundRecord
from tacit.round.run import Evaluation, Run, RunSettings
from tacit.round.server import RoundServer
from tacit.round.snapshot import Snapshot
from tacit.round.stop import Patience, StopRule, TargetMetric
from tacit.round.world import Dropout, Duration, LogNormalDuration, RandomDropout, UnreliableClients, World

__all__ = [
    "Dropout",
    "Duration",
    "Evaluation",
    "EvaluationRecord",
    "LogNormalDuration",
    "Owner",
    "Patience",
    "PrivacyRecord",
    "RandomDropout",
    "RoundDevice",
    "RoundPolicy",
    "RoundRecord",
    "RoundServer",
    "Run",
    "RunSettings",
    "Snapshot",
    "StopRule",
    "TargetMetric",
    "UnreliableClients",
    "World",
]
