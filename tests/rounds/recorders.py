"""Clients who write down which process asked for their data, and when; nothing here imports torch."""

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tacit.core.examples import Examples

FEATURES, CLASSES = 6, 3


class Asked(NamedTuple):
    """One loading of one client's data."""

    client: int
    pid: int
    had_torch: bool


class Recorder:
    """A client's data, made when asked for.

    Args:
        folder: Where each loading is noted, as a file.
        client: Which client.
        seconds: How long it takes.
    """

    def __init__(self, folder: Path, client: int, seconds: float = 0.0) -> None:
        self.folder, self.client, self.seconds = folder, client, seconds

    def __call__(self) -> Examples:
        time.sleep(self.seconds)
        note = f"{time.monotonic_ns()}-{self.client}-{os.getpid()}-{int('torch' in sys.modules)}"
        (self.folder / note).touch()
        rng = np.random.default_rng(self.client)
        inputs = rng.standard_normal((12, FEATURES)).astype(np.float32)
        return Examples.of(inputs, rng.integers(0, CLASSES, 12))


def asked(folder: Path) -> list[Asked]:
    """Return every loading so far, in order."""
    notes = sorted(tuple(map(int, path.name.split("-"))) for path in folder.iterdir())
    return [Asked(client, pid, bool(had_torch)) for _, client, pid, had_torch in notes]
