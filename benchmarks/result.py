"""The envelope in which every benchmark's figures are kept."""

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """Figures, and all that one has to know to read them.

    Attributes:
        name: The benchmark, and the name of its file.
        date: When it was measured, ISO 8601 in UTC.
        machine: Processor and system in words.
        cores: How many cores this process may use.
        commit: The commit that was measured, ``+changes`` added where files differed from it; "unknown"
            outside a repository.
        versions: Versions of Python and the libraries.
        figures: What was measured.
    """

    name: str
    date: str
    machine: str
    cores: int
    commit: str
    versions: dict[str, str]
    figures: dict[str, Any]

    @classmethod
    def of(cls, name: str, figures: dict[str, Any]) -> Self:
        """Put figures that were just measured into the envelope."""
        from tacit.sim.machine import machine, versions  # late: who only reads results needs no torch

        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(name, now, machine(), _cores(), _commit(), versions(), figures)

    def write(self, folder: Path = FOLDER) -> Path:
        """Write ``NAME.json`` into the folder of results and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
        return path


def read(path: Path) -> Result:
    """Read a result that was written."""
    return Result(**json.loads(path.read_text()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    # Results are written while the benchmarks go on: they are no change of what is measured.
    changed = commit and _git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return f"{commit}+changes" if changed else commit or "unknown"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=FOLDER.parent.parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
