"""Durable things: run folders, checkpoints, downloads."""

from tacit.store.checkpoint import CheckpointWriter, load_snapshot, save_snapshot
from tacit.store.run_folder import RunFolder
from tacit.store.run_info import FinalMetrics, Holding, RunInfo
from tacit.store.sweep_folder import SweepFolder, SweepGrid, SweepPoint, SweepRecord, SweepRun

__all__ = [
    "CheckpointWriter",
    "FinalMetrics",
    "Holding",
    "RunFolder",
    "RunInfo",
    "SweepFolder",
    "SweepGrid",
    "SweepPoint",
    "SweepRecord",
    "SweepRun",
    "load_snapshot",
    "save_snapshot",
]
