"""A simulated round of tacit beside the same round written by hand: seconds, memory, and the same update.

``python -m benchmarks.simulation --workload w1``; with ``--json`` the last line is a JSON object. The two
take turns, so that they meet the same noise of the machine, and the ratio is that of the medians: above 1
tacit is the faster one. A round is everything from the choice of its cohort to the moved model. The first
round of each warms the caches and is not counted; memory is watched in it alone, and the two updates are
compared after it.

The executor is chosen anew in every measurement, in a process of its own, and found by the one that is
measured: ``peak_mb`` is that of a run which has not to choose, ``peak_mb_choosing`` that of one which has.

W4 adds noise to the sum of a round, which no two systems draw alike: its first round is played without.

In W1 and W4 rounding decides ties, and the updates of two ways to compute the same then differ by some 1e-4.
``--float64`` shows that nothing else is behind it: see ``benchmarks.exactness``.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from benchmarks.memory import PeakMemory

if TYPE_CHECKING:
    from benchmarks.reference.plain_loop import PlainLoop
    from benchmarks.tacit_loop import TacitLoop

CACHE = "TACIT_EXECUTORS"  # the folder of choices that were made before
NAMES = ("w1", "w2", "w3", "w4")
MUST = {"w1": (1.5, 900), "w2": (12.0, 550), "w3": (1.6, 850), "w4": (1.4, 900)}
"""With two processes: the least ratio to the plain loop, and the largest peak memory in MB."""


def measure(name: str, processes: int = 2, rounds: int | None = None) -> dict[str, Any]:
    """Measure one workload in that many processes; ``rounds`` are the counted ones."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {CACHE: folder}):
        return _measure(name, processes, rounds)


def _measure(name: str, processes: int, rounds: int | None) -> dict[str, Any]:
    reference_peak_mb = _peak_mb("benchmarks.reference.plain_loop", name, processes, "--rounds", "1")
    choosing_peak_mb = _peak_mb("benchmarks.tacit_loop", name, processes)
    # Late: while the reference's memory is measured, this process must not share torch's pages with it.
    from benchmarks.reference.difference import relative_error
    from benchmarks.reference.plain_loop import PlainLoop
    from benchmarks.reference.workloads import WORKLOADS
    from benchmarks.tacit_loop import TacitLoop

    rounds = WORKLOADS[name].rounds if rounds is None else rounds
    with TacitLoop(name, processes) as ours:
        before = ours.vector()
        with PeakMemory() as memory:
            ours.play()
        with PlainLoop(name, processes) as theirs:
            same_start = bool((before == theirs.vector()).all())
            theirs.play(0, noise=False)
            error = relative_error(ours.vector() - before, theirs.vector() - before)
            turns = _take_turns(ours, theirs, rounds)
    peak_mb = _rounded(memory.peak_mb)
    summary = _summary(*turns, processes)
    return {
        "workload": name,
        "processes": processes,
        "executor": ours.choice.executor,
        "group": ours.choice.group,
        "why": ours.choice.reason,
        **summary,
        **(standing(name, summary["ratio"], peak_mb) if processes == 2 else {}),
        "peak_mb": peak_mb,
        "peak_mb_choosing": choosing_peak_mb,
        "reference_peak_mb": reference_peak_mb,
        "same_first_weights": same_start,
        "relative_error": error,
    }


_TURN_S = 1.0
_MOST_PER_ROUND = 16  # of tacit's rounds for each of the plain loop's


class Turn(NamedTuple):
    """One round: seconds on the wall, and of this process's processor time."""

    seconds: float
    cpu_seconds: float


Turns = list[Turn]


def _take_turns(ours: "TacitLoop", theirs: "PlainLoop", rounds: int) -> tuple[Turns, Turns]:
    """Play in turns of about a second, so that each finds its own data in the caches, as in a run of its own.

    Who begins changes every time. ``rounds`` are the plain loop's; tacit plays as many as fit into its turns.
    """
    mine: Turns = []
    plain: Turns = []
    numbers = iter(range(1, rounds + 1))
    players = [
        (plain, lambda: theirs.play(next(numbers))),
        (mine, ours.play),
    ]
    while len(plain) < rounds:
        for turns, play in players:
            left = rounds - len(plain) if turns is plain else rounds * _MOST_PER_ROUND - len(mine)
            turns += _turns(play, left)
        players.reverse()
    return mine, plain


def _turns(play: Callable[[], float], most: int) -> Turns:
    """Play rounds for about a second: at least one, and at most so many."""
    played: Turns = []
    end = time.monotonic() + _TURN_S
    while len(played) < most and (not played or time.monotonic() < end):
        played.append(_turn(play))
    return played


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


def standing(name: str, ratio: float, peak_mb: float | None) -> dict[str, Any]:
    """Say what two processes must reach, and whether they do; None where memory cannot be read."""
    least, most = MUST[name]
    return {
        "must_ratio": least,
        "meets_ratio": ratio >= least,
        "must_mb": most,
        "meets_mb": None if peak_mb is None else peak_mb <= most,
    }


def _peak_mb(module: str, name: str, processes: int, *more: str) -> float | None:
    """Return the peak memory up to the end of a first round, as a module measures it in its own process."""
    command = [sys.executable, "-m", module, name, "--json", "--processes", str(processes), *more]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak: float | None = json.loads(output.splitlines()[-1])["peak_mb"]
    return peak


def _rounded(peak_mb: float) -> float | None:
    return None if math.isnan(peak_mb) else round(peak_mb, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one workload from the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.float64 and options.workload == "w4":
        parser.error("W4 trains as W1 does: compare that")
    if options.float64:
        from benchmarks.exactness import exactness  # late: it imports torch

        figures = exactness(options.workload, processes=options.processes)
    else:
        figures = measure(options.workload, options.processes, options.rounds)
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time a simulated round against a plain loop.")
    parser.add_argument("--workload", choices=NAMES, default="w1")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="counted rounds, instead of the workload's own number")
    parser.add_argument("--float64", action="store_true", help="compare one round in float64, time nothing")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
