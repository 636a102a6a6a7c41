"""How long one waits for tacit to start, and for its two examples to finish.

``python -m benchmarks.startup``; with ``--json`` the last line is a JSON object. Each figure is the median
wall time of whole processes, the interpreter's own start included (``python`` says how much that is). One run
before is not counted, so the files are in the system's cache. ``demo`` is what ``make demo`` runs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
EXAMPLES = ("digits.py", "hospitals.py")
TACIT = (sys.executable, "-m", "tacit")
COMMANDS: dict[str, tuple[str, ...]] = {
    "python": (sys.executable, "-c", "pass"),
    "import_tacit": (sys.executable, "-c", "import tacit"),
    "tacit_help": (*TACIT, "--help"),
}
LIMITS_S = {"import_tacit": 0.3, "tacit_help": 0.5, "demo": 15.0}


def measure(times: int = 7, demo_times: int = 3) -> dict[str, Any]:
    """Measure all commands; what cannot be run is reported as None."""
    seconds = {name: median_s(command, times) for name, command in COMMANDS.items()}
    demo = [median_s((*TACIT, "run", str(ROOT / "examples" / name)), demo_times) for name in EXAMPLES]
    total = None if None in demo else round(sum(s for s in demo if s is not None), 3)
    return {
        "seconds": {**seconds, **dict(zip(EXAMPLES, demo, strict=True)), "demo": total},
        "limits_s": LIMITS_S,
    }


def median_s(command: Sequence[str], times: int) -> float | None:
    seconds = [_seconds(command) for _ in range(times + 1)][1:]
    done = [s for s in seconds if s is not None]
    return round(statistics.median(done), 3) if done else None


def _seconds(command: Sequence[str]) -> float | None:
    """Run a command in an empty folder and return the seconds it took, or None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        return time.perf_counter() - begin if done.returncode == 0 else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parser().parse_args(arguments)
    figures = measure(options.times, options.demo_times)
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how long tacit takes to start.")
    parser.add_argument("--times", type=int, default=7, help="processes for each figure")
    parser.add_argument("--demo-times", type=int, default=3, help="the same for the examples")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
