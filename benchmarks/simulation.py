"""A simulated round of tacit beside the same round written by hand: seconds, memory, and the same update.

``python -m benchmarks.simulation --workload w1 --processes 2``; with ``--json`` the last line is a JSON
object. The two take turns, so that they meet the same noise of the machine, and the ratio is that of the
medians: above 1 tacit is the faster one. A round is everything from the choice of its cohort to the moved
model. The first round of each warms the caches and is not counted; memory is watched in it alone.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.memory import PeakMemory

if TYPE_CHECKING:
    from benchmarks.reference.plain_loop import PlainLoop
    from benchmarks.tacit_loop import TacitLoop

NAMES = ("w1", "w2", "w3")


def measure(name: str, processes: int = 1, rounds: int | None = None) -> dict[str, Any]:
    """Measure one workload in that many processes; ``rounds`` are the counted ones."""
    reference_peak_mb = _reference_peak_mb(name, processes)
    # Late: while the reference's memory is measured, this process must not share torch's pages with it.
    from benchmarks.reference.plain_loop import PlainLoop
    from benchmarks.reference.workloads import WORKLOADS
    from benchmarks.tacit_loop import TacitLoop, relative_error

    rounds = WORKLOADS[name].rounds if rounds is None else rounds
    with TacitLoop(name, processes) as ours:
        before = ours.vector()
        with PeakMemory() as memory:
            ours.play()
        with PlainLoop(name, processes) as theirs:
            same_start = bool((before == theirs.vector()).all())
            theirs.play(0)
            error = relative_error(ours.vector() - before, theirs.vector() - before)
            seconds = _take_turns(ours, theirs, rounds)
    return {
        "workload": name,
        "processes": processes,
        **_summary(*seconds),
        "peak_mb": _rounded(memory.peak_mb),
        "reference_peak_mb": reference_peak_mb,
        "same_first_weights": same_start,
        "relative_error": error,
    }


def _take_turns(ours: "TacitLoop", theirs: "PlainLoop", rounds: int) -> tuple[list[float], list[float]]:
    """Play rounds in turns; who begins changes every time."""
    mine, plain = [], []
    for round in range(1, rounds + 1):
        if round % 2:
            plain.append(theirs.play(round))
            mine.append(ours.play())
        else:
            mine.append(ours.play())
            plain.append(theirs.play(round))
    return mine, plain


def _summary(mine: list[float], plain: list[float]) -> dict[str, Any]:
    median, reference = statistics.median(mine), statistics.median(plain)
    return {
        "seconds_per_round": round(median, 5),
        "reference_seconds_per_round": round(reference, 5),
        "ratio": round(reference / median, 3),
        "fastest_ratio": round(min(plain) / min(mine), 3),
        "round_seconds": [round(s, 5) for s in mine],
        "reference_round_seconds": [round(s, 5) for s in plain],
    }


def _reference_peak_mb(name: str, processes: int) -> float | None:
    """Return the peak memory of the plain loop by itself, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reference.plain_loop", name, "--json"]
    command += ["--processes", str(processes), "--rounds", "1"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak: float | None = json.loads(output.splitlines()[-1])["peak_mb"]
    return peak


def _rounded(peak_mb: float) -> float | None:
    return None if math.isnan(peak_mb) else round(peak_mb, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one workload from the command line."""
    options = _parser().parse_args(arguments)
    figures = measure(options.workload, options.processes, options.rounds)
    print(
        json.dumps(figures) if options.json else "\n".join(f"{key}: {value}" for key, value in figures.items())
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time a simulated round against a plain loop.")
    parser.add_argument("--workload", choices=NAMES, default="w1")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="counted rounds, instead of the workload's own number")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
