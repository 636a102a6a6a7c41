"""Durable things: run folders, checkpoints, downloads."""

from tacit.store.checkpoint import CheckpointWriter, load_snapshot, save_snapshot
from tacit.store.run_folder import RunFolder
from tacit.store.run_info import FinalMetrics, Holding, RunInfo

__all__ = [
    "CheckpointWriter",
    "FinalMetrics",
    "Holding",
    "RunFolder",
    "RunInfo",
    "load_snapshot",
    "save_snapshot",
]
