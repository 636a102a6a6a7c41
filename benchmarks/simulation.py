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
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

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
            turns = _take_turns(ours, theirs, rounds)
    return {
        "workload": name,
        "processes": processes,
        **_summary(*turns, processes),
        "peak_mb": _rounded(memory.peak_mb),
        "reference_peak_mb": reference_peak_mb,
        "same_first_weights": same_start,
        "relative_error": error,
    }


class Turn(NamedTuple):
    """One round: seconds on the wall, and of this process's processor time."""

    seconds: float
    cpu_seconds: float


Turns = list[Turn]


def _take_turns(ours: "TacitLoop", theirs: "PlainLoop", rounds: int) -> tuple[Turns, Turns]:
    """Play rounds in turns; who begins changes every time."""
    mine: Turns = []
    plain: Turns = []
    for round in range(1, rounds + 1):
        if round % 2:
            plain.append(_turn(partial(theirs.play, round)))
            mine.append(_turn(ours.play))
        else:
            mine.append(_turn(ours.play))
            plain.append(_turn(partial(theirs.play, round)))
    return mine, plain


def _turn(play: Callable[[], float]) -> Turn:
    begin = time.process_time()
    seconds = play()
    return Turn(seconds, time.process_time() - begin)


def _summary(mine: Turns, plain: Turns, processes: int) -> dict[str, Any]:
    seconds, reference = [t.seconds for t in mine], [t.seconds for t in plain]
    facts: dict[str, Any] = {
        "seconds_per_round": round(statistics.median(seconds), 5),
        "reference_seconds_per_round": round(statistics.median(reference), 5),
        "ratio": round(statistics.median(reference) / statistics.median(seconds), 3),
        "round_seconds": [round(s, 5) for s in seconds],
        "reference_round_seconds": [round(s, 5) for s in reference],
    }
    if processes == 1:
        # Processor time, which work of others disturbs less; that of worker processes is not known here.
        cpu, cpu_reference = [t.cpu_seconds for t in mine], [t.cpu_seconds for t in plain]
        facts["cpu_ratio"] = round(statistics.median(cpu_reference) / statistics.median(cpu), 3)
    return facts


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
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time a simulated round against a plain loop.")
    parser.add_argument("--workload", choices=NAMES, default="w1")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="counted rounds, instead of the workload's own number")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
